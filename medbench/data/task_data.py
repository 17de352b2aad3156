"""A task's data: found, checked, hashed.

Everything that could make a score too good or meaningless is refused or marked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from medbench import images
from medbench.data.asked_task import as_asked
from medbench.data.content_checks import check_content, plain_labels
from medbench.data.examples import Examples, contents, examples_of, label_by_case
from medbench.data.part_checks import check_parts
from medbench.data.part_digest import part_digest
from medbench.data.reader_answers import loaded, tidy
from medbench.data.roots import data_roots as data_roots  # what opens data asks for them here
from medbench.data.unlabelled import UnlabelledPool
from medbench.schema import (
    CASE,
    IMAGE,
    PARTS,
    Grid,
    Mark,
    Note,
    Split,
    Task,
    UserError,
    fingerprint,
    join_parts,
    place_of,
    user_path,
)
from medbench.stats.changed_labels import label_marks


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task with its images found and checked, as `open_task` gives it.

    parts: name -> images, in the order train, val, test. hashes: content of each image, part after
    part in that order, as in the pack. sha256: of all of this. marks: what every table says. audit:
    what an audit of the same data found; () where none was made. unlabelled: images that in-domain
    pretraining sees beside the training part. by: what is labelled, drawn and scored, see
    `data.examples`.
    """

    task: Task
    data: str  # "phantom" or the data set's name
    parts: Mapping[str, Split]
    hashes: list[str]
    sha256: str
    marks: tuple[Mark, ...]
    audit: tuple[Mark, ...] = ()
    unlabelled: UnlabelledPool | None = None
    by: str = IMAGE

    @property
    def identity(self) -> str:
        """The hash of what every score on this task depends on: its definition and its data."""
        task = self.task
        return fingerprint(
            task.stated_version, task.kind, task.classes, dict(task.settings), self.sha256
        )

    @cached_property
    def pixels(self) -> dict[str, dict[str, int]]:
        """What makes the pixels of each part and of the training images.

        Part -> ingredient -> version.
        """
        train = images.pixel_ingredients(self.hashes[self.where("train")])
        return {
            part: train | images.pixel_ingredients(self.hashes[self.where(part)])
            for part in self.parts
        }

    def pack_key(self, size: int, interpolation: str, crop: str = images.SQUASH) -> str:
        """Return `images.pack_key` of all images, once computed for each form.

        Of a million images the list alone is 67 MB of text, and each look for features asks.
        """
        form = size, interpolation, crop
        if form not in self._pack_keys:
            self._pack_keys[form] = images.pack_key(self.hashes, *form)
        return self._pack_keys[form]

    @cached_property
    def _pack_keys(self) -> dict[tuple[int, str, str], str]:
        return {}

    @cached_property
    def digests(self) -> dict[str, dict[str, Any]]:
        """Summarise the examples of each part, and of `all` of them.

        Images, or cases (count), of each class too (of positives, where a task is multi-label), and
        16 digits each for its ids, their content, labels and groups. Of all, also what tells how
        many labels and images differ, see `stats.changed_labels`.
        """
        classes = len(self.task.classes)
        content = {
            name: contents(of, self.hashes[self.where(name)]) for name, of in self.examples.items()
        }
        parts = {
            name: part_digest(of.split, content[name], classes)
            for name, of in self.examples.items()
        }
        every = join_parts(of.split for of in self.examples.values())
        ids, hashes = every.ids.tolist(), [one for of in content.values() for one in of]
        return {
            **parts,
            "all": {
                **part_digest(every, hashes, classes),
                "label_marks": label_marks(ids, plain_labels(every.labels)),
                "image_marks": label_marks(ids, hashes),
            },
        }

    def target(self, part: str) -> str:
        """Return the name under which a results folder keeps that part's ids, labels and groups."""
        return f"{self.task.name.partition(':')[0]}-{fingerprint(self.identity, part)[:16]}"

    @property
    def learnt_from(self) -> tuple[np.ndarray, np.ndarray]:
        """Return bags and groups (n,) str of all that an in-domain pretraining sees.

        The training part comes first, then the images without labels, each a bag of its own.
        """
        pool, more = self.pool, self.unlabelled
        if more is None:
            return pool.bags, pool.groups
        alone = np.array([f"unlabelled {i}" for i in range(len(more))])
        return np.concatenate([pool.bags, alone]), np.concatenate([pool.groups, more.groups])

    @property
    def pool(self) -> Split:
        """The training images."""
        return self.parts["train"]

    @cached_property
    def examples(self) -> dict[str, Examples]:
        """The examples of each part: what is labelled, drawn and scored."""
        return {name: examples_of(split, self.by) for name, split in self.parts.items()}

    def where(self, part: str) -> slice:
        """Return the rows of that part in the pack and in the features.

        Raises KeyError for a part that the task lacks.
        """
        start = 0
        for name, split in self.parts.items():
            if name == part:
                return slice(start, start + len(split))
            start += len(split)
        raise KeyError(part)


