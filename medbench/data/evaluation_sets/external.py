"""Another data set's images, with labels in the task's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medbench import images
from medbench.data.content_checks import check_content
from medbench.data.evaluation_sets.evaluation_set import VERSION, EvaluationSet, what_then
from medbench.data.examples import in_cases_of, label_by_case
from medbench.data.part_checks import check_spellings, shows
from medbench.data.reader_answers import loaded, tidy
from medbench.data.task_data import TaskData, data_roots
from medbench.schema import (
    CASE,
    NOTHING,
    Grid,
    Mark,
    Note,
    Shift,
    Split,
    Task,
    UserError,
    fingerprint,
    join_parts,
    registry,
    user_path,
)


def shifts_of(
    tasks: Sequence[Task], names: Sequence[str]
) -> tuple[dict[str, list[tuple[Task, Shift]]], list[Note]]:
    """Return task name -> the other tasks it is scored on, with their mapped labels.

    Also returns notes on those that some of several tasks have no labels for.

    Raises UserError, before any image is looked for, for a name that no task of the run has a
    mapping for, and for one that is given twice.
    """
    found: dict[str, list[tuple[Task, Shift]]] = {task.name: [] for task in tasks}
    notes: list[Note] = []
    for name in dict.fromkeys(names):
        refusals = []
        for task in tasks:
            try:
                other, shift = _mapped(task, name)
            except UserError as error:
                refusals.append(error)
                notes.append(
                    Note("left out", f"{task.name} is not scored on {name}: no labels are mapped")
                )
                continue
            if other.name in (known.name for known, _ in found[task.name]):
                raise UserError(
                    f"Two shifts of this run are called '{other.name}'.",
                    then="rename one of the folders",
                )
            found[task.name].append((other, shift))
        if len(refusals) == len(tasks):
            raise refusals[0]
    return found, notes


def _mapped(task: Task, name: str) -> tuple[Task, Shift]:
    if name.startswith("folder:"):
        other = registry.task(name)
        return other, _by_name(task, other)
    if name not in task.shifts:
        what = (
            f"Unknown shift '{name}'"
            if name not in registry.tasks()
            else f"No labels of '{name}' are mapped to those of '{task.name}'"
        )
        raise UserError(
            f"{what}.",
            allowed=[*task.shifts, "folder:PATH"],
            given=name,
            then="medbench run --shift NAME",
        )
    return registry.task(name), task.shifts[name]


def _by_name(task: Task, other: Task) -> Shift:
    """Map the classes of a user's own folder, which are called as the task's. Raises UserError."""
    if (task.kind == "multilabel") != (other.kind == "multilabel"):
        has = ["one label an image", "several labels an image"]
        multilabel = other.kind == "multilabel"
        what = f"{other.name} has {has[multilabel]}, and '{task.name}' has {has[not multilabel]}"
        raise UserError(
            f"{what}: the one cannot be read as the other.",
            then="a CSV file with the task's own columns",
        )
    unknown = [name for name in other.classes if name not in task.classes]
    if unknown:
        what = f"{other.name} has the class '{unknown[0]}', which '{task.name}' does not have."
        raise UserError(
            what, allowed=task.classes, given=unknown[0], then="rename it, or remove it"
        )
    return Shift(
        {name: (name,) for name in task.classes if name in other.classes}, "a folder of the user's"
    )


def shifted(data: TaskData, other: Task, shift: Shift, grid: Grid) -> EvaluationSet:
    """Return the other task's images with labels in the words of `data.task`.

    Raises UserError where they are not found, or too few classes are left.
    """
    whole, lacking = _all_parts(other, grid)
    task = data.task
    classes = tuple(name for name in task.classes if name in shift.classes)
    labels, kept, why = mapped_labels(
        task, other, whole.labels, [shift.classes[name] for name in classes]
    )
    hashes = images.content_hashes(whole.images, images.cache_folder(), f"reading {other.name}")
    same = _shared(data, whole, hashes, by_ids=shift.shared_ids)
    if data.by == CASE:  # is judged by all its images, or not at all
        same, lost = in_cases_of(whole, same), in_cases_of(whole, ~kept)
        if (kept & lost).any():
            why["of a case with such an image"] = int((kept & lost).sum())
        kept = ~lost
    if (kept & same).any():
        reason = "of cases of which" if data.by == CASE else "that"
        has = "has an image, too" if data.by == CASE else "has, too"
        why[f"{reason} {data.data} {has}"] = int((kept & same).sum())
    rows = np.flatnonzero(kept & ~same)
    split = replace(whole.take(rows), labels=labels[rows])
    of_cases: list[Mark] = []
    if data.by == CASE:
        _, cases, of_cases = label_by_case(
            replace(other, kind=task.kind, cases=task.case_rule), {"all": split}
        )
        rows, split = rows[np.isin(split.ids, cases["all"].ids)], cases["all"]
    shown = [name for c, name in enumerate(classes) if shows(split.labels, c)]
    if len(shown) < (1 if task.kind == "multilabel" else 2):
        what = f"Of '{other.name}' {len(rows)} of {len(whole)} images can be scored by a model of '{task.name}', of {len(shown)} classes"
        left = "; ".join(f"{n} {reason}" for reason, n in why.items())
        raise UserError(
            f"{what}: too few{f' ({left})' if left else ''}.", then="run it without this --shift"
        )
    kept_hashes = [hashes[i] for i in rows]
    own = np.array([task.classes.index(name) for name in classes])
    content = (
        split.ids.tolist(),
        np.nan_to_num(split.labels, nan=-1).tolist(),
        split.groups.tolist(),
        kept_hashes,
    )
    bags = [split.bags.tolist()] if data.by == CASE else []
    identity = fingerprint(
        "shifted", VERSION, other.stated_version, classes, fingerprint(*content, *bags)
    )
    foreign, unseen = (
        [name for name in names if name not in having]
        for names, having in ((task.classes, classes), (classes, shown))
    )
    scored = f"{len(split)} of the {len(whole)} images of {other.data}, all parts together"
    remarks = [
        f"labels: {_said(classes, shift, other)}{f'. {shift.note[0].upper()}{shift.note[1:]}' if shift.note else ''}",
        *(f"left out: {n} images {reason}" for reason, n in why.items()),
        *([f"{', '.join(foreign)}: not in {other.data}; {what_then(task)}"] if foreign else []),
    ]
    # no part of it is used apart
    of_sets = [(other.name, mark) for mark in other.marks if mark.kind != "split"]
    of_sets += [(task.name, mark) for mark in data.marks]
    marks = [
        Mark("shift", f"trained on {data.data}, scored unchanged on {scored}"),
        *of_cases,
        *(Mark("remark", text) for text in remarks),
        *([Mark("absent", f"no image of {', '.join(unseen)}")] if unseen else []),
        *([Mark("partial", lacking)] if lacking else []),
        *check_spellings(other, [whole], allow_leak=grid.allow_leak),
        *check_content(
            {"all": split}, kept_hashes, allow_leak=True, task=task, cache_dir=images.cache_folder()
        ),
        *(Mark("remark", f"{name}: {mark}") for name, mark in of_sets),
    ]
    return EvaluationSet(
        other.name,
        grid.target,
        f"{other.name.partition(':')[0]}-{fingerprint(data.identity, identity)[:16]}",
        split,
        classes,
        other.groups,
        tuple(marks),
        identity,
        kept_hashes,
        own=None if len(own) == len(task.classes) else own,
        shift={
            "kind": "data",
            "data": other.data,
            "of": grid.target
            if len(own) == len(task.classes)
            else f"{grid.target}-common-{other.name}",
        },
        by=data.by,
    )


def mapped_labels(
    task: Task, other: Task, labels: np.ndarray, means: Sequence[tuple[str, ...]]
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Return labels of the other task in the words of this one, and which images have one.

    Labels are (N,) int or (N, K) float, the mask (N,) bool; then why the others have none. means:
    for each of K classes the other's classes that mean it. A class that several labels mean is
    present where one of them is, and uncertain where one is and none is present.
    """
    if other.kind == "multilabel":
        nothing = np.where(
            np.isnan(labels).any(1) & ~(labels == 1).any(1),
            np.nan,
            (labels == 0).all(1).astype(float),
        )
        columns = {NOTHING: nothing, **{name: labels[:, c] for c, name in enumerate(other.classes)}}
    else:
        columns = {name: (labels == c).astype(float) for c, name in enumerate(other.classes)}
    several = [np.stack([columns[name] for name in names]) for names in means]
    present = np.stack(
        [
            np.where((v == 1).any(0), 1.0, np.where(np.isnan(v).any(0), np.nan, 0.0))
            for v in several
        ],
        axis=1,
    )
    if task.kind == "multilabel":
        return present, np.ones(len(labels), bool), {}
    one = ((present == 1).sum(1) == 1) & ~np.isnan(present).any(1)
    none, uncertain = (present == 0).all(1), np.isnan(present).any(1)
    reasons = {
        "of no common class": int(none.sum()),
        "of several common classes": int((~one & ~none & ~uncertain).sum()),
    }
    reasons["whose label is uncertain"] = int(uncertain.sum())
    return np.nan_to_num(present).argmax(1), one, {reason: n for reason, n in reasons.items() if n}


