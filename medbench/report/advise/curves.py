"""Rows of a study -> the learning curves of its lines, and the line that one should start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medbench.report.leaderboard import Leaderboard, LeaderboardEntry
from medbench.report.model_choice import held_out_score
from medbench.run.store import NoPredictions
from medbench.schema import parse_budget
from medbench.stats import linear_contrast
from medbench.stats.extrapolation import ScoredCurve
from medbench.stats.paired_lines import paired_lines
from medbench.stats.winners_curse import optimism

_COUNTED = {
    "percent": "percent of the images",
    "per_class": "images of each class",
    "total": "images in all",
}


def curves_of(board: Leaderboard, metric: str) -> list[ScoredCurve]:
    """Return the curve of every line that has a finished score, in the order of the board.

    Budgets of one unit make one curve, as only they are nested in each other: of percentages and of
    images a class those that are more.
    """
    found: dict[str, list[LeaderboardEntry]] = {}
    for line in board.lines:
        if metric in line.plain and not np.isnan(line.plain[metric]).any():
            found.setdefault(line.name, []).append(line)
    return [_curve(board, metric, _nested(lines)) for lines in found.values()]


def lines_of(board: Leaderboard, metric: str) -> list[LeaderboardEntry]:
    """Return the line with the most labels of each curve of `curves_of`, in its order."""
    found: dict[str, list[LeaderboardEntry]] = {}
    for line in board.lines:
        if metric in line.plain and not np.isnan(line.plain[metric]).any():
            found.setdefault(line.name, []).append(line)
    return [_nested(lines)[-1] for lines in found.values()]


def left_out(board: Leaderboard, metric: str) -> list[str]:
    """Say which finished budgets are on no curve, because their labels are counted otherwise.

    [] where all do.
    """
    found: dict[str, list[LeaderboardEntry]] = {}
    for line in board.lines:
        if metric in line.plain and not np.isnan(line.plain[metric]).any():
            found.setdefault(line.name, []).append(line)
    used = {name: _unit(_nested(lines)[-1]) for name, lines in found.items()}
    other = list(
        dict.fromkeys(
            line.cell.labels
            for name, lines in found.items()
            for line in lines
            if _unit(line) != used[name]
        )
    )
    if not other:
        return []
    names = ["all labels" if one == "100%" else one for one in other]
    counted = " or ".join(_COUNTED[unit] for unit in dict.fromkeys(used.values()))
    one = len(names) == 1
    said = f"the {'score' if one else 'scores'} with {' and '.join(names)} {'is' if one else 'are'} not on this curve, which counts {counted}"
    # a curve needs two budgets, counted alike
    alike = len(other) > 1 and len({parse_budget(labels).unit for labels in other}) == 1
    asked = "12.5,25,50,100" if "100%" in other else ",".join(other) if alike else ""
    then = f". For a curve with {'it' if one else 'them'}: medbench run --labels {asked}"
    return [said + (then if asked else "")]


def _unit(line: LeaderboardEntry) -> str:
    return parse_budget(line.cell.labels).unit


def _nested(lines: Sequence[LeaderboardEntry]) -> list[LeaderboardEntry]:
    units: dict[str, list[LeaderboardEntry]] = {}
    for line in lines:
        units.setdefault(parse_budget(line.cell.labels).unit, []).append(line)
    largest = max(units.values(), key=len)
    by_size = {line.n_labels: line for line in largest}  # two budgets may come to the same images
    return [by_size[n] for n in sorted(by_size)]


def _curve(board: Leaderboard, metric: str, lines: Sequence[LeaderboardEntry]) -> ScoredCurve:
    estimates = [linear_contrast([(1.0, line.sample(metric))]) for line in lines]
    draws = [len(line.sample(metric).named) for line in lines]
    errors = [
        np.sqrt(sum(variance for variance, _ in estimate.parts[1:])) if drawn > 1 else np.nan
        for estimate, drawn in zip(estimates, draws, strict=True)
    ]
    return ScoredCurve(
        board.called(lines[-1]),
        metric,
        np.array([line.n_labels for line in lines]),
        np.array([estimate.value for estimate in estimates]),
        np.array(errors),
        np.array(draws, float),
        float(np.nan_to_num(np.sqrt(estimates[-1].parts[0][0]))),
        lines[-1].n_labels,
        _held_out(lines[-1], metric, board),
    )


def _held_out(line: LeaderboardEntry, metric: str, board: Leaderboard) -> float:
    """NaN where predictions were not shared, or nothing was held out."""
    try:
        return held_out_score(line, metric, board.about["kind"])
    except NoPredictions:
        return float("nan")


def luck(board: Leaderboard, metric: str) -> float:
    """Return how much better the best of the board's last lines scored than it is, at least 0.

    In the metric's own unit: what it owes to having been chosen among them by the scored set
    (`optimism`).
    """
    lines = lines_of(board, metric)
    found = paired_lines([line.sample(metric) for line in lines])
    return optimism([line.merit(metric) for line in lines], found.covariance)
