"""What a fitted model loses where the images change.

Its score at home, elsewhere, the drop with its interval, and who loses least.

A drop is the score on the task's own part less that on the shifted set (for the calibration error
the other way round), so that more is worse. Corrupted images are those of the part itself: groups
are paired. Another data set has other groups: each set's are resampled on their own, and the draws
of labels, the same fits, are paired (`stats.across`). Where a data set lacks some of the task's
classes, home is the task's own images of the common classes (the target `test-common-...`). Only
scores of one fit are compared: the rows say whose they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medbench import stats
from medbench.report.leaderboard.lines import (
    AXES,
    Leaderboard,
    LeaderboardEntry,
    picked,
    shown_axes,
)
from medbench.stats import number_format
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

EACH, MEAN, ALL = "each", "mean", "all"
#: Columns of shift.csv and of `robustness_gaps`, one row for each line and set, and for means over
#: levels and over all corruptions.
COLUMNS = (
    *("task", "data", *AXES, "labels", "shift", "kind", "corruption", "level", "metric"),
    *(
        "in_domain",
        "shifted",
        "drop",
        "low",
        "high",
        "mark",
        "to_least",
        "to_least_low",
        "to_least_high",
        "p",
        "paired",
        "seeds",
        "status",
    ),
)
LEGEND = "* drops least   = not shown to differ from it: paired, 5 %, Holm-corrected over the pairs of lines with equal labels   ? cannot be said"

MORE = "Each corruption: medbench shift FOLDER; each level: --each, shift.csv, medbench plot --kind shift."


@dataclass(frozen=True, eq=False)
class RobustnessGap:
    """One line on one shifted set, or its mean over several.

    away: the same fits there; () where they are not all there. board, there: theirs.

    spread: "each" set, "mean" over a corruption's levels, "all" corruptions. drop: None unless
    complete. mark: as LEGEND says; to_least: this drop less the least, p corrected.
    """

    board: Leaderboard
    there: Sequence[Leaderboard]
    home: LeaderboardEntry
    away: Sequence[LeaderboardEntry]
    name: str
    kind: str
    corruption: str
    levels: tuple[int, ...]
    spread: str
    metric: str
    drop: stats.Estimate | None
    mark: str = ""
    to_least: stats.Estimate | None = None
    p: float = float("nan")

    @property
    def shifted(self) -> float:
        return (
            float(np.mean([line.plain[self.metric].mean() for line in self.away]))
            if self.drop
            else float("nan")
        )

    @property
    def in_domain(self) -> float:
        return (
            float(self.home.plain[self.metric].mean())
            if self.metric in self.home.plain
            else float("nan")
        )


def measured(found: Sequence[Leaderboard], metric: str | None = None) -> list[RobustnessGap]:
    """Measure every drop.

    Data sets first, then each corruption with the mean over its levels, then the mean over all
    corruptions. metric: default each task's primary one.
    """
    drops: list[RobustnessGap] = []
    for key in dict.fromkeys((board.task, board.data) for board in found):
        boards = [board for board in found if (board.task, board.data) == key]
        homes = {board.target: board for board in boards}
        for away in _sets(boards):
            first, shift = away[0], away[0].shift
            kind = (
                "corruption"
                if len({board.shift.get("corruption") for board in away}) > 1
                else shift["kind"]
            )
            several = len({board.shift.get("corruption") for board in away}) > 1
            corruption = "" if kind == "data" else ALL if several else str(shift["corruption"])
            levels = (
                tuple(dict.fromkeys(int(board.shift["level"]) for board in away))
                if kind != "data"
                else ()
            )
            spread = EACH if len(away) == 1 else ALL if several else MEAN
            name = (
                first.target
                if spread == EACH
                else "corrupted"
                if several
                else f"corrupted-{corruption}"
            )
            home = homes.get(str(shift["of"]))
            if home is not None:
                shown = first.shown(metric)
                drops += _marked(
                    [
                        _drop(home, line, away, name, kind, corruption, levels, spread, shown)
                        for line in home.lines
                    ]
                )
    return drops


def robustness_gaps(found: Sequence[Leaderboard], metric: str | None = None) -> pd.DataFrame:
    """`measured` as a frame with the columns COLUMNS; NaN where undefined.

    level: a number, or `mean`; metrics in their own range.
    """
    import pandas as pd

    return pd.DataFrame([_record(drop) for drop in measured(found, metric)], columns=list(COLUMNS))


class GapTable(NamedTuple):
    """One table of losses in words. gaps: what each line of the body is made of."""

    title: str
    header: list[str]
    body: list[list[str]]
    notes: list[str]
    gaps: Sequence[RobustnessGap]


def tables(
    found: Sequence[Leaderboard], metric: str | None = None, detail: str = MEAN
) -> list[GapTable]:
    """One for each task with shifted sets.

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
    """Draw what `rich` prints."""
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


def _sets(boards: Sequence[Leaderboard]) -> Iterator[list[Leaderboard]]:
    """Yield the sets that a drop is measured on.

    Each data set, each corrupted set, the levels of each corruption together, all corruptions
    together.
    """
    yield from ([board] for board in boards if board.shift.get("kind") == "data")
    damaged = sorted(
        (board for board in boards if board.shift.get("kind") == "corruption"),
        key=lambda board: int(board.shift["level"]),
    )
    kinds = list(
        dict.fromkeys(
            board.shift["corruption"] for board in boards if board.shift.get("kind") == "corruption"
        )
    )
    for kind in kinds:
        levels = [board for board in damaged if board.shift["corruption"] == kind]
        yield from ([board] for board in levels)
        if len(levels) > 1:
            yield levels
    if len(kinds) > 1:
        yield damaged


