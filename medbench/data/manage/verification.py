"""`data verify`, which tells whether what lies there is what the publisher gives.

Counts, hashes, every image decoded, copies, and files that nothing lists.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medbench import images
from medbench.data.content_checks import check_content
from medbench.data.reader_answers import loaded
from medbench.images import decoding, leftovers
from medbench.schema import Image, Official, Split, Task, UserError, of_class
from medbench.system import download, worker_pool
from medbench.system.progress_listener import report_progress
from medbench.tasks import _reading as reading

Counts = Mapping[str, Mapping[str, tuple[int, int | None]]]
_CHUNK = 32  # images a job
_SHOWN = 8  # of a list, in a line


@dataclass(frozen=True)
class VerificationReport:
    """What was found in `root`.

    differences: sentences; empty where nothing differs. remarks: worth knowing, no fault of the
    download. counts: row name -> column name -> (images found, official number or None where it is
    not stated). The rows are the classes, and "images" at the end; the columns the parts, what is
    stated of several parts together ("train+val"), and "all".
    """

    task: Task
    root: Path
    counts: Counts = field(default_factory=dict)
    differences: Sequence[str] = ()
    remarks: Sequence[str] = ()


def verify(
    task: Task, root: Path, cache_dir: Path, workers: int | None = None
) -> VerificationReport:
    """Compare a task's data with what its publisher says, and decode every image.

    root: the task's folder. workers: cores (all). A layout that the reader cannot read is a
    difference too: its message names what was expected and the nearest of what is there.
    """
    lacking = task.partial(root) if task.partial else ""
    wrong = [f"PARTIAL: {lacking}"] if lacking else []
    wrong += _hashes(task, root)
    try:
        with reading.as_listed():
            parts = loaded(task, root)
    except UserError as error:
        return VerificationReport(task, root, {}, [*wrong, f"LAYOUT: {error}"])
    counts = _counts(task, parts)
    wrong += _miscounts(counts)
    flat = [image for split in parts.values() for image in split.images]
    wrong += _unreadable(flat, root, workers)
    content = images.content_hashes(flat, cache_dir, f"reading {task.name}")
    copies = _copies(parts, content)
    if copies:
        wrong += _refused(task, root, cache_dir)
    remarks = [*copies, *_strays(flat, root)]
    return VerificationReport(task, root, counts, wrong, remarks)


def _hashes(task: Task, root: Path) -> list[str]:
    """Write a sentence for each file whose hash is published and differs."""
    found = []
    for item in task.downloads:
        name = item.to if not item.unpack else f"{item.to}.gz" if item.unpack == "gzip" else ""
        file = root / name
        for kind, published in (("md5", item.md5), ("sha256", item.sha256)):
            if published and name and file.is_file():
                digest = download.file_digest(file, kind, f"hashing {name}")
                if digest != published:
                    found.append(
                        f"HASH: {name} has the {kind.upper()} {digest}, published is {published}"
                    )
    return found


def _counts(task: Task, parts: Mapping[str, Split]) -> Counts:
    whole = {"all": task.n_images} if task.n_images is not None else {}
    official = Official({**whole, **task.official.images}, task.official.classes)
    joint = [
        key for key in {**official.classes, **official.images} if key not in parts and key != "all"
    ]
    table = {}
    for c, name in enumerate([*task.classes, "images"]):
        found = {
            part: len(split)
            if c == len(task.classes)
            else int(of_class(np.asarray(split.labels), c).sum())
            for part, split in parts.items()
        }
        found |= {key: sum(found.get(part, 0) for part in key.split("+")) for key in joint}
        found["all"] = sum(found[part] for part in parts)
        stated = (
            official.images
            if c == len(task.classes)
            else {key: counts[c] for key, counts in official.classes.items()}
        )
        table[name] = {column: (n, stated.get(column)) for column, n in found.items()}
    return table


def _miscounts(counts: Counts) -> list[str]:
    """Write a sentence for each column that has other numbers than the official ones."""
    found = []
    for column in next(iter(counts.values())):
        stated = {name: row[column] for name, row in counts.items() if row[column][1] is not None}
        differ = [
            f"{name} {n:,} of {official:,}"
            for name, (n, official) in stated.items()
            if n != official
        ]
        if differ:
            found.append(
                f"COUNTS: {column}: {len(differ)} of {len(stated)} are not the official ones: {_list(differ)}"
            )
    return found


class VerificationJob(NamedTuple):
    """Images `start`, `start + 1`, ... of a data set."""

    start: int
    images: list[Image]


def decode_all(job: VerificationJob) -> list[tuple[int, str]]:
    """Return the images of a job that cannot be decoded, whole and at full size: (number, why)."""
    bad = []
    for number, image in enumerate(job.images, start=job.start):
        try:
            decoding.picture(image)
        except (UserError, OSError) as error:
            bad.append((number, str(error)))
    return bad


def _unreadable(flat: Sequence[Image], root: Path, workers: int | None) -> list[str]:
    jobs = [
        VerificationJob(start, list(flat[start : start + _CHUNK]))
        for start in range(0, len(flat), _CHUNK)
    ]
    bad: list[tuple[int, str]] = []
    done = 0
    few = len(flat) < 10 * _CHUNK  # decoded sooner than workers have started
    with closing(worker_pool.run_jobs(decode_all, jobs, 1 if few else workers)) as finished:
        for job, problems in finished:
            bad += problems
            done += len(job.images)
            report_progress("decoding", done, len(flat), "images")
    if not bad:
        return []
    reasons = [why.replace(f"{root}/", "") for _, why in sorted(bad)]
    return [f"BROKEN: {len(bad)} of {len(flat):,} images cannot be decoded: {_list(reasons, '; ')}"]


def _copies(parts: Mapping[str, Split], content: Sequence[str]) -> list[str]:
    """Sentences on byte-identical images: how many, with two labels, and which."""
    places = defaultdict(list)
    labels = [label for split in parts.values() for label in np.asarray(split.labels).tolist()]
    names = [name for split in parts.values() for name in split.ids.tolist()]
    for i, digest in enumerate(content):
        places[digest].append(i)
    sets = [found for found in places.values() if len(found) > 1]
    if not sets:
        return []
    shown = [" = ".join(names[i] for i in found) for found in sets]
    torn = [found for found in sets if len({str(labels[i]) for i in found}) > 1]
    surplus = sum(len(found) - 1 for found in sets)
    lines = [f"{surplus} images are byte for byte a copy of another one: {_list(shown)}"]
    if torn:
        lines.append(
            f"{len(torn)} of these copies have two labels: {_list([' = '.join(names[i] for i in found) for found in torn])}"
        )
    return lines


def _refused(task: Task, root: Path, cache_dir: Path) -> list[str]:
    """Write a sentence for what a run refuses of copies.

    Of the parts as a run gets them: a reader that divides joins copies first.
    """
    parts = loaded(task, root)
    flat = [image for split in parts.values() for image in split.images]
    content = images.content_hashes(flat, cache_dir, f"reading {task.name}")
    marks = check_content(parts, content, allow_leak=True, task=task, cache_dir=cache_dir)
    return [f"COPIES: {mark.text}: a run refuses that" for mark in marks]


def _strays(flat: Sequence[Image], root: Path) -> list[str]:
    """Write a sentence on image files below `root` that this task does not read."""
    known = {os.path.abspath(image) for image in flat if isinstance(image, Path)}
    if not known:
        return []
    others: Counter[str] = Counter()
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not leftovers.left_behind(name)]
        names = [name for name in names if not leftovers.left_behind(name)]
        n = sum(
            name.lower().endswith(decoding.SUFFIXES)
            and os.path.abspath(os.path.join(place, name)) not in known
            for name in names
        )
        if n:
            others[os.path.relpath(place, root)] += n
    if not others:
        return []
    most = [f"{n:,} in {place}" for place, n in others.most_common()]
    return [
        f"{sum(others.values()):,} image files below the folder are not of this task: {_list(most)}"
    ]


def _list(items: Sequence[str], between: str = ", ") -> str:
    return between.join(items[:_SHOWN]) + (
        f"{between}... ({len(items)} in all)" if len(items) > _SHOWN else ""
    )
