"""What a run will do: units with their cells, draws, and what each fit is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medbench.data.evaluation_sets import EvaluationSet
from medbench.data.task_data import TaskData
from medbench.run.units import Unit
from medbench.schema import ALL, IMAGE, Cell, Note, PlanFile, PlannedCell, Protocol
from medbench.stats import few_groups
from medbench.stats import splits as sampling


def class_groups(data: TaskData, target: EvaluationSet) -> dict[str, list[int]]:
    """Count the groups of each class: part -> a number for each class.

    Of the training part and of the scored set, each in its own classes.
    """
    return {
        name: sampling.class_groups(of.split.labels, of.split.groups, len(classes))
        for name, of, classes in (
            ("train", data.examples["train"], data.task.classes),
            (target.name, target.examples, target.classes),
        )
    }


def rare_classes_said(data: TaskData, target: EvaluationSet) -> list[Note]:
    """Name the classes that every table of the run will call rare; [] where none is."""
    found = few_groups.rare(target.classes, class_groups(data, target))
    of = f"{target.groups or data.by}s"
    return [
        Note(note.kind, f"{data.task.name}: {note.text}")
        for note in few_groups.rare_notes(found, of)
    ]


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
        """All cells, in the order of work."""
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
        """Return what each fit on these data is scored on, the task's own part first."""
        return self.targets[data.task.name, data.data]

    @property
    def tasks(self) -> tuple[TaskData, ...]:
        """The opened tasks, each once, in the order of work."""
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
                "class_groups": class_groups(data, target),
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
