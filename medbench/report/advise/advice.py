"""What more labels would bring, in words.

Which line to start from, what twice as many labels promise, what a target needs, where another line
takes over.

A number stands only where a curve shows something: else a sentence says why there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import floor, isinf, isnan, log10
from typing import Any

import numpy as np

from medbench.schema import counted
from medbench.stats.extrapolation import (
    FEWEST,
    MOST_TIMES,
    Prediction,
    ScoredCurve,
    crossing,
    labels_for,
)
from medbench.stats.metrics import metric as metric_of
from medbench.stats.number_format import estimate_text, number_text

#: How many times the labels are shown where nothing else is asked for.
MORE = (2.0, 5.0, 10.0)
#: What is said of everything that lies further out.
BEYOND = f"beyond {MOST_TIMES:g} times the labels there is no prediction: intervals were not tested there"
_TURNS = 6  # of the predicted order, below the table
_NAMED = 2  # lines that overtake the first, in the sentence


@dataclass(frozen=True, eq=False)
class LineAdvice:
    """What more labels would bring one line. more: the times as many that are shown."""

    curve: ScoredCurve
    more: tuple[float, ...] = MORE
    target: float | None = None

    @cached_property
    def refused(self) -> str:
        """Why there is no prediction; "" where there is one."""
        curve = self.curve
        if len(curve.sizes) < 2:
            return "a curve needs two label budgets or more: --labels 12.5,25,50,100"
        if curve.perfect:
            return f"{_score(curve)} is perfect from the start, so there is no error to extrapolate; use harder test images"
        if curve.labelled < FEWEST:
            return f"{curve.labelled:.0f} labelled images are too few: the prediction was not tested below {FEWEST}"
        found = curve.predicted(np.array([curve.labelled]))
        if found.shape == "perfect":
            return f"{_score(curve)} is perfect at {images(curve.labelled)}: more labels cannot improve it"
        if found.shape == "falling":
            fall = f"from {number_text(float(curve.scores[0]))} to {number_text(float(curve.scores[-1]))}"
            return f"it falls with more labels, {fall}, by more than chance, so there is no prediction; check its labels and its training"
        return ""

    @cached_property
    def predicted(self) -> Prediction | None:
        """The prediction on a grid, from the labels that there are to `MOST_TIMES` as many.

        None where it is refused.
        """
        return None if self.refused else self.curve.predicted()

    def at(self, times: float) -> tuple[float, float, float]:
        """Return (value, low, high) of the score at so many times the labels, with a 90 % interval.

        For a line with a prediction. times: 1 to `MOST_TIMES`. Raises ValueError beyond these.
        """
        found = self.curve.predicted(np.array([times * self.curve.labelled]))
        return float(found.value[0]), float(found.low[0]), float(found.high[0])

    @property
    def now(self) -> float:
        """The score with the labels that there are.

        Where a part of them was held out of every score, the one that is predicted with all.
        """
        return self.at(1.0)[0] if self.inside and not self.refused else float(self.curve.scores[-1])

    @property
    def inside(self) -> bool:
        """Whether a part of the labelled images was held out of every score."""
        return bool(self.curve.sizes[-1] < 0.99 * self.curve.labelled)

    @property
    def needed(self) -> tuple[float, float, float] | None:
        """The labels that the target needs, (value, low, high), see `labels_for`.

        None where there is no target, or no prediction.
        """
        return (
            None
            if self.target is None or self.predicted is None
            else labels_for(self.predicted, self.target)
        )

    @property
    def notes(self) -> list[str]:
        """Sentences on what a reader must know of the prediction.

        Why there is none, where it is refused.
        """
        curve, said = self.curve, []
        if self.predicted is None:
            return [self.refused]
        if self.predicted.shape == "flat":
            said.append(
                "flat so far: the scores differ by no more than chance, so the prediction rests on other curves"
            )
        if len(curve.sizes) == 2:
            said.append("only two budgets: the bend of the curve is taken from other curves")
        if not (curve.draws[:-1] > 1).any():
            said.append(
                "one draw for each budget: the variance between draws is taken from other curves"
            )
        return said

    def cells(self) -> list[str]:
        """Return a table's cells: name, images, score, each of `more`, then the target's labels."""
        shown = [self.curve.name, f"{self.curve.labelled:,.0f}", number_text(self.now)]
        shown += [
            "–"
            if self.refused
            else "not said"
            if times > MOST_TIMES
            else estimate_text(*self.at(times))
            for times in self.more
        ]
        if self.target is not None:
            shown.append(
                "–"
                if self.needed is None
                else needs(self.needed, self.curve.labelled, self.now_reaches)
            )
        return shown

    def records(self) -> list[dict[str, Any]]:
        """Return the numbers for a program: a record for each size that is shown.

        The labels that there are first; NaN where nothing is said.
        """
        common = {
            "line": self.curve.name,
            "metric": self.curve.metric,
            "target": self.target,
            "why_not": self.refused,
        }
        needed = self.needed or (float("nan"),) * 3
        made = [
            {
                **common,
                "times": 1.0,
                "labels": self.curve.labelled,
                "value": self.now,
                "low": float("nan"),
                "high": float("nan"),
            }
        ]
        for times in self.more:
            value, low, high = (
                (float("nan"),) * 3 if self.refused or times > MOST_TIMES else self.at(times)
            )
            made.append(
                {
                    **common,
                    "times": times,
                    "labels": times * self.curve.labelled,
                    "value": value,
                    "low": low,
                    "high": high,
                }
            )
        return [
            {**one, **dict(zip(("needs", "needs_low", "needs_high"), needed, strict=True))}
            for one in made
        ]

    @property
    def now_reaches(self) -> bool:
        """Whether the target is reached with the labels that there are."""
        assert self.target is not None, "a target was asked for"
        return self.curve.sign * (self.now - self.target) - self.curve.luck * (not self.inside) >= 0


@dataclass(frozen=True, eq=False)
class Advice:
    """What more labels would bring a set of lines on the same images.

    among: how many lines the first was chosen among, those with the most labels. chosen: how.
    """

    title: str
    lines: Sequence[LineAdvice]
    among: int = 1
    chosen: str = ""
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def first(self) -> LineAdvice:
        """The line that is shown first and emphasised."""
        return self.lines[0]

    @property
    def sentence(self) -> str:
        """The advice in one sentence or two.

        `Start from simclr. At your 300 images it scores AUC 0.81; 600 would bring 0.84 [0.80,
        0.87], and 0.90 needs about 2,400 [1,500, more ...].`
        """
        first, curve = self.first, self.first.curve
        scores = f"{metric_of(curve.metric).title} {number_text(first.now)}"
        corrected = number_text(first.now - curve.sign * curve.luck)
        if corrected != number_text(first.now) and not first.inside:
            scores += f" ({corrected} corrected for the choice among {self.among})"
        start = f"Start from {curve.name}. At your {images(curve.labelled)} it scores {scores}"
        if first.refused:
            return f"{start}. No prediction for more labels: {first.refused}."
        shown = [times for times in first.more if times <= MOST_TIMES][:1]
        brings = "".join(
            f"; {labels(times * curve.labelled)} would bring {estimate_text(*first.at(times))}"
            for times in shown
        )
        return f"{start}{brings}{self._target()}.{self._overtakes()}"

    def _target(self) -> str:
        first = self.first
        if first.target is None or first.needed is None:
            return ""
        said = needs(first.needed, first.curve.labelled, first.now_reaches)
        goal = f"{first.target:g}"
        if first.now_reaches:
            return f", and {goal} is reached"
        return (
            f", and {goal} needs {said}"
            if not said.startswith("not")
            else f", and {goal} is {said}"
        )

    @cached_property
    def overtaking(self) -> list[tuple[LineAdvice, float]]:
        """Return lines that are predicted to overtake the first, and from how many labels on.

        (line, labels), the fewest labels first; [] where the first has no prediction.
        """
        first = self.first.predicted
        if first is None:
            return []
        found = [
            (line, crossing(first, line.predicted))
            for line in self.lines[1:]
            if line.predicted is not None
        ]
        return sorted(((line, n) for line, n in found if not isinf(n)), key=lambda one: one[1])

    @property
    def turns(self) -> list[str]:
        """Say where the predicted order of any two lines turns.

        As `b overtakes a from about 1,000`, the fewest labels first.
        """
        known = [(line, line.predicted) for line in self.lines if line.predicted is not None]
        found = [
            (n, f"{other.curve.name} overtakes {one.curve.name} from about {labels(n)}")
            for one, first in known
            for other, second in known
            if one is not other and not isinf(n := crossing(first, second))
        ]
        return [said for _, said in sorted(found)]

    def _overtakes(self) -> str:
        said = [
            f"{line.curve.name} is predicted to overtake it from about {labels(n)}"
            for line, n in self.overtaking[:_NAMED]
        ]
        more = len(self.overtaking) - _NAMED
        if more > 0:
            said.append(f"so are {more} more")
        return f" {'; '.join(said)}, but it is uncertain which is better there." if said else ""

    @property
    def header(self) -> list[str]:
        """The titles of the columns of its table."""
        goal = [] if self.first.target is None else [f"{self.first.target:g} needs"]
        return [
            "line",
            "images",
            f"{metric_of(self.first.curve.metric).title} now",
            *(f"{times:g} times" for times in self.first.more),
            *goal,
        ]

    @property
    def remarks(self) -> list[str]:
        """What stands below the table.

        For each line what a reader must know, how the first was chosen, and what the numbers are.
        """
        said: dict[str, list[str]] = {}
        for line in self.lines:
            for note in line.notes:
                said.setdefault(note, []).append(line.curve.name)
        of_lines = [
            f"{', '.join(names) if len(names) < len(self.lines) else 'each line'}: {note}"
            for note, names in said.items()
        ]
        meaning = "90 % intervals for one more draw of that many labels, including the chance of the test images (tested in docs/statistics.md)"
        turns = self.turns
        more = f"; and {len(turns) - _TURNS} more" if len(turns) > _TURNS else ""
        order = [f"predicted order: {'; '.join(turns[:_TURNS])}{more}"] if turns else []
        of_predictions = [meaning, BEYOND] if any(line.predicted for line in self.lines) else []
        return [*filter(None, [self.chosen]), *order, *of_lines, *self.notes, *of_predictions]


def advise(
    title: str,
    curves: Sequence[ScoredCurve],
    *,
    target: float | None = None,
    more: Sequence[float] = MORE,
    luck: float = 0.0,
    notes: Sequence[str] = (),
) -> Advice:
    """Advise from the learning curves of several lines on the same images, at least one.

    The line to start from is named by the scores that were held out inside the labelled subset,
    where each line has them. Else by the scores that are shown, and then its curve is lowered by
    `luck`, what the best of so many owes to having been chosen, in the metric's own unit. target,
    more: as of `from_results`. notes: stand below the table.
    """
    most = max(curve.labelled for curve in curves)
    able = [curve for curve in curves if curve.labelled >= 0.98 * most]
    if len(able) > 1 and not any(isnan(curve.held_out) for curve in able):
        first = max(able, key=lambda curve: curve.sign * curve.held_out)
        shown = first
        chosen = f"{first.name} was chosen among {len(able)} lines by scores held out inside the labelled images, not by the scores shown"
        best = max(able, key=lambda curve: curve.sign * curve.scores[-1])
        if best.scores[-1] != first.scores[-1]:
            # compare names the best at the largest budget, which may be on no curve
            named = "" if notes else ", which medbench compare names"
            chosen += f"; of these {best.name} has the best{named}: that one is for a report, to choose by it would be too optimistic"
    else:
        first = max(able, key=lambda curve: curve.sign * curve.scores[-1])
        shown = replace(first, luck=luck) if len(able) > 1 else first
        taken = (
            f", so its curve is lowered by {luck:.3f} to correct for the choice"
            if luck >= 0.0005 and not LineAdvice(shown).refused
            else ""
        )
        chosen = (
            f"{first.name} was chosen among {len(able)} lines by the scores shown{taken}"
            if len(able) > 1
            else ""
        )
    others = sorted(
        (curve for curve in curves if curve is not first),
        key=lambda curve: -curve.sign * curve.scores[-1],
    )
    lines = [LineAdvice(curve, tuple(more), target) for curve in (shown, *others)]
    return Advice(title, lines, len(able), chosen, tuple(notes))


def needs(found: tuple[float, float, float], labelled: float, reached: bool) -> str:
    """Write how many labels a target needs.

    `about 2,400 [1,500, more than 3,000]`, `more than 3,000 [2,600, more than 3,000]`. found: as
    `labels_for` gives it. reached: with the `labelled` ones that there are.
    """
    value, low, high = found
    most = f"more than {labels(MOST_TIMES * labelled)}"
    if reached:
        return "reached"
    if isinf(low):
        return f"not within {labels(MOST_TIMES * labelled)}"
    ends = f"[{labels(low)}, {most if isinf(high) else labels(high)}]"
    return f"{most} {ends}" if isinf(value) else f"about {labels(value)} {ends}"


def labels(n: float) -> str:
    """Write a number of labels to two digits; whole below a hundred.

    >>> labels(2431.0), labels(86.4), labels(600.0)
    ('2,400', '86', '600')
    """
    unit = 10.0 ** max(floor(log10(n)) - 1, 0)
    return f"{round(n / unit) * unit:,.0f}"


def images(n: float) -> str:
    """Write a number of images: `1,200 images`."""
    return counted(round(n), "image")


def _score(curve: ScoredCurve) -> str:
    return f"{metric_of(curve.metric).title} {number_text(float(curve.scores[-1]))}"
