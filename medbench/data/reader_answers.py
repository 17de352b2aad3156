"""What the reader of a task gave, with the types that are promised, or the line that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medbench.schema import Split, Task, UserError, place_of, written_by
from medbench.schema.split import length_fault


def loaded(task: Task, root: Path | None) -> dict[str, Split]:
    """Return what a task's reader gives of the images in `root`; of None its phantom.

    Raises UserError that names the line of its file where it fails, and for classes that its kind
    cannot have.
    """
    _check_classes(task)
    if root is None:
        assert task.phantom is not None
        with written_by(task.phantom, f"phantom of '{task.name}'"):
            return task.phantom()
    with written_by(task.load, f"load of '{task.name}'"):
        parts = task.load(root)
    if not isinstance(parts, Mapping) or not all(
        isinstance(split, Split) for split in parts.values()
    ):
        given = (
            type(parts).__name__
            if not isinstance(parts, Mapping)
            else next(
                f"a {type(one).__name__} as a part"
                for one in parts.values()
                if not isinstance(one, Split)
            )
        )
        raise UserError(
            f"{place_of(task.load)}: load gives {given}.",
            allowed=['{"train": Split(...), "test": Split(...)}'],
        )
    return dict(parts)


def _check_classes(task: Task) -> None:
    """Raise UserError for a task whose kind cannot have its classes."""
    n, place = len(task.classes), place_of(task.load).rpartition(", line ")[0]
    fewest = 1 if task.kind == "multilabel" else 2
    if n < fewest or (task.kind == "binary" and n != 2):
        labels = f"{n} class{'es' if n != 1 else ''}"
        raise UserError(
            f"{place}: '{task.name}' is {task.kind} and has {labels}.",
            allowed=["exactly 2 classes" if task.kind == "binary" else f"{fewest} or more"],
            then="give every class its name in `classes`, or change `kind`",
        )
    if len(set(task.classes)) < n:
        raise UserError(f"{place}: '{task.name}' names a class twice: {', '.join(task.classes)}.")


def tidy(task: Task, part: str, split: Split) -> Split:
    """Return the part with the dtypes that `Split` promises.

    Raises UserError, for the author of a task, where lengths, ids or labels do not fit.
    """
    n, multilabel = len(split.images), task.kind == "multilabel"

    def wrong(what: str, *allowed: str) -> UserError:
        return UserError(
            f"{place_of(task.load)}: {task.name}: the {part} part has {what}.", allowed=allowed
        )

    labels = np.asarray(split.labels)
    wanted = (
        f"(N, {len(task.classes)}) numbers: 1, 0, NaN"
        if multilabel
        else f"(N,) whole numbers, 0 to {len(task.classes) - 1}"
    )
    if labels.dtype.kind not in "biuf":
        text = "" if not labels.size else f" ({labels.flat[0]!r} is the first)"
        raise wrong(f"labels that are not numbers{text}", wanted)
    if labels.shape[1:] != ((len(task.classes),) if multilabel else ()):
        raise wrong(f"labels of shape {labels.shape}", wanted)
    ids, groups, bags = (
        np.asarray(column, str) for column in (split.ids, split.groups, split.bags)
    )
    columns = {
        "labels": labels,
        "ids": ids,
        "groups": groups,
        "bags": bags,
        **{name: np.asarray(column) for name, column in split.meta.items()},
    }
    if fault := length_fault(n, columns):
        raise wrong(fault)
    if len(set(ids.tolist())) < n:
        raise wrong("an id twice")
    if not multilabel and not set(labels.tolist()) <= set(range(len(task.classes))):
        raise wrong(f"labels that are not 0 to {len(task.classes) - 1}", wanted)
    if multilabel and not (np.isnan(labels) | np.isin(labels, (0, 1))).all():
        raise wrong("labels that are not 1, 0 or NaN", wanted)
    meta = {name: columns[name] for name in split.meta}
    return Split(
        split.images, ids, labels.astype(float if multilabel else np.int64), groups, bags, meta
    )
