"""Label-efficiency curves: score over labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medbench.report.answer import labels_saved
from medbench.report.figures.line_names import line_looks, short_names
from medbench.report.figures.line_selection import (
    FEW,
    baseline,
    best_first,
    emphasised,
    left_out,
    readable,
)
from medbench.report.figures.style import (
    DARK,
    Drawing,
    Look,
    name_at_end,
    panels,
    quiet,
    title_panel,
    without_mathtext,
)
from medbench.report.leaderboard import Leaderboard, LeaderboardEntry, marks, summarise
from medbench.schema import UserError
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw the score over the number of labelled images, a panel a task.

    Means with 95 % intervals, each line named at its end.

    More than four lines: the best and the baseline in colour with bars, the others grey without,
    dark where they are not significantly worse than the best; of more than twelve the best
    (`readable`). The baseline is the best line of `supervised`, else the first line; its score with
    all labels is a line across, and a bar on it the labels that the best needs to equal it. Raises
    UserError where no board has two finished label budgets.
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
    names, look, title = short_names(boards), curve_looks(boards, metric), left_out(every, boards)
    bright = emphasised(boards, metric)
    figure, axes, _ = panels(len(boards), width)
    for ax, board, whole in zip(axes, boards, every, strict=True):
        shown = board.shown(metric)
        summarise(board.lines, [shown])
        ends: dict[str, float] = {}
        signs = {
            line: mark.sign
            for line, mark in marks(whole, shown).items()
            if line.cell.labels == board.budgets()[-1]
        }
        ties = {line.name for line, sign in signs.items() if sign in ("*", "=")}
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
                    look[name] if name in bright else quiet(look[name], dark=name in ties),
                    _INTERVALS[name in bright, len(names) > FEW],
                )
                ends[name] = points[-1].summary(shown).mean
        base = baseline(board, shown)
        if base is not None:
            _across(ax, base.summary(shown).mean, f"{names[base.name]}, all labels")
            best = next((line for line, sign in signs.items() if sign == "*"), None)
            if best is not None and best.name in bright:
                _saved(ax, whole, shown, best, look[best.name].colour, words=len(boards) == 1)
        _label_axis(ax, board)
        title_panel(ax, board.title)
        ax.set_ylabel(METRICS[shown].title)
        ax.spines[["top", "right"]].set_visible(False)
        known = [name for name, value in ends.items() if not np.isnan(value)]
        colours = [
            look[name].colour if name in bright else DARK if name in ties else "0.5"
            for name in known
        ]
        name_at_end(ax, [names[name] for name in known], [ends[name] for name in known], colours)
    if title:
        figure.suptitle(without_mathtext(title), x=0.01, ha="left", size=6.5)
    return [Drawing("curves", figure, title)]


def curve_looks(boards: Sequence[Leaderboard], metric: str | None) -> dict[str, Look]:
    """Return how each line looks, by name; the best with the most labels is drawn solid."""
    look = line_looks(boards)
    for leader in best_first({board: board.shown(metric) for board in boards})[:1]:
        look[leader] = replace(look[leader], stroke="-")
    return look


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


def drawn(
    ax: Axes,
    x: np.ndarray,
    lines: Sequence[LeaderboardEntry],
    metric: str,
    look: Look,
    intervals: Literal["band", "bars", ""],
) -> Any:
    """Draw the means of lines over x (n,), and return the handle for a legend.

    intervals: as a band, as bars, or "" for none. A mean that is undefined breaks the line, an
    interval that is undefined is not drawn.
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
    """Return where each label budget stands on the axis, and its words.

    (labelled images, name and number) each. What stands too close to its right neighbour has no
    words.
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


def _saved(
    ax: Axes, board: Leaderboard, metric: str, best: LeaderboardEntry, colour: str, words: bool
) -> None:
    """Draw the interval of the labels that the best line needs to equal the baseline with all.

    words: also write it.
    """
    found = labels_saved(board, metric, best)
    if found is None or not found[0].told or not np.isfinite([found[0].value, found[0].low]).all():
        return
    reached, base = found
    level, of = base.summary(metric).mean, base.n_labels
    ax.plot(
        [reached.low, min(reached.high, reached.last)],
        [level, level],
        color=colour,
        linewidth=5,
        alpha=0.25,
        solid_capstyle="butt",
        zorder=1.2,
    )
    if not words:
        return
    low, high = reached.shown(reached.low, of), reached.shown(reached.high, of)
    text = ax.annotate(
        f"{reached.shown(reached.value, of)} of the labels ({low} to {high})",
        (reached.value, level),
        (-2, 4),
        textcoords="offset points",
        color=colour,
        size=6,
        ha="right" if reached.value > np.sqrt(reached.first * reached.last) else "left",
        va="bottom",
    )
    text.set_in_layout(False)


def _label_axis(ax: Axes, board: Leaderboard) -> None:
    ax.set_xscale("log")
    ax.set_xticks(*zip(*budget_ticks(board), strict=True))
    ax.set_xticks([], minor=True)
    ax.set_xlabel("labels (images)")
