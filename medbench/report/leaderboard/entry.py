"""One line of a leaderboard, with its numbers over seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from medbench import stats
from medbench.report.leaderboard.class_groups import UNKNOWN, ClassGroups
from medbench.report.leaderboard.class_scores import ClassScores, class_scores
from medbench.report.leaderboard.degenerate import Degenerate, of_rows
from medbench.run.store import NoPredictions, Store
from medbench.schema import Cell, Kind, PlannedCell, Row, UserError
from medbench.stats.added_metrics import added_values, stale
from medbench.stats.metrics import METRICS

AXES = ("method", "source", "encoder", "readout", "size", "protocol")


@dataclass(frozen=True)
class SignificanceMark:
    """What the table says of a line beside its number.

    sign: * best, = not shown to differ from it, ? too few groups to say; "" otherwise. to_best:
    line minus best. p: corrected, NaN where there is none.
    """

    sign: str = ""
    to_best: stats.Estimate | None = None
    p: float = float("nan")  # corrected


@dataclass(frozen=True, eq=False)
class LeaderboardEntry:
    """One line of a leaderboard: the planned cells that differ in seeds alone, and their rows.

    groups: in the scored set. kind: of the task, whose metrics a row may lack: those that were
    added, or changed, since it was made are computed of its saved scores.
    """

    cell: Cell  # of the first seed
    planned: Sequence[PlannedCell]
    rows: Sequence[Row]
    reasons: Sequence[str]  # of the cells that failed
    stores: Sequence[Store]  # where each row lies
    groups: int
    class_groups: ClassGroups = UNKNOWN
    kind: Kind = "binary"
    _resamples: dict[str, np.ndarray] = field(
        default_factory=dict, init=False, repr=False
    )  # metric -> (S, R) float32, of what was asked for
    _summaries: dict[str, stats.Summary] = field(default_factory=dict, init=False, repr=False)

    @property
    def complete(self) -> bool:
        """Whether every planned cell of the line has a row."""
        return len(self.rows) == len(self.planned)

    @property
    def status(self) -> str:
        """How far the line is: `done`, `missing 2 of 5`, `failed 1 of 5`."""
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
        """The values of AXES with blanks between."""
        return " ".join(str(getattr(self.cell, axis)) for axis in AXES)

    @cached_property
    def plain(self) -> Mapping[str, np.ndarray]:
        """Return the value of each metric for each of S seeds: name -> (S,) float64.

        Seeds in the order of `rows`; values in each metric's own range, not in percent; NaN:
        undefined. Metrics of the task that are newer than a row are computed from its saved scores,
        and left out (`lacking`) where these were not shared. {} for a line that is not complete.
        """
        if not self.complete:
            return {}
        saved = {
            name: np.array([_nan(row.metrics[name]["value"]) for row in self.rows])
            for name in self.rows[0].metrics
            if name in METRICS and name not in self._newer  # one that is gone has no range
        }
        made = {
            name: np.array([of_row[name][0] for of_row in self._added])
            for name in (self._newer if self._added else ())
        }
        return {**saved, **made}

    @cached_property
    def _newer(self) -> list[str]:
        """The metrics that a row lacks, or has by other code."""
        return list(
            dict.fromkeys(name for row in self.rows for name in stale(self.kind, row.metrics))
        )

    @cached_property
    def _added(self) -> list[dict[str, tuple[float, np.ndarray]]]:
        """Of each row its newer metrics, computed; [] where predictions were not shared."""
        if not self._newer:
            return []
        try:
            return [
                added_values(
                    self._newer,
                    store.target(str(row.provenance["target"])),
                    store.scores(row),
                    len(next(iter(store.resamples(row).values()))),
                )
                for row, store in zip(self.rows, self.stores, strict=True)
            ]
        except NoPredictions:
            return []

    @property
    def lacking(self) -> list[str]:
        """The newer metrics that cannot be computed, as predictions were not shared."""
        return self._newer if self.complete and self._newer and not self._added else []

    def merit(self, metric: str) -> float:
        """Return the mean over seeds of a complete line, turned round where lower is better."""
        return METRICS[metric].sign * float(np.mean(self.plain[metric]))

    @cached_property
    def class_scores(self) -> ClassScores | None:
        """The class scores of a complete line; None where predictions were not shared."""
        return class_scores(self.rows, self.stores)

    @cached_property
    def degenerate(self) -> Degenerate:
        """What is wrong with the decisions of a complete line.

        Nothing where predictions were not shared.
        """
        return of_rows(self.rows, self.stores)

    @cached_property
    def pretrainings(self) -> int:
        """The number of pretrainings under which each draw of labels was run.

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
        made = [metric for metric in lacking if metric in self._newer]
        self._resamples.update(
            {metric: np.stack([of_row[metric][1] for of_row in self._added]) for metric in made}
        )
        lacking = [metric for metric in lacking if metric not in made]
        if lacking:
            read = [
                store.resamples(row, lacking)
                for store, row in zip(self.stores, self.rows, strict=True)
            ]
            self._resamples.update(
                {metric: np.stack([values[metric] for values in read]) for metric in lacking}
            )

    def sample(self, metric: str) -> stats.Sample:
        """Return the sample of a complete line: its S seeds on the R resamples, float64.

        Raises UserError or OSError for resamples that are damaged or lost, see `Store.resamples`.
        """
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


def shown_axes(lines: Iterable[LeaderboardEntry]) -> list[str]:
    """Return the method, and every axis on which the lines differ.

    For somebody else's predictions no axis is known.
    """
    cells = [line.cell for line in lines if not line.cell.external]
    found = [
        "method",
        *(axis for axis in AXES[1:] if len({getattr(cell, axis) for cell in cells}) > 1),
    ]
    if len({cell.method for cell in cells}) == len({(cell.method, cell.source) for cell in cells}):
        return [axis for axis in found if axis != "source"]  # the method says it
    return found


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
