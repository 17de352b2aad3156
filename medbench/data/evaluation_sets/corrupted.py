"""The task's own test images, damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medbench.data.evaluation_sets.evaluation_set import EvaluationSet, own_part
from medbench.data.task_data import TaskData
from medbench.images.corruptions import catalogue
from medbench.images.corruptions.catalogue import Corruption
from medbench.schema import Grid, Mark, Note, Task, UserError


def corrupted(data: TaskData, part: str, corruption: Corruption, level: int) -> EvaluationSet:
    """Return the task's own images of a part, damaged, as a set to be scored.

    level: 1 to 5. Ids, labels and groups are those of the part, so that a drop is paired.
    """
    name = corruption.name
    strength = (
        f"level {level} of {catalogue.LEVELS} (strength {corruption.strengths[level - 1]:.3g})"
    )
    about = Mark("corrupted", f"the {part} images with {name}, {strength}")
    return replace(
        own_part(data, part),
        name=f"corrupted-{name}-{level}",
        marks=(about, *data.marks),
        identity=corruption.identity(level),
        corruption=(corruption, level),
        shift={"kind": "corruption", "corruption": name, "level": level, "of": part},
    )


def corruptions_of(
    tasks: Sequence[Task], grid: Grid
) -> tuple[dict[str, list[tuple[Corruption, int]]], list[Note]]:
    """Return task name -> the kinds and levels of damage that its test images get.

    Also returns notes on kinds that fit some of several tasks alone.

    Raises UserError for a kind that fits none of the tasks, or is unknown, and for a level that is
    none.
    """
    found: dict[str, list[tuple[Corruption, int]]] = {task.name: [] for task in tasks}
    notes: list[Note] = []
    if not grid.corruptions:
        return found, notes
    asked = catalogue.levels(grid.levels)
    for name in dict.fromkeys(grid.corruptions):
        refusals = []
        for task in tasks:
            try:
                kinds = catalogue.chosen(task.name, task.modality, [name])
            except UserError as error:
                refusals.append(error)
                notes.append(
                    Note(
                        "left out",
                        f"{task.name} is scored without the corruption {name}: it does not fit its images",
                    )
                )
                continue
            both = [(kind, level) for kind in kinds for level in asked]
            found[task.name] += [each for each in both if each not in found[task.name]]
        if len(refusals) == len(tasks):
            raise refusals[0]
    return found, notes
