"""Results folders -> leaderboards as values.

Lines with their numbers, what is the best of them and what ties with it.

A mean is shown only when every planned seed has its row: what is missing shows as missing, what
failed with its reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import stats
from medbench.report.leaderboard.class_groups import UNKNOWN, ClassGroups, class_groups
from medbench.report.leaderboard.class_scores import ClassScores, class_scores
from medbench.report.leaderboard.degenerate import Degenerate, of_rows
from medbench.report.leaderboard.newest_audit import with_newest_audit
from medbench.run.store import Store, lines_judged
from medbench.schema import Cell, Note, PlannedCell, Row, UserError, parse_budget
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
AXES = ("method", "source", "encoder", "readout", "size", "protocol")


@dataclass(frozen=True)
class SignificanceMark:
    """What the table says of a line.

    sign: * best, = not shown to differ from it, ? too few groups to say. to_best: line minus best.
    """

    sign: str = ""
    to_best: stats.Estimate | None = None
    p: float = float("nan")  # corrected


@dataclass(frozen=True, eq=False)
class LeaderboardEntry:
    """One line of a leaderboard: the planned cells that differ in seeds alone, and their rows.

    groups: in the scored set.
    """

    cell: Cell  # of the first seed
    planned: Sequence[PlannedCell]
    rows: Sequence[Row]
    reasons: Sequence[str]  # of the cells that failed
    stores: Sequence[Store]  # where each row lies
    groups: int
    class_groups: ClassGroups = UNKNOWN
    _resamples: dict[str, np.ndarray] = field(
        default_factory=dict, init=False, repr=False
    )  # metric -> (S, R) float32, of what was asked for
    _summaries: dict[str, stats.Summary] = field(default_factory=dict, init=False, repr=False)

    @property
    def complete(self) -> bool:
        return len(self.rows) == len(self.planned)

    @property
    def status(self) -> str:
        if self.complete:
            return "done"
        return f"{'failed' if self.reasons else 'missing'} {len(self.planned) - len(self.rows)} of {len(self.planned)}"

    @property
    def n_labels(self) -> float:
        """Labelled images, mean over draws.

        What was asked for, where none is done; NaN of somebody else's model.
        """
        if self.cell.external:
            return float("nan")
        return float(np.mean([row.n_labels for row in self.rows] or [self.planned[0].n_requested]))

    @cached_property
    def name(self) -> str:
        return " ".join(str(getattr(self.cell, axis)) for axis in AXES)

    @cached_property
    def plain(self) -> Mapping[str, np.ndarray]:
        """metric -> (S,), NaN = undefined; empty unless complete."""
        if not self.complete:
            return {}
        return {
            name: np.array([_nan(row.metrics[name]["value"]) for row in self.rows])
            for name in self.rows[0].metrics
        }

    def merit(self, metric: str) -> float:
        """Mean over seeds of a complete line, turned round where lower is better."""
        return METRICS[metric].sign * float(np.mean(self.plain[metric]))

    @cached_property
    def class_scores(self) -> ClassScores | None:
        """Of a complete line; None where predictions were not shared."""
        return class_scores(self.rows, self.stores)

    @cached_property
    def degenerate(self) -> Degenerate:
        """What is wrong with the decisions of a complete line.

        Nothing where predictions were not shared.
        """
        return of_rows(self.rows, self.stores)

    @cached_property
    def pretrainings(self) -> int:
        """Under how many pretrainings each draw of labels was run.

        Raises UserError where not all draws were under all.
        """
        draws: dict[int, list[int]] = {}
        for planned in self.planned:
            draws.setdefault(planned.cell.pretrain_seed, []).append(planned.cell.seed)
        if len({tuple(seeds) for seeds in draws.values()}) > 1:
            what = f"{self.name} at {self.cell.labels}: not all seeds were run under all pretraining seeds."
            raise UserError(
                what, then="medbench run with the larger --seeds and the larger --pretrain-seeds"
            )
        return len(draws)

    @cached_property
    def drawn_once(self) -> bool:
        """Whether its weights are one pretraining's, or one draw's.

        What is said of them is not said of the method.
        """
        return self.pretrainings == 1 and any(
            row.provenance.get("pretraining") or row.cell.method == "random" for row in self.rows
        )

    def load(self, metrics: Collection[str]) -> None:
        """Read the resamples of these metrics, once, each file in one go."""
        lacking = [metric for metric in metrics if metric not in self._resamples]
        if lacking:
            read = [
                store.resamples(row, lacking)
                for store, row in zip(self.stores, self.rows, strict=True)
            ]
            self._resamples.update(
                {metric: np.stack([values[metric] for values in read]) for metric in lacking}
            )

    def sample(self, metric: str) -> stats.Sample:
        """Of a complete line."""
        saved = self._saved(metric)
        return replace(saved, resamples=saved.resamples.astype(float))

    def _saved(self, metric: str) -> stats.Sample:
        """`sample` in the float32 of the file."""
        self.load([metric])
        draws = tuple(dict.fromkeys(planned.cell.seed for planned in self.planned))
        known = self.reference(metric)
        return stats.Sample(
            self.plain[metric],
            self._resamples[metric],
            self.groups,
            self.pretrainings,
            draws,
            known,
        )

    def reference(self, metric: str) -> stats.ReferenceVariance | None:
        """Return what is known of the metric's variance on the scored set.

        None where its classes are not counted.
        """
        return stats.reference(
            metric, self.class_groups.of_class, self.groups, binary=self.class_groups.binary
        )

    def summary(self, metric: str) -> stats.Summary:
        """Return mean, sd over seeds and 95 % interval over test groups and seeds.

        Cut at the metric's own range; NaN unless complete.
        """
        if metric not in self._summaries:
            summarise([self], [metric])
        return self._summaries[metric]


def summarise(lines: Sequence[LeaderboardEntry], metrics: Collection[str]) -> None:
    """Work out `LeaderboardEntry.summary` of many lines and metrics at once, for it to return.

    One at a time they take ten times as long.
    """
    for line in lines:
        line.load(
            [metric for metric in metrics if metric in line.plain and metric not in line._summaries]
        )
    for metric in metrics:
        todo = [line for line in lines if metric not in line._summaries]
        known = [line for line in todo if metric in line.plain]
        about = METRICS[metric]
        saved = [line._saved(metric) for line in known]
        summaries = stats.means_over_seeds(
            saved, within=about.range, grows_by_chance=about.grows_by_chance
        )
        for line, s in zip(known, summaries, strict=True):
            line._summaries[metric] = s
        line_less = stats.Summary(np.nan, None, np.nan, np.nan)
        for line in todo:
            line._summaries.setdefault(metric, line_less)


@dataclass(frozen=True)
class Selection:
    """Lines that a person picked.

    So many, of how many in all the results, and what was asked for in words.
    """

    shown: int
    of: int
    asked: str

    def __str__(self) -> str:
        return f"{self.shown} of {self.of} lines ({self.asked})"


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Hold all lines that were scored on one target set, so that any two are paired.

    about: the plan's notes on the task. selection: None, or these are not all lines of the results
    (`table.only`). judged: how many lines were ever scored on it (`run.ledger`).
    """

    task: str
    data: str
    target: str
    about: Mapping[str, Any]
    lines: Sequence[LeaderboardEntry]
    selection: Selection | None = None
    judged: int = 0
    _marks: dict[str, Mapping[LeaderboardEntry, SignificanceMark]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def title(self) -> str:
        where = "PHANTOM: drawn images" if self.data == "phantom" else self.data
        return f"{self.task} ({where}), {self.target}"

    @property
    def shift(self) -> Mapping[str, Any]:
        """What the plan says of a set that is not the task's own part.

        Kind "data" or "corruption", ...; {} of the part itself.
        """
        found: Mapping[str, Any] = self.about.get("shift", {})
        return found

    def shown(self, metric: str | None) -> str:
        """Return the metric that is asked for, else the task's primary one."""
        return metric or str(self.about["metric"])

    @cached_property
    def axes(self) -> list[str]:
        """`shown_axes` of its lines."""
        return shown_axes(self.lines)

    def budgets(self) -> list[str]:
        return list(dict.fromkeys(line.cell.labels for line in self.lines))

    def called(self, line: LeaderboardEntry) -> str:
        """Name a line by its method, and the words in which the board's lines differ."""
        return " ".join(str(getattr(line.cell, axis)) for axis in self.axes)

    @property
    def own(self) -> Leaderboard:
        """Without somebody else's predictions."""
        return replace(self, lines=[line for line in self.lines if not line.cell.external])

    def at(self, budget: str) -> list[LeaderboardEntry]:
        return [line for line in self.lines if line.cell.labels == budget]


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
            _line(list(cells.values()), rows, failures, about[key[:4]]["parts"][key[2]][1])
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
    return [
        Leaderboard(key[0], key[1], key[2], told[key], lines, judged=counts.get(key[3], 0))
        for key, lines in ordered.items()
    ]


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


def known_metric(found: Sequence[Leaderboard], metric: str | None) -> None:
    """Raise UserError for a metric that these leaderboards do not have."""
    if not metric:
        return
    if metric not in METRICS:
        raise UserError(f"Unknown metric '{metric}'.", allowed=METRICS, given=metric)
    for board in found:
        available = sorted({name for line in board.lines for name in line.plain})
        if available and metric not in available:
            raise UserError(f"No metric '{metric}' here.", allowed=available, given=metric)


def picked(board: Leaderboard) -> list[Note]:
    """Say what a reader of a selection must know; [] of all lines."""
    text = f"{board.selection}. The best, = and p are among these alone, and hold where they were picked before looking."
    return [Note("selection", text)] if board.selection else []


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
            }
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
    """Return `records` as a frame with the columns COLUMNS."""
    import pandas as pd

    return pd.DataFrame(records(leaderboards(*stores)), columns=list(COLUMNS))


