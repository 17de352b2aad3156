"""How well features tell something.

Out-of-fold scores of the suite's linear probe, and their AUC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench import stats
from medbench.protocols import linear
from medbench.schema import Kind
from medbench.stats import metrics, splits
from medbench.system.progress_listener import report_progress

FOLDS, INNER = 5, 3  # outer, that the scores come from; inner, that choose the penalty
# 1e-3 to 1e3, one a decade: enough to say whether something can be read
PATH = linear.PENALTIES[::4]


@dataclass(frozen=True)
class Auc:
    """In [0, 1], with its 95 % interval over groups; NaN where undefined."""

    value: float
    low: float
    high: float


def out_of_fold(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    kind: Kind,
    n_classes: int,
    device: str,
    stage: str,
) -> np.ndarray | None:
    """Return (N, C) probabilities of each image from a probe that saw no image of its group.

    Binary: C = 2. None where not all can be held out: a class has one group, or there are too few
    images. features (N, D) float32; labels (N,) int, all of range(n_classes) present, or (N, C)
    float with NaN. Folds are stratified; the penalty is chosen inside the training folds. stage:
    the name under which it reports its progress.
    """
    import torch

    fold = splits.held_out_fold(labels, groups, FOLDS)
    if fold.min() < 0:
        return None
    parts = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(fold.max() + 1)]
    scores = np.zeros((len(labels), max(2, n_classes) if labels.ndim == 1 else n_classes))
    for done, (rest, out) in enumerate(parts):
        report_progress(stage, done, len(parts), "folds")
        pool = torch.as_tensor(np.ascontiguousarray(features[rest]), device=device)
        model = linear.learn(
            pool, labels[rest], groups[rest], kind, n_classes, PATH, linear.FIXED_PENALTY, INNER
        )
        scores[out] = model.score(features[out])[0]
    report_progress(stage, len(parts), len(parts), "folds")
    return scores


def mean_auc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, kind: Kind) -> Auc:
    """Return the mean AUC over classes, one against the rest, with its interval over groups.

    Binary: of class 1. labels: (N,) int. scores: (N, C), probabilities. groups: (N,).
    """
    decisions = scores.argmax(1)
    value = metrics.score(labels, scores, decisions, kind).values["auc"]
    resampled = metrics.score(labels, scores, decisions, kind, stats.group_weights(groups)).values[
        "auc"
    ]
    low, high = stats.expanded_interval(resampled, len(np.unique(groups)))
    return Auc(float(value), low, high)
