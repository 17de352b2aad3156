"""Which line differs from the baseline, and by how much.

Paired differences with their intervals, a panel a budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medbench import stats
from medbench.report.figures.line_names import short_names
from medbench.report.figures.line_selection import baseline, left_out, readable
from medbench.report.figures.style import GREY, WIDTHS, Drawing, without_mathtext, wrapped
from medbench.report.leaderboard import Family, Leaderboard, LeaderboardEntry, comparisons
from medbench.schema import UserError
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What is too small to matter, as `compare` has it, in the metric's own unit.
MARGIN = 0.01
_SHOWN, _OPEN = "#0072B2", "white"


def forest(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw each line's difference to the baseline at equal labels, with its 95 % interval.

    A figure a board and a panel a budget. A filled mark: the difference is shown (against the
    baseline at each budget, `Family`). Grey: what counts as practically equal. The baseline is the
    best line of `supervised`, else the first line; of more than twelve lines the best are drawn.
    Raises UserError where no board has two finished lines with equal labels.
    """
    made = [
        drawing
        for board in boards
        if (drawing := _one(board, board.shown(metric), width, alone=len(boards) == 1))
    ]
    if not made:
        raise UserError(
            "A forest of differences needs two finished lines with equal labels.",
            then="medbench run with another method",
        )
    return made


def _one(board: Leaderboard, metric: str, width: str, *, alone: bool) -> Drawing | None:
    from matplotlib.figure import Figure

    (few,) = readable([board], metric)
    base = baseline(few, metric)
    found = (
        {budget: _differences(few, metric, budget, base.name) for budget in few.budgets()}
        if base
        else {}
    )
    found = {budget: gaps for budget, gaps in found.items() if gaps}
    if base is None or not found:
        return None
    names = short_names([few])
    order = list(
        dict.fromkeys(
            name
            for gaps in reversed(found.values())
            for name in sorted(gaps, key=lambda name: -gaps[name][0].value)
        )
    )
    inches = WIDTHS[width or ("column" if len(found) == 1 else "page")]
    figure = Figure(figsize=(inches, 0.95 + 0.17 * max(len(order), 3)), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False, sharey=True, sharex=True)[0]
    for ax, (budget, gaps) in zip(axes, found.items(), strict=True):
        _panel(
            ax,
            [(order.index(name), gap, shown) for name, (gap, shown) in gaps.items()],
            ticks=4 if inches / len(found) > 2 else 2,
        )
        ax.set_title(f"{budget} labels", loc="left")
    axes[0].set_yticks(range(len(order)), [without_mathtext(names[name]) for name in order])
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    what = f"difference in {METRICS[metric].title} to {names[base.name]}"
    shown_as = f"bar: 95 % interval of this difference; filled: significant after correction; grey band: too small to matter ({MARGIN:g})"
    figure.supxlabel(wrapped(f"{what}\n{shown_as}", inches), size=7, linespacing=1.4)
    said = left_out([board], [few])
    figure.suptitle(
        wrapped("; ".join(filter(None, [board.title, said])), inches), x=0.01, ha="left", size=7.5
    )
    name = "forest" if alone else f"forest-{board.title}"
    return Drawing(name, figure, said)


def _differences(
    board: Leaderboard, metric: str, budget: str, base: str
) -> dict[str, tuple[stats.Estimate, bool]]:
    """Return name of a line -> its difference to the baseline, and whether it is shown.

    At this budget; empty where the baseline is not finished.
    """
    defined = replace(board, lines=[line for line in board.lines if _known(line, metric)])
    if base not in {line.name for line in defined.at(budget)}:
        return {}
    found = comparisons(defined, metric, Family("baseline", base), budgets=[budget])
    sign = METRICS[metric].sign
    return {
        pair.first.name: (pair.verdict.difference.times(sign), pair.verdict.p <= 0.05)
        for pair in found
    }


def _known(line: LeaderboardEntry, metric: str) -> bool:
    return metric in line.plain and not np.isnan(line.plain[metric]).any()


def _panel(ax: Axes, marks: Sequence[tuple[int, stats.Estimate, bool]], ticks: int) -> None:
    """Draw (row, difference, whether it is shown to be one) from above to below.

    Over at most so many steps between ticks.
    """
    from matplotlib.ticker import MaxNLocator

    ax.axvspan(-MARGIN, MARGIN, color="0.93", zorder=0)
    ax.axvline(0, color="0.4", linewidth=0.7, zorder=1)
    for row, gap, different in marks:
        colour = _SHOWN if different else GREY
        low, high = gap.interval()
        if not np.isnan(low):
            ax.plot([low, high], [row, row], color=colour, linewidth=1.1, zorder=2)
        ax.plot(
            [gap.value],
            [row],
            "o",
            color=colour,
            markerfacecolor=colour if different else _OPEN,
            markersize=4,
            zorder=3,
        )
    ax.xaxis.set_major_locator(MaxNLocator(ticks))
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
