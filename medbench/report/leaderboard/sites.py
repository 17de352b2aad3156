"""Each site in turn was the test part (`--hold-out-by`).

A score a site, their mean with an interval over sites, and the worst one by name.

The interval is Student's over the sites: what it holds is the chance of which sites there are, as
far as so few can tell, with what test images and draws add inside each. A line counts only where
all its sites are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medbench import stats
from medbench.report.leaderboard.board import Leaderboard
from medbench.report.leaderboard.entry import AXES, LeaderboardEntry, shown_axes
from medbench.stats import number_format
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

#: Columns of sites.csv, one row for each line of a task whose sites were held out.
COLUMNS = (
    "task",
    "data",
    *AXES,
    "labels",
    "column",
    "metric",
    "sites",
    "mean",
    "low",
    "high",
    "worst",
    "worst_score",
    "status",
)


@dataclass(frozen=True, eq=False)
class SiteScores:
    """Hold one line over all held-out sites.

    scores: site -> mean over seeds, NaN where undefined; {} unless the line is complete at all of
    them. mean: None there.
    """

    line: LeaderboardEntry
    column: str
    of: str
    metric: str
    scores: dict[str, float]
    mean: stats.Estimate | None

    @property
    def worst(self) -> str:
        """The site with the lowest merit; "" where a score is missing or undefined."""
        if self.mean is None or np.isnan(self.mean.value):
            return ""
        return min(self.scores, key=lambda site: METRICS[self.metric].sign * self.scores[site])

    def interval(self) -> tuple[float, float]:
        """Return the interval of the mean over sites; NaN where there is none."""
        return (
            self.mean.interval(within=METRICS[self.metric].range)
            if self.mean
            else (float("nan"), float("nan"))
        )


class SiteTable(NamedTuple):
    """One table of sites in words."""

    title: str
    header: list[str]
    body: list[list[str]]
    notes: list[str]


def over_sites(found: Sequence[Leaderboard], metric: str | None = None) -> list[SiteScores]:
    """Return each line over all held-out sites, of each task whose sites were held out.

    metric: None: each task's primary one. [] where no site was.
    """
    made = []
    for boards in _held_out(found):
        first = boards[0]
        about, shown = first.about["held_out"], first.shown(metric)
        for line in first.lines:
            there = [_same(line, board) for board in boards]
            whole = [
                (board, one)
                for board, one in zip(boards, there, strict=True)
                if one is not None and shown in one.plain
            ]
            scores = {
                str(board.about["held_out"]["value"]): float(one.plain[shown].mean())
                for board, one in whole
            }
            complete = len(whole) == len(boards)
            made.append(
                SiteScores(
                    line,
                    about["by"],
                    about["of"],
                    shown,
                    scores if complete else {},
                    _mean(list(scores.values())) if complete else None,
                )
            )
    return made


def _held_out(found: Sequence[Leaderboard]) -> list[list[Leaderboard]]:
    """Group the boards of each task and column, of the held-out sites themselves."""
    groups: dict[tuple[str, ...], list[Leaderboard]] = {}
    for board in found:
        about = board.about.get("held_out")
        if about and not board.shift:
            key = (
                about["of"],
                about["by"],
                board.data,
                board.target,
                str(board.about.get("by", "")),
            )
            groups.setdefault(key, []).append(board)
    return list(groups.values())


def _same(line: LeaderboardEntry, board: Leaderboard) -> LeaderboardEntry | None:
    return next(
        (
            other
            for other in board.lines
            if other.name == line.name and other.cell.labels == line.cell.labels
        ),
        None,
    )


def _mean(scores: Sequence[float]) -> stats.Estimate:
    values = np.array(scores)
    n = len(values)
    return stats.Estimate(
        float(values.mean()), ((float(values.var(ddof=1)) / n if n > 1 else float("nan"), n - 1),)
    )


def site_records(found: Sequence[Leaderboard], metric: str | None = None) -> pd.DataFrame:
    """Return `over_sites` as a pandas frame with the columns COLUMNS; NaN where undefined.

    metric: None: each task's primary one.
    """
    import pandas as pd

    return pd.DataFrame([_record(one) for one in over_sites(found, metric)], columns=list(COLUMNS))


def _record(one: SiteScores) -> dict[str, Any]:
    cell, (low, high) = one.line.cell, one.interval()
    return {
        **{
            "task": one.of,
            "data": cell.data,
            **{name: getattr(cell, name) for name in AXES},
            "labels": cell.labels,
        },
        **{
            "column": one.column,
            "metric": one.metric,
            "sites": len(one.scores),
            "mean": one.mean.value if one.mean else float("nan"),
        },
        **{
            "low": low,
            "high": high,
            "worst": one.worst,
            "worst_score": one.scores.get(one.worst, float("nan")),
        },
        "status": "done" if one.mean else "missing",
    }


def site_tables(found: Sequence[Leaderboard], metric: str | None = None) -> list[SiteTable]:
    """Return a table for each task whose sites were held out."""
    every = over_sites(found, metric)
    tables = []
    for key in dict.fromkeys((one.of, one.column, one.line.cell.data, one.metric) for one in every):
        mine = [one for one in every if (one.of, one.column, one.line.cell.data, one.metric) == key]
        sites = sorted({site for one in mine for site in one.scores})
        axes = shown_axes([one.line for one in mine])
        header = ["labels", *axes, f"{METRICS[key[3]].title}, mean", "95 %", "worst", *sites]
        body = [
            [
                one.line.cell.labels,
                *(str(getattr(one.line.cell, axis)) for axis in axes),
                *_numbers(one, sites),
            ]
            for one in mine
        ]
        said = f"Each {key[1]} in turn is the test part, and all others are trained on. 95 %: Student's interval over {len(sites)} of them."
        few = f" So few say little of another {key[1]}." if len(sites) < 5 else ""
        tables.append(
            SiteTable(f"{key[0]} on {key[2]}: each {key[1]} held out", header, body, [said + few])
        )
    return tables


def _numbers(one: SiteScores, sites: Sequence[str]) -> list[str]:
    if one.mean is None:
        return ["missing", "", "", *[""] * len(sites)]
    number = number_format.number_text
    return [
        number(one.mean.value),
        number_format.interval_text(*one.interval()),
        one.worst,
        *(number(one.scores[site]) for site in sites),
    ]
