"""What the readers of official downloads share.

Find the folder, read a table, match its rows to files, divide by group.

A download that is not as its publisher describes it gives one UserError: what was expected, what is
there, the nearest of it, what to do.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from medbench import images
from medbench.images import leftovers
from medbench.schema import PARTS, Image, Split, UserError
from medbench.stats import splits

SHARES = (0.7, 0.1, 0.2)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif")
#: True while `medbench data` looks at a download as its publisher made it.
AS_LISTED: ContextVar[bool] = ContextVar("as_listed", default=False)
_SHOWN, _ALTERNATIVES = 8, 3  # names that a message lists: of what is there, of what was expected


def folder(root: Path, names: Sequence[str], marks: Sequence[str]) -> Path | None:
    """Find the folder of a data set: `root` or one of `names` in it that holds one of `marks`.

    A mark is a file or a folder. Else a folder that has one of the names: its reader then says what
    it lacks. None where there is neither.
    """
    named = [root / name for name in names]
    holding = (place for place in (root, *named) if any((place / mark).exists() for mark in marks))
    by_name = (
        place
        for place in (*named, root)
        if place.is_dir() and (place != root or root.name in names)
    )
    return next(holding, None) or next(by_name, None)


def first_existing(root: Path, names: Sequence[str], task: str) -> Path:
    """Return the first of `names`, files or folders, that `root` holds.

    task: for the message. Raises UserError, with what is there, where it holds none.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    beside = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    raise UserError(
        f"{root} holds no {' or '.join(names[:_ALTERNATIVES])}{_near(names[0], beside)}; it holds: {_listed(beside)}.",
        then=_then(task),
    )


def read_table(
    file: Path, needed: Sequence[str], task: str, *, also: Sequence[str] = (), delimiter: str = ","
) -> dict[str, np.ndarray]:
    """Read a CSV (or .csv.gz) file: column name -> (N,) str, stripped.

    All of `needed`, and those of `also` that are there. Raises UserError for a file that is no such
    table, lacks a column, ends in the middle of a row, or lists nothing.
    """
    try:
        with (
            gzip.open(file, "rt", newline="", encoding="utf-8-sig")
            if file.suffix == ".gz"
            else file.open(newline="", encoding="utf-8-sig") as stream
        ):
            reader = csv.reader(stream, delimiter=delimiter)
            header = [name.strip() for name in next(reader, [])]
            rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{file} is not a table of UTF-8 text ({error}).", then=_then(task)
        ) from error
    lacking = [name for name in needed if name not in header]
    if lacking:
        raise UserError(
            f"{file} lacks the column '{lacking[0]}'{_near(lacking[0], header)}; it has: {_listed(header)}.",
            then=_then(task),
        )
    where = {name: header.index(name) for name in (*needed, *also) if name in header}
    last = max(where.values())
    short = next((row for row in rows if len(row) <= last), None)
    if short is not None or not rows:
        problem = f"ends in the middle of the row of '{short[0]}'" if short else "lists nothing"
        raise UserError(f"{file} {problem}.", then="download it again")
    return {name: np.array([row[c].strip() for row in rows]) for name, c in where.items()}


def metadata(
    rows: Mapping[str, np.ndarray], columns: Mapping[str, str], age: str = ""
) -> dict[str, np.ndarray]:
    """Return short name -> the column, of those of `columns` that are there.

    `columns`: short name -> column name; `age` as a number, in years.

    Each column is (N,), a value an image.
    """
    found = {short: rows[name] for short, name in columns.items() if name in rows}
    return {**found, "age": numbers(rows[age])} if age in rows else found


def numbers(column: np.ndarray) -> np.ndarray:
    """Return texts (N,) as numbers (N,) float64, NaN where there is none, or a negative one."""
    return np.array(
        [
            float(text) if text.replace(".", "", 1).isdecimal() else np.nan
            for text in column.tolist()
        ]
    )


def codes(column: np.ndarray, classes: Sequence[str], file: Path) -> np.ndarray:
    """Return the place of each text (N,) among `classes`, (N,) int64.

    file: for the message. Raises UserError for an unknown value, with the nearest class.
    """
    return values(column, {name: c for c, name in enumerate(classes)}, file).astype(np.int64)


def values(column: np.ndarray, meaning: Mapping[str, float], file: Path) -> np.ndarray:
    """Return what each text (N,) means, (N,) float64.

    file: for the message. Raises UserError for one without a meaning.
    """
    unknown = sorted(set(column.tolist()) - set(meaning))
    if unknown:
        allowed = [name or "blank" for name in meaning]
        raise UserError(
            f"{file} has the unknown label '{unknown[0]}'.", allowed=allowed, given=unknown[0]
        )
    return np.array([meaning[text] for text in column.tolist()], float)


