"""What a results folder keeps of the images that rows are scored on."""

from __future__ import annotations

import numpy as np

from medbench.data.evaluation_sets import EvaluationSet
from medbench.data.task_data import TaskData
from medbench.run.plans import Plan
from medbench.run.store import Store


def restore_targets(plan: Plan, store: Store) -> None:
    """Save scored sets of finished rows anew, where they were lost or damaged.

    Where the folder keeps predictions, which they belong to.
    """
    rows = {str(row.provenance["target"]): row for row in store.rows().values()}
    sets = {
        target.file: (unit.data, target)
        for unit in plan.units
        for target in plan.targets_of(unit.data)
    }
    for name, (data, target) in sets.items():
        if name in rows and "probabilities" in store.arrays(rows[name]):
            save_target(data, target, store)


def save_target(data: TaskData, target: EvaluationSet, store: Store) -> None:
    """Save what is known of the scored set, once for all rows that share it.

    Groups, which are patients' names often, become numbers in the order of their names: resamples,
    which go by that order, stay as they are. One numbering serves all scored sets of a task, and
    its other parts.
    """
    split = target.examples.split
    names = np.unique(
        np.concatenate([split.groups, *(part.groups for part in data.parts.values())])
    )
    groups = np.searchsorted(names, split.groups)
    store.add_target(target.file, split.ids, split.labels, groups, bags=split.bags, meta=split.meta)
