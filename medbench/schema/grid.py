"""The grid that a person asks for, one point of it, and what was found there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from medbench.schema.budgets import parse_budget
from medbench.schema.errors import UserError
from medbench.schema.ingredients import stated
from medbench.schema.json_records import NUMBER, checked


@dataclass(frozen=True)
class Grid:
    """What a person asks for: the cross product of its axes. Lists of names as on the command line; see `run.plan`."""

    tasks: tuple[str, ...] = ("derm",)
    methods: tuple[str, ...] = ()  # empty: all that can serve the encoder
    protocols: tuple[str, ...] = ("linear",)
    encoders: tuple[str, ...] = ("tf_efficientnet_lite0",)
    labels: tuple[str, ...] = ("1", "10", "100")
    seeds: int = 3
    pretrain_seeds: int = 1
    readouts: tuple[str, ...] = ("pool",)
    source: str = "auto"
    pretrain: str = "quick"  # budget of an in-domain pretraining, see `models.pretrain.BUDGETS`
    weights: str | None = None  # a checkpoint file of the user's, for the encoder
    size: int | None = None
    data: str | None = None  # a folder, or "phantom"
    target: str = "test"
    shifts: tuple[str, ...] = ()  # data sets that the fitted models are scored on, too: isic2019, folder:PATH
    corruptions: tuple[str, ...] = ()  # of the test images; "all": those that fit the task's modality
    levels: tuple[str, ...] = ("1", "2", "3", "4", "5")  # of the corruptions
    precision: str = "fp32"
    ordinal: bool = False
    allow_leak: bool = False
    allow_partial: bool = False
    audit: bool = True  # say what an audit of the same data found, and audit folders of a person's own
    strict: bool = False  # refuse a task with a leak instead of marking every table


@dataclass(frozen=True, order=True)
class Cell:
    """One point of the grid. `data` is `phantom` or the data set's name; `target` the set that is scored: `test`, `val`, another
    data set (`isic2019`), corrupted test images (`corrupted-blur-3`)."""

    task: str
    data: str
    method: str
    source: str
    encoder: str
    readout: str
    size: int
    pretrain_seed: int
    protocol: str
    labels: str
    seed: int
    target: str = "test"

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Cell:
        """Raises TypeError or ValueError for what is no cell."""
        cell = Cell(**record)
        checked(vars(cell), _CELL, "cell")
        try:
            parse_budget(cell.labels)
        except UserError as error:
            raise ValueError(f"cell labels is {cell.labels!r:.60}") from error
        return cell

    def identity(self) -> dict[str, Any]:
        """What of it enters a fingerprint: a field that is added later only where it is not at its default."""
        return stated(self)

    @property
    def unit(self) -> tuple[Any, ...]:
        """Cells with the same unit share weights and features, and are computed together."""
        return (self.task, self.data, self.method, self.source, self.encoder, self.readout, self.size, self.pretrain_seed)

    def __str__(self) -> str:
        on = "" if self.target == "test" else f" on {self.target}"
        return f"{self.task} {self.method} {self.encoder} {self.protocol} {self.labels} seed {self.seed}{on}"


@dataclass(frozen=True)
class Row:
    """A finished cell. metrics: name -> {"value", "low", "high"} (None = undefined), all in the metric's own range, not in percent; low, high: the
    bare 95 % percentiles of its resamples, which few groups make too narrow (`stats.expanded_interval` is what tables show).

    n_labels: images in the labelled subset; n_requested: what the budget asked for, in images, or in
    positives for `5/class` of a multi-label task (whole groups are taken, so the first may be larger).
    """

    cell: Cell
    fingerprint: str
    metrics: Mapping[str, Mapping[str, float | None]]
    n_labels: int
    n_requested: int
    chosen: Mapping[str, Any]
    cost: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Row:
        """A row with all that tables, pages and comparisons read of every row. Raises TypeError or ValueError for any other record."""
        checked(record, _ROW)
        metrics, cost, provenance = record["metrics"], record["cost"], record["provenance"]
        checked(metrics, dict.fromkeys(["auc", *metrics], dict), "metrics")
        if not {type(entry.get(name, ...)) for entry in metrics.values() for name in _VALUES} <= set(
            NUMBER
        ):  # the most of all there is to check
            for name, entry in metrics.items():
                checked(entry, _VALUES, name)
        checked(cost, dict.fromkeys(["seconds", *cost], NUMBER), "cost")
        checked(provenance, _PROVENANCE, "provenance")
        checked(provenance, {name: kind for name, kind in _LATER.items() if name in provenance}, "provenance")
        if not all(isinstance(name, str) for name in provenance["trained_on"]):
            raise TypeError(f"trained_on is {provenance['trained_on']!r:.60}")
        return Row(**{**record, "cell": Cell.from_json(record["cell"])})


_CELL = {field.name: {"str": str, "int": int}[str(field.type)] for field in fields(Cell)}
_ROW = {
    **dict.fromkeys(("cell", "metrics", "chosen", "cost", "provenance"), dict),
    **{"fingerprint": str, "n_labels": int, "n_requested": int},
}
_VALUES = dict.fromkeys(("value", "low", "high"), NUMBER)
_PROVENANCE = {"weights": str, "trained_on": list, "precision": str, "target": str}
_LATER = {  # what rows of older versions lack
    **dict.fromkeys(("parts", "identity", "protocol", "scores", "versions", "subset_classes"), dict),
    **dict.fromkeys(("features", "pretraining", "members", "marks"), list),
}


def fingerprint(*parts: Any) -> str:
    """64 hex digits: SHA-256 of the parts as canonical JSON. Raises TypeError for what JSON cannot hold."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
