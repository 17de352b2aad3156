"""Grid -> plan: every name, file and option is checked here, before any work. Nothing is decoded, embedded or written to the results.

A plan knows each cell's fingerprint, so it also tells which rows are there already. It needs no torch for the embedded encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from medbench import embed, encoders, given, images, metrics, pretrain, registry, sampling, stats, study
from medbench.audit import audited
from medbench.command import command
from medbench.data import TaskData, open_task
from medbench.precision import PRECISIONS
from medbench.spec import (
    ALL,
    Budget,
    Cell,
    Encoder,
    Grid,
    Method,
    PlanFile,
    Planned,
    Protocol,
    Task,
    UserError,
    fingerprint,
    parse_budget,
    user_path,
)
from medbench.targets import Target, common, corrupted, corruptions_of, own_part, shifted, shifts_of
from medbench.units import Unit, unit_of

VERSION = 1  # of what a cell's result is made of beyond the entries' own versions
FUSED = (
    "linear",
    "finetune",
)  # the protocols that a fusion with a head of its own can be judged by: members frozen, or trained with its head


@dataclass(frozen=True, eq=False)
class Plan:
    """units in the order of work. draws: (task, data, labels, seed) -> index (n,) into the pool. notes: what a person should know first.

    targets: (task, data) -> what each fit is scored on, the task's own part first.
    """

    units: tuple[Unit, ...]
    draws: Mapping[tuple[str, str, str, int], np.ndarray]
    notes: tuple[str, ...]
    cache_dir: Path
    target: str  # the part that is scored
    targets: Mapping[tuple[str, str], tuple[Target, ...]]
    command: str = ""  # that asks for it, without places on the machine

    @property
    def cells(self) -> tuple[Planned, ...]:
        return tuple(planned for unit in self.units for planned in unit.cells)

    def draw(self, cell: Cell) -> np.ndarray:
        """The labelled subset of a cell: index (n,) into the pool. All images are the same draw at every seed."""
        return self.draws[cell.task, cell.data, cell.labels, 0 if cell.labels == str(ALL) else cell.seed]

    def targets_of(self, data: TaskData) -> tuple[Target, ...]:
        return self.targets[data.task.name, data.data]

    @property
    def tasks(self) -> tuple[TaskData, ...]:
        return tuple({id(unit.data): unit.data for unit in self.units}.values())

    @property
    def file(self) -> PlanFile:
        """What the results folder keeps of a plan, so that tables need neither tasks nor data."""
        tasks = {
            f"{data.task.name}|{data.data}|{target.name}": {
                "identity": data.identity,
                "title": data.task.title,
                "kind": data.task.kind,
                "classes": list(target.classes),
                "metric": data.task.metric,
                "groups": target.groups,
                "marks": list(target.marks),
                "data_sha256": data.sha256,
                **({"audit": list(data.audit)} if data.audit else {}),
                "parts": {
                    name: [len(split), len(np.unique(split.groups))] for name, split in {**data.parts, target.name: target.split}.items()
                },
                **({"shift": dict(target.shift)} if target.shift else {}),
            }
            for data in self.tasks
            for target in self.targets_of(data)
        }
        return PlanFile(self.cells, tasks, (self.command,) if self.command else ())


def plan(grid: Grid, progress: Callable[[str, int, int], None] = lambda stage, done, total: None) -> Plan:
    """The planned cells of a grid. Raises UserError for anything a person got wrong."""
    study.check(grid, "Grid")
    protocols = [registry.protocol(name) for name in _distinct("protocol", grid.protocols)]
    budgets = [parse_budget(text) for text in _distinct("label budget", grid.labels)]
    methods = _methods(grid)
    _check_options(grid)
    encoders_ = []
    for name, readout in product(_distinct("encoder", grid.encoders), _distinct("readout", grid.readouts)):
        encoder = _encoder(name, readout, grid)  # raises for a wrong name before any image is looked for
        encoders_.append(encoder)
        if encoder.kind == "features" and grid.corruptions:
            what = f"Corruptions need images, and {encoder.name} holds features alone: nothing can be damaged."
            raise UserError(what, then="run it without --corruptions, or with the encoder itself (FILE.py:NAME)")
    served = _check_methods(encoders_, methods, named=bool(grid.methods))
    _check_fusions(methods, protocols, named=bool(grid.methods))
    tasks = _tasks(grid, protocols)
    (shifts, notes), (damages, more) = shifts_of(tasks, grid.shifts), corruptions_of(tasks, grid)
    notes += [*more, *served]
    cache_dir = images.cache_folder()
    units: list[Unit] = []
    draws: dict[tuple[str, str, str, int], np.ndarray] = {}
    targets: dict[tuple[str, str], tuple[Target, ...]] = {}
    for task in tasks:
        data = audited(open_task(task, grid, cache_dir, notes, progress), grid, cache_dir, notes, progress)
        away = [shifted(data, *shift, grid, progress) for shift in shifts[task.name]]
        scored = (
            own_part(data, grid.target),
            *(target for other in away for target in ([common(data, grid.target, other)] if other.own is not None else []) + [other]),
            *(corrupted(data, grid.target, *damage) for damage in damages[task.name]),
        )
        targets[task.name, data.data] = scored
        subsets = _subsets(data, budgets, grid.seeds)
        draws.update({(task.name, data.data, str(budget), seed): index for (budget, seed), (index, _) in subsets.items()})
        for name, readout in product(dict.fromkeys(grid.encoders), dict.fromkeys(grid.readouts)):
            encoder = _encoder(name, readout, grid, phantom=data.data == "phantom")
            if encoder.kind == "features":
                for target in scored:  # raises for ids that are missing, double or not finite
                    given_features(encoder, data, grid.target, target)
            serving = _serving([method for method in methods if encoder.kind in method.encoders], data, encoder, grid, notes)
            for method in serving:
                first: Unit | None = None
                for pretrain_seed in range(grid.pretrain_seeds if method.seeded else 1):
                    unit = unit_of(data, method, encoder, pretrain_seed, grid, cache_dir)
                    if pretrain_seed and method.recipes and not unit.recipes:
                        break  # an official checkpoint is what it is
                    first = first or unit
                    cells = _cells(unit, first, protocols, subsets, scored, grid)
                    if cells:
                        units.append(replace(unit, cells=cells))
                    else:
                        notes.append(f"{method.name} is left out: {', '.join(p.name for p in protocols)} cannot judge a fusion")
    return Plan(tuple(units), draws, tuple(notes), cache_dir, grid.target, targets, command(grid))


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


def splits(grid: Grid, progress: Callable[[str, int, int], None] = lambda stage, done, total: None) -> tuple[list[Subset], list[str]]:
    """Every part and labelled subset of the grid's first task, as a run would use them, and notes. Raises UserError."""
    study.check(grid, "Grid")
    _check_options(grid)
    budgets = [parse_budget(text) for text in _distinct("label budget", grid.labels)]
    task = registry.task(grid.tasks[0], **({"ordinal": True} if grid.ordinal else {}))
    notes: list[str] = []
    data = open_task(task, grid, images.cache_folder(), notes, progress)
    found = [Subset(name, "", 0, part.ids, len(np.unique(part.groups)), len(part)) for name, part in data.parts.items()]
    pool = data.pool
    for (budget, seed), (index, wanted) in _subsets(data, budgets, grid.seeds).items():
        found.append(Subset("train", str(budget), seed, pool.ids[index], len(np.unique(pool.groups[index])), wanted))
    return found, notes


