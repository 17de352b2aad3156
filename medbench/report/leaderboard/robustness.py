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
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import stats
from medbench.report.leaderboard.board import Leaderboard
from medbench.report.leaderboard.entry import AXES, LeaderboardEntry
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

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
        """The mean score away from home, over sets and seeds; NaN where it is not known."""
        return (
            float(np.mean([line.plain[self.metric].mean() for line in self.away]))
            if self.drop
            else float("nan")
        )

    @property
    def in_domain(self) -> float:
        """The mean score at home over seeds; NaN where it is not known."""
        return (
            float(self.home.plain[self.metric].mean())
            if self.metric in self.home.plain
            else float("nan")
        )


def measured(found: Sequence[Leaderboard], metric: str | None = None) -> list[RobustnessGap]:
    """Return every drop of boards' lines elsewhere.

    Data sets first, then each corruption with the mean over its levels, then the mean over all
    corruptions. metric: None: each task's primary one. [] where nothing was scored elsewhere.
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
    """Return `measured` as a frame with the columns COLUMNS; NaN where undefined.

    level: a number, or `mean`; metrics in their own range.
    """
    import pandas as pd

    return pd.DataFrame([_record(drop) for drop in measured(found, metric)], columns=list(COLUMNS))


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
    """Estimate how much more the first of two complete lines loses on the same sets.

    Paired on the draws that they share; in the metric's own unit, positive where the first loses
    more.
    """
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