def shown_axes(lines: Iterable[LeaderboardEntry]) -> list[str]:
    """Return the method, and every axis on which the lines differ.

    Of somebody else's predictions no axis is known.
    """
    cells = [line.cell for line in lines if not line.cell.external]
    found = [
        "method",
        *(axis for axis in AXES[1:] if len({getattr(cell, axis) for cell in cells}) > 1),
    ]
    if len({cell.method for cell in cells}) == len({(cell.method, cell.source) for cell in cells}):
        return [axis for axis in found if axis != "source"]  # the method says it
    return found


def _axes(cell: Cell) -> tuple[Any, ...]:
    return tuple(getattr(cell, axis) for axis in AXES)


def _line(
    cells: Sequence[PlannedCell],
    rows: Mapping[str, tuple[Row, Store]],
    failures: Mapping[str, str],
    groups: int,
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
        groups,
    )


def _budget_order(planned: PlannedCell) -> tuple[int, float]:
    return planned.n_requested, parse_budget(planned.cell.labels).amount


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def standing(found: Sequence[Leaderboard]) -> list[Leaderboard]:
    """Return the boards that a reader wants one by one.

    Not those of corrupted images and of common classes, which the drops sum up.
    """
    return [board for board in found if board.shift.get("kind") in (None, "data")]


def at_home(found: Sequence[Leaderboard]) -> list[Leaderboard]:
    """Return the boards of tasks' own parts."""
    return [board for board in found if not board.shift]
