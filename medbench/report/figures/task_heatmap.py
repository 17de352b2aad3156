"""Every line on every task: method x task heat map."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from medbench.report.figures.line_selection import picked_of
from medbench.report.figures.style import WIDTHS, Drawing, shaded, without_mathtext
from medbench.report.leaderboard import Leaderboard, Places, marks, places
from medbench.schema import UserError
from medbench.stats.mean_ranks import mean_ranks
from medbench.stats.metrics import METRICS

_ROWS = 36  # of a heat map: as many as a page is high


def heatmap(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw every line on every task: the number written, the shade its distance to the best.

    One task: its budgets; several: all labels. The best stands first, by its mean place in the
    columns; of more lines than a page has room for, the best are drawn. Raises UserError without a
    finished line.
    """
    from matplotlib.figure import Figure

    table = places(boards, metric=metric)
    columns = list(table.columns)
    if len(boards) > 1 and "labels" in table.column_axes:
        at = table.column_axes.index("labels")
        # budgets stand from few to many
        last = {(*column[:at], *column[at + 1 :]): column for column in columns}
        columns = list(last.values())
    scores = np.array([[_mean(table, row, column) for column in columns] for row in table.rows])
    if np.isnan(scores).all():
        raise UserError("A heat map needs one finished line.", then="medbench run")
    lower = not any(METRICS[metric].higher_is_better for metric in table.shown.values())
    with np.errstate(all="ignore"):
        gap = (
            scores - np.nanmin(scores, axis=0, initial=np.inf)
            if lower
            else np.nanmax(scores, axis=0, initial=-np.inf) - scores
        )
    rows = best_rows(gap)[:_ROWS]
    said = (
        f"{_ROWS} of {len(table.rows)} rows: the best by their mean place"
        if len(table.rows) > _ROWS
        else ""
    )
    signs = {
        where: marks(board, table.shown[board])[line].sign
        for where, (board, line) in table.lines.items()
    }
    texts = [
        [
            f"{scores[i, j]:.3f}{signs.get((table.rows[i], column), '')}"
            for j, column in enumerate(columns)
        ]
        for i in rows
    ]
    names = [" ".join(table.rows[i]) for i in rows]
    # inches of the cells and of the bar that explains the shades
    beside = 0.8 + 0.42 * len(columns)
    longest = 0.055 * max(map(len, names))
    inches = WIDTHS[
        width or ("column" if len(columns) <= 3 and longest + beside < WIDTHS["column"] else "page")
    ]
    names = [
        textwrap.fill(name, max(12, int((inches - beside) / 0.055)), break_on_hyphens=False)
        for name in names
    ]
    lines = max(name.count("\n") for name in names)
    figure = Figure(figsize=(inches, 0.75 + (0.24 + 0.1 * lines) * len(rows)), layout="constrained")
    ax = figure.subplots()
    mesh = shaded(ax, gap[rows], texts, ["\n".join(column) for column in columns], names, gaps=0.5)
    figure.colorbar(mesh, ax=ax, label="behind the best", shrink=0.9).outline.set_linewidth(0)
    title = [
        *textwrap.wrap(table.caption, int(inches / 0.055)),
        *([said] if said else []),
        *_legend(texts),
    ]
    figure.suptitle(
        without_mathtext("\n".join(title)), x=0.01, ha="left", size=7.5
    )  # above the names too: over the cells alone it may be cut off
    return [Drawing("heatmap", figure, "; ".join(filter(None, [picked_of(boards), said])))]


def best_rows(gap: np.ndarray) -> list[int]:
    """Return the rows of (R, C) by their mean place in the columns; equal ones share a place.

    gap: to the best of the column, NaN where there is no score: last.
    """
    places = np.where(np.isnan(gap), len(gap), mean_ranks(np.nan_to_num(gap, nan=np.inf)))
    found: list[int] = np.argsort(places.mean(1), kind="stable").tolist()
    return found


def _legend(texts: Sequence[Sequence[str]]) -> list[str]:
    """Explain the signs that are shown."""
    signs = {text[-1:] for row in texts for text in row}
    known = {
        "*": "best of its column",
        "=": "not significantly worse",
        "?": "too few groups to say",
    }
    said = "   ".join(f"{sign} {words}" for sign, words in known.items() if sign in signs)
    return [said] if said else []


def _mean(table: Places, row: tuple[str, ...], column: tuple[str, ...]) -> float:
    """As the leaderboard's; NaN where the line is not there or not complete."""
    if (row, column) not in table.lines:
        return float("nan")
    board, line = table.lines[row, column]
    return (
        float(line.plain[table.shown[board]].mean())
        if table.shown[board] in line.plain
        else float("nan")
    )
