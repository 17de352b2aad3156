"""Each class on its own.

How many of it are found, how many found are of it, how it ranks, and what it gives at a clinic's
threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import stats
from medbench.report.clinical import one_vs_rest
from medbench.report.clinical.case_labels import by_case
from medbench.report.clinical.predictions import Draw, LinePredictions, positives, read_predictions
from medbench.report.leaderboard import LeaderboardEntry
from medbench.schema import UserError, counted
from medbench.stats import metrics
from medbench.stats.few_groups import FEW

if TYPE_CHECKING:
    import pandas as pd

CLASS_COLUMNS = ("class", "n", "of", "metric", "mean", "sd", "low", "high")


def per_class(
    line: LeaderboardEntry | LinePredictions,
    *,
    specificity: float = 0.9,
    sensitivity: float = 0.9,
    unit: str = "image",
) -> pd.DataFrame:
    """Return one row a class and metric, columns CLASS_COLUMNS.

    N positives of so many images, mean over draws, sd over draws, 95 % interval.

    Metrics, each of one class against the rest: prevalence, recall, precision, specificity, f1 (of
    the protocol's decisions), auc, average_precision (of its probabilities);
    sensitivity_at_specificity and achieved_specificity: at the threshold that gives at least
    `specificity` on the held-out scores of the labelled subset, what the scored set gives;
    specificity_at_sensitivity and achieved_sensitivity likewise. NaN = undefined: no image of the
    class, nothing held out, or too few held-out images to place the threshold
    (`one_vs_rest.above_for_specificity`) in one of the draws. A binary task has one class, its
    second. The held-out scores are those of models fitted to four fifths of the labels: the
    achieved values say how well the threshold carried over.

    A share that is 1 (or 0) in every resample has the interval of as many of as many groups
    (Clopper & Pearson 1934): no resample shows what chance could have done. Another number that no
    resample moves has none.

    unit: "image", or "case" (`case_labels.by_case`; thresholds are still those of images). Raises
    UserError where the line is not complete, for a case without saved bags, and for numbers that
    are not between 0 and 1.
    """
    import pandas as pd

    records = class_records(line, specificity=specificity, sensitivity=sensitivity, unit=unit)
    return pd.DataFrame(records, columns=list(CLASS_COLUMNS)).astype({"sd": float})


def class_records(
    line: LeaderboardEntry | LinePredictions,
    *,
    specificity: float = 0.9,
    sensitivity: float = 0.9,
    unit: str = "image",
) -> list[dict[str, Any]]:
    """Return `per_class` as records.

    Raises UserError for an unknown share, and with unit "case" for results without bags or without
    a case that has one label.
    """
    check_shares(specificity, sensitivity)
    answers = line if isinstance(line, LinePredictions) else read_predictions(line)
    if unit == "case":
        if answers.bags is None:
            raise UserError(
                "These results were made before bags were saved: there are no cases.",
                then="medbench run, into a new folder",
            )
        answers = by_case(answers).answers
        if not len(answers.labels):
            raise UserError(
                "Every case holds images of different classes: none has a label.",
                then="unit='image'",
            )
    records = []
    for c in answers.each():
        known, positive = answers.positives(c)
        draws = [
            _measured(draw, c, known, positive, answers.weights[known], specificity, sensitivity)
            for draw in answers.draws
        ]
        trials = _trials(answers, c, known, positive)
        for metric in draws[0]:
            about, values = (
                _reference(answers, metric, known, positive, trials),
                [of[metric] for of in draws],
            )
            mean, low, high = estimated(answers, values, about, trials.get(metric, 0))
            counted = {"class": answers.classes[c], "n": int(positive.sum()), "of": len(known)}
            sd = float(np.std([of[0] for of in values], ddof=1)) if len(values) > 1 else None
            records.append(
                {**counted, "metric": metric, "mean": mean, "sd": sd, "low": low, "high": high}
            )
    return records


def estimated(
    answers: LinePredictions,
    values: Sequence[np.ndarray],
    reference: stats.ReferenceVariance | None,
    trials: int = 0,
) -> tuple[float, float, float]:
    """Return the mean over draws of a number in [0, 1], with its 95 % interval: (value, low, high).

    values: (1 + R,) a draw, the number and its resamples. reference: of its variance. trials: of a
    share, how many groups it is of.
    """
    s = stats.mean_over_seeds(answers.sample(values, reference=reference), within=(0.0, 1.0))
    return (s.mean, *((s.low, s.high) if s.low < s.high else _all_or_none(s.mean, trials)))


def too_few(answers: LinePredictions) -> dict[str, str]:
    """Return the classes that have, or lack, fewer than `FEW` groups of the scored set.

    Class -> how much of it was found, and of how many groups, in words.
    """
    found = {}
    for c in answers.each():
        known, positive = answers.positives(c)
        sides = {"with": positive, "without": ~positive}
        counts = {
            side: len(np.unique(answers.groups[known[which]])) for side, which in sides.items()
        }
        side = min(counts, key=counts.__getitem__)
        if counts[side] < FEW:
            hits = [
                (d.decisions[known, c] == 1 if d.decisions.ndim == 2 else d.decisions == c)[
                    positive
                ].sum()
                for d in answers.draws
            ]
            groups = counted(counts[side], answers.group)
            found[answers.classes[c]] = (
                f"{np.mean(hits):.3g} of {positive.sum()} ({groups} {side} it)"
            )
    return found


def _trials(
    answers: LinePredictions, c: int, known: np.ndarray, positive: np.ndarray
) -> dict[str, int]:
    """Of each share, how many groups it is of.

    With the class, without it, with images decided for it (in the draw with the fewest).
    """

    def count(which: np.ndarray) -> int:
        return len(np.unique(answers.groups[known[which]]))

    decided = [
        draw.decisions[known, c] == 1 if draw.decisions.ndim == 2 else draw.decisions == c
        for draw in answers.draws
    ]
    of_class, of_rest = count(positive), count(~positive)
    return {
        "prevalence": count(np.ones(len(known), bool)),
        "precision": min(map(count, decided)),
        **dict.fromkeys(("recall", "sensitivity_at_specificity", "achieved_sensitivity"), of_class),
        **dict.fromkeys(
            ("specificity", "specificity_at_sensitivity", "achieved_specificity"), of_rest
        ),
    }


def _reference(
    answers: LinePredictions,
    metric: str,
    known: np.ndarray,
    positive: np.ndarray,
    trials: dict[str, int],
) -> stats.ReferenceVariance | None:
    """Return what is known of the variance of one class's metric.

    It is known of a share, and of its AUC; None for others.
    """
    if metric in trials:
        return stats.reference("accuracy", (trials[metric],), trials[metric])
    sides = [len(np.unique(answers.groups[known[which]])) for which in (~positive, positive)]
    return stats.reference("auc", sides, answers.n_groups, binary=True) if metric == "auc" else None


def _all_or_none(share: float, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share of n that is 1 or 0.

    NaN of another, or of none.
    """
    if n == 0 or share not in (0.0, 1.0):
        return float("nan"), float("nan")
    far = 0.025 ** (1 / n)
    return (far, 1.0) if share else (0.0, 1 - far)


def _measured(
    draw: Draw,
    c: int,
    known: np.ndarray,
    positive: np.ndarray,
    weights: np.ndarray,
    specificity: float,
    sensitivity: float,
) -> dict[str, np.ndarray]:
    scores = draw.probabilities[known, c]
    decided = draw.decisions[known, c] == 1 if draw.decisions.ndim == 2 else draw.decisions == c
    held_positive, held = held_out_scores(draw, c)
    above = one_vs_rest.above_for_specificity(held_positive, held, specificity)
    least = one_vs_rest.least_for_sensitivity(held_positive, held, sensitivity)
    found, specific, sensitive = one_vs_rest.agreements(
        positive, [decided, scores > above, scores >= least], weights
    )
    found["auc"] = metrics.auc(positive, scores, weights)
    found["average_precision"] = one_vs_rest.average_precision(positive, scores, weights)
    nothing = np.full(weights.shape[1], np.nan)
    for names, threshold, at in (
        (("sensitivity_at_specificity", "achieved_specificity"), above, specific),
        (("achieved_sensitivity", "specificity_at_sensitivity"), least, sensitive),
    ):
        found |= {
            name: nothing if np.isnan(threshold) else at[of]
            for name, of in zip(names, ("recall", "specificity"), strict=True)
        }
    return found


def check_shares(specificity: float, sensitivity: float) -> None:
    """Raise UserError for a specificity or sensitivity outside of (0, 1)."""
    for name, value in (("specificity", specificity), ("sensitivity", sensitivity)):
        if not 0 < value < 1:
            raise UserError(
                f"A {name} lies between 0 and 1, both excluded; given {value:g}.",
                then=f"--{name} 0.9",
            )


def held_out_scores(draw: Draw, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positive (n,) bool and scores (n,) of class c inside the labelled subset.

    Where both are known; empty where nothing was held out.
    """
    if draw.held is None or draw.held_labels is None:
        return np.zeros(0, bool), np.zeros(0)
    known, positive = positives(draw.held_labels, c)
    scores = draw.held[known, c]
    there = ~np.isnan(scores)
    return positive[there], scores[there]
