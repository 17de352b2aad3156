"""Score against the seconds that it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medbench.report.figures.line_names import line_looks, short_names
from medbench.report.figures.line_selection import left_out, readable
from medbench.report.figures.style import (
    Drawing,
    figure_legend,
    legend_lines,
    panels,
    title_panel,
)
from medbench.report.leaderboard import Leaderboard, LeaderboardEntry
from medbench.schema import UserError
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def cost(boards: Sequence[Leaderboard], metric: str | None, width: str) -> list[Drawing]:
    """Draw the score with the most labels against the seconds that it took.

    Pretraining, embedding and fitting, mean over draws, on its machine. Raises UserError where no
    finished line says what it cost.
    """
    every, boards = boards, readable(boards, metric)
    names, look, title = short_names(boards), line_looks(boards), left_out(every, boards)
    figure, axes, inches = panels(
        len(boards), width, legend=legend_lines(list(names.values()), width, len(boards), title)
    )
    handles = {}
    for ax, board in zip(axes, boards, strict=True):
        shown, times = board.shown(metric), []
        for line in board.at(board.budgets()[-1]):
            seconds = seconds_of(line)
            if shown in line.plain and seconds > 0:
                s, style = line.summary(shown), look[line.name]
                times.append(seconds)
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
        # over less a logarithmic axis would show a few seconds as a long way
        if times and max(times) >= 2 * min(times):
            ax.set_xscale("log")
            _plain_ticks(ax)
        title_panel(ax, f"{board.title}\n{board.budgets()[-1]} labels")
        ax.set_xlabel("seconds: pretraining, embedding, fitting")
        ax.set_ylabel(METRICS[shown].title)
        ax.spines[["top", "right"]].set_visible(False)
    if not handles:
        raise UserError("No finished line says what it cost.", then="medbench run")
    figure_legend(figure, list(handles.values()), [names[name] for name in handles], inches, title)
    return [Drawing("cost", figure, title)]


def seconds_of(line: LeaderboardEntry) -> float:
    """Return the seconds of pretraining, embedding and fitting of a line, mean over its draws.

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