def open_task(
    task: Task,
    grid: Grid,
    cache_dir: Path,
    notes: list[Note],
    said: Sequence[Mark] = (),
) -> TaskData:
    """Find a task's images, or its phantom, and check the parts.

    grid: `data`, `by` and what it allows. notes: what a user should know is appended there. said:
    what every table must say of how its images were divided. Raises UserError where data are
    missing or partial, a group or image stands in two parts, or a class in none.
    """
    root, why_phantom = locate(task, grid.data, cache_dir)
    lacking = task.partial(root) if root is not None and task.partial else ""
    if lacking and not grid.allow_partial:
        raise UserError(
            f"{root} holds a part of {task.data}: {lacking}.",
            then="complete the download, or run with --allow-partial",
        )
    if root is not None:
        parts, data = loaded(task, root), task.data
    else:
        if task.phantom is None:
            raise UserError(
                f"The data of '{task.name}' ({task.data}) {why_phantom}, and it has no phantom.",
                then=f"medbench data list {task.name}",
            )
        parts, data = loaded(task, None), "phantom"
        task = replace(task, groups=task.phantom_groups or task.groups)
        what = f"{task.name}: {task.data} {why_phantom}, so this run uses its PHANTOM (drawn images): medbench data list {as_asked(task.name, grid.tasks)}"
        notes.append(Note("drawn", what))
    if "train" not in parts or not set(parts) <= set(PARTS):
        raise UserError(
            f"{place_of(task.load)}: {task.name}: load gives {', '.join(parts) or 'no part'}.",
            allowed=["train and test", "train, val and test"],
        )
    if grid.target not in parts:
        others = [p for p in parts if p != "train"]
        raise UserError(
            f"Task '{task.name}' has no {grid.target} part.",
            allowed=others,
            then=f"medbench run --on {others[0]}" if others else None,
        )
    parts = {name: tidy(task, name, parts[name]) for name in PARTS if name in parts}
    of_cases: list[Mark] = []
    if grid.by == CASE:
        task, parts, of_cases = label_by_case(task, parts)
    marks = [
        *said,
        *of_cases,
        # of the real images: where they come from, what is known of them
        *((task.marks or _whose(task)) if data != "phantom" else ()),
        *([Mark("partial", lacking)] if lacking else []),
        *check_parts(
            task, parts, grid.target, allow_leak=grid.allow_leak, allow_partial=grid.allow_partial
        ),
    ]
    total = sum(map(len, parts.values()))
    if data != "phantom" and task.n_images not in (None, total):
        marks.append(
            Mark(
                "remark",
                f"{total} of the {task.n_images} images of {task.data}: not the official set",
            )
        )
    flat = chain.from_iterable(split.images for split in parts.values())
    hashes = images.content_hashes(flat, cache_dir, f"reading {task.name}")
    marks += check_content(
        parts, hashes, allow_leak=grid.allow_leak, task=task, cache_dir=cache_dir
    )
    content = [
        (name, s.ids.tolist(), plain_labels(s.labels), s.groups.tolist())
        for name, s in parts.items()
    ]
    bags = [[s.bags.tolist() for s in parts.values()]] if grid.by == CASE else []
    return TaskData(
        task, data, parts, hashes, fingerprint(content, hashes, *bags), tuple(marks), by=grid.by
    )


def _whose(task: Task) -> tuple[Mark, ...]:
    """Say of a task without marks of its own that nobody knows its groups; () where they are."""
    said = "groups unknown: images of one patient may stand on both sides"
    return (Mark("remark", said),) if task.groups is None else ()


def locate(task: Task, data: str | None, cache_dir: Path) -> tuple[Path | None, str]:
    """Find where a task's data lies: `--data`, else MEDBENCH_DATA, else the cache.

    (folder, "") or (None, why not). Raises UserError for a `--data` that does not hold it: what a
    person names must not be replaced by a phantom.
    """
    if data == "phantom":
        return None, "was left aside (--data phantom)"
    if data is not None:
        root = user_path(data)
        found = task.find(root) if root.is_dir() else None
        if found is None:
            within = f": it has no folder {', '.join(task.folders)}" if task.folders else ""
            problem = (
                f"--data {data} does not hold {task.data}{within}"
                if root.is_dir()
                else f"--data {data} is not a folder"
            )
            drawn = "--data phantom, or " if task.phantom else ""
            raise UserError(f"{problem}.", then=f"{drawn}medbench data list {task.name}")
        return found, ""
    for root in data_roots(cache_dir):
        found = task.find(root)
        if found is not None:
            return found, ""
    return None, f"was not found in {' or '.join(str(root) for root in data_roots(cache_dir))}"
