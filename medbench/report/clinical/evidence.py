"""What one model was seen to do on a scored set, class by class and at each operating point.

What its card says, and what another site is held against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medbench import stats
from medbench.report.clinical.case_metrics import overall
from medbench.report.clinical.class_metrics import estimated
from medbench.report.clinical.one_vs_rest import agreement
from medbench.report.clinical.predictions import LinePredictions
from medbench.report.clinical.temperature_scaling import calibration_records
from medbench.stats import metrics
from medbench.stats.metrics import METRICS

OWN = "own"  # the decisions that the protocol itself takes
#: A number with its 95 % interval; None: undefined.
Numbers = list[float | None]
CALIBRATION = ("ece", "brier", "log_loss", "slope", "intercept")


def evidence(answers: LinePredictions, points: Mapping[str, Any]) -> dict[str, Any]:
    """Return the evidence of a model card: images, groups, auc, calibration and classes.

    auc: of the whole task. calibration: metric -> numbers. classes: name -> n, prevalence, auc, and
    each operating point -> sensitivity and specificity. Numbers are value, low and high.

    answers: of one draw. points: as operating_points.json has them under "points".
    """
    return {
        "images": len(answers.labels),
        "groups": answers.n_groups,
        "auc": _whole(answers),
        "calibration": _calibration(answers),
        "classes": {answers.classes[c]: _class(answers, c, points) for c in answers.each()},
    }


def _whole(answers: LinePredictions) -> Numbers:
    sample = answers.sample(overall(answers)["auc"], reference=answers.reference("auc"))
    s = stats.mean_over_seeds(sample, within=METRICS["auc"].range)
    return numbers(s.mean, s.low, s.high)


def _calibration(answers: LinePredictions) -> dict[str, Numbers]:
    records = {
        one["metric"]: one for one in calibration_records(answers) if one["state"] == "before"
    }
    return {
        name: numbers(*(records[name][of] for of in ("mean", "low", "high")))
        for name in CALIBRATION
        if name in records
    }


def _class(answers: LinePredictions, c: int, points: Mapping[str, Any]) -> dict[str, Any]:
    (draw,) = answers.draws
    known, positive = answers.positives(c)
    weights, scores = answers.weights[known], draw.probabilities[known, c]
    sides = {
        side: len(np.unique(answers.groups[known[which]]))
        for side, which in (("with", positive), ("without", ~positive))
    }
    every = len(np.unique(answers.groups[known]))
    own = draw.decisions[known, c] == 1 if draw.decisions.ndim == 2 else draw.decisions == c
    found: dict[str, Any] = {"n": int(positive.sum())}
    about = stats.reference("auc", (sides["without"], sides["with"]), every, binary=True)
    found["auc"] = numbers(*estimated(answers, [metrics.auc(positive, scores, weights)], about))
    for name in (OWN, *points):
        decided = own if name == OWN else beyond(points[name], answers.classes[c], scores)
        if decided is None:
            continue
        made = agreement(positive, decided, weights)
        shares = (
            ("sensitivity", "recall", sides["with"]),
            ("specificity", "specificity", sides["without"]),
        )
        found[name] = {
            called: numbers(*_share(answers, made[metric], n)) for called, metric, n in shares
        }
        found["prevalence"] = numbers(*_share(answers, made["prevalence"], every))
    return found


def beyond(point: Mapping[str, Any], name: str, scores: np.ndarray) -> np.ndarray | None:
    """Return whether scores of a class lie beyond its threshold at an operating point: (n,) bool.

    point: compare, thresholds. name: of the class. scores: (n,). None where it has no threshold.
    """
    threshold = point["thresholds"].get(name)
    if threshold is None:
        return None
    decided: np.ndarray = scores > threshold if point["compare"] == ">" else scores >= threshold
    return decided


def _share(answers: LinePredictions, values: np.ndarray, groups: int) -> tuple[float, float, float]:
    """Return a share of so many groups with its interval."""
    return estimated(answers, [values], stats.reference("accuracy", (groups,), groups), groups)


def numbers(*values: float) -> Numbers:
    """Return values for JSON: float, None for what is not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]
