"""Nearest centroid of centred, L2-normalised features, as SimpleShot's CL2N (Wang et al. 2019).

Features are centred and divided by their length; an image is of the class whose centroid, the mean
of its normalised labelled images, is nearest. Nothing is chosen and nothing is trained.
- Centre: the mean of the labelled subset's own features. The paper takes the mean of its base
  classes, which a task here does not have; the
  unlabelled rest of the training pool takes no part.
- Scores: the softmax of the negative squared Euclidean distances to the centroids, at temperature 1
  as in the paper's prototypes. A length of 1 bounds
  the distances, so that these probabilities are soft: their order tells, their calibration does
  not. Decisions: the nearest, ties to the lower class index. How frequent a class is plays no part:
  on the validation part of HAM10000 (as in `mlp`) its balanced accuracy at 10 % is .38, that of
  `linear` .23, and its accuracy .40 and .69.
- Several labels: one pair of centroids a label, of the positives and of the negatives among the
  images that know it, in one centred space; the
  softmax over the two. A label of which only one value was seen gets its smoothed base rate
  (positives + 1) / (known + 2).

Distances of all draws to all centroids come from one matrix product: with x and c shifted alike, (x
- m) . c = x . c - m . c, and the length of x - m follows from x . m. `TOGETHER` draws stand in one
product, in a shape that the number of draws does not change, so that no draw's bits hang on the
others. Products are float64, of features shifted by the pool's mean, which changes no distance and
spares digits.

A class without a labelled image gets probability 0. Ordinal classes are treated as nominal. An
image that lies on the centre (nearer than `ZERO` of its length) has no direction, and is as near to
every centroid as the centroids are short.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medbench.protocols._features import blocks, check_finite
from medbench.schema import KINDS, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

TOGETHER = 32  # draws in one product
# columns of a draw are a multiple of these: products of aligned columns are made alike wherever
# they stand
ALIGNED = 8
ZERO = 1e-6  # of the features' length: what is nearer to the centre is rounding


@dataclass(frozen=True, eq=False)
class Centroids:
    """Hold what one labelled subset gives.

    columns (D, W): its K centroids, its mean, then zeros. bias (K,): m . c. squares (K,): |c|^2.
    base: of each label, where a pair of centroids lacks one; None of exclusive classes. places
    (K,): class of each centroid.
    """

    columns: torch.Tensor
    bias: torch.Tensor
    squares: torch.Tensor
    mean_square: torch.Tensor
    places: np.ndarray
    base: np.ndarray | None


def simpleshot(
    train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from features (M, D).

    See `Protocol`. draws: (n,) int64 each. Raises UserError for features that are not finite.
    """
    check_finite({"training": train.features, **targets})
    shift = train.features.mean(0, dtype="float64")
    for first in range(0, len(draws), TOGETHER):
        learnt = [_centroids(train, draw, shift) for draw in draws[first : first + TOGETHER]]
        found = {
            name: _scored(learnt, features, shift, train) for name, features in targets.items()
        }
        for i in range(len(learnt)):
            yield {name: of_draws[i] for name, of_draws in found.items()}