def files(root: Path, folders: Sequence[str], task: str) -> dict[str, Path]:
    """Return the image files in folders of `root`: name without suffix -> file.

    It looks in `root/folder` for each of `folders` ("" is `root`), not deeper. A folder may be
    missing, but not all of them. Raises UserError where all are.
    """
    first_existing(root, folders, task)
    found: dict[str, Path] = {}
    for place in (root / name for name in folders):
        if place.is_dir():
            names = sorted(entry.name for entry in os.scandir(place) if is_image(entry.name))
            found.update((os.path.splitext(name)[0], place / name) for name in names)
    return found


def is_image(name: str) -> bool:
    """Return whether a file is an image, by its suffix.

    What systems leave is none: macOS a `._name.jpg` beside each image, a network disk its
    thumbnails.
    """
    return name.lower().endswith(IMAGE_SUFFIXES) and not leftovers.left_behind(name)


def walk(folder: Path) -> Iterator[Path]:
    """Yield the image files in a folder and below, without what systems leave there."""
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not leftovers.left_behind(name)]
        yield from (Path(place, name) for name in names if is_image(name))


def listed_files(
    names: Iterable[str], places: Mapping[str, Path], data: str, root: Path, task: str
) -> list[Image]:
    """Return the file of each name, in the order of the names.

    places: name -> file. data, root, task: for the message. Raises UserError that counts those
    without one.
    """
    wanted = list(names)
    return require_images(
        [places.get(name, root / name) for name in wanted],
        data,
        root,
        task,
        known=set(places.values()),
    )


def require_images(
    paths: Sequence[Path], data: str, root: Path, task: str, known: set[Path] | None = None
) -> list[Image]:
    """Return the paths, all of which exist (those in `known` are not looked for).

    Raises UserError that counts the others.
    """
    missing = [
        path for path in paths if not (path in known if known is not None else os.path.isfile(path))
    ]
    if missing:
        shown = _listed([path.relative_to(root).as_posix() for path in missing], 3)
        raise UserError(
            f"{data} in {root} lacks {len(missing)} of {len(paths)} images: {shown}.",
            then=_then(task),
        )
    return list(paths)


def once(ids: np.ndarray, file: Path) -> np.ndarray:
    """Return ids (N,) str, each of which occurs once.

    file: where they stand, for the message. Raises UserError for one that stands there twice.
    """
    names, counts = np.unique(ids, return_counts=True)
    if len(names) < len(ids):
        raise UserError(f"{file} lists '{names[counts > 1][0]}' twice.", then="download it again")
    return ids


@contextmanager
def as_listed() -> Iterator[None]:
    """Make `load` give what the publisher lists, while inside.

    Copies are not joined, none is left out, and no pixel is read for that.
    """
    token = AS_LISTED.set(True)
    try:
        yield
    finally:
        AS_LISTED.reset(token)


def divide(whole: Split, key: str, shares: Sequence[float] = SHARES) -> dict[str, Split]:
    """Divide images into train, val and test by whole groups, each class in proportion.

    key: names the split, another key gives another one. shares: of the parts, in this order. The
    order of the images does not matter. Byte-identical images are one group, so that none stands in
    two parts; where their labels differ, all of them are left out (not inside `as_listed`).
    """
    whole = whole.take(np.argsort(whole.ids, kind="stable"))
    if not AS_LISTED.get():
        whole = _settle_copies(whole)
    part = splits.partition(whole.labels, whole.groups, shares, key=key)
    return {
        name: whole.take(np.flatnonzero(part == p))
        for p, name in enumerate(PARTS[: len(shares)])
        if shares[p]
    }


def no_options(task: str, options: Mapping[str, object]) -> None:
    """Raise UserError for an option that describes a user's own folder."""
    if options:
        flags = ", ".join(f"--{name}" for name in options)
        raise UserError(
            f"{flags} describes a folder of your own; task '{task}' is what it is.",
            then=f"medbench run --task {task}",
        )


def _settle_copies(whole: Split) -> Split:
    content = images.content_hashes(whole.images, images.cache_folder())
    first: dict[str, int] = {}
    conflicts: set[str] = set()
    joined: dict[str, str] = {}

    def head(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for i, name in enumerate(content):
        j = first.setdefault(name, i)
        if i == j:
            continue
        if not np.array_equal(whole.labels[i], whole.labels[j], equal_nan=whole.labels.ndim > 1):
            conflicts.add(name)
        a, b = head(str(whole.groups[i])), head(str(whole.groups[j]))
        if a != b:
            joined[a] = b
    if not joined and not conflicts:
        return whole
    groups = np.array([head(group) for group in whole.groups.tolist()])
    kept = np.flatnonzero([name not in conflicts for name in content])
    return Split(whole.images, whole.ids, whole.labels, groups, whole.bags, whole.meta).take(kept)


def _near(word: str, found: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, found, n=1, cutoff=0.5)
    return f" (the nearest is '{near[0]}')" if near else ""


def _listed(names: Sequence[str], n: int = _SHOWN) -> str:
    return ", ".join(names[:n]) + (" ..." if len(names) > n else "") if names else "nothing"


def _then(task: str) -> str:
    return f"medbench data list {task}"
