"""Metrics that a user added: tried before a run, and computed of rows that were made before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medbench.schema import Kind
from medbench.stats.bootstrap import group_weights
from medbench.stats.metrics import METRICS, class_counts, metric_names


def try_added(kind: Kind) -> None:
    """Compute each added metric of a task's kind on four drawn images.

    Raises UserError for one that fails or gives anything but a number a resample.
    """
    labels = np.array([0, 1, 0, 1])
    decisions = np.array([0, 1, 1, 0])
    if kind == "multilabel":
        labels, decisions = np.eye(2)[labels], np.eye(2, dtype=int)[decisions]
    weights = np.array([[1, 2, 0], [1, 0, 2], [1, 1, 1], [1, 1, 1]])
    counts = class_counts(labels, decisions, 2, weights)
    for name in metric_names(kind):
        if METRICS[name].of_counts:
            METRICS[name].counted(*counts)


def stale(kind: Kind, kept: Mapping[str, Any]) -> list[str]:
    """Name the added metrics that a row lacks, or has by other code.

    kept: its metrics, name -> value, low, high and, of an added one, the hash of its code.
    """
    return [
        name
        for name in metric_names(kind)
        if METRICS[name].code and kept.get(name, {}).get("code") != METRICS[name].code
    ]


def added_values(
    names: list[str],
    target: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    resamples: int,
) -> dict[str, tuple[float, np.ndarray]]:
    """Compute added metrics from what a row keeps.

    Parameters
    ----------
    names : list of str
    target : mapping
        labels (M,) or (M, C) and groups (M,) of the scored set.
    scores : mapping
        probabilities (M, C) and decisions of the row.
    resamples : int
        How many the row has, R.

    Returns
    -------
    dict
        Name -> its value, NaN where undefined, and that on the resamples, (R,) float32.

    Raises
    ------
    UserError
        With file and line, where the metric's function fails or gives anything else.
    """
    labels, classes = target["labels"], scores["probabilities"].shape[1]
    one = np.ones((len(labels), 1), np.int64)
    weights = group_weights(target["groups"], resamples)
    plain, drawn = (
        class_counts(labels, scores["decisions"], classes, each) for each in (one, weights)
    )
    return {
        name: (
            float(METRICS[name].counted(*plain)[0]),
            METRICS[name].counted(*drawn).astype(np.float32),
        )
        for name in names
    }