def given_features(encoder: Encoder, data: TaskData, target: str, shift: Target | None = None) -> np.ndarray:
    """(N, D) float32 of a features file, part after part as in a pack; NaN for images of a part that is not used and not in the file.

    shift: a set of another data set: its features instead.
    """
    assert encoder.file is not None, "features have a file"
    if shift is not None and shift.elsewhere:
        return given.features(encoder.file, shift.split.ids.tolist(), [True] * len(shift.split))
    ids = [name for split in data.parts.values() for name in split.ids.tolist()]
    needed = [name in ("train", target) for name, split in data.parts.items() for _ in range(len(split))]
    return given.features(encoder.file, ids, needed)


def _methods(grid: Grid) -> list[Method]:
    """The methods a person named, or all that have the source."""
    named = grid.methods or [method.name for method in registry.methods().values() if method.default]
    methods = [registry.method(name) for name in dict.fromkeys(named)]
    having = [method for method in methods if grid.source == "auto" or grid.source in method.sources]
    without = [method for method in methods if method not in having]
    if without and (grid.methods or not having):
        what = f"Method '{without[0].name}' has no source" if grid.methods else "No method has the source"
        sources = [source for method in without[: 1 if grid.methods else None] for source in method.sources]
        raise UserError(f"{what} '{grid.source}'.", allowed=dict.fromkeys(["auto", *sources]), given=grid.source)
    return having


