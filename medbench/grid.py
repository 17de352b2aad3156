"""Grid -> plan: every name, file and option is checked here, before any work. Nothing is decoded, embedded or written to the results.

A plan knows each cell's fingerprint, so it also tells which rows are there already. It needs no torch for the embedded encoder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from medbench import encoders, given, images, registry, sampling
from medbench.spec import (
    ALL,
    PARTS,
    Budget,
    Cell,
    Encoder,
    Grid,
    Method,
    Protocol,
    Split,
    Task,
    UserError,
    Weights,
    fingerprint,
    parse_budget,
)
from medbench.store import Planned

VERSION = 1  # of what a cell's result is made of beyond the entries' own versions


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task with its images found. hashes: content of each image, part after part in the order train, val, test, as in the pack."""

    task: Task
    data: str  # "phantom" or the data set's name
    parts: Mapping[str, Split]
    hashes: list[str]
    sha256: str
    marks: tuple[str, ...]

    @property
    def pool(self) -> Split:
        return self.parts["train"]

    def where(self, part: str) -> slice:
        """The rows of that part in the pack and in the features."""
        start = 0
        for name, split in self.parts.items():
            if name == part:
                return slice(start, start + len(split))
            start += len(split)
        raise KeyError(part)


@dataclass(frozen=True, eq=False)
class Unit:
    """Cells that share weights and features."""

    data: TaskData
    method: Method
    source: str
    encoder: Encoder
    weights: Weights
    pretrain_seed: int
    precision: str
    cells: tuple[Planned, ...]

    @property
    def name(self) -> str:
        return f"{self.data.task.name} {self.method.name} {self.encoder.name}@{self.encoder.size}"


@dataclass(frozen=True, eq=False)
class Plan:
    """units in the order of work. draws: (task, data, labels, seed) -> index (n,) into the pool. notes: what a person should know first."""

    units: tuple[Unit, ...]
    draws: Mapping[tuple[str, str, str, int], np.ndarray]
    notes: tuple[str, ...]
    cache_dir: Path

    @property
    def cells(self) -> tuple[Planned, ...]:
        return tuple(planned for unit in self.units for planned in unit.cells)

    def draw(self, cell: Cell) -> np.ndarray:
        """The labelled subset of a cell: index (n,) into the pool. All images are the same draw at every seed."""
        return self.draws[cell.task, cell.data, cell.labels, 0 if cell.labels == str(ALL) else cell.seed]

    @property
    def tasks(self) -> tuple[TaskData, ...]:
        return tuple({id(unit.data): unit.data for unit in self.units}.values())


def plan(grid: Grid, progress: Callable[[str, int, int], None] = lambda stage, done, total: None) -> Plan:
    """The planned cells of a grid. Raises UserError for anything a person got wrong."""
    protocols = [registry.protocol(name) for name in _distinct("protocol", grid.protocols)]
    budgets = [parse_budget(text) for text in _distinct("label budget", grid.labels)]
    methods = _methods(grid)
    _check_options(grid)
    for name, readout in product(_distinct("encoder", grid.encoders), _distinct("readout", grid.readouts)):
        encoder = encoders.encoder(name, grid.size, readout=readout)  # raises for a wrong name before any image is looked for
        _methods_for(encoder, methods, named=bool(grid.methods))
    cache_dir = images.cache_folder()
    units: list[Unit] = []
    draws: dict[tuple[str, str, str, int], np.ndarray] = {}
    notes: list[str] = []
    for task_name in _distinct("task", grid.tasks):
        task = registry.task(task_name, **({"ordinal": True} if grid.ordinal else {}))
        _check_protocols(task, protocols)
        data = open_task(task, grid, cache_dir, notes, progress)
        subsets = _subsets(data, budgets, grid.seeds)
        draws.update({(task.name, data.data, str(budget), seed): index for (budget, seed), (index, _) in subsets.items()})
        for name, readout in product(dict.fromkeys(grid.encoders), dict.fromkeys(grid.readouts)):
            encoder = encoders.encoder(name, grid.size, readout=readout, phantom=data.data == "phantom")
            if encoder.kind == "features":
                given_features(encoder, data, grid.target)  # raises for ids that are missing, double or not finite
            units += [
                _unit(data, method, encoder, pretrain_seed, protocols, subsets, grid, cache_dir)
                for method in _methods_for(encoder, methods, named=bool(grid.methods))
                for pretrain_seed in range(grid.pretrain_seeds if method.seeded else 1)
            ]
    return Plan(tuple(units), draws, tuple(notes), cache_dir)


