"""Parts and label budgets of a task: which images each draw holds, and what must be said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from medbench import images
from medbench.data.other_divisions import divided
from medbench.data.task_data import TaskData, open_task
from medbench.run.draw_counts import number_of_draws
from medbench.run.validation import budgets_of, check_options
from medbench.schema import ALL, Budget, Grid, Note, ProgressCallback, registry
from medbench.stats import splits as sampling
from medbench.stats.drawn_shares import Held, held, share_notes
from medbench.system.progress_listener import calling


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
        """64 hex digits of its ids, whatever their order."""
        return sampling.ids_hash(self.ids)

    def record(self) -> dict[str, Any]:
        """Return its fields as JSON values, with the number of images and the hash of their ids."""
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
    subsets = labelled_subsets(data, budgets, partial(number_of_draws, grid.seeds))
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
    return found, [
        *notes,
        *data_marks(data),
        *shares_said(data, subsets),
        *whole_said(data, budgets, subsets),
    ]


def data_marks(data: TaskData) -> list[Note]:
    """Return what every table of its images will say, with its name."""
    return [Note(mark.kind, f"{data.task.name}: {mark.text}") for mark in data.marks]


def shares_said(
    data: TaskData, subsets: Mapping[tuple[Budget, int], tuple[np.ndarray, int]]
) -> list[Note]:
    """Say what the percentages hold of each class beside their share of the images.

    subsets: as of `labelled_subsets`.

    Each subset is (n,) int64 into the pool.
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


def whole_said(
    data: TaskData,
    budgets: Sequence[Budget],
    subsets: Mapping[tuple[Budget, int], tuple[np.ndarray, int]],
) -> list[Note]:
    """Say which budgets ask for more than there is, so that they come to all images.

    subsets: as of `labelled_subsets`.

    Each subset is (n,) int64 into the pool.
    """
    there = {budget for budget, _ in subsets}
    more = [str(budget) for budget in budgets if budget not in there and budget != ALL]
    if not more:
        return []
    n, verb = len(data.examples["train"].split), "come" if len(more) > 1 else "comes"
    said = f"{', '.join(more)} {verb} to all {n:,} training {data.by}s: the line is called 100%"
    return [Note("remark", f"{data.task.name}: {said}")]


def labelled_subsets(
    data: TaskData, budgets: list[Budget], draws_of: Callable[[int], int]
) -> dict[tuple[Budget, int], tuple[np.ndarray, int]]:
    """Return each labelled subset: (budget, seed) -> index and requested count.

    index: (n,) int64 into the pool. A budget that comes to all images is spelled `100%`, and drawn
    once. draws_of: how many draws there are of so many images.
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
