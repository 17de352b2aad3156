"""What a user should take from a leaderboard, in one sentence.

What is best, from how few labels on that holds, and what it would take to know more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medbench.report.leaderboard import Leaderboard, LeaderboardEntry, marks
from medbench.report.leaderboard.families import comparisons, pretraining_spread
from medbench.stats.bottleneck import Bottleneck, Source, bottleneck
from medbench.stats.hypothesis_tests import OUT_OF_REACH, Verdict
from medbench.stats.metrics import METRICS
from medbench.stats.number_format import number_text
from medbench.stats.paired_lines import PairedLines, paired_lines
from medbench.stats.winners_curse import optimism

#: Of more lines that cannot be told from the best, their number.
NAMED = 4
#: p that decides, corrected.
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Answer:
    """Hold what a user should take from one board and metric.

    best: the best line at the most labels, and what is not told from it. since: the smallest budget
    from which on the best is among these and every other line is told from it. score, corrected:
    the best's, as it is and for having been chosen. next: the line among `best` that is nearest to
    being told from the first, and what keeps it; None where nothing is left to tell. weights: of
    the lines at these labels, those that were pretrained, or drawn, once.
    """

    board: Leaderboard
    metric: str
    best: tuple[LeaderboardEntry, ...]
    since: str
    score: float
    corrected: float
    lines: int
    next: tuple[LeaderboardEntry, Bottleneck] | None
    weights: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Write the answer as one sentence.

        As `with all labels concat has the best AUC (0.901; ...), and micle cannot be told from it;
        to tell it ...`
        """
        first = f"{self.board.called(self.best[0])} has the best {METRICS[self.metric].title}"
        return f"with {self._labels()} {first} ({self._score()}){self._others()}; {self._more()}."

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
        at = f" at {self._last}" if self._alone and self.since != self._last else ""
        said = f"{number_text(self.score)}{at}"
        # too few groups to say how lucky a winner is
        if self.lines == 1 or math.isnan(self.corrected):
            return said
        return f"{said}; {number_text(self.corrected)} once corrected for having been chosen among {self.lines}"

    def _others(self) -> str:
        """Write what is told from the best, and what is not."""
        _, *ties = map(self.board.called, self.best)
        if not ties:
            others = f"all of the {self.lines - 1} others are" if self.lines > 2 else "the other is"
            return f", and {others} told from it" if self.lines > 1 else ""
        if len(ties) == self.lines - 1:
            return (
                f", and none of the {len(ties)} others can be told from it"
                if len(ties) > 1
                else f", and {ties[0]} cannot be told from it"
            )
        named = (
            " and ".join(filter(None, (", ".join(ties[:-1]), ties[-1])))
            if len(ties) <= NAMED
            else f"{len(ties)} of the {self.lines - 1} others"
        )
        since = (
            ""
            if self.since == self._last
            else f"; from {_budget(self.since)} on no line but these is among the best"
        )
        return f", and {named} cannot be told from it{since}"

    def _more(self) -> str:
        weights = (
            "all of this is said of these weights, --pretrain-seeds 3 asks about the methods"
            if self.weights
            else ""
        )
        if self._alone:
            nothing = (
                "there is no other line to compare it with"
                if self.lines == 1
                else "nothing is left to be told between these lines"
            )
            return weights or nothing
        return f"{self._bottleneck()}{f'; {weights}' if weights else ''}"

    def _bottleneck(self) -> str:
        group = f"test {self.board.about['groups'] or 'image'}s"
        if self.next is None:
            return f"there are too few {group} to say what would tell them apart"
        line, keeps = self.next
        draws = "initialisations of a head" if self._last == "100%" else "draws of the labels"
        of, now = (
            {"groups": group, "draws": draws, "pretrainings": "pretraining seeds"}[
                keeps.source.name
            ],
            f"{keeps.source.n:,}",
        )
        most = f"{of} are the bottleneck ({keeps.share:.0%} of the interval)"
        if math.isinf(keeps.needed):
            return f"to tell even {self.board.called(line)} from it, {most}: {OUT_OF_REACH} times the {now} there are would not do"
        return f"to tell {self.board.called(line)} from it, {most}: about {float(f'{keeps.needed:.2g}'):,.0f} would do, there are {now}"


def answers(boards: Sequence[Leaderboard], metric: str | None = None) -> list[str]:
    """Write the sentence of each board, with its title.

    metric: None: each task's primary one.
    """
    found = []
    for board in boards:
        made = answer(board, board.shown(metric))
        last = board.at(board.budgets()[-1])
        lacking = sum(not line.complete for line in last)
        none = (
            f"no answer yet, {lacking} of {len(last)} lines at {board.budgets()[-1]} are not finished."
            if lacking
            else "no answer: no line has a score."
        )
        found.append(f"{board.title}: {made.sentence if made else none}")
    return found


def answer(board: Leaderboard, metric: str) -> Answer | None:
    """None before every line of the most labels is there."""
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
    weights = tuple(board.called(line) for line in last if line.drawn_once)
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
        board, metric, (first, *ties), since, score, score - lucky, len(last), nearest, weights
    )


def _nearest(
    verdicts: Mapping[LeaderboardEntry, Verdict], ties: Mapping[LeaderboardEntry, Sequence[Source]]
) -> tuple[LeaderboardEntry, Bottleneck] | None:
    """Return the line, not told from the best, that needs least more, and what keeps it.

    ties: with their `sources`.
    """
    found = []
    for line, chance in ties.items():
        verdict = verdicts.get(line)
        keeps = bottleneck(verdict.difference.value, chance, verdict.least) if verdict else None
        if keeps is not None:
            found.append((line, keeps))
    return min(found, key=lambda one: one[1].needed / one[1].source.n, default=None)


def sources(found: PairedLines, lines: Sequence[LeaderboardEntry], a: int, b: int) -> list[Source]:
    """Return where the chance of the difference of two of the lines comes from.

    And how many there are of each source.
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


def _budget(labels: str) -> str:
    return (
        "all labels"
        if labels == "100%"
        else f"{labels} of the labels"
        if labels.endswith("%")
        else f"{labels} labels"
    )
