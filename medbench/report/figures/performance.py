"""Figures of results.

Label-efficiency curves, method x task heat map, critical differences, score against cost.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medbench import stats
from medbench.report.figures.line_selection import (
    FEW,
    baseline,
    emphasised,
    left_out,
    picked_of,
    readable,
)
from medbench.report.figures.style import (
    WIDTHS,
    Drawing,
    Look,
    figure_legend,
    legend_lines,
    looks,
    name_at_end,
    panels,
    quiet,
    shaded,
    without_mathtext,
)
from medbench.report.leaderboard import (
    Leaderboard,
    LeaderboardEntry,
    Places,
    marks,
    places,
    shown_axes,
    summarise,
    tasks_by_lines,
)
from medbench.schema import UserError
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_ROWS = 36  # of a heat map: as many as a page is high
_NAMED = 30  # lines of a critical-difference diagram


def short_names(boards: Sequence[Leaderboard]) -> dict[str, str]:
    """Line name -> the words of it that differ between lines, the method first.

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
    return looks(list(short_names(boards)))


def curves(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Score over labelled images, a panel a task.

    Means with 95 % intervals, each line named at its end.

    More than four lines: the best and the baseline in colour with bars, the others grey without; of
    more than twelve the best (`readable`). The baseline is the best line of `supervised`, else the
    first line; its score with all labels is a line across.
    """
    boards = [
        board
        for board in boards
        if len({line.cell.labels for line in board.lines if line.complete}) > 1
    ]
    if not boards:
        raise UserError(
            "A label-efficiency curve needs two label budgets that are finished.",
            then="medbench run --labels 1,10,100",
        )
    every, boards = boards, readable(boards, metric)
    names, look, title = short_names(boards), line_looks(boards), left_out(every, boards)
    bright = emphasised(boards, metric)
    figure, axes, _ = panels(len(boards), width)
    for ax, board in zip(axes, boards, strict=True):
        shown = board.shown(metric)
        summarise(board.lines, [shown])
        ends: dict[str, float] = {}
        # what is in colour lies above
        for place, name in enumerate(sorted(names, key=lambda name: name in bright)):
            points = [line for line in board.lines if line.name == name and shown in line.plain]
            if points:
                aside = (place - len(names) + (len(bright) + 1) / 2) * (
                    name in bright and len(names) > FEW
                )
                x = np.array([line.n_labels for line in points]) * 1.03**aside
                drawn(
                    ax,
                    x,
                    points,
                    shown,
                    look[name] if name in bright else quiet(look[name]),
                    _INTERVALS[name in bright, len(names) > FEW],
                )
                ends[name] = points[-1].summary(shown).mean
        base = baseline(board, shown)
        if base is not None:
            _across(ax, base.summary(shown).mean, f"{names[base.name]}, all labels")
        _label_axis(ax, board)
        ax.set_title(without_mathtext(board.title), loc="left")
        ax.set_ylabel(METRICS[shown].title)
        ax.spines[["top", "right"]].set_visible(False)
        known = [name for name, value in ends.items() if not np.isnan(value)]
        colours = [look[name].colour if name in bright else "0.4" for name in known]
        name_at_end(ax, [names[name] for name in known], [ends[name] for name in known], colours)
    if title:
        figure.suptitle(without_mathtext(title), x=0.01, ha="left", size=6.5)
    return [Drawing("curves", figure, title)]


#: (in colour, among more than a few) -> how a line's intervals are drawn.
_INTERVALS: dict[tuple[bool, bool], Literal["band", "bars", ""]] = {
    (True, False): "band",
    (True, True): "bars",
    (False, True): "",
    (False, False): "",
}


def _across(ax: Axes, level: float, words: str) -> None:
    """Draw a dotted line at `level`, named above its left end."""
    ax.axhline(level, color="0.45", linewidth=0.8, linestyle=(0, (1, 1)), zorder=1)
    ax.annotate(
        without_mathtext(words),
        (0, level),
        (2, 1.5),
        ("axes fraction", "data"),
        "offset points",
        color="0.35",
        size=6,
        va="bottom",
    )


def heatmap(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw every line on every task: the number written, the shade its distance to the best.

    One task: its budgets; several: all labels. Of more lines than a page has room for, the best by
    their mean place in the columns.
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
    rows, said = list(range(len(table.rows))), ""
    if len(rows) > _ROWS:
        ranked = np.where(
            np.isnan(gap),
            len(rows),
            np.argsort(np.argsort(np.nan_to_num(gap, nan=np.inf), axis=0), axis=0),
        )
        rows = sorted(np.argsort(ranked.mean(1), kind="stable")[:_ROWS].tolist())
        said = f"{_ROWS} of {len(table.rows)} rows: the best by their mean place"
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
    title = [*textwrap.wrap(table.caption, int(inches / 0.055)), *([said] if said else [])]
    figure.suptitle(
        without_mathtext("\n".join(title)), x=0.01, ha="left", size=7.5
    )  # above the names too: over the cells alone it may be cut off
    return [Drawing("heatmap", figure, "; ".join(filter(None, [picked_of(boards), said])))]


def critical_difference(
    boards: Sequence[Leaderboard], metric: str | None, width: str
) -> list[Drawing]:
    """Draw mean ranks over tasks with all labels.

    A bar joins what Nemenyi's test does not tell apart (Demsar 2006, figure 1). Of more than thirty
    lines those of the best mean rank; ranks and tests are over all.
    """
    from matplotlib.figure import Figure

    shown = {board: board.shown(metric) for board in boards}
    budgets = [
        budget
        for budget in dict.fromkeys(b for board in boards for b in board.budgets())
        if len(tasks_by_lines(shown, budget)[0]) > 1
    ]
    found = [(budget, *tasks_by_lines(shown, budget)) for budget in budgets]
    found = [entry for entry in found if len(entry[2]) > 2]
    if not found:
        raise UserError(
            "A critical-difference diagram needs three methods, finished on two tasks.",
            then="medbench plot FOLDER FOLDER",
        )
    budget, having, names, scores = found[-1]
    result, short = stats.ranking(scores), short_names(boards)
    order = np.argsort(result.mean, kind="stable")[:_NAMED]
    ordered = result.mean[order]
    k, half = len(order), -(-len(order) // 2)
    last = k if k == len(names) else int(np.ceil(ordered[-1]))  # of the axis
    joined = stats.cliques(ordered, result.critical)
    inches = WIDTHS[width or "column"]
    # inches for a name and its rank
    side = 0.3 + 0.05 * max(len(short[names[i]]) + 5 for i in order)
    step = (inches - 2 * side) / (last - 1)
    # inches from tick to tick
    every = next((n for n in (1, 5, 10, 20, 50) if n * step > 0.12), 100)
    top, bars, row = 0.62, 0.1, 0.15
    names_at = top + 0.12 + bars * (len(joined) + 1)
    figure = Figure(figsize=(inches, names_at + row * half))
    # in inches, from the top
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, inches), ylim=(names_at + row * half, 0))
    ax.set_axis_off()

    def at(rank: float) -> float:
        return side + (rank - 1) * step

    ax.plot([at(1), at(last)], [top, top], color="black", linewidth=0.8)
    for rank in (1, *range(max(every, 2), last + 1, every)):
        ax.plot([at(rank)] * 2, [top, top - 0.05], color="black", linewidth=0.8)
        ax.text(at(rank), top - 0.07, str(rank), ha="center", va="bottom")
    for place, i in enumerate(order):
        left = place < half
        level = names_at + row * (place if left else k - 1 - place)
        end = at(1) - 0.08 if left else at(last) + 0.08
        ax.plot([at(result.mean[i])] * 2 + [end], [top, level, level], color="black", linewidth=0.6)
        ax.text(
            end,
            level,
            f" {without_mathtext(short[names[i]])} {result.mean[i]:.2f} ",
            ha="right" if left else "left",
            va="center",
        )
    for place, (i, j) in enumerate(joined):
        ends = [at(ordered[i]) - 0.03, at(ordered[j]) + 0.03]
        ax.plot(
            ends,
            [top + bars * (place + 1)] * 2,
            color="black",
            linewidth=2.2,
            solid_capstyle="butt",
        )
    length = min(result.critical * step, inches - 0.2)
    ax.plot([0.1, 0.1 + length], [0.36, 0.36], color="black", linewidth=1, marker="|", markersize=4)
    said = f"{len(having)} tasks, {budget} labels; Friedman p {stats.format_p(result.friedman)}\ncritical difference {result.critical:.2f}"
    few = f"{k} of {len(names)} lines: the best mean ranks" if k < len(names) else ""
    few = "; ".join(filter(None, [picked_of(boards), few]))
    ax.text(0.1, 0.03, f"{said}; {few}" if few else said, va="top", linespacing=1.2)
    return [Drawing("cd", figure, few)]


def cost(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw the score with the most labels against the seconds that it took.

    Pretraining, embedding and fitting, mean over draws, on its machine.
    """
    every, boards = boards, readable(boards, metric)
    names, look, title = short_names(boards), line_looks(boards), left_out(every, boards)
    figure, axes, inches = panels(
        len(boards), width, legend=legend_lines(list(names.values()), width, len(boards), title)
    )
    handles = {}
    for ax, board in zip(axes, boards, strict=True):
        shown = board.shown(metric)
        for line in board.at(board.budgets()[-1]):
            seconds = seconds_of(line)
            if shown in line.plain and seconds > 0:
                s, style = line.summary(shown), look[line.name]
                bars = (
                    [[max(s.mean - s.low, 0)], [max(s.high - s.mean, 0)]]
                    if not np.isnan(s.low)
                    else None
                )
                handles[line.name] = ax.errorbar(
                    seconds,
                    s.mean,
                    bars,
                    fmt=style.marker,
                    color=style.colour,
                    elinewidth=0.8,
                    capsize=1.5,
                    markeredgecolor="black",
                )
        ax.set_xscale("log")
        _plain_ticks(ax)
        ax.set_title(f"{without_mathtext(board.title)}\n{board.budgets()[-1]} labels", loc="left")
        ax.set_xlabel("seconds: pretraining, embedding, fitting")
        ax.set_ylabel(METRICS[shown].title)
        ax.spines[["top", "right"]].set_visible(False)
    if not handles:
        raise UserError("No finished line says what it cost.", then="medbench run")
    figure_legend(figure, list(handles.values()), [names[name] for name in handles], inches, title)
    return [Drawing("cost", figure, title)]


def drawn(
    ax: Axes,
    x: np.ndarray,
    lines: Sequence[LeaderboardEntry],
    metric: str,
    look: Look,
    intervals: Literal["band", "bars", ""],
) -> Any:
    """Draw the means of `lines` over x (n,), with their intervals as a band, as bars, or without.

    The handle for a legend.

    A mean that is undefined breaks the line, an interval that is undefined is not drawn.
    """
    import seaborn

    found = [line.summary(metric) for line in lines]
    mean, low, high = (
        np.array([getattr(s, name) for s in found]) for name in ("mean", "low", "high")
    )
    # whose median is the mean, whose range the interval
    ends = np.stack([np.minimum(low, mean), mean, np.maximum(high, mean)], axis=1)
    style: dict[str, Any] = {
        "color": look.colour,
        "marker": look.marker,
        "linestyle": look.stroke,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        **({} if intervals else {"markersize": 2.2, "linewidth": 0.7}),
    }
    first = len(ax.lines)
    known = np.flatnonzero(~np.isnan(mean))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if len(known) else ():
        seaborn.lineplot(
            x=np.repeat(x[run], 3),
            y=ends[run].ravel(),
            estimator="median",
            errorbar=_range if intervals else None,
            err_style=intervals or "bars",
            err_kws={"alpha": 0.15, "linewidth": 0, "zorder": 1}
            if intervals == "band"
            else {"elinewidth": 0.7, "zorder": 2},
            legend=False,
            zorder=3 if intervals else 1.5,
            ax=ax,
            **style,
        )
    return ax.lines[first] if len(known) else ax.plot([], [], **style)[0]


def _range(values: Any) -> tuple[float, float]:
    """Return least and largest of a point's three numbers.

    NaN where its interval is undefined, so that its mean stands alone.
    """
    return (float(min(values)), float(max(values))) if len(values) == 3 else (np.nan, np.nan)


def budget_ticks(board: Leaderboard) -> list[tuple[float, str]]:
    """(labelled images, name and number) of each budget.

    What stands too close to its right neighbour has no words.
    """
    where = list({line.cell.labels: line.n_labels for line in board.lines if line.rows}.items())
    width = np.log(max(n for _, n in where) / min(n for _, n in where))
    near = [
        i + 1 < len(where) and np.log(where[i + 1][1] / n) < 0.18 * width
        for i, (_, n) in enumerate(where)
    ]
    return [
        (n, "" if close else f"{budget}\n{n:,.0f}")
        for (budget, n), close in zip(where, near, strict=True)
    ]


def _label_axis(ax: Axes, board: Leaderboard) -> None:
    ax.set_xscale("log")
    ax.set_xticks(*zip(*budget_ticks(board), strict=True))
    ax.set_xticks([], minor=True)
    ax.set_xlabel("labels (images)")


def seconds_of(line: LeaderboardEntry) -> float:
    """Sum the seconds of pretraining, embedding and fitting, mean over draws.

    NaN where nothing was written down, and of somebody else's model.
    """
    if line.cell.external:
        return np.nan
    parts = ("pretrain_seconds", "embed_seconds", "seconds")
    return (
        float(np.mean([sum(row.cost.get(part) or 0.0 for part in parts) for row in line.rows]))
        if line.rows
        else np.nan
    )


def _plain_ticks(ax: Axes) -> None:
    """Label a logarithmic axis of less than a decade or two in numbers, not in powers."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    low, high = ax.get_xlim()
    if high / low < 8:  # at least two ticks must lie inside
        ax.set_xlim(low / 1.6, high * 1.6)


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


def _differing(boards: Sequence[Leaderboard]) -> list[str]:
    """Return the axes beside the method in which lines of one board differ."""
    found = [axis for board in boards for axis in shown_axes(board.lines)]
    return [axis for axis in dict.fromkeys(found) if axis != "method"]


def _first_of(boards: Sequence[Leaderboard], names: Sequence[str]) -> list[LeaderboardEntry]:
    by_name: Mapping[str, LeaderboardEntry] = {
        line.name: line for board in reversed(boards) for line in reversed(board.lines)
    }
    return [by_name[name] for name in names]