_KINDS = {"timm": "a timm encoder", "weights": "weights of your own", "function": "an encoder of your own", "features": "given features"}


def _check_methods(encoders_: Sequence[Encoder], methods: Sequence[Method], *, named: bool) -> list[str]:
    """Sentences: which methods that a person named are left out for one of several encoders, as they cannot serve it.

    Raises UserError for a named method that serves none of them, and for an encoder that no method serves.
    """
    notes = []
    for encoder in encoders_:
        wrong = [method for method in methods if encoder.kind not in method.encoders]
        useless = [method for method in wrong if all(other.kind not in method.encoders for other in encoders_)]
        if wrong and named and (useless or len(wrong) == len(methods)):
            allowed = [method.name for method in registry.methods().values() if encoder.kind in method.encoders]
            what = f"Method '{(useless or wrong)[0].name}' cannot serve '{encoder.name}', {_KINDS[encoder.kind]}."
            then = "name one of these, too" if len(encoders_) > 1 else "run it without --methods"
            raise UserError(what, allowed=allowed, then=then)
        if len(wrong) == len(methods):
            raise UserError(f"No method with that source can serve '{encoder.name}'.", then="run it without --source")
        if wrong and named:
            notes.append(f"{', '.join(method.name for method in wrong)}: left out for {encoder.name}, {_KINDS[encoder.kind]}")
    return notes


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


def _encoder(name: str, readout: str, grid: Grid, *, phantom: bool = False) -> Encoder:
    own = {"weights": user_path(grid.weights)} if grid.weights else {}  # "" is none, where a study has its own
    return encoders.encoder(name, grid.size, readout=readout, phantom=phantom, **own)


def _serving(methods: list[Method], data: TaskData, encoder: Encoder, grid: Grid, notes: list[str]) -> list[Method]:
    """The methods that can serve a task with an encoder. One that a person named and that cannot is an error, else a note."""
    serving = []
    for method in methods:
        why = method.refuses(data.pool, encoder) if method.refuses else ""
        if why and grid.methods:
            raise UserError(f"Method '{method.name}' cannot serve '{data.task.name}' with {encoder.name}: {why}.", then="run it without it")
        if why:
            notes.append(f"{method.name} is left out: {why}")
        else:
            serving.append(method)
    return serving


def _cells(
    unit: Unit,
    first: Unit,
    protocols: list[Protocol],
    subsets: Mapping[tuple[Budget, int], tuple[np.ndarray, int]],
    targets: Sequence[Target],
    grid: Grid,
) -> tuple[Planned, ...]:
    """In the order of work: all targets of a draw, the task's own part first, before the next.

    first: the unit of the first pretraining seed, which names the setting that all of them share.
    """
    data, encoder = unit.data, unit.encoder
    common = (data.task.name, data.data, unit.method.name, unit.source, encoder.name, encoder.readout, encoder.size, unit.pretrain_seed)
    cells = []
    for protocol in protocols:
        own_head = unit.method.fusion is not None and unit.method.fusion.evaluate is not None
        if own_head and protocol.name not in FUSED:
            continue  # a person who named both was refused, see `_check_fusions`
        own, shared = (fingerprint(*ingredients(one, protocol).values()) for one in (unit, first))
        seeded = protocol.seeded or own_head
        trains = protocol.needs == "features" and any(part.recipes for part in unit.members or (unit,))
        for (budget, seed), (_, wanted) in subsets.items():
            for own_seed in range(grid.seeds) if budget == ALL and seeded else [seed]:
                for target in targets:
                    cell = Cell(*common, protocol.name, str(budget), own_seed, target.name)
                    anew = trains and target.apart  # as in `prepare.features_key`
                    of_cell, of_line = (target.setting(fingerprint(s, "trained") if anew else s) for s in (own, shared))
                    cells.append(Planned(cell, fingerprint(asdict(cell), of_cell), wanted, of_line, target.file))
    return tuple(cells)


