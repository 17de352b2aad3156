"""What was asked for and the data that is there -> cells, in the order of work.

A plan knows each cell's fingerprint, so it also tells which rows are there already. It needs no
torch for the embedded encoder. Files are hashed and not decoded, but for a folder of the user's
own: its audit needs the pixels, and makes the pack that the run needs anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from medbench import images
from medbench.audit.dataset import audited
from medbench.audit.dataset.unlabelled_pool import with_unlabelled
from medbench.audit.features.separating import sentences, separating
from medbench.data.evaluation_sets import (
    EvaluationSet,
    common,
    corrupted,
    corruptions_of,
    own_part,
    shifted,
    shifts_of,
)
from medbench.data.other_divisions import divided
from medbench.data.task_data import TaskData, open_task
from medbench.models import features_table
from medbench.models.features_table import FeaturesTable
from medbench.run.command_line import command
from medbench.run.division import Division
from medbench.run.draw_counts import most_draws, number_of_draws, number_of_initialisations
from medbench.run.encoder_verdicts import examined
from medbench.run.ingredients import identity, ingredients, touched
from medbench.run.kept_weights import kept_note
from medbench.run.units import Unit, unit_of, unlabelled_marks
from medbench.run.validation import (
    budgets_of,
    check_options,
    encoder_of,
    judges_fusions,
    resolve_grid,
)
from medbench.schema import (
    ALL,
    IMAGE,
    Budget,
    Cell,
    Encoder,
    Grid,
    Mark,
    Method,
    Note,
    PlanFile,
    PlannedCell,
    ProgressCallback,
    Protocol,
    UserError,
    fingerprint,
    registry,
)
from medbench.schema.ingredients import raised
from medbench.stats import splits as sampling
from medbench.stats.drawn_shares import Held, held, share_notes
from medbench.system.progress_listener import calling


@dataclass(frozen=True, eq=False)
class Plan:
    """Hold what a run will do.

    units in the order of work. draws: (task, data, labels, seed) -> index (n,) into the pool;
    divides: (task, data, labels) -> whether these are cross-validated, see `stats.splits.divides`.
    notes: what a user should know first. targets: (task, data) -> what each fit is scored on, the
    task's own part first.
    """

    units: tuple[Unit, ...]
    draws: Mapping[tuple[str, str, str, int], np.ndarray]
    notes: tuple[Note, ...]
    cache_dir: Path
    target: str  # the part that is scored
    targets: Mapping[tuple[str, str], tuple[EvaluationSet, ...]]
    divides: Mapping[tuple[str, str, str], bool]
    settings: Mapping[str, Mapping[str, Any]]  # setting -> its identity, see `ingredients.identity`
    # name -> the protocol as asked for: whose settings the fingerprints hold
    protocols: Mapping[str, Protocol]
    command: str = ""  # that asks for it, without places on the machine
    keep_weights: bool = False

    @property
    def cells(self) -> tuple[PlannedCell, ...]:
        return tuple(planned for unit in self.units for planned in unit.cells)

    def draw(self, cell: Cell) -> np.ndarray:
        """Return the labelled subset of a cell: index (n,) into the pool.

        All images are the same draw at every seed.
        """
        return self.draws[
            cell.task, cell.data, cell.labels, 0 if cell.labels == str(ALL) else cell.seed
        ]

    def divided(self, cell: Cell) -> bool:
        """Whether the labelled subset of a cell is cross-validated."""
        return self.divides[cell.task, cell.data, cell.labels]

    def targets_of(self, data: TaskData) -> tuple[EvaluationSet, ...]:
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
                "cases": data.task.case_rule,
                "marks": list(target.marks),
                "data_sha256": data.sha256,
                **({"audit": list(data.audit)} if data.audit else {}),
                "parts": {
                    name: [len(of.split), len(np.unique(of.split.groups))]
                    for name, of in {**data.examples, target.name: target.examples}.items()
                },
                "class_groups": {
                    name: sampling.class_groups(of.split.labels, of.split.groups, len(classes))
                    for name, of, classes in (
                        ("train", data.examples["train"], data.task.classes),
                        (target.name, target.examples, target.classes),
                    )
                },
                **({"by": data.by} if data.by != IMAGE else {}),
                **(
                    {"held_out": dict(data.task.settings["held_out"])}
                    if "held_out" in data.task.settings
                    else {}
                ),
                **({"shift": dict(target.shift)} if target.shift else {}),
            }
            for data in self.tasks
            for target in self.targets_of(data)
        }
        return PlanFile(self.cells, tasks, (self.command,) if self.command else (), self.settings)


def plan(grid: Grid, progress: ProgressCallback | None = None) -> Plan:
    """Plan the cells of a grid before any work.

    Parameters
    ----------
    grid : Grid
    progress : callable, optional
        progress(stage, done, total), called while it works.

    Returns
    -------
    Plan
        Every cell with its fingerprint, in the order of work.

    Raises
    ------
    UserError
        For anything that a user got wrong.
    """
    with calling(progress):
        return _plan(grid)


def _plan(grid: Grid) -> Plan:
    asked = resolve_grid(grid)
    (shifts, notes), (damages, more) = (
        shifts_of(asked.tasks, grid.shifts),
        corruptions_of(asked.tasks, grid),
    )
    notes += [*more, *asked.notes]
    cache_dir = images.cache_folder()
    units: list[Unit] = []
    draws: dict[tuple[str, str, str, int], np.ndarray] = {}
    divides: dict[tuple[str, str, str], bool] = {}
    targets: dict[tuple[str, str], tuple[EvaluationSet, ...]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for task, (one_task, as_divided) in [
        (named, one) for named in asked.tasks for one in divided(named, grid, cache_dir)
    ]:
        data = open_task(one_task, grid, cache_dir, notes, as_divided)
        # of a person's own, who reads here first what was made of it
        if task.name.startswith("folder:"):
            notes += _marks(data)
        named = [
            encoder_of(one, readout, grid, phantom=data.data == "phantom")
            for one, readout in product(dict.fromkeys(grid.encoders), dict.fromkeys(grid.readouts))
        ]
        # not of weights of a user's own, which may bring their interpolation
        forms = [
            images.PackForm(*one.form) for one in named if one.kind in ("timm", "function", "hub")
        ]
        data = audited(data, grid, cache_dir, notes, forms)
        away = [shifted(data, *shift, grid) for shift in shifts[task.name]]
        data = with_unlabelled(data, grid, [one.name for one in asked.tasks], cache_dir, away)
        scored = (
            own_part(data, grid.target),
            *(
                target
                for other in away
                for target in ([common(data, grid.target, other)] if other.own is not None else [])
                + [other]
            ),
            *(corrupted(data, grid.target, *damage) for damage in damages[task.name]),
        )
        name = data.task.name
        targets[name, data.data] = scored
        most = partial(most_draws, grid.seeds, asked.protocols, asked.methods)
        subsets = _subsets(data, asked.budgets, most)
        draws.update(
            {
                (name, data.data, str(budget), seed): index
                for (budget, seed), (index, _) in subsets.items()
            }
        )
        notes += [*_shares(data, subsets), *_whole(data, asked.budgets, subsets)]
        division = Division(data.examples["train"].split, subsets)
        divides.update(
            {
                (name, data.data, str(budget)): divided
                for budget, divided in division.divided.items()
            }
        )
        for encoder in named:
            if (
                encoder.said
                and (note := Note("remark", f"{encoder.name}: {encoder.said}")) not in notes
            ):
                notes.append(note)
            found: tuple[Mark, ...] = ()
            if encoder.kind == "features":
                found = given_marks(encoder, data, grid.target, scored)
                notes += [Note("telling", f"{name}: {mark.text}") for mark in found]
            serving = _serving(
                [method for method in asked.methods if encoder.kind in method.encoders],
                data,
                encoder,
                grid,
                notes,
            )
            for method in serving:
                first: Unit | None = None
                for pretrain_seed in range(grid.pretrain_seeds if method.seeded else 1):
                    unit = unit_of(data, method, encoder, pretrain_seed, grid, cache_dir)
                    if pretrain_seed and method.recipes and not unit.recipes:
                        break  # an official checkpoint is what it is
                    first = first or unit
                    said = examined(unit, cache_dir)
                    notes += [
                        note for mark in said if (note := Note(mark.kind, mark.text)) not in notes
                    ]
                    cells, made = _cells(unit, first, asked.protocols, division, scored, grid)
                    settings.update(made)
                    if cells:
                        beside = unlabelled_marks(unit)
                        notes += [
                            note
                            for mark in beside
                            if (note := Note(mark.kind, f"{task.name}: {mark.text}")) not in notes
                        ]
                        units.append(replace(unit, cells=cells, marks=(*found, *said, *beside)))
                    else:
                        judged = ", ".join(protocol.name for protocol in asked.protocols)
                        notes.append(
                            Note(
                                "left out",
                                f"{method.name} is left out: {judged} cannot judge a fusion",
                            )
                        )
    protocols = {protocol.name: protocol for protocol in asked.protocols}
    if grid.keep_weights:
        notes.append(kept_note(units, asked.protocols, cache_dir))
    return Plan(
        tuple(units),
        draws,
        tuple(notes),
        cache_dir,
        grid.target,
        targets,
        divides,
        settings,
        protocols,
        command(grid),
        grid.keep_weights,
    )


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

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            **vars(self),
            "ids": self.ids.tolist(),
            "images": len(self.ids),
            "sha256": self.sha256,
        }


def splits(grid: Grid, progress: ProgressCallback | None = None) -> tuple[list[Subset], list[Note]]:
    """Return every part and labelled subset of the grid's first task, as a run would use them.

    Parameters
    ----------
    grid : Grid
    progress : callable, optional
        progress(stage, done, total), called while it works.

    Returns
    -------
    subsets : list of Subset
        Ids and hash of each.
    notes : list of Note

    Raises
    ------
    UserError
        For anything that a user got wrong.
    """
    check_options(grid)
    budgets = budgets_of(grid)
    task = registry.task(grid.tasks[0], **grid.reading)
    notes: list[Note] = []
    with calling(progress):
        made, said = divided(task, grid, images.cache_folder())[0]
        data = open_task(made, grid, images.cache_folder(), notes, said)
    parts = {name: of.split for name, of in data.examples.items()}
    found = [
        Subset(name, "", 0, part.ids, len(np.unique(part.groups)), len(part))
        for name, part in parts.items()
    ]
    pool = parts["train"]
    subsets = _subsets(data, budgets, partial(number_of_draws, grid.seeds))
    for (budget, seed), (index, wanted) in subsets.items():
        found.append(
            Subset(
                "train",
                str(budget),
                seed,
                pool.ids[index],
                len(np.unique(pool.groups[index])),
                wanted,
            )
        )
    return found, [*notes, *_marks(data), *_shares(data, subsets), *_whole(data, budgets, subsets)]


def _marks(data: TaskData) -> list[Note]:
    """Return what every table of its images will say, with its name."""
    return [Note(mark.kind, f"{data.task.name}: {mark.text}") for mark in data.marks]


def _shares(
    data: TaskData, subsets: Mapping[tuple[Budget, int], tuple[np.ndarray, int]]
) -> list[Note]:
    """Say what the percentages hold of each class beside their share of the images.

    subsets: as of `_subsets`.
    """
    classes, labels = data.task.classes, data.examples["train"].split.labels
    drawn: dict[str, list[Held]] = {}
    for (budget, _), (index, _) in subsets.items():
        drawn.setdefault(str(budget), []).append(held(labels[index], len(classes)))
    return share_notes(
        drawn,
        held(labels, len(classes)),
        classes,
        several=labels.ndim > 1,
        task=data.task.name,
        of=data.by,
    )


def _whole(
    data: TaskData,
    budgets: Sequence[Budget],
    subsets: Mapping[tuple[Budget, int], tuple[np.ndarray, int]],
) -> list[Note]:
    """Which budgets ask for more than there is, so that they come to all images.

    subsets: as of `_subsets`.
    """
    there = {budget for budget, _ in subsets}
    more = [str(budget) for budget in budgets if budget not in there and budget != ALL]
    if not more:
        return []
    n, verb = len(data.examples["train"].split), "come" if len(more) > 1 else "comes"
    said = f"{', '.join(more)} {verb} to all {n:,} training {data.by}s: the line is called 100%"
    return [Note("remark", f"{data.task.name}: {said}")]


def given_features(
    encoder: Encoder,
    data: TaskData,
    target: str,
    shift: EvaluationSet | None = None,
    table: FeaturesTable | None = None,
) -> np.ndarray:
    """Return the vectors of a features file: (N, D) float32, part after part as in a pack.

    NaN for images of a part that is not used and not in the file. shift: a set of another data set:
    its features instead. table: the file's content, where it is at hand.
    """
    assert encoder.file is not None, "features have a file"
    table = table or features_table.read(encoder.file)
    if shift is not None and shift.elsewhere:
        return table.of(shift.split.ids.tolist(), [True] * len(shift.split))
    ids = [name for split in data.parts.values() for name in split.ids.tolist()]
    needed = [
        name in ("train", target) for name, split in data.parts.items() for _ in range(len(split))
    ]
    return table.of(ids, needed)


def given_marks(
    encoder: Encoder, data: TaskData, target: str, scored: Sequence[EvaluationSet]
) -> tuple[Mark, ...]:
    """Return what every table of a features file must say.

    Raises UserError for ids of a scored set that are missing, double or not finite.
    """
    assert encoder.file is not None, "features have a file"
    table = features_table.read(encoder.file)
    for away in scored:
        if away.elsewhere:
            given_features(encoder, data, target, away, table)
    train = given_features(encoder, data, target, None, table)[data.where("train")]
    telling = separating(train, data.pool, data.task.kind, data.task.classes)
    return tuple(
        Mark("telling", f"{encoder.name}: {said}")
        for said in sentences(telling, table.names, data.task.groups or "image")
    )


def _subsets(
    data: TaskData, budgets: list[Budget], draws_of: Callable[[int], int]
) -> dict[tuple[Budget, int], tuple[np.ndarray, int]]:
    """(budget, seed) -> index and requested count.

    A budget that comes to all images is spelled `100%`, and drawn once.

    draws_of: how many draws there are of so many images.
    """
    found: dict[tuple[Budget, int], tuple[np.ndarray, int]] = {}
    pool = data.examples["train"].split
    for budget in budgets:
        first = sampling.draws(pool.labels, pool.groups, budget, [0])
        drawn = first + sampling.draws(
            pool.labels, pool.groups, budget, range(1, draws_of(len(first[0])))
        )
        if all(len(index) == len(pool) for index in drawn):
            found[ALL, 0] = (drawn[0], len(pool))
            continue
        wanted = sampling.requested(pool.labels, budget)
        found.update({(budget, seed): (index, wanted) for seed, index in enumerate(drawn)})
    return found


def _serving(
    methods: list[Method], data: TaskData, encoder: Encoder, grid: Grid, notes: list[Note]
) -> list[Method]:
    """Return the methods that can serve a task with an encoder.

    One that a user named and that cannot is an error, else a note.
    """
    serving = []
    for method in methods:
        why = method.refuses(data.pool, encoder) if method.refuses else ""
        if why and grid.methods:
            raise UserError(
                f"Method '{method.name}' cannot serve '{data.task.name}' with {encoder.name}: {why}.",
                then="run it without it",
            )
        if why:
            notes.append(Note("left out", f"{method.name} is left out: {why}"))
        else:
            serving.append(method)
    return serving


def _cells(
    unit: Unit,
    first: Unit,
    protocols: list[Protocol],
    division: Division,
    targets: Sequence[EvaluationSet],
    grid: Grid,
) -> tuple[tuple[PlannedCell, ...], dict[str, dict[str, Any]]]:
    """In the order of work: all targets of a draw, the task's own part first, before the next.

    And each setting's identity.

    first: the unit of the first pretraining seed, which names the setting that all of them share.
    """
    data, encoder = unit.data, unit.encoder
    common = (
        data.task.name,
        data.data,
        unit.method.name,
        unit.source,
        encoder.name,
        encoder.readout,
        encoder.size,
        unit.pretrain_seed,
    )
    cells = []
    settings: dict[str, dict[str, Any]] = {}
    for protocol in protocols:
        own_head = unit.method.own_head
        if own_head and not judges_fusions(protocol):
            continue  # a person who named both was refused, see `validation`
        own, shared = (ingredients(one, protocol) for one in (unit, first))
        made_by = {
            (str(budget), target.name): touched(unit, protocol, str(budget), target)
            for budget in division.divided
            for target in targets
        }
        seeded = protocol.seeded or own_head
        trains = protocol.needs == "features" and any(
            part.recipes for part in unit.members or (unit,)
        )
        for (budget, seed), (_, wanted) in division.subsets.items():
            if seed >= number_of_draws(
                grid.seeds, len(division.subsets[budget, 0][0]), protocol, unit.method
            ):
                continue  # another line has more of them
            apart = division.touched(unit, protocol, budget, seed)
            for own_seed in (
                range(number_of_initialisations(grid.seeds)) if budget == ALL and seeded else [seed]
            ):
                for target in targets:
                    cell = Cell(*common, protocol.name, str(budget), own_seed, target.name)
                    touches = made_by[str(budget), target.name]
                    anew = trains and target.apart  # as in `prepare.features_key`
                    of_cell, of_line = (
                        target.setting(fingerprint(s, "trained") if anew else s)
                        for s in (
                            fingerprint(*made_of.values(), *raised({**touches, **of_draw}))
                            for made_of, of_draw in ((own, apart), (shared, {}))
                        )
                    )
                    cells.append(
                        PlannedCell(
                            cell,
                            fingerprint(cell.identity(), of_cell),
                            wanted,
                            of_line,
                            target.file,
                        )
                    )
                    settings.setdefault(of_line, identity(shared, touches))
    return tuple(cells), settings
