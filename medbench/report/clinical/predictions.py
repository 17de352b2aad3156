"""A complete line's saved scores with what is known of the scored images; and the same a case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medbench import stats
from medbench.report.leaderboard import LeaderboardEntry
from medbench.schema import CASE_RULES, CaseRule, Kind, UserError
from medbench.stats import splits


@dataclass(frozen=True, eq=False)
class Draw:
    """Hold one row's scores.

    probabilities (M, C) float64, decisions (M,) or (M, C). held (n, C) float64 and held_labels (n,)
    or (n, C): the scores inside the labelled subset; None where nothing was held out.
    """

    probabilities: np.ndarray
    decisions: np.ndarray
    held: np.ndarray | None = None
    held_labels: np.ndarray | None = None
    held_groups: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class LinePredictions:
    """M images (or cases) of one scored set with the answers of every draw.

    labels as in `schema.Split`. weights (M, 1 + R) uint8: a column of ones, then the resamples of
    whole groups that every leaderboard uses. bags (M,) int, meta: column -> (M,); empty where the
    folder is of an older run. cases: the task's rule for cases of several labels.
    """

    kind: Kind
    classes: Sequence[str]
    group: str  # what a group is: "patient"
    labels: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    bags: np.ndarray | None
    meta: Mapping[str, np.ndarray]
    draws: Sequence[Draw]
    cases: CaseRule = "same"

    def take(self, which: np.ndarray) -> LinePredictions:
        """Return the images at `which`, an index (k,) or a mask (M,) bool.

        The labelled subset's scores stay.
        """
        draws = [
            replace(draw, probabilities=draw.probabilities[which], decisions=draw.decisions[which])
            for draw in self.draws
        ]
        return replace(
            self,
            labels=self.labels[which],
            groups=self.groups[which],
            weights=self.weights[which],
            bags=None if self.bags is None else self.bags[which],
            meta={name: column[which] for name, column in self.meta.items()},
            draws=draws,
        )

    def positives(self, c: int) -> tuple[np.ndarray, np.ndarray]:
        """Return of which images label c is known, and which of these are positive.

        (k,) int64 index, and (k,) bool.
        """
        return positives(self.labels, c)

    def each(self) -> Iterator[int]:
        """Return the classes that are reported.

        For a binary task the second alone, as the first is its mirror image.
        """
        yield from [1] if self.kind == "binary" else range(len(self.classes))

    def sample(
        self,
        values: Sequence[np.ndarray],
        groups: int | None = None,
        reference: stats.ReferenceVariance | None = None,
    ) -> stats.Sample:
        """Make a sample from (1 + R,) a draw: the value itself, then its resamples.

        groups: how many stand behind it; default: all. reference: of its metric.
        """
        whole = np.stack(values)
        return stats.Sample(whole[:, 0], whole[:, 1:], groups or self.n_groups, reference=reference)

    def reference(self, metric: str) -> stats.ReferenceVariance | None:
        """Return what is known of the variance of a leaderboard's metric on these images."""
        of_class = splits.class_groups(self.labels, self.groups, len(self.classes))
        return stats.reference(metric, of_class, self.n_groups, binary=self.kind == "binary")

    @property
    def n_groups(self) -> int:
        """The number of groups (patients) among the scored images."""
        return len(np.unique(self.groups))


def positives(labels: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Return of which images label c is known, and which of these are positive.

    (k,) int64 index, and (k,) bool. labels: as in `Split`.
    """
    if labels.ndim == 1:
        return np.arange(len(labels)), labels == c
    known = np.flatnonzero(~np.isnan(labels[:, c]))
    return known, labels[known, c] == 1


def read_predictions(line: LeaderboardEntry) -> LinePredictions:
    """Read the predictions of a line.

    Raises UserError for a line that is not complete, and where the folder holds no predictions.
    """
    if not line.complete or not line.rows:
        raise UserError(
            f"{line.name} at {line.cell.labels} labels is not finished ({line.status}).",
            then="medbench run, the same command",
        )
    cell, store = line.cell, line.stores[0]
    about = store.plan().tasks[f"{cell.task}|{cell.data}|{cell.target}"]
    target = store.target(str(line.rows[0].provenance["target"]))
    ones = np.ones((len(target["ids"]), 1), np.uint8)
    return LinePredictions(
        kind=about["kind"],
        classes=about["classes"],
        group=about["groups"] or "image",
        labels=target["labels"],
        groups=target["groups"],
        weights=np.concatenate([ones, stats.group_weights(target["groups"])], axis=1),
        bags=target.get("bags"),
        meta={
            key.removeprefix("meta_"): column
            for key, column in target.items()
            if key.startswith("meta_")
        },
        draws=[
            draw_of(where.scores(row)) for where, row in zip(line.stores, line.rows, strict=True)
        ],
        cases=about.get("cases", CASE_RULES[about["kind"]]),
    )


def draw_of(scores: Mapping[str, np.ndarray]) -> Draw:
    """Return the predictions of one draw from what `Store.scores` reads."""
    held = scores.get("held_out_probabilities")
    return Draw(
        scores["probabilities"].astype(float),
        scores["decisions"],
        None if held is None else held.astype(float),
        scores.get("held_out_labels"),
    )
