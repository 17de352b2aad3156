"""What a user should take from a leaderboard, in a few short sentences.

What is best, how many labels it saves, from how few labels on it is best, and what it would take to
know more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medbench.report.leaderboard import Leaderboard, LeaderboardEntry, marks
from medbench.report.leaderboard.families import (
    SUPERVISED,
    comparisons,
    place_of,
    pretraining_spread,
)
from medbench.schema import counted
from medbench.stats.bottleneck import Bottleneck, Source, bottleneck
from medbench.stats.hypothesis_tests import OUT_OF_REACH, Verdict
from medbench.stats.label_curves import LabelEfficiency, label_efficiency
from medbench.stats.metrics import METRICS
from medbench.stats.number_format import estimate_text, number_text
from medbench.stats.paired_lines import PairedLines, paired_lines
from medbench.stats.winners_curse import optimism

#: Of more lines that are not significantly worse than the best, only their number is given.
NAMED = 4
#: p that decides, corrected.
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Answer:
    """Hold what a user should take from one board and metric.

    best: the best line at the most labels, then those not significantly worse. since: the smallest
    budget from which on the best is among these and all others are significantly worse. score,
    corrected: the best's, as it is and corrected for the choice. saved: with which share of the
    labels the best reaches the supervised weights of its own encoder with all, "" where that is
    undecided. next: the line among `best` that needs least more to be separated from the first, and
    what limits it; None where nothing is left to separate. weights: of the lines at these labels,
    those that were pretrained, or drawn, once.
    """

    board: Leaderboard
    metric: str
    best: tuple[LeaderboardEntry, ...]
    since: str
    score: float
    corrected: float
    lines: int
    saved: str
    next: tuple[LeaderboardEntry, Bottleneck] | None
    weights: tuple[str, ...]

    @property
    def text(self) -> str:
        """Write the answer, as `with all labels concat has the best AUC: 0.901 [0.880, 0.917]. ...`

        It begins in lower case, as it stands behind a board's title.
        """
        name, best = self.board.called(self.best[0]), f"has the best {METRICS[self.metric].title}"
        # how many labels somebody else's model had is not known
        first = (
            f"beside lines with {self._labels()}, {name} (predictions made elsewhere) {best}"
            if self.best[0].cell.external
            else f"with {self._labels()} {name} {best}"
        )
        said = [f"{first}: {self._score()}", self._others()]
        return " ".join(
            f"{part}." for part in [*said, *self._since(), self.saved, *self._more()] if part
        )

    @property
    def _alone(self) -> bool:
        return len(self.best) == 1

    @property
    def _last(self) -> str:
        return self.board.budgets()[-1]

    def _labels(self) -> str:
        more = " or more" if self._alone and self.since != self._last else ""
        return f"{_budget(self.since if self._alone else self._last)}{more}"

    def _score(self) -> str:
        summary = self.best[0].summary(self.metric)
        at = f" at {self._last}" if self._alone and self.since != self._last else ""
        said = f"{estimate_text(summary.mean, summary.low, summary.high)}{at}"
        corrected = number_text(self.corrected)
        # too few groups to say how lucky a winner is, or luck that rounding hides
        if self.lines == 1 or math.isnan(self.corrected) or corrected == number_text(self.score):
            return said
        return f"{said}, or {corrected} corrected for choosing the best of {self.lines}"

    def _others(self) -> str:
        """Write which lines are significantly worse than the best, and which are not."""
        _, *ties = map(self.board.called, self.best)
        if self.lines == 1:
            return ""
        if not ties:
            many = "Both" if self.lines == 3 else f"All {self.lines - 1}"
            others = f"{many} others are" if self.lines > 2 else "The other is"
            return f"{others} significantly worse"
        if len(ties) == self.lines - 1 > 1:
            return f"None of the {len(ties)} others is significantly worse"
        named = (
            _listed(ties, "and")
            if len(ties) <= NAMED
            else f"{len(ties)} of the {self.lines - 1} others"
        )
        return f"{named} {'is' if len(ties) == 1 else 'are'} not significantly worse"

    def _since(self) -> list[str]:
        if self._alone or self.since == self._last or len(self.best) == self.lines:
            return []
        names = [self.board.called(line) for line in self.best]
        led = (
            f"one of these {len(names)} is" if len(names) > NAMED else f"{_listed(names, 'or')} is"
        )
        return [
            f"From {_budget(self.since)} on, {led} the best, and all others are significantly worse"
        ]

    def _more(self) -> list[str]:
        weights = [self._once()] if self.weights else []
        if not self._alone:
            return [self._bottleneck(), *weights]
        if weights:
            return weights
        return ["No other line was run"] if self.lines == 1 else []

    def _once(self) -> str:
        """Name the methods whose weights were made once, so that nothing follows for the method."""
        many = len(self.weights) > 1
        those = (
            _listed(self.weights, "and")
            if len(self.weights) <= NAMED
            else f"{len(self.weights)} methods"
        )
        drawn = [name == "random" for name in self.weights]
        how = "drawn" if all(drawn) else "pretrained or drawn" if any(drawn) else "pretrained"
        were, holds, s = (
            ("were", "their results hold", "s") if many else ("was", "its result holds", "")
        )
        return f"{those} {were} {how} once, so {holds} for these weights only; --pretrain-seeds 3 tests the method{s}"

    def _bottleneck(self) -> str:
        group = f"test {self.board.about['groups'] or 'image'}s"
        if self.next is None:
            return f"There are too few {group} to say what would separate them"
        line, keeps = self.next
        draws = "initialisations of a head" if self._last == "100%" else "draws of the labels"
        of, now = (
            {"groups": group, "draws": draws, "pretrainings": "pretraining seeds"}[
                keeps.source.name
            ],
            f"{keeps.source.n:,}",
        )
        said = f"To tell {self.board.called(line)} from {self.board.called(self.best[0])}, more {of} help most ({keeps.share:.0%} of the interval's variance)"
        if math.isinf(keeps.needed):
            even = f"{OUT_OF_REACH * keeps.source.n:,}"
            return f"{said}, but even {even} instead of {now} would not be enough"
        return (
            f"{said}: about {float(f'{keeps.needed:.2g}'):,.0f} would be enough, instead of {now}"
        )


def answers(boards: Sequence[Leaderboard], metric: str | None = None) -> list[str]:
    """Write the answer of each board, with its title.

    metric: None: each task's primary one.
    """
    found = []
    for board in boards:
        made = answer(board, board.shown(metric))
        last = board.at(board.budgets()[-1])
        lacking = [line for line in last if not line.complete]
        failed = ", ".join(dict.fromkeys(line.cell.method for line in lacking if line.reasons))
        none = "no answer: no line has a score."
        if lacking:
            are = "is" if len(lacking) == 1 else "are"
            none = f"no answer yet, {len(lacking)} of {counted(len(last), 'line')} at {board.budgets()[-1]} {are} not finished."
        if failed:
            left_out = "it" if "," not in failed else "them"
            none += f" {failed} failed: fix that and run again, or run the others alone, which leaves {left_out} out."
        found.append(f"{board.title}: {made.text if made else none}")
    return found


def answer(board: Leaderboard, metric: str) -> Answer | None:
    """Return the answer of a board; None before every line of the most labels is there.

    metric: its name.
    """
    budgets = board.budgets()
    signs = {line: mark.sign for line, mark in marks(board, metric).items()}
    last = [line for line in board.at(budgets[-1]) if line in signs]
    first = next((line for line in last if signs[line] == "*"), None)
    if first is None:
        return None
    ties = [line for line in last if signs[line] in ("=", "?")]
    names = {line.name for line in (first, *ties)}
    since = budgets[-1]
    for budget in reversed(budgets):
        at = board.at(budget)
        told = {line.name for line in at if signs[line] in ("*", "=", "?")}
        if not told or not told <= names or not any(signs[line] == "*" for line in at):
            break
        since = budget
    ties.sort(key=lambda line: -line.merit(metric))
    score = first.summary(metric).mean
    known = [
        line for line in last if metric in line.plain and not np.isnan(line.plain[metric]).any()
    ]
    spread = pretraining_spread(board, metric)
    found = paired_lines(
        [line.sample(metric) for line in known], [spread.get(line.name) for line in known]
    )
    lucky = METRICS[metric].sign * optimism(
        [line.merit(metric) for line in known], found.covariance
    )
    weights = tuple(dict.fromkeys(line.cell.method for line in last if line.drawn_once))
    verdicts = {
        pair.second: pair.verdict for pair in comparisons(board, metric, budgets=budgets[-1:])
    }
    nearest = _nearest(
        verdicts,
        {
            line: sources(found, known, known.index(line), known.index(first))
            for line in ties
            if line in known
        },
    )
    return Answer(
        board,
        metric,
        (first, *ties),
        since,
        score,
        score - lucky,
        len(last),
        _saved(board, metric, first),
        nearest,
        weights,
    )


def _saved(board: Leaderboard, metric: str, best: LeaderboardEntry) -> str:
    """Say with which share of the labels a line equals its own supervised weights with all."""
    found = labels_saved(board, metric, best)
    if found is None or not found[0].told:
        return ""
    reached, base = found
    reference = f"{board.called(base)} at {base.cell.labels}"
    return f"{board.called(best)} {reached.share(base.n_labels, reference)}"


def labels_saved(
    board: Leaderboard, metric: str, best: LeaderboardEntry
) -> tuple[LabelEfficiency, LeaderboardEntry] | None:
    """Return how many labels a line needs to equal its own supervised weights with all.

    The second value is the line of these weights. None where they were not run, are the line
    itself, or where the curve of the line has a gap or one budget alone.
    """
    bases = [
        line
        for line in board.at(board.budgets()[-1])
        if line.cell.method == SUPERVISED and place_of(line) == place_of(best)
    ]
    curve = [line for line in board.lines if line.name == best.name and metric in line.plain]
    if best in bases or len(bases) != 1 or len(curve) != len(board.budgets()) or len(curve) < 2:
        return None
    (base,) = bases
    if any(np.isnan(line.plain.get(metric, np.nan)).any() for line in (*curve, base)):
        return None
    reached = label_efficiency(
        [(line.n_labels, line.sample(metric)) for line in curve],
        base.sample(metric),
        higher_is_better=METRICS[metric].higher_is_better,
    )
    return reached, base


def _nearest(
    verdicts: Mapping[LeaderboardEntry, Verdict], ties: Mapping[LeaderboardEntry, Sequence[Source]]
) -> tuple[LeaderboardEntry, Bottleneck] | None:
    """Return the line, not significantly worse than the best, that needs least more to be so.

    The second value is what limits it. ties: with their `sources`.
    """
    found = []
    for line, chance in ties.items():
        verdict = verdicts.get(line)
        keeps = bottleneck(verdict.difference.value, chance, verdict.least) if verdict else None
        if keeps is not None:
            found.append((line, keeps))
    return min(found, key=lambda one: one[1].needed / one[1].source.n, default=None)


def sources(found: PairedLines, lines: Sequence[LeaderboardEntry], a: int, b: int) -> list[Source]:
    """Return the sources of chance of the difference of two lines, and how many of each there are.

    found: of all `lines`; a, b: places of the two. Groups, draws and pretrainings.
    """
    both = lines[a], lines[b]
    draws = [{planned.cell.seed for planned in line.planned} for line in both]
    shared = min((len(one) for one in draws if len(one) > 1), default=1)
    pretrained = min((line.pretrainings for line in both if line.pretrainings > 1), default=1)
    return [
        Source("groups", float(found.groups[a, b]), float(found.df_groups[a, b]), lines[a].groups),
        Source("draws", float(found.draws[a, b]), float(found.df_draws[a, b]), shared),
        Source(
            "pretrainings",
            float(found.pretrainings[a, b]),
            float(found.df_pretrainings[a, b]),
            pretrained,
        ),
    ]


def _listed(names: Sequence[str], word: str) -> str:
    """Write `a`, `a and b` or `a, b and c`, with this word."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _budget(labels: str) -> str:
    return (
        "all labels"
        if labels == "100%"
        else f"{labels} of the labels"
        if labels.endswith("%")
        else f"{labels} labels"
    )