def _centroids(train: Train, draw: np.ndarray, shift: np.ndarray) -> Centroids:
    """Of one labelled subset, of its own images alone."""
    import numpy as np
    import torch

    images, labels = _shifted(train.features[draw], shift, train.device), train.labels[draw]
    mean = images.mean(0)
    length = (images - mean).norm(dim=1, keepdim=True)
    scale = _squared_length(images, mean, shift)[:, None].sqrt()
    normalised = torch.where(length > ZERO * scale, (images - mean) / length, 0.0)
    base = None
    if labels.ndim == 2:
        yes, no = labels == 1, labels == 0
        members, places = np.hstack([yes, no]).astype(float), np.arange(2 * labels.shape[1])
        rate = (yes.sum(0) + 1) / (yes.sum(0) + no.sum(0) + 2)
        base = np.where(yes.any(0) & no.any(0), np.nan, rate)
    else:
        places = np.unique(labels)
        members = (labels[:, None] == places).astype(float)
    shares = torch.as_tensor(members / np.maximum(members.sum(0), 1), device=images.device)
    centroids = shares.T @ normalised
    width = -(-(2 * train.n_classes + 1) // ALIGNED) * ALIGNED
    columns = torch.zeros(images.shape[1], width, dtype=torch.float64, device=images.device)
    columns[:, : len(places)] = centroids.T
    columns[:, len(places)] = mean
    return Centroids(
        columns, centroids @ mean, centroids.square().sum(1), mean.square().sum(), places, base
    )


def _scored(
    learnt: Sequence[Centroids], features: np.ndarray, shift: np.ndarray, train: Train
) -> list[Scores]:
    """Of one target, draw after draw."""
    import numpy as np
    import torch

    columns = torch.cat(
        [of.columns for of in (*learnt, *[learnt[0]] * (TOGETHER - len(learnt)))], 1
    )
    logits = [np.empty((len(features), len(of.places))) for of in learnt]
    for rows in blocks(len(features), max(columns.shape), train.device):
        images = _shifted(features[rows], shift, train.device)
        products = (images @ columns).view(len(images), TOGETHER, -1)
        for i, of in enumerate(learnt):
            k = len(of.places)
            toward_mean = products[:, i, k]
            square = images.square().sum(1) - 2 * toward_mean + of.mean_square
            scale = _squared_length(images, of.columns[:, k], shift)
            length = square.clamp(min=0).sqrt()[:, None]
            cosine = torch.where(
                (square > ZERO**2 * scale)[:, None], (products[:, i, :k] - of.bias) / length, 0.0
            )
            # -|x - c|^2 but for what all centroids share
            logits[i][rows] = (2 * cosine - of.squares).cpu().numpy()
    return [_answer(of, values, train) for of, values in zip(learnt, logits, strict=True)]


def _answer(of: Centroids, logits: np.ndarray, train: Train) -> Scores:
    """Probabilities and decisions from negative squared distances (M, K)."""
    import numpy as np
    from scipy.special import expit, softmax

    chosen: dict[str, Any] = {"rule": "nothing is chosen"}
    if of.base is not None:
        yes, no = np.hsplit(logits, 2)
        probabilities = np.where(np.isnan(of.base), expit(yes - no), of.base)
        return Scores(
            probabilities.astype(np.float32), (probabilities >= 0.5).astype(np.int64), chosen
        )
    spread = np.zeros((len(logits), train.n_classes), np.float32)
    spread[:, of.places] = softmax(logits, axis=1)
    return Scores(spread, of.places[logits.argmax(1)], chosen)


def _shifted(features: np.ndarray, shift: np.ndarray, device: str) -> torch.Tensor:
    """(N, D) float64."""
    import torch

    return torch.as_tensor(features, device=device).double() - torch.as_tensor(shift, device=device)


def _squared_length(images: torch.Tensor, mean: torch.Tensor, shift: np.ndarray) -> torch.Tensor:
    """Return what a distance from the centre is held against: (N,).

    The images are (N, D) and their centre (D,), both shifted.
    """
    return images.square().sum(1) + mean.square().sum() + float(shift @ shift)


SIMPLESHOT = Protocol(
    name="simpleshot",
    version=1,
    title="Nearest centroid of features centred by the labelled images' mean and normalised, scores by squared distance, as SimpleShot's CL2N",
    kinds=KINDS,
    evaluate=simpleshot,
    seeded=False,
    settings={"centre": "labelled subset", "scores": "softmax(-squared distance)", "zero": ZERO},
    citation="Wang et al., SimpleShot: revisiting nearest-neighbor classification for few-shot learning, 2019, arXiv:1911.04623",
    divides=False,
)
