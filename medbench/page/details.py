"""Beyond the one number: curves over labels, each class, each case, each subgroup, shifted sets, and whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from medbench.page.figures import MOST, figure, readable
from medbench.page.markup import Html, bar, between, ends_of, number, section, table, tag
from medbench.spec import UserError
from medbench.table import TITLES, Board, Line, marks

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str, int, int], None]
OWN = ("test", "val")  # the task's own parts; every other target is a shifted set
DETAILED = 6  # boards whose classes, cases and subgroups are worked out: each takes about a second


def curves(boards: Sequence[Board], metric: str | None) -> Html | None:
    """Label-efficiency curves and score against cost, a figure a board."""
    figures = []
    for board in boards:
        shown = metric or str(board.about["metric"])
        few = readable(board, shown)
        n = len({line.name for line in board.lines})
        some = f" The {MOST} lines that are best with the most labels." if n > MOST else ""
        alt = f"{TITLES[shown]} over the number of labelled images on {board.title}, a curve a method; the numbers stand in the leaderboard."
        figures.append(figure("curves", few, metric, alt, f"{board.title}: {TITLES[shown]} over labelled images, with 95 % intervals.{some}"))
        if n > 1:
            alt = f"{TITLES[shown]} over seconds on {board.title}, a point a method."
            figures.append(figure("cost", few, metric, alt, f"{board.title}: {TITLES[shown]} with the most labels over what it took.{some}"))
    drawn = [one for one in figures if one is not None]
    return section("curves", "Labels and cost", tag("div", drawn, class_="figures")) if drawn else None


def best_lines(boards: Sequence[Board], metric: str | None) -> list[tuple[Board, Line]]:
    """Of each board that is not a shifted set the best line with the most labels; the first DETAILED of them."""
    found = []
    for board in boards:
        signs = marks(board, metric or str(board.about["metric"]))
        best = next((line for line in board.at(board.budgets()[-1]) if signs[line].sign == "*"), None)
        if best is not None and board.target in OWN:
            found.append((board, best))
    return found[:DETAILED]