def ingredients(unit: Unit, protocol: Protocol) -> dict[str, Any]:
    """Everything that can change a result beside the cell's own fields. Library versions and device stand in the provenance instead."""
    method = unit.method
    return {
        "code": [VERSION, sampling.VERSION, images.VERSION, embed.VERSION, embed.BATCH, metrics.VERSION, stats.VERSION],
        "data": unit.data.identity,
        "method": [method.version, dict(method.settings), unit.weights.sha256],
        "encoder": unit.encoder.identity(),
        "protocol": [protocol.version, dict(protocol.settings), unit.data.task.modality if protocol.needs == "images" else ""],
        "precision": unit.precision,
    }


def _check_options(grid: Grid) -> None:
    for what, option, seeds in (("seeds", "--seeds 3", grid.seeds), ("pretraining seeds", "--pretrain-seeds 1", grid.pretrain_seeds)):
        if not 1 <= seeds <= 1000:
            raise UserError(f"The number of {what}, {seeds}, is out of range.", allowed=["1 to 1000"], then=f"medbench run {option}")
    if grid.pretrain not in pretrain.BUDGETS:
        what = f"Unknown pretraining budget '{grid.pretrain}'."
        raise UserError(what, allowed=pretrain.BUDGETS, given=grid.pretrain, then="medbench run --pretrain quick")
    if grid.precision not in PRECISIONS:
        raise UserError(f"Unknown precision '{grid.precision}'.", allowed=PRECISIONS, given=grid.precision)
    if grid.target not in ("test", "val"):
        raise UserError(
            f"Unknown part '{grid.target}' to score on.", allowed=["test", "val"], given=grid.target, then="medbench run --on val"
        )
    if grid.target == "val" and (grid.shifts or grid.corruptions):
        raise UserError("A shift is measured against the test part, not with --on val.", then="medbench run --on test")


def _tasks(grid: Grid, protocols: list[Protocol]) -> list[Task]:
    """The tasks of those names. Raises UserError for one that is not there, that a protocol cannot serve, or whose name stands twice."""
    found: list[Task] = []
    for name in _distinct("task", grid.tasks):
        task = registry.task(name, **({"ordinal": True} if grid.ordinal else {}))
        _check_protocols(task, protocols)
        if task.name in (other.name for other in found):
            raise UserError(f"Two tasks of this run are called '{task.name}'.", then="rename one of the folders, or run them one by one")
        found.append(task)
    return found


def _check_protocols(task: Task, protocols: list[Protocol]) -> None:
    for protocol in protocols:
        if task.kind not in protocol.kinds:
            allowed = [p.name for p in registry.protocols().values() if task.kind in p.kinds]
            raise UserError(f"Protocol '{protocol.name}' does not serve '{task.name}', a {task.kind} task.", allowed=allowed)


def _check_fusions(methods: list[Method], protocols: list[Protocol], *, named: bool) -> None:
    """A fusion that trains a head of its own has no one feature matrix for another classifier."""
    wrong = [protocol.name for protocol in protocols if protocol.name not in FUSED]
    for method in methods if named else ():
        if method.fusion and method.fusion.evaluate and wrong:
            what = f"Method '{method.name}' trains its own head over its members' features: protocol '{wrong[0]}' has nothing to fit."
            raise UserError(what, allowed=FUSED, then=f"medbench run --methods {method.name} --protocols {','.join(FUSED)}")


def _distinct(what: str, names: tuple[str, ...]) -> list[str]:
    if not names:
        raise UserError(f"No {what} was given.")
    return list(dict.fromkeys(names))
