"""One class against the rest on a set and all its resamples at once; and thresholds, which are chosen elsewhere than they are used."""

from __future__ import annotations

import math

import numpy as np

from medbench import metrics

_COLUMNS = 250  # resamples at a time


def agreement(positive: np.ndarray, decided: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """prevalence, recall, precision, specificity, f1 as (R,) float64, NaN = 0 / 0. positive, decided (N,) bool; weights (N, R) integers."""
    parts = np.stack([positive & decided, positive, decided, np.ones_like(positive)]).astype(float)
    starts = range(0, weights.shape[1], _COLUMNS)
    hits, support, predicted, n = np.concatenate([parts @ weights[:, i : i + _COLUMNS].astype(float) for i in starts], axis=1)
    return {
        "prevalence": ratio(support, n),
        "recall": ratio(hits, support),
        "precision": ratio(hits, predicted),
        "specificity": ratio(n - support - predicted + hits, n - support),
        "f1": ratio(2 * hits, support + predicted),
    }


def average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) float64: sum over distinct scores of (recall gained) x precision there, without interpolation (scikit-learn's); NaN without positives."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = []
    for start in range(0, weights.shape[1], _COLUMNS):
        chunk = weights[order, start : start + _COLUMNS].astype(np.int32)
        taken = np.cumsum(chunk, axis=0, dtype=np.int32)[ends]
        chunk[~positive[order]] = 0
        hits = np.cumsum(chunk, axis=0, dtype=np.int32)[ends]
        gained = np.diff(hits, axis=0, prepend=0)
        found.append(ratio((gained * (hits / np.maximum(taken, 1))).sum(0), hits[-1].astype(float)))
    return np.concatenate(found)


def auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) float64, as the leaderboard's."""
    return metrics.auc(positive, scores, weights)


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where bottom is 0."""
    quotient = np.full(np.shape(bottom), np.nan)
    np.divide(top, bottom, out=quotient, where=bottom != 0)
    return quotient


def above_for_specificity(positive: np.ndarray, scores: np.ndarray, specificity: float) -> float:
    """The threshold t at which "scores > t is positive" has at least that specificity on these images, and the largest sensitivity.

    It is the score of a negative. NaN with fewer than 1 / (1 - specificity) negatives: the threshold would lie beyond all of them, where nothing
    was seen. positive (n,) bool, scores (n,); specificity in (0, 1).

    >>> above_for_specificity(np.arange(12) >= 10, np.arange(12) / 12, 0.9) == 8 / 12  # one of the ten negatives lies above
    True
    """
    negatives = np.sort(scores[~positive])
    if len(negatives) * (1 - specificity) < 1 - 1e-9:
        return float("nan")
    return float(negatives[math.ceil(specificity * len(negatives) - 1e-9) - 1])


def least_for_sensitivity(positive: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The threshold t at which "scores >= t is positive" has at least that sensitivity on these images, and the largest specificity.

    It is the score of a positive. NaN with fewer than 1 / (1 - sensitivity) positives. Shapes as above.
    """
    found = np.sort(scores[positive])[::-1]
    if len(found) * (1 - sensitivity) < 1 - 1e-9:
        return float("nan")
    return float(found[math.ceil(sensitivity * len(found) - 1e-9) - 1])
