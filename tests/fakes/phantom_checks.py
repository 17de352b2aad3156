"""What is asked of every phantom.

Frozen pixels, and a class that mean colour and size do not give away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FROZEN = (
    "The {what} of the {name} phantom changed. Its difficulty is frozen: numbers from before and after cannot be compared. Undo the change, or raise "
    "its VERSION, measure random and supervised again and record the new hash (here: {now})."
)


def pixel_hash(draw: Callable[[int], np.ndarray], seeds: list[int]) -> str:
    return hashlib.sha256(b"".join(draw(seed).tobytes() for seed in seeds)).hexdigest()


def colour_and_size(images: np.ndarray) -> np.ndarray:
    """(N, 6): mean red, green, blue, and the share of pixels darker than three fractions of the
    image's bright level."""
    image = images / 255.0
    grey = image.mean(-1)
    bright = np.quantile(grey, 0.9, axis=(1, 2))[:, None, None]
    return np.column_stack(
        [image.mean((1, 2)), *((grey < bright * share).mean((1, 2)) for share in (0.6, 0.75, 0.85))]
    )


def auc_of_colour_and_size(pixels: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    train, test = colour_and_size(pixels["train"]), colour_and_size(pixels["test"])
    truth = labels["train"]
    if truth.ndim == 1:
        model.fit(train, truth)
        scores = model.predict_proba(test)
        return float(
            roc_auc_score(
                labels["test"], scores[:, 1] if scores.shape[1] == 2 else scores, multi_class="ovr"
            )
        )
    aucs = []
    for c in range(truth.shape[1]):
        known = ~np.isnan(truth[:, c])
        model.fit(train[known], truth[known, c])
        aucs.append(roc_auc_score(labels["test"][:, c], model.predict_proba(test)[:, 1]))
    return float(np.mean(aucs))
