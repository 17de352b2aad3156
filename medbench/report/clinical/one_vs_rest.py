"""One class against the rest on a set and all its resamples at once.

Also thresholds, which are chosen elsewhere than they are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medbench.stats.metrics import ratio

_COLUMNS = 250  # resamples at a time
_CACHED = 200_000  # elements whose cumulative sums stay in the second-level cache
_EXACT = 2**24  # sums of integers up to here are exact in float32, which multiplies twice as fast


def agreement(
    positive: np.ndarray, decided: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute prevalence, recall, precision, specificity and f1 on R resamples.

    Name -> (R,) float64, NaN = 0 / 0. positive, decided: (N,) bool. weights: (N, R) integers.
    """
    return agreements(positive, [decided], weights)[0]


def agreements(
    positive: np.ndarray, decisions: Sequence[np.ndarray], weights: np.ndarray
) -> list[dict[str, np.ndarray]]:
    """Compute `agreement` of several decisions on the same images at once.

    At little more than the cost of one. positive: (M,) bool. decisions: (M,) bool each. weights:
    (M, R) integers.
    """
    kind = np.float32 if int(weights.max(initial=0)) * len(weights) < _EXACT else np.float64
    parts = np.stack(
        [
            np.ones_like(positive),
            positive,
            *(part for decided in decisions for part in (decided, positive & decided)),
        ]
    ).astype(kind)
    starts = range(0, weights.shape[1], _COLUMNS)
    n, support, *each = np.concatenate(
        [parts @ weights[:, i : i + _COLUMNS].astype(kind) for i in starts], axis=1
    ).astype(float)
    return [
        {
            "prevalence": ratio(support, n),
            "recall": ratio(hits, support),
            "precision": ratio(hits, predicted),
            "specificity": ratio(n - support - predicted + hits, n - support),
            "f1": ratio(2 * hits, support + predicted),
        }
        for predicted, hits in zip(each[::2], each[1::2], strict=True)
    ]


def average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the average precision on R resamples: (R,) float64, NaN without positives.

    The sum over distinct scores of (recall gained) x precision there, without interpolation
    (scikit-learn's). positive: (N,) bool. scores: (N,). weights: (N, R) integers. Only scores that
    a positive has gain recall: there alone the cumulative weights are looked at.
    """
    if not positive.any():
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(-scores, kind="stable")
    ranked, found = scores[order], order[positive[order]]
    # of each run of positives with one score
    starts = np.flatnonzero(np.append(True, np.diff(scores[found]) != 0))
    # the last image with that score
    ends = len(scores) - np.searchsorted(ranked[::-1], scores[found][starts], side="left") - 1
    step, means = max(40, _CACHED // len(scores)), []
    for first in range(0, weights.shape[1], step):
        chunk = weights[:, first : first + step]
        taken = np.cumsum(chunk[order], axis=0, dtype=np.int32)[ends]
        gained = np.add.reduceat(chunk[found].astype(np.int32), starts, axis=0)
        hits = np.cumsum(gained, axis=0, dtype=np.int32)
        means.append(ratio((gained * (hits / np.maximum(taken, 1))).sum(0), hits[-1].astype(float)))
    return np.concatenate(means)


def above_for_specificity(positive: np.ndarray, scores: np.ndarray, specificity: float) -> float:
    """Return the threshold t whose "scores > t is positive" has at least that specificity.

    On these images, and the largest sensitivity. It is the score of a negative. NaN with fewer than
    1 / (1 - specificity) negatives: the threshold would lie beyond all of them, where nothing was
    seen. positive (n,) bool, scores (n,); specificity in (0, 1).

    >>> above_for_specificity(np.arange(12) >= 10, np.arange(12) / 12, 0.9) == 8 / 12  # one of the ten negatives lies above
    True
    """
    negatives = np.sort(scores[~positive])
    if len(negatives) * (1 - specificity) < 1 - 1e-9:
        return float("nan")
    return float(negatives[math.ceil(specificity * len(negatives) - 1e-9) - 1])


def least_for_sensitivity(positive: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """Return the threshold t at which "scores >= t is positive" has at least that sensitivity.

    Among these it has the largest specificity on these images. It is the score of a positive. NaN
    with fewer than 1 / (1 - sensitivity) positives. positive: (M,) bool; scores: (M,) in [0, 1].
    """
    found = np.sort(scores[positive])[::-1]
    if len(found) * (1 - sensitivity) < 1 - 1e-9:
        return float("nan")
    return float(found[math.ceil(sensitivity * len(found) - 1e-9) - 1])