def _drop(
    home: Leaderboard,
    line: LeaderboardEntry,
    away: Sequence[Leaderboard],
    name: str,
    kind: str,
    corruption: str,
    levels: tuple[int, ...],
    spread: str,
    metric: str,
) -> RobustnessGap:
    there = [_same_fits(line, board) for board in away]
    lines = [found for found in there if found is not None and metric in found.plain]
    whole = metric in line.plain and len(lines) == len(away)
    made = RobustnessGap(
        home,
        away,
        line,
        lines if whole else (),
        name,
        kind,
        corruption,
        levels,
        spread,
        metric,
        None,
    )
    return replace(made, drop=stats.across(_terms(made, 1.0))) if whole else made


def _same_fits(line: LeaderboardEntry, board: Leaderboard) -> LeaderboardEntry | None:
    """Find the line of that board whose rows were scored by the fits of `line`, seed for seed."""
    own = _fits(line)
    alike = (
        other
        for other in board.lines
        if other.name == line.name and other.cell.labels == line.cell.labels
    )
    return next((other for other in alike if own and own == _fits(other)), None)


def _fits(line: LeaderboardEntry) -> dict[tuple[int, int], str]:
    """Seeds -> the setting of the fit that a row comes of; {} unless complete.

    Rows of shifted sets name it, a row at home has it itself.
    """
    if not line.complete:
        return {}
    pairs = zip(line.planned, line.rows, strict=True)
    return {
        (row.cell.pretrain_seed, row.cell.seed): row.provenance.get("fit", planned.setting)
        for planned, row in pairs
    }


def _terms(drop: RobustnessGap, weight: float) -> list[list[tuple[float, stats.Sample]]]:
    """Write a drop as weighted samples.

    On one test set where the images are the same, else on two.
    """
    weight *= METRICS[drop.metric].sign
    home = [(weight, drop.home.sample(drop.metric))]
    away = [(-weight / len(drop.away), line.sample(drop.metric)) for line in drop.away]
    return [[*home, *away]] if drop.kind == "corruption" else [home, away]


def drop_difference(a: RobustnessGap, b: RobustnessGap) -> stats.Estimate:
    """By how much the first loses more than the second, of two complete lines on the same sets."""
    sets = [first + second for first, second in zip(_terms(a, 1.0), _terms(b, -1.0), strict=True)]
    return stats.across(stats.on_shared_draws(sets))


def _marked(found: Sequence[RobustnessGap]) -> list[RobustnessGap]:
    """Who drops least at each budget, and who is not shown to drop more.

    Nothing is said before all lines of the budget are there.
    """
    gaps: dict[int, stats.Estimate] = {}
    signs = [""] * len(found)
    pairs = 0
    for labels in dict.fromkeys(drop.home.cell.labels for drop in found):
        of = [i for i, drop in enumerate(found) if drop.home.cell.labels == labels]
        known = [
            (i, drop)
            for i in of
            if (drop := found[i].drop) is not None and not np.isnan(drop.value)
        ]
        if len(known) < max(len(of), 2):
            continue
        pairs += len(of) * (len(of) - 1) // 2
        least = min(known, key=lambda pair: pair[1].value)[0]
        signs[least] = "*"
        for i in of:
            if i != least:
                gaps[i] = drop_difference(found[i], found[least])
    corrected = dict(zip(gaps, stats.holm([gap.p() for gap in gaps.values()], pairs), strict=True))
    return [
        replace(drop, mark=signs[i])
        if i not in gaps
        else replace(
            drop,
            mark="?" if np.isnan(corrected[i]) else "=" if corrected[i] > 0.05 else "",
            to_least=gaps[i],
            p=corrected[i],
        )
        for i, drop in enumerate(found)
    ]


def _record(drop: RobustnessGap) -> dict[str, Any]:
    nan = float("nan")
    low, high = drop.drop.interval() if drop.drop else (nan, nan)
    more = drop.to_least.interval() if drop.to_least else (nan, nan)
    cell = drop.home.cell
    level: int | str = (
        "" if not drop.corruption else drop.levels[0] if drop.spread == EACH else MEAN
    )
    return {
        **{name: getattr(cell, name) for name in ("task", "data", *AXES, "labels")},
        **{
            "shift": drop.name,
            "kind": drop.kind,
            "corruption": drop.corruption,
            "level": level,
            "metric": drop.metric,
        },
        **{
            "in_domain": drop.in_domain,
            "shifted": drop.shifted,
            "drop": drop.drop.value if drop.drop else nan,
            "low": low,
            "high": high,
        },
        **{
            "mark": drop.mark,
            "to_least": drop.to_least.value if drop.to_least else nan,
            "to_least_low": more[0],
            "to_least_high": more[1],
        },
        **{
            "p": drop.p,
            "paired": drop.kind == "corruption",
            "seeds": len(drop.home.rows),
            "status": "done" if drop.drop else "missing",
        },
    }


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
