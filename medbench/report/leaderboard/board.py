"""The lines that were scored on one set of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from medbench.report.leaderboard.entry import LeaderboardEntry, SignificanceMark, shown_axes
from medbench.schema import Note, UserError
from medbench.stats.metrics import METRICS


@dataclass(frozen=True)
class Selection:
    """Lines that a person picked from a leaderboard.

    shown: how many, `of` how many in all the results. asked: what for, in words.
    """

    shown: int
    of: int
    asked: str

    def __str__(self) -> str:
        return f"{self.shown} of {self.of} lines ({self.asked})"


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Hold all lines that were scored on one target set, so that any two are paired.

    data: its name, with the results folder where two data sets of these results have one name.
    about: the plan's notes on the task. selection: None, or these are not all lines of the results
    (`table.only`). judged: how many lines were ever scored on it (`run.ledger`).
    """

    task: str
    data: str
    target: str
    about: Mapping[str, Any]
    lines: Sequence[LeaderboardEntry]
    selection: Selection | None = None
    judged: int = 0
    _marks: dict[str, Mapping[LeaderboardEntry, SignificanceMark]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def title(self) -> str:
        """Task, data and scored set in words, as the head of the table."""
        return f"{self.named('PHANTOM: drawn images')}, {self.target}"

    def named(self, phantom: str) -> str:
        """Name task and data. phantom: what stands for drawn images."""
        own = self.data.removeprefix(self.task.removeprefix("folder:"))
        if self.task.startswith("folder:") and own[:2] in ("", " ["):  # is called like its data
            return f"{self.task}{own}"
        return f"{self.task} ({phantom if self.data == 'phantom' else self.data})"

    @property
    def shift(self) -> Mapping[str, Any]:
        """What the plan says of a scored set that is not the task's own part; {} of that part.

        Kind "data" or "corruption", and what goes with it.
        """
        found: Mapping[str, Any] = self.about.get("shift", {})
        return found

    def shown(self, metric: str | None) -> str:
        """Return the metric that is asked for, else the task's primary one."""
        return metric or str(self.about["metric"])

    @cached_property
    def axes(self) -> list[str]:
        """The axes in which its lines differ, see `shown_axes`."""
        return shown_axes(self.lines)

    def budgets(self) -> list[str]:
        """Return the label budgets of its lines, each once, in the order of the lines."""
        return list(dict.fromkeys(line.cell.labels for line in self.lines))

    def called(self, line: LeaderboardEntry) -> str:
        """Name a line by its method, and the words in which the board's lines differ."""
        return " ".join(str(getattr(line.cell, axis)) for axis in self.axes)

    @property
    def own(self) -> Leaderboard:
        """The board without somebody else's predictions."""
        return replace(self, lines=[line for line in self.lines if not line.cell.external])

    def at(self, budget: str) -> list[LeaderboardEntry]:
        """Return the lines of one label budget, written as in a cell (`10%`)."""
        return [line for line in self.lines if line.cell.labels == budget]


def known_metric(found: Sequence[Leaderboard], metric: str | None) -> None:
    """Raise UserError for a metric that these leaderboards do not have."""
    if not metric:
        return
    if metric not in METRICS:
        raise UserError(f"Unknown metric '{metric}'.", allowed=METRICS, given=metric)
    for board in found:
        available = sorted({name for line in board.lines for name in line.plain})
        if any(metric in line.lacking for line in board.lines) and metric not in available:
            raise UserError(
                f"The rows of '{board.title}' were made before {metric}, or by other code of it, and without their predictions it cannot be computed.",
                then="medbench table of the folder that the run itself wrote",
            )
        if available and metric not in available:
            raise UserError(f"No metric '{metric}' here.", allowed=available, given=metric)


def picked(board: Leaderboard) -> list[Note]:
    """Say what a reader of a selection must know; [] of all lines."""
    text = f"{board.selection}. The best, = and p refer to these lines alone, and are valid if they were selected before looking at the results."
    return [Note("selection", text)] if board.selection else []


def standing(found: Sequence[Leaderboard]) -> list[Leaderboard]:
    """Return the boards that a reader wants one by one.

    Not those of corrupted images and of common classes, which the drops sum up.
    """
    return [board for board in found if board.shift.get("kind") in (None, "data")]


def at_home(found: Sequence[Leaderboard]) -> list[Leaderboard]:
    """Return the boards of tasks' own parts."""
    return [board for board in found if not board.shift]
