"""What is audited: a task, or a list of files of which nothing else is known.

A task is opened even where a run refuses it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medbench import images
from medbench.data.audit_record import content_key
from medbench.data.task_data import TaskData, open_task
from medbench.images import decoding, leftovers
from medbench.schema import (
    Grid,
    Image,
    Kind,
    Note,
    UserError,
    fingerprint,
    join_parts,
    registry,
    user_path,
)
from medbench.system.csv_rows import check_text, csv_rows

_PARTS = {"train", "val", "test"}


@dataclass(frozen=True, eq=False)
class Subject:
    """Hold N images that are audited, and what is known of each.

    ids, parts, groups: (N,) str; an id may occur twice. labels: (N,) int64, or (N, C) float64 with
    NaN = uncertain, or None. hashes: of the images' content. sha256: of all of this. meta: column
    -> (N,). refused: why a run would not take it, "" where it would.
    """

    name: str
    images: Sequence[Image]
    ids: np.ndarray
    parts: np.ndarray
    groups: np.ndarray
    labels: np.ndarray | None
    kind: Kind
    classes: tuple[str, ...]
    hashes: list[str]
    sha256: str
    grouped: str = ""  # what a group is; "" where none is known
    meta: Mapping[str, np.ndarray] = field(default_factory=dict)
    refused: str = ""
    data: TaskData | None = None  # of a task

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def content(self) -> str:
        """The key under which tables of a task's images find an audit, "" of a list.

        See `audit_record.content_key`.
        """
        return content_key(self.data.digests) if self.data else ""

    def label(self, i: int) -> str:
        """Write the label of an image in words."""
        if self.labels is None:
            return ""
        if self.labels.ndim == 1:
            return self.classes[int(self.labels[i])]
        return (
            "+".join(
                name for name, value in zip(self.classes, self.labels[i], strict=True) if value == 1
            )
            or "none"
        )


def of_task(name: str, data: str | None, cache_dir: Path, **reading: Any) -> Subject:
    """Return what is audited of a task.

    data: as `--data`. reading: as `registry.task` takes it. `folder:PATH` that no run would take is
    read as a list of its images, with the reason in `refused`. Raises UserError for any other task
    that cannot be opened.
    """
    notes: list[Note] = []
    try:
        task = registry.task(name, **reading)
        opened = open_task(
            task, Grid(data=data, allow_leak=True, allow_partial=True), cache_dir, notes
        )
    except UserError as error:
        head, _, argument = name.partition(":")
        place = user_path(argument) if head == "folder" and argument else None
        # the option may be what is wrong
        if place is None or not place.exists() or any(reading.values()):
            raise
        return of_list(place, cache_dir, refused=str(error))
    return of_data(opened, refused=refusal(opened))


def refusal(data: TaskData) -> str:
    """Return why a run takes this data only with --allow-leak or --allow-partial; "" if it does."""
    return "; ".join(
        str(mark) for mark in data.marks if mark.kind in ("leak", "conflict", "partial", "absent")
    )


def of_data(data: TaskData, refused: str = "") -> Subject:
    """Return all images of an opened task, part after part, as what an audit looks at.

    refused: why a run refuses these data, "" where it does not.
    """
    task, whole = data.task, join_parts(data.parts.values())
    return Subject(
        name=task.name,
        images=whole.images,
        ids=whole.ids,
        parts=np.repeat(list(data.parts), [len(split) for split in data.parts.values()]),
        groups=whole.groups,
        labels=whole.labels,
        kind=task.kind,
        classes=task.classes,
        hashes=data.hashes,
        sha256=fingerprint(
            "data",
            data.sha256,
            task.classes,
            task.groups,
            [[name, column.astype(str).tolist()] for name, column in whole.meta.items()],
        ),
        grouped=task.groups or "",
        meta=whole.meta,
        refused=refused,
        data=data,
    )


def of_list(place: Path, cache_dir: Path, *, refused: str = "") -> Subject:
    """Return the images in a folder, or those that a .txt or .csv file lists, to be audited.

    A .txt file has one path a line, a CSV the columns path[,label][,group][,split]. Paths are
    relative to the file's folder, or absolute; a CSV may list one twice. refused: why a run would
    not take them. Raises UserError for a list that cannot be read, is empty, or names files that do
    not exist.
    """
    if place.is_dir():
        rows = _walk(place)
        root = place
    else:
        rows, root = (
            (_table(place) if place.suffix.lower() in (".csv", ".tsv") else _lines(place)),
            place.parent,
        )
    if not rows:
        raise UserError(f"{place} lists no image.", allowed=decoding.SUFFIXES)
    files = [root / row["path"] for row in rows]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} images that {place} lists do not exist: {', '.join(missing[:3])}.",
            then="paths are relative to the list's folder, or absolute",
        )
    words = [row.get("label", "") for row in rows]
    classes = tuple(sorted(set(words) - {""}))
    labelled = len(classes) > 1 and "" not in words
    hashes = images.content_hashes(files, cache_dir, f"reading {place.name}")
    parts = [row.get("split") or "all" for row in rows]
    groups = [row.get("group") or row["path"] for row in rows]
    return Subject(
        name=place.name,
        images=files,
        ids=np.array([row["path"] for row in rows]),
        parts=np.array(parts),
        groups=np.array(groups),
        labels=np.array([classes.index(word) for word in words], np.int64) if labelled else None,
        kind="multiclass" if len(classes) > 2 else "binary",
        classes=classes if labelled else (),
        hashes=hashes,
        sha256=fingerprint("list", [row["path"] for row in rows], parts, groups, words, hashes),
        grouped="group" if any(row.get("group") for row in rows) else "",
        refused=refused,
    )


def _walk(root: Path) -> list[dict[str, str]]:
    """Every image file below a folder.

    Raises OSError. A folder above it that is called train, val or test is its part.
    """
    rows = []
    for place, inner, names in leftovers.folders_below(root):
        inner[:] = sorted(name for name in inner if not leftovers.left_behind(name))
        for name in sorted(names):
            file = place / name
            if not leftovers.left_behind(name) and file.suffix.lower() in decoding.SUFFIXES:
                path = file.relative_to(root)
                part = next((step for step in path.parts[:-1] if step in _PARTS), "")
                rows.append({"path": path.as_posix(), "split": part})
    return rows


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        return [
            {"path": line.strip()}
            for line in file.read_text(encoding="utf-8-sig").splitlines()
            if line.strip()
        ]
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"{file} is not a list of paths ({type(error).__name__}).",
            then="one path a line, or a .csv with a column path",
        ) from error


def _table(file: Path) -> list[dict[str, str]]:
    check_text(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = csv_rows(stream, "path")
            names: list[str] = next(filter(None, table.reader), [])
            rows = list(csv.DictReader(stream, names, delimiter=table.delimiter))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{file} is not a CSV file of UTF-8 text ({error}).") from error
    rows = [
        {str(name).strip().lower(): (value or "").strip() for name, value in row.items() if name}
        for row in rows
    ]
    if rows and "path" not in rows[0]:
        raise UserError(
            f"{file} has no column path; it has: {', '.join(rows[0])}.",
            then="name the column with the files path",
        )
    return [row for row in rows if row["path"]]
