"""The standing tables of one results folder.

The primary metric against the best, every metric, and what a reader must know.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medbench.report.leaderboard.board import Leaderboard, known_metric, standing
from medbench.report.leaderboard.board_notes import judged_unit, notes
from medbench.report.leaderboard.entry import AXES, LeaderboardEntry, shown_axes, summarise
from medbench.report.leaderboard.lines import COLUMNS, leaderboards, records
from medbench.report.leaderboard.rare_classes import class_columns, class_notes
from medbench.report.leaderboard.robustness import ALL, MEAN, robustness_gaps
from medbench.report.leaderboard.robustness_tables import shift_terminal, tables
from medbench.report.leaderboard.significance import legend, marks
from medbench.report.leaderboard.sites import site_records, site_tables
from medbench.report.leaderboard.terminal_table import Fitted
from medbench.run.store import Store
from medbench.schema import csv_cell, in_markdown
from medbench.stats import number_format
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    from rich.console import RenderableType

SCREEN = 100  # lines of a board that a screen shows whole
BEST = 10


def markdown(store: Store, found: Sequence[Leaderboard] = ()) -> str:
    """Write the leaderboards as Markdown.

    The primary metric against the best, then every metric, then what a reader must know. found: its
    boards, where they are at hand.
    """
    parts = []
    every = found or leaderboards(store)
    for board in standing(every):
        metric = board.about["metric"]
        others = [
            name
            for name in METRICS
            if name != metric and any(name in line.plain for line in board.lines)
        ]
        above = class_notes(board, metric)
        first = [*(f"- {in_markdown(str(note))}" for note in above), *([""] if above else [])]
        parts += [
            f"## {in_markdown(board.title)}",
            "",
            *first,
            *grid(_cells(board, metric, board.lines)),
            "",
            legend(board, metric),
            "",
        ]
        said = [f"- {in_markdown(str(note))}" for note in notes(board) if note not in above]
        parts += [*grid(_all_metrics(board, [metric, *others])), "", *said, ""]
    return "\n".join([*parts, *_site_markdown(every), shift_markdown(every)])


def _site_markdown(found: Sequence[Leaderboard]) -> list[str]:
    """Write the scores of each task over its held-out sites; [] where none were held out."""
    lines = []
    for made in site_tables(found):
        told = [f"- {in_markdown(line)}" for line in made.notes]
        lines += [
            f"## {in_markdown(made.title)}",
            "",
            *grid([made.header, *made.body]),
            "",
            *told,
            "",
        ]
    return lines


def shift_markdown(
    found: Sequence[Leaderboard], metric: str | None = None, detail: str = MEAN
) -> str:
    """Write what is lost elsewhere, a table per task; "" where nothing else was scored.

    See `robustness_tables.tables`.
    """
    parts = []
    for made in tables(found, metric, detail):
        parts += [
            f"## {in_markdown(made.title)}",
            "",
            *grid([made.header, *made.body]),
            "",
            *(f"- {in_markdown(line)}" for line in made.notes),
            "",
        ]
    return "\n".join(parts)


def terminal(
    store: Store, metric: str | None = None, found: Sequence[Leaderboard] = ()
) -> list[RenderableType]:
    """Return a table per board with its notes, for `screen.show`.

    metric: None: each task's primary one. found: the folder's boards, where they are at hand.
    Raises UserError for a metric that the folder does not have.
    """
    shown: list[RenderableType] = []
    every = found or leaderboards(store)
    known_metric(every, metric)
    for board in standing(every):
        lines, signs = _on_screen(board, board.shown(metric)), marks(board, board.shown(metric))
        header, *body = _cells(board, board.shown(metric), lines)
        names = [i for i, name in enumerate(header) if name in AXES]
        best = frozenset(i for i, line in enumerate(lines) if signs[line].sign == "*")
        left_out = len(board.lines) - len(lines)
        more = (
            [
                f"The best {BEST} lines at each budget; {left_out} more stand in leaderboard.md and leaderboard.csv."
            ]
            if left_out
            else []
        )
        above = class_notes(board, metric)
        below = [str(note) for note in notes(board, board.shown(metric)) if note not in above]
        shown += [
            *map(str, above),
            Fitted(board.title, header, body, names, best),
            *more,
            legend(board, board.shown(metric)),
            *below,
        ]
    for made in site_tables(every, metric):
        names = [i for i, name in enumerate(made.header) if name in AXES]
        shown += [Fitted(made.title, made.header, made.body, names, frozenset()), *made.notes]
    return [*shown, *shift_terminal(every, metric, ALL)]


def _on_screen(board: Leaderboard, metric: str) -> list[LeaderboardEntry]:
    """Return the lines that a screen shows, in their order.

    Where there are more than `SCREEN`, the best `BEST` at each budget, and every line without a
    number.
    """
    if len(board.lines) <= SCREEN:
        return list(board.lines)
    merits = {line: line.merit(metric) for line in board.lines if metric in line.plain}
    numbers = {line: merit for line, merit in merits.items() if not np.isnan(merit)}
    best: set[LeaderboardEntry] = set()
    for budget in board.budgets():
        there = [line for line in board.at(budget) if line in numbers]
        best.update(sorted(there, key=numbers.__getitem__, reverse=True)[:BEST])
    return [line for line in board.lines if line in best or line not in numbers]


def write(store: Store, found: Sequence[Leaderboard] = ()) -> None:
    """Write leaderboard.md and leaderboard.csv into the results folder, each whole or not at all.

    shift.csv, too, where sets beside the task's own were scored. found: the folder's boards, where
    they are at hand. Raises OSError where it cannot be written.
    """
    found = found or leaderboards(store)
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(COLUMNS)
    for record in records(found):
        lines.writerow(
            [
                "" if isinstance(value, float) and value != value else csv_cell(value)
                for value in record.values()
            ]
        )
    store.write_text("leaderboard.csv", out.getvalue())
    if any(board.shift for board in found):
        store.write_text("shift.csv", robustness_gaps(found).map(csv_cell).to_csv(index=False))
    if any("held_out" in board.about for board in found):
        store.write_text("sites.csv", site_records(found).map(csv_cell).to_csv(index=False))
    store.write_text("leaderboard.md", markdown(store, found))


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, the first row as its header.

    What is Markdown or HTML in a user's own names is escaped.
    """
    lines = [
        "| " + " | ".join(in_markdown(cell).replace("|", "\\|") for cell in row) + " |"
        for row in rows
    ]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def _cells(board: Leaderboard, metric: str, lines: Sequence[LeaderboardEntry]) -> list[list[str]]:
    """Header and body of the main table, of these lines of the board.

    One metric with its interval, and the paired difference to the best.
    """
    axes, marked = shown_axes(board.lines), marks(board, metric)
    summarise(lines, [metric])
    body = []
    for line in lines:
        head = [line.cell.labels, _count(line), *(str(getattr(line.cell, axis)) for axis in axes)]
        if metric not in line.plain:
            body.append([*head, "", "–" if line.complete else line.status, "", "", ""])
            continue
        s, mark = line.summary(metric), marked[line]
        gap = (
            number_format.estimate_text(mark.to_best.value, *mark.to_best.interval(), "+.3f")
            if mark.to_best
            else ""
        )
        body.append(
            [
                *head,
                mark.sign,
                number_format.number_text(s.mean),
                number_format.interval_text(s.low, s.high),
                number_format.number_text(s.sd),
                gap,
            ]
        )
    return [
        [
            "labels",
            f"{judged_unit(board)}s",
            *axes,
            "",
            METRICS[metric].title,
            "95 %",
            "sd",
            "to best, paired",
        ],
        *body,
    ]


