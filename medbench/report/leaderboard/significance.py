"""What is the best of a leaderboard at each budget, and what ties with it.

Also the numbers of many lines, worked out side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medbench import stats
from medbench.report.leaderboard.board import Leaderboard, standing
from medbench.report.leaderboard.entry import LeaderboardEntry, SignificanceMark, summarise
from medbench.report.leaderboard.families import BEST, of_lines, pretraining_spread
from medbench.stats.metrics import METRICS
from medbench.system import fork_pool


def pairs(board: Leaderboard, metric: str) -> int:
    """Return how many comparisons of two lines at equal labels the board holds."""
    counts = [sum(metric in line.plain for line in board.at(budget)) for budget in board.budgets()]
    return sum(n * (n - 1) // 2 for n in counts)


def legend(board: Leaderboard, metric: str) -> str:
    """Write what the signs of a board mean, and how they are corrected."""
    of = " of this selection" if board.selection else ""
    alone = "; each interval is for its comparison alone" if pairs(board, metric) > 1 else ""
    return f"* best   = not significantly worse: paired, {BEST.words}{of}{alone}   ? too few groups to say"


def marks(board: Leaderboard, metric: str) -> Mapping[LeaderboardEntry, SignificanceMark]:
    """Return the mark of each line at its budget: the best, and what ties with it.

    Nothing is called the best before all lines of the budget are there; of equal means the first
    is. Others are marked where they are not shown to differ from it; p is corrected as
    `families.BEST` says. Worked out once a board and metric.
    """
    if metric not in board._marks:
        spread = pretraining_spread(board, metric)
        board._marks[metric] = _marked(
            board, [_gaps(board, board.at(budget), metric, spread) for budget in board.budgets()]
        )
    return board._marks[metric]


def precompute(
    found: Sequence[Leaderboard],
    metric: str | None = None,
    *,
    all_metrics: bool = False,
    processes: int = 1,
) -> None:
    """Work out summaries and marks of one metric, for `LeaderboardEntry.summary` and `marks`.

    metric: default each task's primary one. Budgets side by side in `processes`; a single one
    leaves the marks until they are asked for. all_metrics: the summaries of every metric.
    """
    shown, marked = {board: board.shown(metric) for board in found}, set(standing(found))

    def summarised(board: Leaderboard, lines: Sequence[LeaderboardEntry]) -> None:
        known = (
            [name for name in METRICS if any(name in line.plain for line in lines)]
            if all_metrics
            else []
        )
        summarise(lines, known or [shown[board]])

    if processes < 2:
        for board in found:
            summarised(board, board.lines)
        return
    import scipy.special  # noqa: F401  # once, and not in each copy of this process

    jobs = [(board, budget) for board in found for budget in board.budgets()]
    spreads = {board: pretraining_spread(board, shown[board]) for board in marked}

    def worked_out(
        job: tuple[Leaderboard, str],
    ) -> tuple[list[dict[str, stats.Summary]], _Gaps | None]:
        board, budget = job
        lines = board.at(budget)
        summarised(board, lines)
        return [line._summaries for line in lines], _gaps(
            board, lines, shown[board], spreads[board]
        ) if board in marked else None

    gaps: dict[Leaderboard, list[_Gaps | None]] = {}
    for (board, budget), (summaries, found_there) in zip(
        jobs, fork_pool.each(worked_out, jobs, processes), strict=True
    ):
        gaps.setdefault(board, []).append(found_there)
        for line, summary in zip(board.at(budget), summaries, strict=True):
            line._summaries.update(summary)
    for board in marked:
        board._marks[shown[board]] = _marked(board, gaps[board])


#: At one budget: the best's place among its lines; of each other's place the difference to it, and
#: its p.
_Gaps = tuple[int, dict[int, tuple[stats.Estimate, float]]]


def _gaps(
    board: Leaderboard,
    lines: Sequence[LeaderboardEntry],
    metric: str,
    spread: dict[str, stats.Spread],
) -> _Gaps | None:
    if not all(metric in line.plain for line in lines):
        return None
    defined = [place for place, line in enumerate(lines) if not np.isnan(line.plain[metric]).any()]
    if not defined:
        return None
    places, sign = {line: place for place, line in enumerate(lines)}, METRICS[metric].sign
    made = of_lines(lines, metric, BEST, 0.0, spread, board)
    best = places[made[0].first] if made else defined[0]
    return best, {
        places[one.second]: (one.verdict.difference.times(-sign), one.verdict.p) for one in made
    }


def _marked(
    board: Leaderboard, each: Sequence[_Gaps | None]
) -> dict[LeaderboardEntry, SignificanceMark]:
    found = dict.fromkeys(board.lines, SignificanceMark())
    for budget, there in zip(board.budgets(), each, strict=True):
        if there is not None:
            lines = board.at(budget)
            best, gaps = there
            found[lines[best]] = SignificanceMark("*")
            for place, (gap, p) in gaps.items():
                found[lines[place]] = SignificanceMark(
                    "?" if np.isnan(p) else "=" if p > 0.05 else "", gap, p
                )
    return found
