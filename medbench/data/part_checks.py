"""What makes the parts of a task too good or meaningless: groups in two, classes in none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np

from medbench.schema import Mark, Split, Task, UserError, alike, counted, visible

_PAIRS = 3  # of names, that a message shows


def check_parts(
    task: Task, parts: Mapping[str, Split], target: str, *, allow_leak: bool, allow_partial: bool
) -> list[Mark]:
    """Check the parts of a task; return marks for what was allowed.

    Raises UserError for a group in two parts, for one spelled in two ways, and for a class that
    train or the target cannot show. A label of a multi-label task needs a positive and a negative
    image.
    """
    marks = check_spellings(task, parts.values(), allow_leak=allow_leak)
    for a, b in combinations(parts, 2):
        torn = np.intersect1d(parts[a].groups, parts[b].groups)
        if len(torn):
            word = task.groups or "image"
            if not allow_leak:
                raise UserError(
                    f"{word} '{torn[0]}' is in both {a} and {b} ({counted(len(torn), f'such {word}')}): scores would be too high.",
                    then="fix the split, or run with --allow-leak, which marks every table",
                )
            marks.append(
                Mark("leak", f"{counted(len(torn), word, ('is', 'are'))} in both {a} and {b}")
            )
    for part in ("train", target):
        labels = parts[part].labels
        shown = [shows(labels, c) for c in range(len(task.classes))]
        absent = [name for name, there in zip(task.classes, shown, strict=True) if not there]
        if absent:
            if not allow_partial:
                what = f"The {part} part of '{task.name}' has no image of class '{absent[0]}'" + (
                    ", or none without it" if labels.ndim > 1 else ""
                )
                raise UserError(
                    f"{what} ({len(absent)} of {len(task.classes)} classes).",
                    then="add images, or run with --allow-partial, which leaves the class out of the means",
                )
            marks.append(Mark("absent", f"no image of {', '.join(absent)} in the {part} part"))
    return marks


def check_spellings(task: Task, parts: Collection[Split], *, allow_leak: bool) -> list[Mark]:
    """Check for groups and bags of which two look like one.

    Returns marks where that is allowed, else raises UserError.

    One rule, whatever the parts are: nothing is joined and nothing is torn without a word. Two
    spellings of one patient, taken as two, may stand in train and test; two patients, taken as one,
    lose images to the wrong part and to intervals that count patients. No program can know which it
    is (`007` and `7` are one number, and may be two people), and a table whose ids were read by two
    programs has hundreds of them. So the user says it, in the table; `--allow-leak` takes them as
    they are written, with a mark. Compared by `schema.alike`, as labels are. Not where an image is
    its own group: ids of images are names of files.
    """
    marks = []
    for word, of in (
        (task.groups, "groups"),
        (task.bags if task.bags != task.groups else None, "bags"),
    ):
        pairs = (
            alike(name for part in parts for name in np.unique(getattr(part, of)).tolist())
            if word
            else []
        )
        if word and pairs:
            shown = ", ".join(
                f"{_seen(one)} and {_seen(other)}" for one, other in pairs[:_PAIRS]
            ) + (" ..." if len(pairs) > _PAIRS else "")
            looks = counted(len(pairs), word, ("looks", "look"))
            what = f"{looks} like another one that is spelled otherwise: {shown}"
            if not allow_leak:
                raise UserError(
                    f"{what}. Taken as two, images of one could stand in train and test.",
                    then=f"spell each {word} in one way; let different ones differ by more than spaces, case, signs and zeros, or run with --allow-leak, which"
                    " takes them as they are written and marks every table",
                )
            marks.append(Mark("leak", f"{what}; taken as they are written"))
    return marks


def _seen(name: str) -> str:
    """Quote a name, with escapes where it holds what cannot be seen or told apart."""
    return f"'{name}'" if name.isascii() and visible(name) == name else ascii(name)


def shows(labels: np.ndarray, c: int) -> bool:
    """Return whether an image is of class c.

    labels: (N,) int; or (N, C) float: then whether one image is positive and one negative.
    """
    return (
        bool((labels == c).any())
        if labels.ndim == 1
        else bool((labels[:, c] == 1).any() and (labels[:, c] == 0).any())
    )
