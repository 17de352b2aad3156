"""Beyond the one number: curves over labels, each class, each case, each subgroup, shifted sets, and whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from medbench.page.figures import MOST, figure, readable
from medbench.page.markup import Html, between, number, section, table, tag
from medbench.table import TITLES, Board, Line

if TYPE_CHECKING:
    pass

Progress = Callable[[str, int, int], None]
OWN = ("test", "val")  # the task's own parts; every other target is a shifted set


def curves(boards: Sequence[Board], metric: str | None) -> Html | None:
    """Label-efficiency curves and score against cost, a figure a board."""
    figures = []
    for board in boards:
        shown = metric or str(board.about["metric"])
        few = readable(board, shown)
        n = len({line.name for line in board.lines})
        some = f" The {MOST} lines that are best with the most labels." if n > MOST else ""
        alt = (
            f"{TITLES[shown]} over the number of labelled images on {board.title}, a curve a method; the numbers stand in the leaderboard."
        )
        figures.append(
            figure("curves", few, metric, alt, f"{board.title}: {TITLES[shown]} over labelled images, with 95 % intervals.{some}")
        )
        if n > 1:
            alt = f"{TITLES[shown]} over seconds on {board.title}, a point a method."
            figures.append(
                figure("cost", few, metric, alt, f"{board.title}: {TITLES[shown]} with the most labels over what it took.{some}")
            )
    drawn = [one for one in figures if one is not None]
    return section("curves", "Labels and cost", tag("div", drawn, class_="figures")) if drawn else None


def reliability(boards: Sequence[Board], metric: str | None) -> list[Html]:
    """A reliability curve of each board of a task's own part, of the lines with the most labels."""
    figures = []
    for board in boards:
        if board.target in OWN:
            alt = f"Share of right answers over confidence on {board.title}; a calibrated method lies on the diagonal."
            few = readable(board, metric or str(board.about["metric"]))
            figures.append(figure("reliability", few, metric, alt, f"{board.title}: share of right answers over confidence."))
    return [one for one in figures if one is not None]


def calibration(boards: Sequence[Board], metric: str | None) -> Html | None:
    drawn = reliability(boards, metric)
    intro = "Can a probability be believed? Where it can, the curve lies on the diagonal."
    return section("calibration", "Calibration", tag("p", intro, class_="small"), tag("div", drawn, class_="figures")) if drawn else None


def shifted(boards: Sequence[Board], metric: str | None) -> Html | None:
    """Each shifted set beside the task's own part, for the lines that have both; None where nothing was scored elsewhere."""
    tables = []
    for own in (board for board in boards if board.target in OWN):
        others = [board for board in boards if (board.task, board.data) == (own.task, own.data) and board.target not in OWN]
        if not others:
            continue
        shown = metric or str(own.about["metric"])
        rows = []
        for line in own.at(own.budgets()[-1]):
            cells: list[object] = [" ".join(dict.fromkeys([line.cell.method, line.cell.encoder, line.cell.protocol])), _score(line, shown)]
            for board in others:
                same = [one for one in board.lines if one.name == line.name and one.cell.labels == line.cell.labels]
                cells.append(_score(same[0], shown) if same else "–")
            rows.append(cells)
        header = ["line", own.target, *(board.target for board in others)]
        tables.append(table(header, rows, f"{own.task}: {TITLES[shown]} with {own.budgets()[-1]} labels"))
    intro = "The same fitted models on images of another origin, or damaged ones. Nothing is trained or chosen there."
    return section("shift", "Under shift", tag("p", intro, class_="small"), tables) if tables else None


def _score(line: Line, metric: str) -> object:
    if metric not in line.plain:
        return "–" if line.complete else line.status
    s = line.summary(metric)
    return [number(s.mean), " ", tag("small", between(s.low, s.high))]
