"""Sections of the page on curves and shift.

Scores over labels and cost, what more labels would bring, reliability curves, and what fitted
models lose on other images.
"""

from __future__ import annotations

from collections.abc import Sequence

from medbench.report.advise import extrapolated, from_boards
from medbench.report.figures.line_selection import left_out
from medbench.report.html import svg_charts
from medbench.report.html.elements import Html, items, section, table, tag
from medbench.report.leaderboard import Leaderboard
from medbench.report.leaderboard.robustness_tables import tables as shift_tables
from medbench.report.leaderboard.sites import site_tables
from medbench.stats.metrics import METRICS


def curves_section(boards: Sequence[Leaderboard], metric: str | None) -> Html | None:
    """Return label-efficiency curves and score against cost, a figure a board."""
    drawn = []
    for board in boards:
        shown = board.shown(metric)
        few = svg_charts.chart_lines(board, shown)
        n = len({line.name for line in board.lines})
        some = f" {said[0].upper()}{said[1:]}." if (said := left_out([board], [few])) else ""
        alt = f"{METRICS[shown].title} over the number of labelled images on {board.title}, a curve a method; the numbers stand in the leaderboard."
        drawn.append(
            svg_charts.curves_chart(
                few,
                shown,
                alt,
                f"{board.title}: {METRICS[shown].title} over labelled images, with 95 % intervals.{some}",
            )
        )
        if n > 1:
            alt = f"{METRICS[shown].title} over seconds on {board.title}, a point a method."
            drawn.append(
                svg_charts.cost_chart(
                    few,
                    shown,
                    alt,
                    f"{board.title}: {METRICS[shown].title} with the most labels over what it took.{some}",
                )
            )
    made = [one for one in drawn if one is not None]
    return (
        section("curves", "Labels and cost", tag("div", made, class_="figures")) if made else None
    )


def advice_section(boards: Sequence[Leaderboard], metric: str | None) -> Html | None:
    """Show what more labels would bring.

    A sentence, a figure and a table a board. None where no line has a curve to follow.
    """
    said = []
    for advice in from_boards(
        [board for board in boards if extrapolated(board.shown(metric))], metric=metric
    ):
        alt = f"{advice.header[2]} over labelled images on {advice.title}, and what is predicted to ten times as many; the numbers stand in the table."
        drawn = svg_charts.advice_chart(
            advice,
            alt,
            f"{advice.title}: predicted, with 50 and 90 % intervals of {advice.first.curve.name}.",
        )
        if drawn is None:
            continue
        body = [line.cells() for line in advice.lines]
        said.append(
            tag(
                "article",
                tag("h3", advice.title),
                tag("p", tag("strong", advice.sentence)),
                tag("div", drawn, class_="figures"),
                table(advice.header, body, f"{advice.title}: more labels"),
                items(advice.remarks, class_="small"),
            )
        )
    return section("advice", "More labels", said) if said else None


def reliability_section(boards: Sequence[Leaderboard], metric: str | None) -> list[Html]:
    """Draw a reliability curve of each board of a task's own part, with the most labels."""
    drawn = []
    for board in boards:
        alt = f"Share of right answers over confidence on {board.title}; a calibrated method lies on the diagonal."
        few = svg_charts.chart_lines(board, board.shown(metric))
        some = f" {said[0].upper()}{said[1:]}." if (said := left_out([board], [few])) else ""
        drawn.append(
            svg_charts.reliability_chart(
                few, alt, f"{board.title}: share of right answers over confidence.{some}"
            )
        )
    return [one for one in drawn if one is not None]


def sites_section(boards: Sequence[Leaderboard], metric: str | None) -> Html | None:
    """Show the scores over held-out sites; None where none were held out."""
    shown = [
        [
            table(made.header, made.body, made.title, names=made.header.index("95 %") - 1),
            items(made.notes, class_="small"),
        ]
        for made in site_tables(boards, metric)
    ]
    return section("sites", "Each site held out", shown) if shown else None


def robustness_section(boards: Sequence[Leaderboard], metric: str | None) -> Html | None:
    """Show what the fitted models lose elsewhere, as `medbench shift` has it.

    None where nothing was scored elsewhere.
    """
    shown = [
        [
            table(made.header, made.body, made.title, names=made.header.index("there") - 1),
            items(made.notes, class_="small"),
        ]
        for made in shift_tables(boards, metric)
    ]
    intro = "The same fitted models on images of another origin, or damaged ones. Nothing is trained or chosen there."
    return (
        section("shift", "Under shift", tag("p", intro, class_="small"), shown) if shown else None
    )
