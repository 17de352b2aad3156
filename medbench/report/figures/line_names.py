"""Lines of a figure by the words in which they differ, and how each looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medbench.report.figures.style import Look, looks
from medbench.report.leaderboard import Leaderboard, LeaderboardEntry, shown_axes


def short_names(boards: Sequence[Leaderboard]) -> dict[str, str]:
    """Return line name -> the words of it that differ between lines, the method first.

    In the order of the boards.
    """
    names = list(dict.fromkeys(line.name for board in boards for line in board.lines))
    axes = _differing(boards)
    words = [
        (line.cell.method, *(str(getattr(line.cell, axis)) for axis in axes))
        for line in _first_of(boards, names)
    ]
    return {name: " ".join(word) for name, word in zip(names, words, strict=True)}


def line_looks(boards: Sequence[Leaderboard]) -> dict[str, Look]:
    """Return colour, stroke and marker of each line of the boards, by its short name."""
    return looks(list(short_names(boards)))


def _differing(boards: Sequence[Leaderboard]) -> list[str]:
    """Return the axes beside the method in which lines of one board differ."""
    found = [axis for board in boards for axis in shown_axes(board.lines)]
    return [axis for axis in dict.fromkeys(found) if axis != "method"]


def _first_of(boards: Sequence[Leaderboard], names: Sequence[str]) -> list[LeaderboardEntry]:
    by_name: Mapping[str, LeaderboardEntry] = {
        line.name: line for board in reversed(boards) for line in reversed(board.lines)
    }
    return [by_name[name] for name in names]
