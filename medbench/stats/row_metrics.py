"""What a row says of its scores: every metric with its interval, and the resamples behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from medbench.schema import Kind
from medbench.stats import metrics
from medbench.stats.intervals import interval

UNEVEN = 0.01  # of a sum of probabilities: rounding in half precision is a tenth of it


def row_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    decisions: np.ndarray,
    kind: Kind,
    weights: np.ndarray,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the metrics of a row, and their values on its resamples.

    First metric -> value, low, high (95 %; None: undefined), as `Row.metrics` has them; then metric
    -> (R,) float64 on the resamples `weights` (N, R). The arrays are as `metrics.score` takes them,
    and so are the errors.
    """
    plain = metrics.score(labels, probabilities, decisions, kind)
    resampled = metrics.score(labels, probabilities, decisions, kind, weights)
    values: dict[str, Any] = {}
    for name, value in plain.values.items():
        low, high = interval(resampled.values[name])
        values[name] = {"value": _number(value), "low": _number(low), "high": _number(high)}
        if code := metrics.METRICS[name].code:
            values[name]["code"] = code
    values["auc"]["classes"] = plain.auc_classes  # over how many the mean was taken
    return values, resampled.values


def uneven(probabilities: np.ndarray, kind: Kind) -> np.ndarray:
    """Return which images' probabilities (N, C) of exclusive classes do not sum to 1: (n,) int64.

    Beyond UNEVEN: calibration would mean nothing. Empty for several labels an image.
    """
    if kind == "multilabel":
        return np.zeros(0, np.int64)
    return np.flatnonzero(~(np.abs(probabilities.sum(1) - 1) <= UNEVEN))


def _number(value: Any) -> float | None:
    """JSON has no NaN: undefined is null."""
    return None if value is None or not np.isfinite(value) else float(value)
