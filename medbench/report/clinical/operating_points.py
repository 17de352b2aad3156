"""Thresholds and a temperature for use elsewhere, from the held-out scores of one row.

What an exported model carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medbench.report.clinical.class_metrics import check_shares, held_out_scores
from medbench.report.clinical.one_vs_rest import above_for_specificity, least_for_sensitivity
from medbench.report.clinical.predictions import Draw
from medbench.report.clinical.temperature_scaling import fit_temperature
from medbench.schema import Kind
from medbench.stats import conformal

Rule = Callable[[np.ndarray, np.ndarray, float], float]


def operating_points(
    draw: Draw,
    classes: Sequence[str],
    kind: Kind,
    *,
    specificity: float = 0.9,
    sensitivity: float = 0.9,
) -> dict[str, Any]:
    """Choose the temperature and the thresholds of a model from held-out scores.

    temperature (None: too little was held out), held_out_images, and points: "sensitivity-0.9" and
    "specificity-0.9" -> compare, the sign between a score and its threshold, and thresholds, class
    -> number or None. Of a binary task its second class alone has one. Each class stands against
    the rest. Chosen by the rules of `class_metrics.per_class`, never by the scored set. Raises
    UserError for no share.
    """
    check_shares(specificity, sensitivity)
    named: dict[str, tuple[Rule, float, str]] = {
        f"sensitivity-{sensitivity:.10g}": (least_for_sensitivity, sensitivity, ">="),
        f"specificity-{specificity:.10g}": (above_for_specificity, specificity, ">"),
    }
    each = [1] if kind == "binary" else range(len(classes))
    points = {}
    for name, (rule, share, compare) in named.items():
        found = {classes[c]: rule(*held_out_scores(draw, c), share) for c in each}
        points[name] = {
            "compare": compare,
            "thresholds": {c: None if np.isnan(value) else value for c, value in found.items()},
        }
    t = fit_temperature(draw, kind)
    return {
        "temperature": None if np.isnan(t) else t,
        "held_out_images": 0 if draw.held is None else len(draw.held),
        "points": points,
        "sets": _sets(draw),
    }


def _sets(draw: Draw) -> dict[str, float | None]:
    """Return quantiles of conformal sets (`stats.conformal`).

    {} of several labels, and where nothing was held out or its groups are not known.
    """
    if (
        draw.held is None
        or draw.held_labels is None
        or draw.held_groups is None
        or draw.held_labels.ndim == 2
        or not len(draw.held)
    ):
        return {}
    right = np.take_along_axis(np.nan_to_num(draw.held), draw.held_labels[:, None].astype(int), 1)[
        :, 0
    ]
    return conformal.calibrate(right, draw.held_groups)
