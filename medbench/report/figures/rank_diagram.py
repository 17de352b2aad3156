"""Critical differences: mean ranks over tasks, and what is not shown to differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medbench import stats
from medbench.report.figures.line_names import short_names
from medbench.report.figures.line_selection import picked_of
from medbench.report.figures.style import WIDTHS, Drawing, without_mathtext
from medbench.report.leaderboard import Leaderboard, tasks_by_lines
from medbench.schema import UserError

_NAMED = 30  # lines of a critical-difference diagram


def critical_difference(
    boards: Sequence[Leaderboard], metric: str | None, width: str
) -> list[Drawing]:
    """Draw mean ranks over tasks with all labels.

    A bar joins what Nemenyi's test does not tell apart (Demsar 2006, figure 1). Of more than thirty
    lines those of the best mean rank; ranks and tests are over all. Raises UserError without three
    methods that are finished on two tasks.
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
