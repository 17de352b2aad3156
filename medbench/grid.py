"""Grid -> plan: every name, file and option is checked here, before any work. Nothing is decoded, embedded or written to the results.

A plan knows each cell's fingerprint, so it also tells which rows are there already. It needs no torch for the embedded encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from medbench import embed, encoders, given, images, metrics, registry, sampling, stats
from medbench.data import TaskData, open_task
from medbench.spec import (
    ALL,
    Budget,
    Cell,
    Encoder,
    Grid,
    Method,
    Protocol,
    Task,
    UserError,
    Weights,
    fingerprint,
    parse_budget,
)
from medbench.store import Planned

VERSION = 1  # of what a cell's result is made of beyond the entries' own versions


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
        if any(unit.data.task.name == task.name for unit in units):
            raise UserError(f"Two tasks of this run are called '{task.name}'.", then="rename one of the folders, or run them one by one")
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
    _check_options(grid)
    budgets = [parse_budget(text) for text in _distinct("label budget", grid.labels)]
    task = registry.task(grid.tasks[0], **({"ordinal": True} if grid.ordinal else {}))
    notes: list[str] = []
    data = open_task(task, grid, images.cache_folder(), notes)
    found = [Subset(name, "", 0, part.ids, len(np.unique(part.groups)), len(part)) for name, part in data.parts.items()]
    pool = data.pool
    for (budget, seed), (index, wanted) in _subsets(data, budgets, grid.seeds).items():
        found.append(Subset("train", str(budget), seed, pool.ids[index], len(np.unique(pool.groups[index])), wanted))
    return found, notes


def given_features(encoder: Encoder, data: TaskData, target: str) -> np.ndarray:
    """(N, D) float32 of a features file, part after part as in a pack; NaN for images of a part that is not used and not in the file."""
    assert encoder.file is not None, "features have a file"
    ids = [name for split in data.parts.values() for name in split.ids.tolist()]
    needed = [name in ("train", target) for name, split in data.parts.items() for _ in range(len(split))]
    return given.features(encoder.file, ids, needed)


def _methods(grid: Grid) -> list[Method]:
    """The methods a person named, or all that have the source."""
    methods = [registry.method(name) for name in dict.fromkeys(grid.methods or registry.methods())]
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
    serving = [method for method in methods if encoder.kind in method.encoders]
    if not serving:
        raise UserError(f"No method with that source can serve '{encoder.name}'.", then="run it without --source")
    return serving


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
        setting = _setting(data, method, encoder, start, protocol, grid.precision)
        for (budget, seed), (_, wanted) in subsets.items():
            for own_seed in range(grid.seeds) if budget == ALL and protocol.seeded else [seed]:
                cell = Cell(*common, protocol.name, str(budget), own_seed, grid.target)
                cells.append(Planned(cell, fingerprint(asdict(cell), setting), wanted, setting, data.target(grid.target)))
    return Unit(data, method, source, encoder, start, pretrain_seed, grid.precision, tuple(cells))


def _setting(data: TaskData, method: Method, encoder: Encoder, start: Weights, protocol: Protocol, precision: str) -> str:
    """Everything that can change a result beside the cell's own fields. Library versions and device stand in the provenance instead."""
    return fingerprint(
        [VERSION, sampling.VERSION, images.VERSION, embed.VERSION, embed.BATCH, metrics.VERSION, stats.VERSION],
        data.identity,
        [method.version, dict(method.settings), start.sha256],
        encoder.identity(),
        [protocol.version, dict(protocol.settings)],
        precision,
    )


def _check_options(grid: Grid) -> None:
    for seeds in (grid.seeds, grid.pretrain_seeds):
        if not 1 <= seeds <= 1000:
            raise UserError(f"The number of seeds, {seeds}, is out of range.", allowed=["1 to 1000"], then="medbench run --seeds 3")
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
