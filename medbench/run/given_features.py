"""Features of a user's file, as a plan and a run read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medbench.audit.features.separating import sentences, separating
from medbench.data.evaluation_sets import EvaluationSet
from medbench.data.task_data import TaskData
from medbench.models import features_table
from medbench.models.features_table import FeaturesTable
from medbench.schema import Encoder, Mark


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
    """Return what every table of a features file must say: columns that tell labels apart.

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