def _all_metrics(board: Leaderboard, metrics: Sequence[str]) -> list[list[str]]:
    axes, of_classes = shown_axes(board.lines), class_columns(board)
    summarise(board.lines, metrics)
    header = [
        "labels",
        f"{judged_unit(board)}s",
        *axes,
        *(METRICS[metric].title for metric in metrics),
        *of_classes,
    ]
    body = []
    for line in board.lines:
        numbers = []
        for metric in metrics:
            s = line.summary(metric)
            numbers.append(
                number_format.estimate_text(s.mean, s.low, s.high)
                if metric in line.plain
                else "–"
                if line.complete
                else line.status
            )
        for values in of_classes.values():
            value, name = values.get(line, (np.nan, ""))
            numbers.append(f"{number_format.number_text(value)} {name}".strip())
        body.append(
            [
                line.cell.labels,
                _count(line),
                *(str(getattr(line.cell, axis)) for axis in axes),
                *numbers,
            ]
        )
    return [header, *body]


def _count(line: LeaderboardEntry) -> str:
    """Labelled images over the seeds, and what the budget asked for where that differs."""
    if line.cell.external:
        return number_format.NONE
    if not line.rows:
        return str(line.planned[0].n_requested)
    counts, asked = sorted({row.n_labels for row in line.rows}), line.planned[0].n_requested
    real = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    return real if counts == [asked] else f"{real} ({asked} asked)"
