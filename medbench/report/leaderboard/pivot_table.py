"""A table of a paper: rows and columns as the user wants them.

One task or many, the best and its ties marked, the mean rank last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from medbench import stats
from medbench.report.leaderboard.board import Leaderboard, known_metric
from medbench.report.leaderboard.board_notes import notes
from medbench.report.leaderboard.entry import AXES, LeaderboardEntry, SignificanceMark, summarise
from medbench.report.leaderboard.families import BEST
from medbench.report.leaderboard.rare_classes import ABOVE
from medbench.report.leaderboard.significance import marks
from medbench.schema import Note, UserError
from medbench.stats.metrics import METRICS
from medbench.stats.number_format import estimate_text

#: What rows and columns may be named by. "task" says the data, too, where they are drawn, and the
#: part where it is not the test part.
KEYS = ("task", *AXES, "labels")
_WITHIN = ("task", "labels")  # lines that agree in these are compared


@dataclass(frozen=True)
class PivotCell:
    """One number of a table.

    mark: as in `SignificanceMark`; nothing was computed where status is not "done".
    """

    metric: str
    summary: stats.Summary
    mark: SignificanceMark
    seeds: int
    status: str


@dataclass(frozen=True, eq=False)
class Pivot:
    """Hold a table of numbers by rows and columns.

    rows, columns: their names, a tuple for each, one part for each of row_axes and column_axes.
    entries: by row and column, where there is one. ranks: of each row its mean rank over the
    columns, None where a column is not complete; empty where rows and columns are such that a
    column does not hold what is compared. caption: a sentence. notes: on the table as a whole.
    board_notes: what a reader must know of its boards, with their titles; () where it is said of
    all.
    """

    row_axes: tuple[str, ...]
    column_axes: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    columns: Sequence[tuple[str, ...]]
    entries: Mapping[tuple[tuple[str, ...], tuple[str, ...]], PivotCell]
    ranks: Mapping[tuple[str, ...], float | None]
    caption: str
    notes: Sequence[Note]
    board_notes: Mapping[Note, Sequence[str]]

    @property
    def sentences(self) -> list[str]:
        """The sentences that stand below the numbers, in their order."""
        return [*map(str, self.notes), *self._of_boards(first=False)]

    @property
    def first_sentences(self) -> list[str]:
        """The sentences that stand above the numbers.

        Of rare classes, and of the class found least of.
        """
        return self._of_boards(first=True)

    def _of_boards(self, *, first: bool) -> list[str]:
        said = {
            note: titles
            for note, titles in self.board_notes.items()
            if (note.kind in ABOVE) == first
        }
        return [
            f"{'; '.join(titles)}: {note}" if titles else str(note) for note, titles in said.items()
        ]


@dataclass(frozen=True, eq=False)
class Places:
    """A table's rows and columns as in `Pivot`, and which line stands where.

    shown: the metric of each board.
    """

    row_axes: tuple[str, ...]
    column_axes: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    columns: Sequence[tuple[str, ...]]
    lines: Mapping[tuple[tuple[str, ...], tuple[str, ...]], tuple[Leaderboard, LeaderboardEntry]]
    shown: Mapping[Leaderboard, str]
    caption: str


def places(
    found: Sequence[Leaderboard],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    metric: str | None = None,
) -> Places:
    """Arrange the boards' lines by `rows` and `columns`, names of KEYS.

    metric: default each task's primary one. An axis in which lines differ and that was not named
    joins the rows: no number hides another. Raises UserError for an axis or a metric that is not
    there, or named twice.
    """
    known_metric(found, metric)
    lines = [(board, line) for board in found for line in board.lines]
    named = {board: _task(board, found) for board in found}
    keys = {
        line: {
            axis: named[board] if axis == "task" else str(getattr(line.cell, axis)) for axis in KEYS
        }
        for board, line in lines
    }
    row_axes, column_axes = _layout(list(keys.values()), rows, columns)
    where = {
        (
            tuple(keys[line][axis] for axis in row_axes),
            tuple(keys[line][axis] for axis in column_axes),
        ): (board, line)
        for board, line in lines
    }
    order = {
        axis: {name: i for i, name in enumerate(dict.fromkeys(key[axis] for key in keys.values()))}
        for axis in KEYS[:-1]
    }
    order["labels"] = {
        name: i
        for i, name in enumerate(dict.fromkeys(key["labels"] for key in _by_labels(lines, keys)))
    }
    row_names, column_names = (
        sorted(
            {place[at] for place in where},
            key=lambda names: [order[a][n] for a, n in zip(axes, names, strict=True)],
        )
        for at, axes in ((0, row_axes), (1, column_axes))
    )
    shown = {board: board.shown(metric) for board in found}
    return Places(row_axes, column_axes, row_names, column_names, where, shown, _caption(shown))


def pivot(
    found: Sequence[Leaderboard],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    metric: str | None = None,
) -> Pivot:
    """Fill `places` with numbers, their marks, mean ranks and notes.

    Arguments and errors as there.
    """
    placed = places(found, rows, columns, metric)
    entries = {}
    for board, shown in placed.shown.items():
        summarise(board.lines, [shown])
    for where, (board, line) in placed.lines.items():
        shown = placed.shown[board]
        status = line.status if not line.complete or shown in line.plain else "–"
        entries[where] = PivotCell(
            shown, line.summary(shown), marks(board, shown)[line], len(line.rows), status
        )
    ranks = _mean_ranks(placed.row_axes, placed.rows, placed.columns, entries)
    axes = (placed.row_axes, placed.column_axes, placed.rows, placed.columns)
    said = _notes(placed.shown, entries, ranked=bool(ranks))
    return Pivot(*axes, entries, ranks, placed.caption, said, _board_notes(placed.shown))


def _layout(
    keys: Sequence[Mapping[str, str]], rows: Sequence[str], columns: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for axis in (*rows, *columns):
        if axis not in KEYS:
            raise UserError(
                f"Unknown axis '{axis}'.",
                allowed=KEYS,
                given=axis,
                then="medbench table FOLDER --rows method --cols labels",
            )
        if (*rows, *columns).count(axis) > 1:
            raise UserError(f"Axis '{axis}' is named twice.")
    tasks = {key["task"] for key in keys}
    varying = ["task"] if len(tasks) > 1 else []  # of the others: what varies within a task
    varying += [
        axis for axis in KEYS[1:] if len({(key["task"], key[axis]) for key in keys}) > len(tasks)
    ]
    if len({key["method"] for key in keys}) == len(
        {(key["method"], key["source"]) for key in keys}
    ):
        varying = [axis for axis in varying if axis != "source"]  # the method says it
    column_axes = tuple(columns) or tuple(
        axis for axis in _WITHIN if axis not in rows and (axis in varying or axis == "labels")
    )
    row_axes = tuple(rows) or ((() if "method" in column_axes else ("method",)) or ("labels",))
    row_axes = tuple(axis for axis in row_axes if axis not in column_axes) or ("task",)
    left = [axis for axis in varying if axis not in (*row_axes, *column_axes)]
    return (*row_axes, *left), column_axes


def _by_labels(
    lines: Sequence[tuple[Leaderboard, LeaderboardEntry]],
    keys: Mapping[LeaderboardEntry, Mapping[str, str]],
) -> list[Mapping[str, str]]:
    """From few labels to many.

    They go by their share of the largest budget, so that 1 % of a large task stands before 100 % of
    a small one.
    """
    most: dict[str, int] = {}
    for _, line in lines:
        most[keys[line]["task"]] = max(most.get(keys[line]["task"], 1), line.planned[0].n_requested)
    return [
        keys[line]
        for _, line in sorted(
            lines, key=lambda pair: pair[1].planned[0].n_requested / most[keys[pair[1]]["task"]]
        )
    ]


def _task(board: Leaderboard, found: Sequence[Leaderboard]) -> str:
    alike = [other for other in found if other.task == board.task]
    several = board.data == "phantom" or len({other.data for other in alike}) > 1
    name = board.named("PHANTOM") if several else board.task
    name += f", {board.target}" if board.target != "test" else ""
    twins = [other for other in alike if (other.data, other.target) == (board.data, board.target)]
    return (
        name
        if len(twins) == 1
        else f"{name} {1 + next(i for i, other in enumerate(twins) if other is board)}"
    )


def _mean_ranks(
    row_axes: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    columns: Sequence[tuple[str, ...]],
    entries: Mapping[tuple[tuple[str, ...], tuple[str, ...]], PivotCell],
) -> dict[tuple[str, ...], float | None]:
    if any(axis in row_axes for axis in _WITHIN) or len(columns) < 2 or len(rows) < 2:
        return {}
    scores = {row: [_score(entries.get((row, column))) for column in columns] for row in rows}
    whole = [row for row in rows if not np.isnan(scores[row]).any()]
    if len(whole) < 2:
        return {}
    means = stats.ranks(np.array([scores[row] for row in whole]).T).mean(0)
    return {row: float(means[whole.index(row)]) if row in whole else None for row in rows}


def _score(entry: PivotCell | None) -> float:
    """Higher is better; NaN where missing."""
    return nan if entry is None else METRICS[entry.metric].sign * entry.summary.mean


def _caption(shown: Mapping[Leaderboard, str]) -> str:
    names = list(dict.fromkeys(METRICS[metric].title for metric in shown.values()))
    of = next(iter(shown)).title if len(shown) == 1 else f"{len(shown)} tasks"
    if len(names) > 1:
        names = [f"{METRICS[metric].title} of {board.task}" for board, metric in shown.items()]
    some = "; a selection" if any(board.selection for board in shown) else ""
    return f"{', '.join(names)}; {of}{some}"


def _notes(
    shown: Mapping[Leaderboard, str],
    entries: Mapping[tuple[tuple[str, ...], tuple[str, ...]], PivotCell],
    *,
    ranked: bool,
) -> list[Note]:
    signs = {entry.mark.sign for entry in entries.values()}
    said = []
    if "*" in signs:
        said.append(
            Note(
                "legend",
                f"Bold: the best. =: not significantly worse, paired over groups and seeds, {BEST.words}.",
            )
        )
    if "?" in signs:
        said.append(Note("legend", "?: too few groups to say."))
    if ranked:
        said.append(Note("mean rank", "Mean rank: over the columns, 1 is the best."))
    said += rank_notes(shown)
    return said


def _board_notes(shown: Mapping[Leaderboard, str]) -> dict[Note, list[str]]:
    """Note -> titles of the boards that it is said of; [] where it is said of all."""
    found: dict[Note, list[str]] = {}
    for board, metric in shown.items():
        for note in notes(board, metric):
            found.setdefault(note, []).append(board.title)
    return {note: titles if len(titles) < len(shown) else [] for note, titles in found.items()}


def tasks_by_lines(
    shown: Mapping[Leaderboard, str], budget: str
) -> tuple[list[Leaderboard], list[str], np.ndarray]:
    """Return (boards, line names, scores (T, K)) at one budget, higher is better.

    The boards are those which have the budget, the lines those that are complete on all of them.
    shown: the metric of each board.
    """
    having = [board for board in shown if board.at(budget)]
    values = [
        {
            line.name: line.merit(shown[board])
            for line in board.at(budget)
            if shown[board] in line.plain
        }
        for board in having
    ]
    names = [
        name
        for name in (values[0] if values else {})
        if all(name in v and not np.isnan(v[name]) for v in values)
    ]
    return (
        having,
        names,
        np.array([[v[name] for name in names] for v in values]).reshape(len(values), len(names)),
    )


def rank_notes(shown: Mapping[Leaderboard, str]) -> list[Note]:
    """Note Friedman's and Nemenyi's tests over tasks, a note a budget; none for a single task.

    The same fits scored elsewhere are no task more.
    """
    shown = {board: metric for board, metric in shown.items() if not board.shift}
    said = []
    for budget in dict.fromkeys(budget for board in shown for budget in board.budgets()):
        having, names, scores = tasks_by_lines(shown, budget)
        if len(having) < 2 or len(names) < 2:
            continue
        result = stats.ranking(scores)
        words = {
            line.name: tuple(str(getattr(line.cell, axis)) for axis in AXES)
            for board in having
            for line in board.lines
        }
        short = _short([words[name] for name in names])
        each = ", ".join(
            f"{short[i]} {estimate_text(result.mean[i], result.low[i], result.high[i], '.2f')}"
            for i in np.argsort(result.mean, kind="stable")
        )
        text = (
            f"Mean ranks over {len(having)} tasks at {budget} labels, 95 % over tasks: {each}. Friedman p {stats.format_p(result.friedman)}; "
            f"Nemenyi: ranks {result.critical:.2f} apart differ (5 %, all pairs)."
        )
        said.append(Note("rank test", text))
    return said


def _short(words: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines by the axes in which they differ, the method first.

    words: of each line, its value on each of AXES.
    """
    differ = [i for i in range(len(AXES)) if len({word[i] for word in words}) > 1 or i == 0]
    return [" ".join(word[i] for i in differ) for word in words]