def _all_parts(other: Task, grid: Grid) -> tuple[Split, str]:
    """All images of the other task as one part, and what of its official download is missing.

    Raises UserError.
    """
    root = _root(other, grid)
    lacking = other.partial(root) if other.partial else ""
    if lacking and not grid.allow_partial:
        raise UserError(
            f"{root} holds a part of {other.data}: {lacking}.",
            then="complete the download, or run with --allow-partial",
        )
    return join_parts(
        tidy(other, name, split) for name, split in loaded(other, root).items()
    ), lacking


def _root(other: Task, grid: Grid) -> Path:
    """Where the other data set lies: `--data`, MEDBENCH_DATA or the cache, whichever holds it.

    Raises UserError that says how to get it.
    """
    named = [user_path(grid.data)] if grid.data not in (None, "phantom") else []
    places = [*named, *data_roots(images.cache_folder())]
    found = next(filter(None, map(other.find, places)), None)
    if found is None:
        what = f"The images of the shift '{other.name}' ({other.data}) are not in {' or '.join(map(str, places))}"
        raise UserError(
            f"{what}. To get them: {other.get}.", then=f"medbench data list {other.name}"
        )
    return found


def _shared(data: TaskData, whole: Split, hashes: Sequence[str], *, by_ids: bool) -> np.ndarray:
    """(N,) bool: the images that the task has, too, in whichever part."""
    same = np.isin(hashes, data.hashes)
    if by_ids:
        same |= np.isin(whole.ids, np.concatenate([part.ids for part in data.parts.values()]))
        lesions = np.unique(
            np.concatenate([whole.groups[same], *(part.groups for part in data.parts.values())])
        )
        same |= np.isin(whole.groups, lesions)
    return same


def _said(classes: Sequence[str], shift: Shift, other: Task) -> str:
    """`mel = MEL, akiec = AK`; a class that is called the same is named once."""
    words = []
    for name in classes:
        theirs = " or ".join(word or "no finding" for word in shift.classes[name])
        words.append(name if theirs == name else f"{name} = {theirs}")
    return ", ".join(words)
