"""Work out what a decision is worth where the disease is as frequent as in a clinic.

Predictive values and net benefit at a stated prevalence.

Sensitivity and specificity are the scored set's, and are taken to hold at another prevalence; what
is computed from them there is not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medbench import stats
from medbench.report.clinical import one_vs_rest
from medbench.report.clinical.class_metrics import held_out_scores
from medbench.report.clinical.predictions import Draw, LinePredictions
from medbench.schema import Kind, UserError
from medbench.stats.metrics import ratio

#: Threshold probabilities of the decision curve (Vickers & Elkin 2006, Medical Decision Making
#: 26:565): from whom one in fifty would be worth treating on.
CURVE = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
AS_DECIDED = "as decided"


def asked_prevalence(text: str, classes: Sequence[str], kind: Kind) -> dict[str, float]:
    """Read `0.05` of two classes, `mel=0.02,nv=0.6` of more: class -> prevalence in (0, 1).

    Raises UserError for a class or a number that is none.
    """
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = (word.strip() for word in part.rpartition("="))
        if not equals and kind == "binary":
            name = classes[1]
        if name not in classes or (kind == "binary" and name != classes[1]):
            allowed = classes[1:] if kind == "binary" else classes
            raise UserError(
                f"--prevalence '{part}' names no class.",
                allowed=allowed,
                given=name,
                then=f"--prevalence {allowed[0]}=0.05",
            )
        try:
            share = float(number)
        except ValueError:
            share = float("nan")
        if not 0 < share < 1:
            raise UserError(
                f"A prevalence lies between 0 and 1, both excluded; given '{number}'.",
                then=f"--prevalence {name}=0.05",
            )
        found[name] = share
    if not found:
        raise UserError(
            f"--prevalence '{text}' names nothing.", then="--prevalence 0.05, or CLASS=0.05,..."
        )
    return found


def predictive_records(
    answers: LinePredictions,
    asked: Mapping[str, float],
    *,
    specificity: float = 0.9,
    sensitivity: float = 0.9,
) -> list[dict[str, Any]]:
    """List ppv and npv of each class of `asked`, with low and high.

    As decided and at the two thresholds (`class_metrics.per_class`). NaN where a draw has no
    threshold, or nothing is decided for the class.
    """
    records = []
    for name, prevalence in asked.items():
        c = list(answers.classes).index(name)
        each = [_agreements(answers, draw, c, specificity, sensitivity) for draw in answers.draws]
        for point in each[0]:
            made = [
                _predictive(found[point]["recall"], found[point]["specificity"], prevalence)
                for found in each
            ]
            record: dict[str, Any] = {"class": name, "prevalence": prevalence, "point": point}
            for value in ("ppv", "npv"):
                s = stats.mean_over_seeds(
                    answers.sample([one[value] for one in made]), within=(0.0, 1.0)
                )
                record |= {value: s.mean, f"{value}_low": s.low, f"{value}_high": s.high}
            records.append(record)
    return records


def _agreements(
    answers: LinePredictions, draw: Draw, c: int, specificity: float, sensitivity: float
) -> dict[str, dict[str, np.ndarray]]:
    known, positive = answers.positives(c)
    scores, weights = draw.probabilities[known, c], answers.weights[known]
    held_positive, held = held_out_scores(draw, c)
    above = one_vs_rest.above_for_specificity(held_positive, held, specificity)
    least = one_vs_rest.least_for_sensitivity(held_positive, held, sensitivity)
    own = draw.decisions[known, c] == 1 if draw.decisions.ndim == 2 else draw.decisions == c
    points = {
        AS_DECIDED: own,
        f"specificity {specificity:.10g}": scores > above,
        f"sensitivity {sensitivity:.10g}": scores >= least,
    }
    found = dict(
        zip(points, one_vs_rest.agreements(positive, list(points.values()), weights), strict=True)
    )
    nothing = dict.fromkeys(("recall", "specificity"), np.full(weights.shape[1], np.nan))
    placed = {
        AS_DECIDED: 0.0,
        f"specificity {specificity:.10g}": above,
        f"sensitivity {sensitivity:.10g}": least,
    }
    return {name: nothing if np.isnan(placed[name]) else found[name] for name in points}


def _predictive(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float
) -> dict[str, np.ndarray]:
    """Bayes' rule, on every resample."""
    ill, well = prevalence, 1 - prevalence
    found = {
        "ppv": ratio(sensitivity * ill, sensitivity * ill + (1 - specificity) * well),
        "npv": ratio(specificity * well, specificity * well + (1 - sensitivity) * ill),
    }
    return found


def net_benefit_records(
    answers: LinePredictions, asked: Mapping[str, float]
) -> list[dict[str, Any]]:
    """List the net benefit at each threshold probability of CURVE (Vickers & Elkin 2006).

    asked: class -> prevalence in (0, 1). Of deciding by the probabilities, moved to the prevalence:
    benefit, low and high (95 %); of treating all: all; of treating nobody it is 0. The odds of a
    probability are moved by the odds of the prevalence over those of the labelled subset (of the
    scored set where nothing was held out), which keeps likelihood ratios.
    """
    records = []
    for name, prevalence in asked.items():
        c = list(answers.classes).index(name)
        known, positive = answers.positives(c)
        weights = answers.weights[known]
        moved = [_moved(answers, draw, c, prevalence)[known] for draw in answers.draws]
        for threshold in CURVE:
            harm = threshold / (1 - threshold)
            values = []
            for p in moved:
                found = one_vs_rest.agreement(positive, p >= threshold, weights)
                values.append(
                    found["recall"] * prevalence
                    - (1 - found["specificity"]) * (1 - prevalence) * harm
                )
            s = stats.mean_over_seeds(answers.sample(values), within=(-np.inf, prevalence))
            every = prevalence - (1 - prevalence) * harm
            numbers = {"benefit": s.mean, "low": s.low, "high": s.high, "all": every}
            records.append(
                {"class": name, "prevalence": prevalence, "threshold": threshold, **numbers}
            )
    return records


def _moved(answers: LinePredictions, draw: Draw, c: int, prevalence: float) -> np.ndarray:
    """(M,): the probabilities of a class at another prevalence."""
    held, _ = held_out_scores(draw, c)
    share = (
        float(held.mean())
        if len(held) and 0 < held.mean() < 1
        else float(answers.positives(c)[1].mean())
    )
    p = draw.probabilities[:, c]
    if not 0 < share < 1:
        return p
    odds = prevalence / (1 - prevalence) / (share / (1 - share))
    made: np.ndarray = p * odds / (p * odds + 1 - p)
    return made
