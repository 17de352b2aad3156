"""A task's data: found, checked, hashed.

Everything that could make a score too good or meaningless is refused or marked here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np

from medbench import images
from medbench.data.content_checks import check_content, plain_labels
from medbench.data.examples import Examples, contents, examples_of, label_by_case
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
    alike,
    fingerprint,
    join_parts,
    place_of,
    user_path,
    visible,
    written_by,
)
from medbench.stats import splits as sampling
from medbench.stats.changed_labels import label_marks

_PAIRS = 3  # of names, that a message shows


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task with its images found.

    hashes: content of each image, part after part in the order train, val, test, as in the pack.

    audit: what an audit of the same data found; () where none was made. unlabelled: images that
    in-domain pretraining sees beside the training part. by: what is labelled, drawn and scored, see
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
        """What every score on this task depends on: its definition and its data."""
        task = self.task
        return fingerprint(task.version, task.kind, task.classes, dict(task.settings), self.sha256)

    @cached_property
    def pixels(self) -> dict[str, dict[str, int]]:
        """The ingredients of each part's pixels, and of the training images'."""
        train = images.pixel_ingredients(self.hashes[self.where("train")])
        return {
            part: train | images.pixel_ingredients(self.hashes[self.where(part)])
            for part in self.parts
        }

    def pack_key(self, size: int, interpolation: str, crop: str = images.SQUASH) -> str:
        """`images.pack_key` of all images.

        Of a million the list alone is 67 MB of text, and each look for features asks.
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
        many labels differ, see `stats.changed_labels`.
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
        marks = label_marks(every.ids.tolist(), plain_labels(every.labels))
        return {
            **parts,
            "all": {
                **part_digest(every, [one for of in content.values() for one in of], classes),
                "label_marks": marks,
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
    """Find a task's images, or its phantom, and check the parts. Raises UserError.

    said: what every table must say of how its images were divided.
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
        parts, data = task.phantom(), "phantom"
        task = replace(task, groups=task.phantom_groups or task.groups)
        what = f"{task.name}: {task.data} {why_phantom}, so this run uses its PHANTOM (drawn images): medbench data list {task.name}"
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

    (None, why not) where it is not found.

    Raises UserError for a `--data` that does not hold it: what a person names must not be replaced
    by a phantom.
    """
    if data == "phantom":
        return None, "was left aside (--data phantom)"
    if data is not None:
        root = user_path(data)
        found = task.find(root) if root.is_dir() else None
        if found is None:
            problem = (
                f"--data {data} does not hold {task.data}"
                if root.is_dir()
                else f"--data {data} is not a folder"
            )
            raise UserError(
                f"{problem}.",
                allowed=[*task.folders, "phantom"],
                then=f"medbench data list {task.name}",
            )
        return found, ""
    for root in data_roots(cache_dir):
        found = task.find(root)
        if found is not None:
            return found, ""
    return None, f"was not found in {' or '.join(str(root) for root in data_roots(cache_dir))}"


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
                    f"{word} '{torn[0]}' is in both {a} and {b} ({len(torn)} such {word}s): scores would be too high.",
                    then="fix the split, or run with --allow-leak, which marks every table",
                )
            marks.append(Mark("leak", f"{len(torn)} {word}s are in both {a} and {b}"))
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
        if pairs:
            shown = ", ".join(
                f"{_seen(one)} and {_seen(other)}" for one, other in pairs[:_PAIRS]
            ) + (" ..." if len(pairs) > _PAIRS else "")
            looks = f"1 {word} looks" if len(pairs) == 1 else f"{len(pairs)} {word}s look"
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


def loaded(task: Task, root: Path) -> dict[str, Split]:
    """Return what a task's reader gives of the images in `root`.

    Raises UserError that names the line of its file where it fails.
    """
    with written_by(task.load, f"load of '{task.name}'"):
        parts = task.load(root)
    if not isinstance(parts, Mapping) or not all(
        isinstance(split, Split) for split in parts.values()
    ):
        given = (
            type(parts).__name__
            if not isinstance(parts, Mapping)
            else f"a {type(next(iter(parts.values()), None)).__name__} as a part"
        )
        raise UserError(
            f"{place_of(task.load)}: load gives {given}.",
            allowed=['{"train": Split(...), "test": Split(...)}'],
        )
    return dict(parts)


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
        raise wrong(f"labels that are no numbers{text}", wanted)
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
    for name, column in columns.items():
        if column.ndim == 0 or len(column) != n:
            raise wrong(f"{n} images, and {len(column) if column.ndim else 'no list of'} {name}")
    if len(set(ids.tolist())) < n:
        raise wrong("an id twice")
    if not multilabel and not set(labels.tolist()) <= set(range(len(task.classes))):
        raise wrong(f"labels that are not 0 to {len(task.classes) - 1}", wanted)
    meta = {name: columns[name] for name in split.meta}
    return Split(
        split.images, ids, labels.astype(float if multilabel else np.int64), groups, bags, meta
    )


def shows(labels: np.ndarray, c: int) -> bool:
    """Return whether an image is of class c; of a label (N, C), whether one is and one is not."""
    return (
        bool((labels == c).any())
        if labels.ndim == 1
        else bool((labels[:, c] == 1).any() and (labels[:, c] == 0).any())
    )


def part_digest(split: Split, content: Sequence[str], classes: int) -> dict[str, Any]:
    """Summarise a part in a few words, see `TaskData.digests`.

    content: what each image is. The order of images does not matter.
    """
    columns = {
        "content": content,
        "labels": plain_labels(split.labels),
        "groups": split.groups.tolist(),
    }
    named = {
        name: dict(zip(split.ids.tolist(), values, strict=True)) for name, values in columns.items()
    }
    return {
        "images": len(split),
        "classes": _counts(split.labels, classes),
        "ids": sampling.ids_hash(split.ids)[:16],
        **{name: fingerprint(values)[:16] for name, values in named.items()},
    }


def _counts(labels: np.ndarray, classes: int) -> list[int]:
    counts: list[int] = (
        np.bincount(labels, minlength=classes) if labels.ndim == 1 else (labels == 1).sum(0)
    ).tolist()
    return counts
