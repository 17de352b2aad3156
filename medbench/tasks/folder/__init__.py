"""A user's own images, without code: `folder:PATH`, where PATH is a folder of class folders or a CSV file.

Folders: `train/`, `val/`, `test/` with one folder a class in each (`val` and `test` may be missing), or the class folders alone. Folders
inside a class folder are read too. Files count as images by suffix (`images.decoding.SUFFIXES`), those with none or a number by DICOM's mark;
others are left out and counted in a mark, but for the files that systems leave behind.

CSV: UTF-8, separated by comma, semicolon or tab; `path,label[,group][,bag][,split]`, paths relative to the CSV's folder and inside it.
Several labels an image: instead of `label` two or more columns `label:NAME` with 1, 0, and blank or -1 for uncertain. Any other column
is metadata.

Parts that are missing: with nothing but `train` (or no parts at all) everything is split 70/10/20; with `train` and `val`, 20 % of train
become `test`; with `train` and `test`, no `val` is made. Groups stay whole, classes in proportion, and a mark says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import PARTS, Kind, Mark, Split, Task, TaskFamily, UserError
from medbench.stats import splits
from medbench.stats.metadata_levels import BLANK, is_missing
from medbench.tasks.folder.listing import MULTI, RESERVED, Listing, existing_place, meant, read_csv, table_in, walk

VERSION = 1
_ALL_PARTS = (0.7, 0.1, 0.2)
_TEST_FROM_TRAIN = (0.8, 0.0, 0.2)
_SPLIT_KEY = "folder 1"
_TRUTH = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": math.nan, "-1.0": math.nan, **dict.fromkeys(BLANK, math.nan)}


def open_folder(argument: str, *, ordinal: bool = False) -> Task:
    """The task of a folder or a CSV, see above. Two classes are `binary` (the second in order is positive), more `multiclass`.

    Classes are in order of their numbers where all are numbers, else of their names. ordinal: that order has a meaning. Raises UserError
    for what is wrong with names, labels and parts; torn groups and missing classes are `task_data.check_parts`' job, as for every task, and
    pixels are looked at when images are packed.
    """
    place = existing_place(argument)
    try:
        listing = read_csv(place) if place.is_file() else walk(place)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.", then="mend its permissions, or take it out") from error
    kind, classes, labels = _labels(listing, ordinal)
    whole = _split(listing, labels)
    part, made = _parts(listing, whole)
    parts = {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS) if (part == p).any()}
    grouped = "group" in listing.columns
    marks = list(listing.marks)
    if made:
        marks.append(Mark("split", f"split made by medbench: {made} by {'group' if grouped else 'image'}"))
    if not grouped:
        likely = next((f" (rename '{name}'?)" for name in listing.columns if re.search("patient|subject", name, re.IGNORECASE)), "")
        marks.append(Mark("remark", f"no group column{likely}: images of one patient may stand on both sides"))
    if kind == "ordinal":
        marks.append(Mark("remark", f"order of the classes: {' < '.join(classes)}"))
    if "test" not in parts:
        raise UserError("The split leaves no image for test.", then="add images, or groups")
    return Task(
        name=f"folder:{place.name}",
        version=VERSION,
        title=f"Images in {place.name}, {len(classes)} {'labels' if kind == 'multilabel' else 'classes'}"
        + (f", positive: {classes[1]}" if kind == "binary" else ""),
        kind=kind,
        classes=classes,
        data="phantom (a folder)" if place.name == "phantom" else place.name,  # that word alone means drawn images
        load=partial(_load, parts),
        find=partial(_find, listing.root),
        groups="group" if grouped else None,
        bags="bag" if "bag" in listing.columns else "group" if grouped else None,
        marks=tuple(marks),
        settings={"split": made or "given", "ordinal": ordinal},
    )


def _load(parts: dict[str, Split], root: Path) -> dict[str, Split]:
    return dict(parts)


def _find(place: Path, root: Path) -> Path:
    return place


def _labels(listing: Listing, ordinal: bool) -> tuple[Kind, tuple[str, ...], np.ndarray]:
    """Kind, classes, and labels (N,) int64 or (N, C) float64 with NaN = uncertain."""
    several = [name for name in listing.columns if name.startswith(MULTI)]
    if several:
        return "multilabel", *_multilabel(listing, several, ordinal)
    texts = listing.columns["label"]
    for text, line in zip(texts, listing.where, strict=True):
        if text.lower() in BLANK:
            raise UserError(f"{line} has no label ('{text}').", then="label it, or take it out")
    classes = sorted(set(texts))
    if all(map(_is_number, classes)):
        classes.sort(key=float)
    alike: dict[float | str, str] = {}
    for name in classes:
        other = alike.setdefault(float(name) if _is_number(name) else name.casefold(), name)
        if other != name:
            raise UserError(f"The labels '{other}' and '{name}' look like one class.", then="spell them alike")
    if len(classes) < (3 if ordinal else 2):
        least = "three classes for an ordinal task" if ordinal else "two classes"
        then = table_in(listing.root) if listing.where == listing.ids else None
        raise UserError(f"{listing.root.name} has {', '.join(classes)} alone; it takes at least {least}.", then=then or None)
    number = {name: c for c, name in enumerate(classes)}
    kind: Kind = "ordinal" if ordinal else "binary" if len(classes) == 2 else "multiclass"
    return kind, tuple(classes), np.array([number[text] for text in texts], np.int64)


def _multilabel(listing: Listing, several: list[str], ordinal: bool) -> tuple[tuple[str, ...], np.ndarray]:
    if ordinal:
        raise UserError("An ordinal task has one label column; this one has several.", then="run it without --ordinal")
    if len(several) == 1 or "label" in listing.columns:
        raise UserError(
            f"Either one column label, or two and more label:NAME; there is {', '.join(c for c in listing.columns if 'label' in c)}."
        )
    for name in several:
        for text, line in zip(listing.columns[name], listing.where, strict=True):
            if text.lower() not in _TRUTH:
                raise UserError(f"{line}: '{text}' in {name}.", allowed=["1", "0", "blank or -1 (uncertain)"])
    labels = np.array([[_TRUTH[text.lower()] for text in listing.columns[name]] for name in several]).T
    return tuple(name.removeprefix(MULTI) for name in several), labels


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def _split(listing: Listing, labels: np.ndarray) -> Split:
    """All images, sorted by id, so that the order of a CSV's rows changes nothing."""
    for name in ("group", "bag"):
        for text, line in zip(listing.columns.get(name, []), listing.where, strict=False):
            if text.lower() in BLANK:
                raise UserError(f"{line} has no {name}.", then=f"fill it in, or take the column {name} out")
    groups = listing.columns.get("group", listing.ids)
    whole = Split(
        images=[listing.file(name) for name in listing.ids],
        ids=np.array(listing.ids),
        labels=labels,
        groups=np.array(groups),
        bags=np.array(listing.columns.get("bag", groups)),
        meta={n: _meta(column) for n, column in listing.columns.items() if n not in RESERVED and not n.startswith(MULTI)},
    )
    return whole.take(np.argsort(whole.ids, kind="stable"))


