"""What a fitted model loses where the images change, in words: a table for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from medbench.report.leaderboard.board import Leaderboard, picked
from medbench.report.leaderboard.entry import AXES, shown_axes
from medbench.report.leaderboard.robustness import ALL, EACH, MEAN, RobustnessGap, measured
from medbench.stats import number_format
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    from rich.table import Table

LEGEND = "* drops least   = not shown to differ from it: paired, 5 %, Holm-corrected over the pairs of lines with equal labels   ? cannot be said"
MORE = "Each corruption: medbench shift FOLDER; each level: --each, shift.csv, medbench plot --kind shift."


class GapTable(NamedTuple):
    """A table of losses in words. gaps: what each line of the body is made of."""

    title: str
    header: list[str]
    body: list[list[str]]
    notes: list[str]
    gaps: Sequence[RobustnessGap]


def tables(
    found: Sequence[Leaderboard], metric: str | None = None, detail: str = MEAN
) -> list[GapTable]:
    """Return a table for each task with shifted sets.

    detail: of corruptions "each" level, the "mean" over levels, or the mean over "all".
    """
    every = measured(found, metric)
    shown = []
    for key in dict.fromkeys((drop.board.task, drop.board.data) for drop in every):
        mine = [drop for drop in every if (drop.board.task, drop.board.data) == key]
        kept = [drop for drop in mine if _kept(drop, mine, detail)]
        axes = shown_axes([drop.home for drop in kept])
        title = replace(kept[0].board, target="what is lost elsewhere").title
        header = [
            "shift",
            "labels",
            *axes,
            METRICS[kept[0].metric].title,
            "there",
            "drop",
            "95 %",
            "",
            "over least",
        ]
        body = [
            [
                _label(drop),
                drop.home.cell.labels,
                *(str(getattr(drop.home.cell, axis)) for axis in axes),
                *_numbers(drop),
            ]
            for drop in kept
        ]
        more = [MORE] if len(kept) < len(mine) and detail != EACH else []
        said = [*([LEGEND] if any(drop.mark for drop in kept) else []), *_notes(kept), *more]
        shown.append(GapTable(title, header, body, said, kept))
    return shown


def shift_terminal(
    found: Sequence[Leaderboard], metric: str | None = None, detail: str = MEAN
) -> list[Table | str]:
    """Return the tables of losses with their notes, for `screen.show`.

    detail: as of `tables`.
    """
    from rich.table import Table
    from rich.text import Text

    shown: list[Table | str] = []
    for made in tables(found, metric, detail):
        table = Table(title=Text(made.title), title_justify="left", title_style="bold")
        for i, name in enumerate(made.header):
            words = i == 0 or name in AXES
            # at blanks, names where they must, on a narrow terminal
            breaks = name in ("shift", "95 %", "over least", *AXES)
            table.add_column(
                name,
                justify="left" if words else "right",
                no_wrap=not breaks,
                min_width=8 if breaks else None,
                overflow="fold",
            )
        for i, (gap, cells) in enumerate(zip(made.gaps, made.body, strict=True)):
            if i and gap.name != made.gaps[i - 1].name:
                table.add_section()
            table.add_row(*map(Text, cells), style="bold" if gap.mark == "*" else None)
        shown += [table, *made.notes]
    return shown


def _kept(drop: RobustnessGap, among: Sequence[RobustnessGap], detail: str) -> bool:
    """Whether a table of that detail shows it.

    Data sets and the mean over all corruptions always, what is the only one of its kind, too.
    """
    if not drop.corruption or drop.spread == ALL:
        return True
    if detail == ALL and any(other.spread == ALL for other in among):
        return False
    has_mean = any(other.spread == MEAN and other.corruption == drop.corruption for other in among)
    return detail == EACH or not has_mean if drop.spread == EACH else detail != EACH


def _label(drop: RobustnessGap) -> str:
    if not drop.corruption:
        return drop.name
    if drop.spread == EACH:
        return f"{drop.corruption} {drop.levels[0]}"
    return "all corruptions" if drop.spread == ALL else drop.corruption


def _numbers(drop: RobustnessGap) -> list[str]:
    home = number_format.number_text(drop.in_domain)
    if drop.drop is None:
        return [home, "missing", "", "", "", ""]
    more = (
        number_format.estimate_text(drop.to_least.value, *drop.to_least.interval(), "+.3f")
        if drop.to_least
        else ""
    )
    between = number_format.interval_text(*drop.drop.interval(), "+.3f")
    return [
        home,
        number_format.number_text(drop.shifted),
        number_format.number_text(drop.drop.value, "+.3f"),
        between,
        drop.mark,
        more,
    ]


def _notes(shown: Sequence[RobustnessGap]) -> list[str]:
    """How the numbers came about, one sentence a line."""
    about, metric = shown[0].board.about, shown[0].metric
    group = about["groups"] or "image"
    turned = (
        ""
        if METRICS[metric].higher_is_better
        else f" ({METRICS[metric].title}: elsewhere less at home)"
    )
    found = [
        *map(str, picked(shown[0].board)),
        f"drop: at home less elsewhere, of the same fits{turned}; + is a loss.",
    ]
    damaged = [drop for drop in shown if drop.corruption]
    if damaged:
        levels = sorted({level for drop in damaged for level in drop.levels})
        means = (
            ", means over levels " + ", ".join(map(str, levels))
            if len(levels) > 1 and any(d.spread != EACH for d in damaged)
            else ""
        )
        found.append(f"Corruptions: of the same images{means}; paired on {group}s and draws.")
    for drop in {drop.name: drop for drop in shown if drop.kind == "data"}.values():
        theirs = drop.there[0].about["groups"] or "image"
        known = METRICS[metric]
        same = (
            f"; chance makes an {known.title} larger on fewer images"
            if known.grows_by_chance
            else ""
        )
        same += (
            f"; at home the {len(drop.board.about['classes'])} common classes alone"
            if drop.board.shift
            else ""
        )
        found.append(
            f"{drop.name}: other images; {group}s at home and {theirs}s there are resampled apart, draws are paired{same}."
        )
    return found
