"""Results folders -> leaderboards as values.

Lines with their numbers, what is the best of them and what ties with it.

A mean is shown only when every planned seed has its row: what is missing shows as missing, what
failed with its reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.report.leaderboard.board import Leaderboard
from medbench.report.leaderboard.class_groups import class_groups
from medbench.report.leaderboard.entry import AXES, LeaderboardEntry, summarise
from medbench.report.leaderboard.newest_audit import with_newest_audit
from medbench.run.store import Store, lines_judged
from medbench.schema import Cell, PlannedCell, Row, UserError, parse_budget
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

#: Columns of leaderboard.csv. One row for each metric of each line of the leaderboard.
#: Lines would collide without `readout` and `size`.
COLUMNS = (
    *(
        "task",
        "data",
        "method",
        "source",
        "encoder",
        "readout",
        "size",
        "protocol",
        "labels",
        "target",
        "metric",
    ),
    *("mean", "sd", "low", "high", "seeds", "n_labels", "status"),
)


def leaderboards(*stores: Store, beside: Sequence[Store] = ()) -> list[Leaderboard]:
    """Build the leaderboards of results folders, budgets from few labels to many.

    Rows of an old fingerprint take no part.

    beside: folders whose lines join the boards of `stores` and make none of their own; of a line
    under several settings the first's is taken. Raises UserError where two of `stores` have one
    line under two settings: their rows cannot be averaged, nor told apart in a table.
    """
    grouped: dict[tuple[Any, ...], dict[str, PlannedCell]] = {}
    rows: dict[str, tuple[Row, Store]] = {}
    failures: dict[str, str] = {}
    about: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    folders: dict[tuple[Any, ...], dict[str, None]] = {}
    settings: dict[tuple[Any, ...], str] = {}
    for store in (*stores, *beside):
        plan = store.plan()
        joining = _fitting(plan.cells, settings, about) if store in beside else plan.cells
        rows = {**{key: (row, store) for key, row in store.rows().items()}, **rows}
        failures.update(store.failures())
        for planned in joining:
            c = planned.cell
            board = (c.task, c.data, c.target, planned.target)
            settings.setdefault((*board, *_axes(c), c.labels), planned.setting)
            about.setdefault(board, plan.tasks["|".join(board[:3])])
            folders.setdefault(board, {})[store.folder.resolve().name] = None
            grouped.setdefault((*board, planned.setting, c.labels, *_axes(c)), {}).setdefault(
                planned.fingerprint, planned
            )
    found: dict[tuple[Any, ...], list[LeaderboardEntry]] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for key, cells in grouped.items():
        if seen.setdefault((*key[:4], *key[5:]), key[4]) != key[4]:
            line = f"{key[0]} {key[6]} {key[5]}"
            raise UserError(
                f"{line} stands in these folders under two settings.",
                then="medbench table of each folder alone",
            )
        found.setdefault(key[:4], []).append(
            _line(list(cells.values()), rows, failures, about[key[:4]], key[2])
        )
    counted = {
        key: class_groups(
            about[key],
            key[2],
            [pair for line in lines for pair in zip(line.rows, line.stores, strict=True)],
        )
        for key, lines in found.items()
    }
    found = {
        key: [replace(line, class_groups=counted[key]) for line in lines]
        for key, lines in found.items()
    }
    told = {
        key: with_newest_audit(about[key], [row for line in lines for row in line.rows])
        for key, lines in found.items()
    }
    ordered = {
        key: sorted(lines, key=lambda line: _budget_order(line.planned[0]))
        for key, lines in found.items()
    }
    counts = lines_judged(
        {key: one for store in (*stores, *beside) for key, one in store.judged().items()}.values()
    )
    data = _apart(folders)
    return [
        Leaderboard(key[0], data[key], key[2], told[key], lines, judged=counts.get(key[3], 0))
        for key, lines in ordered.items()
    ]


def _apart(
    folders: Mapping[tuple[Any, ...], Mapping[str, None]],
) -> dict[tuple[Any, ...], str]:
    """Name the data of each board: `images.csv [hospital-a]` where others are called like them.

    folders: (task, data, target, hash of the scored set) -> the results folders that have it. Two
    data sets of one name would look alike in tables, and one's robustness be that of the other.
    """
    places = [key[:3] for key in folders]
    twins = {key[:2] for key in folders if places.count(key[:3]) > 1 and key[1] != "phantom"}
    of_twins: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for key, names in folders.items():
        if key[:2] in twins:
            of_twins.setdefault((*key[:3], ", ".join(names)), []).append(key)
    found = {key: str(key[1]) for key in folders}
    for (_, data, _, names), keys in of_twins.items():
        for number, key in enumerate(keys, 1):
            found[key] = f"{data} [{names}{f' {number}' if len(keys) > 1 else ''}]"
    return found


def _fitting(
    cells: Sequence[PlannedCell],
    settings: Mapping[tuple[Any, ...], str],
    boards: Collection[tuple[Any, ...]],
) -> list[PlannedCell]:
    """Return those of `cells` that join a board.

    Without the lines of which a budget is there under another setting: a line is of one setting.
    """
    keys = [
        ((p.cell.task, p.cell.data, p.cell.target, p.target), _axes(p.cell), p.cell.labels)
        for p in cells
    ]
    other = {
        (board, axes)
        for planned, (board, axes, labels) in zip(cells, keys, strict=True)
        if settings.get((*board, *axes, labels), planned.setting) != planned.setting
    }
    return [
        p
        for p, (board, axes, _) in zip(cells, keys, strict=True)
        if board in boards and (board, axes) not in other
    ]


def records(found: Sequence[Leaderboard]) -> list[dict[str, Any]]:
    """Return the tidy leaderboard, a record for each metric of each line.

    Keys COLUMNS, metrics in their own range, NaN where a line is not complete.
    """
    made = []
    for board in found:
        summarise(
            board.lines,
            [metric for metric in METRICS if any(metric in line.plain for line in board.lines)],
        )
        for line in board.lines:
            common = {
                name: getattr(line.cell, name)
                for name in ("task", "data", *AXES, "labels", "target")
            } | {"data": board.data}
            n_labels = line.n_labels if line.rows else np.nan
            for metric in line.plain or [board.about["metric"]]:
                s = line.summary(metric)
                number = {
                    "mean": s.mean,
                    "sd": s.sd,
                    "low": s.low,
                    "high": s.high,
                    "seeds": len(line.rows),
                    "n_labels": n_labels,
                }
                made.append({**common, "metric": metric, **number, "status": line.status})
    return made


def leaderboard(*stores: Store) -> pd.DataFrame:
    """Return the tidy leaderboard of results folders as a pandas frame with the columns COLUMNS.

    A row for each metric of each line, metrics in their own range, NaN where a line is not
    complete. Raises UserError as `leaderboards`.
    """
    import pandas as pd

    return pd.DataFrame(records(leaderboards(*stores)), columns=list(COLUMNS))


def _axes(cell: Cell) -> tuple[Any, ...]:
    return tuple(getattr(cell, axis) for axis in AXES)


def _line(
    cells: Sequence[PlannedCell],
    rows: Mapping[str, tuple[Row, Store]],
    failures: Mapping[str, str],
    about: Mapping[str, Any],
    target: str,
) -> LeaderboardEntry:
    cells = sorted(cells, key=lambda planned: (planned.cell.pretrain_seed, planned.cell.seed))
    done = [rows[planned.fingerprint] for planned in cells if planned.fingerprint in rows]
    reasons = [
        failures[planned.fingerprint]
        for planned in cells
        if planned.fingerprint in failures and planned.fingerprint not in rows
    ]
    return LeaderboardEntry(
        cells[0].cell,
        cells,
        [row for row, _ in done],
        reasons,
        [store for _, store in done],
        about["parts"][target][1],
        kind=about["kind"],
    )


def _budget_order(planned: PlannedCell) -> tuple[int, float]:
    return planned.n_requested, parse_budget(planned.cell.labels).amount