@dataclass(frozen=True, eq=False)
class Subset:
    """The images of one part, or of one label budget of the training part."""

    part: str
    labels: str
    seed: int
    ids: np.ndarray
    groups: int
    requested: int

    @property
    def sha256(self) -> str:
        return sampling.ids_hash(self.ids)


def splits(grid: Grid) -> tuple[list[Subset], list[str]]:
    """Every part and labelled subset of the grid's first task, as a run would use them, and notes. Raises UserError."""
    task = registry.task(grid.tasks[0], **({"ordinal": True} if grid.ordinal else {}))
    notes: list[str] = []
    data = open_task(task, grid, images.cache_folder(), notes)
    found = [Subset(name, "", 0, part.ids, len(np.unique(part.groups)), len(part)) for name, part in data.parts.items()]
    pool = data.pool
    for (budget, seed), (index, wanted) in _subsets(data, [parse_budget(text) for text in grid.labels], grid.seeds).items():
        found.append(Subset("train", str(budget), seed, pool.ids[index], len(np.unique(pool.groups[index])), wanted))
    return found, notes


def open_task(
    task: Task,
    grid: Grid,
    cache_dir: Path,
    notes: list[str],
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> TaskData:
    """Find a task's images, or its phantom, and check the parts. Raises UserError."""
    root, why_phantom = locate(task, grid.data, cache_dir)
    if root is not None:
        parts, data = task.load(root), task.data
    else:
        if task.phantom is None:
            raise UserError(
                f"The data of '{task.name}' ({task.data}) {why_phantom}, and it has no phantom.", then=f"medbench data list {task.name}"
            )
        parts, data = task.phantom(), "phantom"
        notes.append(f"{task.name}: {task.data} {why_phantom}, so this run uses its PHANTOM (drawn images): medbench data list {task.name}")
    if grid.target not in parts:
        raise UserError(
            f"Task '{task.name}' has no {grid.target} part.", allowed=[p for p in parts if p != "train"], then="medbench run --on test"
        )
    parts = {name: parts[name] for name in PARTS if name in parts}
    marks = [*task.marks, *check_parts(task, parts, grid.target, allow_leak=grid.allow_leak, allow_partial=grid.allow_partial)]
    total = sum(map(len, parts.values()))
    if data != "phantom" and task.n_images not in (None, total):
        marks.append(f"{total} of the {task.n_images} images of {task.data}: not the official set")
    flat = [image for split in parts.values() for image in split.images]
    hashes = images.content_hashes(flat, cache_dir, lambda done, total: progress(f"reading {task.name}", done, total))
    content = [(name, s.ids.tolist(), _plain(s.labels), s.groups.tolist()) for name, s in parts.items()]
    return TaskData(task, data, parts, hashes, fingerprint(content, hashes), tuple(marks))


def locate(task: Task, data: str | None, cache_dir: Path) -> tuple[Path | None, str]:
    """Where a task's data lies: `--data`, else MEDBENCH_DATA, else the cache. (None, why not) where it is not found.

    Raises UserError for a `--data` that does not hold it: what a person names must not be replaced by a phantom.
    """
    if data == "phantom":
        return None, "was left aside (--data phantom)"
    if data is not None:
        root = Path(data).expanduser()
        found = task.find(root) if root.is_dir() else None
        if found is None:
            problem = f"--data {data} does not hold {task.data}" if root.is_dir() else f"--data {data} is not a folder"
            raise UserError(f"{problem}.", allowed=[*task.folders, "phantom"], then=f"medbench data list {task.name}")
        return found, ""
    for root in data_roots(cache_dir):
        found = task.find(root)
        if found is not None:
            return found, ""
    return None, f"was not found in {' or '.join(str(root) for root in data_roots(cache_dir))}"


def data_roots(cache_dir: Path) -> list[Path]:
    """Where data sets are looked for when `--data` is not given."""
    named = os.environ.get("MEDBENCH_DATA")
    return [*([Path(named).expanduser()] if named else []), cache_dir / "data"]


def check_parts(task: Task, parts: Mapping[str, Split], target: str, *, allow_leak: bool, allow_partial: bool) -> list[str]:
    """Marks for what was allowed. Raises UserError for a group in two parts, and for a class that train or the target cannot show.

    A label of a multi-label task needs a positive and a negative image.
    """
    marks = []
    for a, b in combinations(parts, 2):
        torn = np.intersect1d(parts[a].groups, parts[b].groups)
        if len(torn):
            word = task.groups or "image"
            if not allow_leak:
                raise UserError(
                    f"{word} '{torn[0]}' stands in both {a} and {b} ({len(torn)} such {word}s): the score would be too good.",
                    then="mend the split, or run with --allow-leak, which marks every table",
                )
            marks.append(f"LEAK: {len(torn)} {word}s stand in both {a} and {b}")
    for part in ("train", target):
        labels = parts[part].labels
        shown = [_shows(labels, c) for c in range(len(task.classes))]
        absent = [name for name, there in zip(task.classes, shown, strict=True) if not there]
        if absent:
            if not allow_partial:
                what = f"The {part} part of '{task.name}' has no image of class '{absent[0]}'" + (
                    ", or none without it" if labels.ndim > 1 else ""
                )
                raise UserError(
                    f"{what} ({len(absent)} of {len(task.classes)} classes).",
                    then="add images, or run with --allow-partial, which leaves the class out of the means",
                )
            marks.append(f"no image of {', '.join(absent)} in the {part} part")
    return marks


def given_features(encoder: Encoder, data: TaskData, target: str) -> np.ndarray:
    """(N, D) float32 of a features file, part after part as in a pack; NaN for images of a part that is not used and not in the file."""
    assert encoder.file is not None, "features have a file"
    ids = [name for split in data.parts.values() for name in split.ids.tolist()]
    needed = [name in ("train", target) for name, split in data.parts.items() for _ in range(len(split))]
    return given.features(encoder.file, ids, needed)


def _methods(grid: Grid) -> list[Method]:
    """The methods a person named, or all that have the source."""
    methods = [registry.method(name) for name in grid.methods or registry.methods()]
    having = [method for method in methods if grid.source == "auto" or grid.source in method.sources]
    without = [method for method in methods if method not in having]
    if without and (grid.methods or not having):
        what = f"Method '{without[0].name}' has no source" if grid.methods else "No method has the source"
        sources = [source for method in without[: 1 if grid.methods else None] for source in method.sources]
        raise UserError(f"{what} '{grid.source}'.", allowed=dict.fromkeys(["auto", *sources]), given=grid.source)
    return having


def _methods_for(encoder: Encoder, methods: list[Method], *, named: bool) -> list[Method]:
    """The methods that can serve an encoder. Raises UserError for one that a person named and that cannot."""
    wrong = [method for method in methods if encoder.kind not in method.encoders]
    if wrong and named:
        allowed = [method.name for method in registry.methods().values() if encoder.kind in method.encoders]
        what = {"timm": "a timm encoder", "function": "an encoder of your own", "features": "given features"}[encoder.kind]
        raise UserError(
            f"Method '{wrong[0].name}' cannot serve '{encoder.name}', {what}.", allowed=allowed, then="run it without --methods"
        )
    return [method for method in methods if encoder.kind in method.encoders]


def _subsets(data: TaskData, budgets: list[Budget], seeds: int) -> dict[tuple[Budget, int], tuple[np.ndarray, int]]:
    """(budget, seed) -> index and requested count. A budget that comes to all images is spelled `100%`, and drawn once."""
    found: dict[tuple[Budget, int], tuple[np.ndarray, int]] = {}
    pool = data.pool
    for budget in budgets:
        drawn = sampling.draws(pool.labels, pool.groups, budget, range(seeds))
        if all(len(index) == len(pool) for index in drawn):
            found[ALL, 0] = (drawn[0], len(pool))
            continue
        wanted = sampling.requested(pool.labels, budget)
        found.update({(budget, seed): (index, wanted) for seed, index in enumerate(drawn)})
    return found


def _unit(
    data: TaskData,
    method: Method,
    encoder: Encoder,
    pretrain_seed: int,
    protocols: list[Protocol],
    subsets: Mapping[tuple[Budget, int], tuple[np.ndarray, int]],
    grid: Grid,
    cache_dir: Path,
) -> Unit:
    source = method.sources[0] if grid.source == "auto" else grid.source
    start = method.weights(encoder, source, pretrain_seed, cache_dir)
    common = (data.task.name, data.data, method.name, source, encoder.name, encoder.readout, encoder.size, pretrain_seed)
    cells = []
    for protocol in protocols:
        for (budget, seed), (_, wanted) in subsets.items():
            for own_seed in range(grid.seeds) if budget == ALL and protocol.seeded else [seed]:
                cell = Cell(*common, protocol.name, str(budget), own_seed, grid.target)
                cells.append(Planned(cell, _fingerprint(cell, data, method, encoder, start, protocol, grid.precision), wanted))
    return Unit(data, method, source, encoder, start, pretrain_seed, grid.precision, tuple(cells))


def _fingerprint(cell: Cell, data: TaskData, method: Method, encoder: Encoder, start: Weights, protocol: Protocol, precision: str) -> str:
    """Everything that can change the result. Library versions and the device stand in the provenance instead."""
    task = data.task
    return fingerprint(
        VERSION,
        sampling.VERSION,
        images.VERSION,
        asdict(cell),
        [task.version, task.kind, task.classes, dict(task.settings), data.sha256],
        [method.version, dict(method.settings), start.sha256],
        encoder.identity(),
        [protocol.version, dict(protocol.settings)],
        precision,
    )


def _check_options(grid: Grid) -> None:
    if grid.seeds < 1 or grid.pretrain_seeds < 1:
        raise UserError(f"At least one seed is needed, {min(grid.seeds, grid.pretrain_seeds)} given.", then="medbench run --seeds 3")
    if grid.precision not in ("fp32", "bf16"):
        raise UserError(f"Unknown precision '{grid.precision}'.", allowed=["fp32", "bf16"], given=grid.precision)
    if grid.target not in ("test", "val"):
        raise UserError(
            f"Unknown part '{grid.target}' to score on.", allowed=["test", "val"], given=grid.target, then="medbench run --on val"
        )


def _check_protocols(task: Task, protocols: list[Protocol]) -> None:
    for protocol in protocols:
        if task.kind not in protocol.kinds:
            allowed = [p.name for p in registry.protocols().values() if task.kind in p.kinds]
            raise UserError(f"Protocol '{protocol.name}' does not serve '{task.name}', a {task.kind} task.", allowed=allowed)


def _distinct(what: str, names: tuple[str, ...]) -> list[str]:
    if not names:
        raise UserError(f"No {what} was given.")
    return list(dict.fromkeys(names))


def _shows(labels: np.ndarray, c: int) -> bool:
    return bool((labels == c).any()) if labels.ndim == 1 else bool((labels[:, c] == 1).any() and (labels[:, c] == 0).any())


def _plain(labels: np.ndarray) -> list[Any]:
    """Labels as JSON values; NaN (uncertain) as None."""
    plain: list[Any] = (labels if labels.ndim == 1 else np.where(np.isnan(labels), np.array(None), labels)).tolist()
    return plain