def _meta(column: Sequence[str]) -> np.ndarray:
    """(N,) float64 with NaN = missing where all that is there are numbers, else (N,) str."""
    values = [text for text in column if not is_missing(text)]
    if values and all(map(_is_number, values)):
        return np.array([math.nan if is_missing(text) else float(text) for text in column])
    return np.array(column)


def _parts(listing: Listing, whole: Split) -> tuple[np.ndarray, str]:
    """(N,) index into PARTS, and the shares of what was split here, "" where nothing was."""
    given = dict(zip(listing.ids, listing.columns.get("split", ["train"] * len(whole)), strict=True))
    for name, line in zip(listing.columns.get("split", []), listing.where, strict=False):
        if name not in PARTS:
            raise UserError(f"{line}: unknown split '{name}'.", allowed=PARTS, given=meant(name))
    part = np.array([PARTS.index(given[i]) for i in whole.ids])
    train, val, test = ((part == p).any() for p in range(3))
    if not train:
        raise UserError(f"{listing.root.name} has no train part.", then="name a folder of class folders alone, and it is split here")
    if test:
        return part, ""
    shares = _TEST_FROM_TRAIN if val else _ALL_PARTS
    pool = np.flatnonzero(part == 0)
    part[pool] = splits.partition(whole.labels[pool], whole.groups[pool], shares, key=_SPLIT_KEY)
    return part, "/".join(f"{100 * share:.0f}" for share in shares) + (" of train" if val else "")


FOLDER = TaskFamily(
    name="folder",
    usage="folder:PATH",
    title="Your own images: class folders, or a CSV file with path and label",
    open=open_folder,
)
