"""What images say by their bytes alone: one file in two parts, or with two labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medbench.schema import Mark, Split, Task, UserError, counted, csv_cell, fingerprint
from medbench.system import atomic_write
from medbench.system.cache_folder import disk_errors

_CONFLICTS = 10  # images with two labels, that a message shows


def check_content(
    parts: Mapping[str, Split], hashes: list[str], *, allow_leak: bool, task: Task, cache_dir: Path
) -> list[Mark]:
    """Check for byte-identical images in two parts, or with two labels.

    Returns marks for what is allowed. hashes: of the content of each image, part after part. Raises
    UserError for the others. Of images with two labels the first ten are named; all stand in a CSV
    file in the cache.
    """
    where = [(part, i) for part, split in parts.items() for i in range(len(split))]
    same: dict[str, list[tuple[str, int]]] = {}
    for place, content in zip(where, hashes, strict=True):
        same.setdefault(content, []).append(place)
    copies = [places for places in same.values() if len(places) > 1]
    labels = {part: plain_labels(split.labels) for part, split in parts.items()}
    conflicts = [
        places
        for places in copies
        if any(labels[part][i] != labels[places[0][0]][places[0][1]] for part, i in places[1:])
    ]
    if conflicts and not allow_leak:
        raise _two_labels(conflicts, parts, task, cache_dir)
    n = sum(
        labels[part][i] != labels[places[0][0]][places[0][1]]
        for places in conflicts
        for part, i in places[1:]
    )
    marks = (
        [
            Mark(
                "conflict",
                f"{n} {'images are exact copies' if n != 1 else 'image is an exact copy'} of another one with another label",
            )
        ]
        if n
        else []
    )
    torn = [
        (places[0], place) for places in copies for place in places[1:] if place[0] != places[0][0]
    ]
    if not torn:
        return marks
    if not allow_leak:
        one, other = (str(parts[part].ids[i]) for part, i in torn[0])
        raise UserError(
            f"'{one}' and '{other}' are the same image in two parts ({counted(len(torn), 'such image')}): scores would be too high.",
            then="put both into one part (one group), remove one, or run with --allow-leak, which marks every table",
        )
    return [
        *marks,
        Mark("leak", f"{counted(len(torn), 'image', ('is', 'are'))} in two parts, byte for byte"),
    ]


def _two_labels(
    conflicts: Sequence[Sequence[tuple[str, int]]],
    parts: Mapping[str, Split],
    task: Task,
    cache_dir: Path,
) -> UserError:
    """Write what is told of images with two labels.

    conflicts: of each, its places: part and row.
    """
    rows = [
        (
            str(number),
            str(parts[part].ids[i]),
            part,
            str(parts[part].groups[i]),
            _label_in_words(parts[part].labels[i], task.classes),
        )
        for number, places in enumerate(conflicts, 1)
        for part, i in places
    ]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(
        [("image", "path", "part", "group", "label"), *(map(csv_cell, row) for row in rows)]
    )
    file = cache_dir / "conflicts" / f"{fingerprint(rows)[:16]}.csv"
    with disk_errors(cache_dir, len(table.getvalue())):
        file.parent.mkdir(exist_ok=True)
        atomic_write.write(
            file, lambda partial: partial.write_text(table.getvalue(), encoding="utf-8")
        )
    named = [
        [f"'{path}' ({label})" for number, path, _, _, label in rows if number == str(n)]
        for n in range(1, _CONFLICTS + 1)
    ]
    shown = "; ".join(" and ".join(files) for files in named if files) + (
        " ..." if len(conflicts) > _CONFLICTS else ""
    )
    what = f"{len(conflicts)} {'images have' if len(conflicts) != 1 else 'image has'} two labels, byte for byte the same file: {shown}. All: {file}"
    return UserError(
        what,
        then="fix the labels or remove these images, or run with --allow-leak, which marks every table",
    )


def _label_in_words(label: Any, classes: Sequence[str]) -> str:
    """`moderate`; of several `mass+edema?`, with a sign where it is uncertain."""
    if not np.ndim(label):
        return classes[int(label)]
    return (
        "+".join(
            name + ("?" if np.isnan(value) else "")
            for name, value in zip(classes, label, strict=True)
            if value != 0
        )
        or "none"
    )


def plain_labels(labels: np.ndarray) -> list[Any]:
    """Return labels as JSON values; NaN (uncertain) as None.

    labels: (N,) int, or (N, C) float with NaN.
    """
    plain: list[Any] = (
        labels if labels.ndim == 1 else np.where(np.isnan(labels), np.array(None), labels)
    ).tolist()
    return plain
