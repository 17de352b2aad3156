"""Which lines a figure shows: an eye tells a dozen apart, not eighty.

What is left out is said in the figure, and stands in the tables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from medbench.report.leaderboard import Leaderboard, LeaderboardEntry

MOST = 12  # lines of a figure
# lines that a figure shows in their own colours, each with its band; of more, the others are grey
FEW = 4


def readable(
    boards: Sequence[Leaderboard], metric: str | None, most: int = MOST, also: Collection[str] = ()
) -> list[Leaderboard]:
    """Keep the lines that a figure has room for.

    All, or of more than `most` names the best with the most labels, `most` in all. Of several
    boards those with the best mean place. also: names of lines that stay in any case, as the
    supervised baseline does.
    """
    shown = {board: board.shown(metric) for board in boards}
    names = {line.name for board in boards for line in board.lines if shown[board] in line.plain}
    if len(names) <= most:
        return list(boards)
    bases = [
        base.name
        for board in boards
        if (base := baseline(board, shown[board])) is not None and base.cell.method == "supervised"
    ]
    kept = list(dict.fromkeys([*also, *bases]))
    kept += [name for name in best_first(shown) if name not in kept][: max(most - len(kept), 0)]
    return [
        replace(board, lines=[line for line in board.lines if line.name in kept])
        for board in boards
    ]


def emphasised(boards: Sequence[Leaderboard], metric: str | None) -> set[str]:
    """Return the names of the lines that a figure draws in colour.

    All of up to FEW, else the best with the most labels and the baseline of each board.
    """
    shown = {board: board.shown(metric) for board in boards}
    ranked = best_first(shown)
    if len(ranked) <= FEW:
        return set(ranked)
    return {
        ranked[0],
        *(base.name for board in boards if (base := baseline(board, shown[board])) is not None),
    }


def best_first(shown: Mapping[Leaderboard, str]) -> list[str]:
    """Order names of lines by their mean place on the boards with the most labels, best first.

    A place counts as a share of the places on its board. shown: the metric of each board.
    """
    places: dict[str, list[float]] = {}
    for board, metric in shown.items():
        last = {
            line.name: line.merit(metric)
            for line in board.at(board.budgets()[-1])
            if metric in line.plain
        }
        ordered = sorted(last, key=lambda name: -np.nan_to_num(last[name], nan=-np.inf))
        for place, name in enumerate(ordered):
            places.setdefault(name, []).append((place + 1) / len(ordered))
    return sorted(places, key=lambda name: float(np.mean(places[name])))


def left_out(boards: Sequence[Leaderboard], few: Sequence[Leaderboard]) -> str:
    """Say what a figure of `few` leaves out, "" where they are all of `boards`."""
    of, n = (len({line.name for board in some for line in board.lines}) for some in (boards, few))
    base = any(line.cell.method == "supervised" for board in few for line in board.lines)
    best = (
        f"{n} of {of} lines: the best with the most labels{', and the supervised baseline' if base else ''}"
        if n < of
        else ""
    )
    return "; ".join(filter(None, [picked_of(boards), best]))


def picked_of(boards: Sequence[Leaderboard]) -> str:
    """Say what a figure of lines that a user picked must say, "" of all lines."""
    return "a selection of the lines" if any(board.selection for board in boards) else ""


def baseline(board: Leaderboard, metric: str) -> LeaderboardEntry | None:
    """Return the best line of `supervised` with the most labels, else the first line.

    None where no line has the metric.
    """
    lines = [line for line in board.at(board.budgets()[-1]) if metric in line.plain]
    known = [line for line in lines if line.cell.method == "supervised"] or lines[:1]
    return max(known, key=lambda line: line.merit(metric), default=None)
