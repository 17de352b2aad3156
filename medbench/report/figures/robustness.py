"""Score against damage: a panel a corruption or data set, a line a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medbench.report.figures.label_curves import drawn
from medbench.report.figures.line_names import line_looks, short_names
from medbench.report.figures.line_selection import left_out, readable
from medbench.report.figures.style import (
    Drawing,
    figure_legend,
    legend_lines,
    panels,
    without_mathtext,
)
from medbench.report.leaderboard import Leaderboard, RobustnessGap, at_home, measured
from medbench.schema import UserError
from medbench.stats.metrics import METRICS


def shift(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw a figure per task: means and 95 % intervals at home (level 0) and at each level.

    With the most labels; data sets beside home. Bands where there are at most four lines, else
    bars; of more than twelve lines the best at home (`readable`). Raises UserError without a
    finished line on a shifted set.
    """
    drawn = []
    for whole in at_home(boards):
        (home,) = readable([whole], metric)
        kept = {line.name for line in home.lines}
        same = [board for board in boards if (board.task, board.data) == (whole.task, whole.data)]
        few = [
            replace(board, lines=[line for line in board.lines if line.name in kept])
            for board in same
        ]
        last = home.budgets()[-1]
        mine = [
            d
            for d in measured(few, metric)
            if d.spread == "each" and d.drop and d.home.cell.labels == last
        ]
        if mine:
            drawn.append(_figure(home, mine, last, width, left_out([whole], [home])))
    if not drawn:
        raise UserError(
            "A figure of shifts needs one finished line on a shifted set.",
            then="medbench run --corruptions all",
        )
    return drawn


def _figure(
    home: Leaderboard, drops: Sequence[RobustnessGap], labels: str, width: str, said: str
) -> Drawing:
    names, look = short_names([home]), line_looks([home])
    kinds = list(dict.fromkeys(drop.corruption or drop.name for drop in drops))
    rows = legend_lines(list(names.values()), width, len(kinds), said)
    figure, axes, inches = panels(len(kinds), width, height=1.6, legend=rows)
    handles: dict[str, Any] = {}
    for ax, kind in zip(axes, kinds, strict=True):
        of = [drop for drop in drops if (drop.corruption or drop.name) == kind]
        shown = [name for name in names if any(drop.home.name == name for drop in of)]
        for place, name in enumerate(shown):
            points = [drop for drop in of if drop.home.name == name]
            x = np.array([0, *(drop.levels[0] if drop.levels else 1 for drop in points)], float)
            lines = [points[0].home, *(drop.away[0] for drop in points)]
            aside = 0.06 * (place - (len(shown) - 1) / 2) * (len(shown) > 4)
            handles[name] = drawn(
                ax,
                x + aside,
                lines,
                of[0].metric,
                look[name],
                "band" if len(shown) <= 4 else "bars",
            )
        ticks = sorted({level for drop in of for level in drop.levels} or {1})
        ax.set_xticks(
            [0, *ticks], ["none", *map(str, ticks)] if of[0].levels else ["at home", "there"]
        )
        ax.set_xlim(-0.3, ticks[-1] + 0.3)
        ax.set_title(without_mathtext(kind), loc="left")
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel(METRICS[of[0].metric].title)
        ax.spines[["top", "right"]].set_visible(False)
    low, high = (pick(end for ax in axes for end in ax.get_ylim()) for pick in (min, max))
    for ax in axes:
        ax.set_ylim(low, high)  # one scale: a drop looks as large as it is
    figure.suptitle(f"{without_mathtext(home.title)}, {labels} labels", fontsize=7.5)
    figure_legend(figure, list(handles.values()), [names[name] for name in handles], inches, said)
    return Drawing(f"shift-{'-'.join(home.task.replace(':', '-').split())}", figure, said)
