"""What was asked for and the data that is there -> cells, in the order of work.

A plan knows each cell's fingerprint, so it also tells which rows are there already. It needs no
torch for the embedded encoder. Files are hashed and not decoded, but for a folder of the user's
own: its audit needs the pixels, and makes the pack that the run needs anyway.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from medbench import images
from medbench.audit.dataset import audited
from medbench.audit.dataset.unlabelled_pool import with_unlabelled
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
from medbench.run.command_line import asking, command
from medbench.run.division import Division
from medbench.run.draw_counts import most_draws
from medbench.run.encoder_verdicts import examined
from medbench.run.given_features import given_marks
from medbench.run.kept_weights import kept_note
from medbench.run.labelled_subsets import data_marks, labelled_subsets, shares_said, whole_said
from medbench.run.method_trial import try_own_method
from medbench.run.planned_cells import cells_of_unit
from medbench.run.plans import Plan, rare_classes_said
from medbench.run.units import Unit, unit_of, unlabelled_marks
from medbench.run.validation import encoder_of, resolve_grid
from medbench.schema import Encoder, Grid, Mark, Method, Note, ProgressCallback, UserError
from medbench.system.progress_listener import calling


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
    tried: set[str] = set()
    for task, (one_task, as_divided) in [
        (named, one) for named in asked.tasks for one in divided(named, grid, cache_dir)
    ]:
        data = open_task(one_task, grid, cache_dir, notes, as_divided)
        # of a person's own, who reads here first what was made of it
        if task.name.startswith("folder:"):
            notes += data_marks(data)
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
        notes += rare_classes_said(data, scored[0])
        name = data.task.name
        targets[name, data.data] = scored
        most = partial(most_draws, grid.seeds, asked.protocols, asked.methods)
        subsets = labelled_subsets(data, asked.budgets, most)
        draws.update(
            {
                (name, data.data, str(budget), seed): index
                for (budget, seed), (index, _) in subsets.items()
            }
        )
        notes += [*shares_said(data, subsets), *whole_said(data, asked.budgets, subsets)]
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
                    try_own_method(unit, tried)
                    said = examined(unit, cache_dir)
                    notes += [
                        note for mark in said if (note := Note(mark.kind, mark.text)) not in notes
                    ]
                    cells, made = cells_of_unit(
                        unit, first, asked.protocols, division, scored, grid
                    )
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
                then=asking(
                    tasks=grid.tasks, methods=tuple(m.name for m in methods if m != method) or None
                ),
            )
        if why:
            notes.append(Note("left out", f"{method.name} is left out: {why}"))
        else:
            serving.append(method)
    return serving
