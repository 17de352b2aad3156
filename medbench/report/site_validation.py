"""Whether an exported model is as good on a user's own images as its card says.

Discrimination, thresholds, calibration and prevalence, told apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from medbench import stats
from medbench.report.clinical.evidence import CALIBRATION, OWN, Numbers, evidence
from medbench.report.clinical.one_vs_rest import above_for_specificity, least_for_sensitivity
from medbench.report.clinical.predictions import Draw, LinePredictions
from medbench.schema import Kind, UserError
from medbench.stats.hypothesis_tests import POWER
from medbench.stats.intervals import interval
from medbench.stats.temperature import tempered

Word = Literal["as on the card", "worse", "not decidable", "threshold moved"]


@dataclass(frozen=True)
class Against:
    """A number here minus the card's, of two independent sets of images, with its 95 % interval.

    here, card: value, low, high of each. Newcombe's hybrid of both: Zou & Donner 2008. more: how
    many times the images at hand, beside these, would decide it with a chance of 80 % were the
    truth what was seen; inf: no number would, as the card's own interval is too wide; NaN:
    undefined.
    """

    here: Numbers
    card: Numbers
    value: float
    low: float
    high: float
    word: Word
    more: float = 0.0

    def cases(self, images: int) -> str:
        """Write how many more cases would decide it: `about 120 more cases would decide it`.

        images: at hand.
        """
        if math.isnan(self.more):
            return "too few cases for an interval"
        if math.isinf(self.more):
            return "the card's own result is too uncertain; more images from you cannot settle it"
        return f"about {float(f'{max(self.more * images, 1):.2g}'):,.0f} more cases would decide it"


def against(here: Numbers, card: Numbers, margin: float) -> Against:
    """Compare a number here with the card's, by its intervals.

    The word is "as on the card" where it is shown to be at most `margin` below the card's, and
    "worse" where it is shown to be below it and not shown to be within the margin.
    """
    if None in here or None in card:
        nan = float("nan")
        return Against(here, card, nan, nan, nan, "not decidable", nan)
    (h, h_low, h_high), (c, c_low, c_high) = np.array(here, float), np.array(card, float)
    d = h - c
    down, down_card, up, up_card = h - h_low, c_high - c, h_high - h, c - c_low
    low, high = float(d - math.hypot(down, down_card)), float(d + math.hypot(up, up_card))
    word: Word = "as on the card" if low > -margin else "worse" if high < 0 else "not decidable"
    more = 0.0
    if word == "not decidable":
        more = min(_more(margin + d, down, down_card), _more(-d, up, up_card))
    return Against(here, card, float(d), low, high, word, more)


def _more(reach: float, half: float, half_card: float) -> float:
    """How many times the images more make both halves together `reach` less far, with POWER.

    Inf where none do.
    """
    from scipy.special import ndtri

    room = (
        (reach / (1 + float(ndtri(POWER)) / float(ndtri(0.975)))) ** 2 - half_card**2
        if reach > 0
        else 0.0
    )
    return max(half**2 / room - 1, 0.0) if room > 0 else math.inf


@dataclass(frozen=True)
class PointVerdict:
    """The verdict on one class at one operating point.

    shipped: its threshold, None of the protocol's own decisions. right: the threshold that would
    have the asked share here, with its interval; None where too few cases.
    """

    name: str
    point: str
    sensitivity: Against
    specificity: Against
    shipped: float | None
    right: Numbers

    @property
    def word(self) -> Word:
        """The verdict in a word, from sensitivity and specificity.

        "threshold moved": what one side loses the other gains, as a shifted threshold does. A worse
        model loses on one side without a gain.
        """
        both = (self.sensitivity, self.specificity)
        words = {one.word for one in both}
        if words == {"as on the card"}:
            return "as on the card"
        if "worse" in words:
            gained = any(other.low > 0 for one, other in (both, both[::-1]) if one.word == "worse")
            return "threshold moved" if gained else "worse"
        return "not decidable"


@dataclass(frozen=True, eq=False)
class SiteValidation:
    """Hold what an exported model gives on a user's images, beside what its card says.

    here: `evidence` of the user's images. whole: the AUC of all classes. classes, prevalence: by
    class. calibration: metric -> here, card and here at the shipped temperature.
    """

    here: Mapping[str, Any]
    card: Mapping[str, Any]
    whole: Against
    classes: Mapping[str, Against]
    points: Sequence[PointVerdict]
    prevalence: Mapping[str, Against]
    calibration: Mapping[str, tuple[Numbers, Numbers, Numbers]]
    margin: float

    @property
    def word(self) -> Word:
        """Of the model: how well it ranks, which neither a threshold nor a prevalence changes."""
        return self.whole.word


class Answers(Protocol):
    """What a model said of a user's images (`models.exported.labelled.Answered`)."""

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities (M, C) in [0, 1]."""

    @property
    def decisions(self) -> np.ndarray:
        """Decisions, (M,) or (M, C) of 0 and 1."""

    @property
    def labels(self) -> np.ndarray:
        """Labels, (M,) int, or (M, C) float with NaN."""

    @property
    def groups(self) -> np.ndarray:
        """The group of each image, (M,), whose images are drawn together."""


def of_answers(
    found: Answers,
    kind: Kind,
    classes: Sequence[str],
    points: Mapping[str, Any],
    card: Mapping[str, Any],
    margin: float = 0.05,
) -> SiteValidation:
    """Validate as `validate` does, from what a model said.

    Raises UserError where all images are of one patient: nothing can be resampled.
    """
    ones = np.ones((len(found.labels), 1), np.uint8)
    if len(np.unique(found.groups)) < 2:
        raise UserError(
            "All images are of one group: no interval can be had.",
            then="images of several patients",
        )
    weights = np.concatenate([ones, stats.group_weights(found.groups)], axis=1)
    draw = Draw(found.probabilities, found.decisions)
    answers = LinePredictions(
        kind, classes, "case", found.labels, found.groups, weights, None, {}, [draw]
    )
    t = points["temperature"]
    at = (
        None
        if t is None
        else replace(
            answers, draws=[replace(draw, probabilities=tempered(found.probabilities, t, kind))]
        )
    )
    return validate(answers, at, points, card, margin)


def validate(
    answers: LinePredictions,
    calibrated: LinePredictions | None,
    points: Mapping[str, Any],
    card: Mapping[str, Any],
    margin: float = 0.05,
) -> SiteValidation:
    """Set what a model gives on a user's images beside what its card says.

    answers: of the user's images, one draw. calibrated: the same at the shipped temperature, None
    where there is none. points: operating_points.json. card: evidence.json. margin: what is too
    small to matter of an AUC, a sensitivity and a specificity, in [0, 1].
    """
    here = evidence(answers, points["points"])
    undefined: Numbers = [None] * 3
    after = evidence(calibrated, {})["calibration"] if calibrated else {}
    names = [name for name in here["classes"] if name in card["classes"]]
    each = {name: (here["classes"][name], card["classes"][name]) for name in names}
    found = [
        PointVerdict(
            name,
            point,
            against(mine[point]["sensitivity"], theirs[point]["sensitivity"], margin),
            against(mine[point]["specificity"], theirs[point]["specificity"], margin),
            None if point == OWN else points["points"][point]["thresholds"][name],
            undefined if point == OWN else _right(answers, name, point),
        )
        for name, (mine, theirs) in each.items()
        for point in (OWN, *points["points"])
        if point in mine and point in theirs
    ]
    return SiteValidation(
        here,
        card,
        against(here["auc"], card["auc"], margin),
        {
            name: against(mine["auc"], theirs["auc"], margin)
            for name, (mine, theirs) in each.items()
        },
        found,
        {
            name: against(mine["prevalence"], theirs["prevalence"], 0.0)
            for name, (mine, theirs) in each.items()
        },
        {
            name: (
                here["calibration"][name],
                card["calibration"].get(name, undefined),
                after.get(name, undefined),
            )
            for name in CALIBRATION
            if name in here["calibration"]
        },
        margin,
    )


def _right(answers: LinePredictions, name: str, point: str) -> Numbers:
    """Return the threshold that has the share of a point on these images.

    Also returns its 95 % interval over resampled groups.
    """
    rule, _, text = point.partition("-")
    choose = least_for_sensitivity if rule == "sensitivity" else above_for_specificity
    c, share = list(answers.classes).index(name), float(text)
    known, positive = answers.positives(c)
    scores = answers.draws[0].probabilities[known, c]
    value = choose(positive, scores, share)
    if math.isnan(value):
        return [None] * 3
    low, high = interval(_resampled(positive, scores, answers.weights[known, 1:], rule, share))
    return [value, low, high] if low == low else [value, None, None]


def _resampled(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray, rule: str, share: float
) -> np.ndarray:
    """(R,): the threshold of each resample; NaN where it has no image of that side."""
    side = positive if rule == "sensitivity" else ~positive
    sign = -1 if rule == "sensitivity" else 1
    order = np.argsort(sign * scores[side], kind="stable")
    ranked, taken = scores[side][order], np.cumsum(weights[side][order].astype(np.int64), axis=0)
    reached = taken >= np.ceil(share * taken[-1] - 1e-9)
    found: np.ndarray = np.where(taken[-1] > 0, ranked[reached.argmax(0)], np.nan)
    return found
