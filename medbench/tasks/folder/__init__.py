"""A user's own images, without code: `folder:PATH`.

PATH is a folder of class folders or a CSV file. Folders: `train/`, `val/`, `test/` with one folder
a class in each (`val` and `test` may be missing), or the class folders alone. Folders inside a
class folder are read too. Files count as images by suffix (`images.decoding.SUFFIXES`), those with
none or a number by DICOM's mark; others are left out and counted in a mark, but for the files that
systems leave behind.

CSV: UTF-8, separated by comma, semicolon or tab; `path,label[,group][,bag][,split]`, paths relative
to the CSV's folder and inside it. Several labels an image: instead of `label` two or more columns
`label:NAME` with 1, 0, and blank or -1 for uncertain. Any other column is metadata.

Images without a label lie in a folder `unlabelled/` beside the parts or the classes, or have it as
their split, where their label may be empty: in-domain pretraining alone sees them.

Names of columns, classes, groups and bags are compared by `schema.spelling`: two spellings of one
class are refused here, two of one patient by `part_checks.check_parts`. Nothing is joined: only the
person who made the table knows whether 007 and 7 are one patient.

Parts that are missing: with nothing but `train` (or no parts at all) everything is split 70/10/20;
with `train` and `val`, 20 % of train become `test`; with `train` and `test`, no `val` is made.
Groups stay whole, classes in proportion, and a mark says so. Of what is split here copies of a file
are one group, and the groups that they stand in are joined; a split that was given is left as it
is, and refused where it parts copies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medbench import images
from medbench.schema import (
    PARTS,
    Mark,
    Split,
    Task,
    TaskFamily,
    Unlabelled,
    UserError,
    is_plain,
    spelling,
)
from medbench.stats import splits
from medbench.stats.metadata_levels import is_missing
from medbench.tasks._joined_groups import joined
from medbench.tasks.folder.class_order import is_number
from medbench.tasks.folder.csv_listing import MULTI, RESERVED, read_csv
from medbench.tasks.folder.file_frames import with_frames
from medbench.tasks.folder.listed_labels import labels_of
from medbench.tasks.folder.listing import (
    UNLABELLED,
    Listing,
    existing_place,
    meant,
    unlabelled_word,
    walk,
)

VERSION = 1
_ALL_PARTS = (0.7, 0.1, 0.2)
_TEST_FROM_TRAIN = (0.8, 0.0, 0.2)
_SPLIT_KEY = "folder 1"
_PATIENT = re.compile(r"patient|subject|person|^groups$|^mrn$|^pid$", re.IGNORECASE)
#: What people write for a patient whom nobody knows, beside the words for missing values.
_NOBODY = {"none", "missing", "?", "-", "--", ".", "anonymous", "anonymized", "anonymised"}
#: Programs that count in floats print a long number so: digits of it are lost, and several patients
#: may have become one.
_ROUNDED = re.compile(r"[+-]?\d([.,]\d+)?E\+\d+", re.IGNORECASE)


def open_folder(
    argument: str, *, ordinal: bool = False, order: Sequence[str] = (), frames: int = 0
) -> Task:
    """Open the task of a folder or a CSV file of a user's own images.

    Two classes are `binary` (the second in order is positive), more `multiclass`. Classes are in
    order of their numbers where all are numbers, else of their names. ordinal: they have an order
    that means something, that of `class_order`. order: from least to most, by name, which says that
    they are ordinal, too. frames: to take of a file with several. Where the split is made here,
    files of one size are read, to join copies.

    Raises UserError for what is wrong with names, labels and parts; torn groups and missing classes
    are `part_checks.check_parts`' job, as for every task, and pixels are looked at when images are
    packed.
    """
    place = existing_place(argument)
    listing, unlabelled = _apart(listing_of(argument, frames))
    ordinal = ordinal or bool(order)
    kind, classes, labels = labels_of(listing, ordinal, order)
    whole = _split(listing, labels)
    grouped = "group" in listing.columns
    part, shares = _given_parts(listing, whole)
    marks = (
        [Mark("remark", f"order of the classes: {' < '.join(classes)}")]
        if kind == "ordinal"
        else []
    )
    marks += listing.marks
    told: list[Mark] = []
    if shares:
        pool = np.flatnonzero(part == 0)
        whole, told = _copies_joined(listing, whole, pool)
        part[pool] = splits.partition(
            whole.labels[pool], whole.groups[pool], shares, key=_SPLIT_KEY
        )
        made = "/".join(f"{100 * share:.0f}" for share in shares) + (
            " of train" if shares == _TEST_FROM_TRAIN else ""
        )
        marks += [
            Mark("split", f"split made by medbench: {made} by {'group' if grouped else 'image'}"),
            *told,
        ]
    parts = {
        name: whole.take(np.flatnonzero(part == p))
        for p, name in enumerate(PARTS)
        if (part == p).any()
    }
    if not grouped:
        likely = next(
            (f" (rename '{name}'?)" for name in listing.columns if _PATIENT.search(name)), ""
        )
        marks.append(
            Mark(
                "remark", f"no group column{likely}: images of one patient may stand on both sides"
            )
        )
    if "test" not in parts:
        raise UserError(
            f"The split leaves no image for test.{''.join(f' {mark.text}.' for mark in told)}",
            then="add images, or groups",
        )
    _check_names([place.name, *classes])
    return Task(
        name=f"folder:{place.name}",
        version=VERSION,
        title=f"Images in {place.name}, {len(classes)} {'labels' if kind == 'multilabel' else 'classes'}"
        + (f", positive: {classes[1]}" if kind == "binary" else ""),
        kind=kind,
        classes=classes,
        # that word alone means drawn images
        data="phantom (a folder)" if place.name == "phantom" else place.name,
        load=partial(_load, parts),
        find=partial(_find, listing.root),
        groups="group" if grouped else None,
        bags="bag" if "bag" in listing.columns else "group" if grouped else None,
        marks=tuple(marks),
        settings={
            "split": made if shares else "given",
            "ordinal": ordinal,
            **({"frames": frames} if listing.frames else {}),
        },
        unlabelled=unlabelled,
    )


def _check_names(names: Sequence[str]) -> None:
    """Raise UserError for a name with control characters.

    Tables, files and figures would have to leave them out.
    """
    for name in names:
        if not is_plain(name):
            raise UserError(
                f"The name {name!r:.80} holds control characters.",
                then="rename that class or folder",
            )


def listing_of(argument: str, frames: int = 0) -> Listing:
    """Return what a folder or a CSV file says of its images; labels and parts are not judged yet.

    argument: the path. frames: to take of a file with several; 0: such a file is one image. Raises
    UserError for a place that is none, or cannot be read.
    """
    place = existing_place(argument)
    try:
        found = read_csv(place) if place.is_file() else walk(place, volumes=frames > 0)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read: {error.strerror}.",
            then="fix its permissions, or take it out",
        ) from error
    return with_frames(found, frames) if frames else found


def _load(parts: dict[str, Split], root: Path) -> dict[str, Split]:
    return dict(parts)


def _find(place: Path, root: Path) -> Path:
    return place


def _apart(listing: Listing) -> tuple[Listing, Unlabelled | None]:
    """Divide what is listed into images with labels, and those that say they have none.

    A label that stands there is not read.
    """
    given = listing.columns.get("split", [])
    without = [i for i, word in enumerate(given) if unlabelled_word(word)]
    if not without:
        return listing, None
    rest = sorted(set(range(len(listing.ids))) - set(without))
    if not rest:
        raise UserError(
            f"{listing.root.name} has unlabelled images alone.",
            then="give them with --unlabelled, to a task that has labels",
        )
    apart = listing.take(without)
    groups = (
        np.array([group or own for group, own in zip(named, apart.ids, strict=True)])
        if (named := apart.columns.get("group"))
        else None
    )
    return listing.take(rest), Unlabelled(UNLABELLED, apart.images, np.array(apart.ids), groups)


def _split(listing: Listing, labels: np.ndarray) -> Split:
    """All images, sorted by id, so that the order of a CSV's rows changes nothing."""
    for name in ("group", "bag"):
        _check_named(name, listing)
    _check_bags(listing)
    groups = listing.columns.get("group", [listing.file_id(name) for name in listing.ids])
    whole = Split(
        images=listing.images,
        ids=np.array(listing.ids),
        labels=labels,
        groups=np.array(groups),
        bags=np.array(listing.columns.get("bag", groups)),
        meta={
            n: _meta(column)
            for n, column in listing.columns.items()
            if n not in RESERVED and not n.startswith(MULTI)
        },
    )
    return whole.take(np.argsort(whole.ids, kind="stable"))


def _check_named(column: str, listing: Listing) -> None:
    """Raise UserError for a row without a group or a bag, and for a number that lost digits."""
    for text, line in zip(listing.columns.get(column, []), listing.where, strict=False):
        if is_missing(text) or text.casefold() in _NOBODY:
            what = f"{line} has no {column}{f' ({text!r})' if text else ''}."
            raise UserError(
                what,
                then=f"fill it in (an image of its own gets a name of its own), or take the column {column} out",
            )
        if _ROUNDED.fullmatch(text):
            what = f"{line}: the {column} '{text}' is a rounded number, which several may share."
            raise UserError(
                what, then=f"write the column {column} as text, from where it was whole"
            )


def _check_bags(listing: Listing) -> None:
    """Raise UserError for a bag of two groups.

    As where the lesions of each patient are called 1, 2, 3: they would be one lesion.
    """
    first: dict[str, str] = {}
    columns = (listing.columns.get("bag", []), listing.columns.get("group", []), listing.where)
    for bag, group, line in zip(*columns, strict=False):
        other = first.setdefault(bag, group)
        if other != group and spelling(other) != spelling(group):
            what = f"{line}: the bag '{bag}' stands in the groups '{other}' and '{group}', and a bag is of one."
            raise UserError(what, then=f"name bags by their group, too: {group}-{bag}")


def _meta(column: Sequence[str]) -> np.ndarray:
    """(N,) float64 with NaN = missing where all that is there are numbers, else (N,) str."""
    values = [text for text in column if not is_missing(text)]
    if values and all(map(is_number, values)):
        return np.array([math.nan if is_missing(text) else float(text) for text in column])
    return np.array(column)


def _given_parts(listing: Listing, whole: Split) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return the part of each image as it is given, and the shares still to be divided in.

    (N,) index into PARTS; the shares are of the train part, () where it is not to be divided.
    """
    given = dict(
        zip(listing.ids, listing.columns.get("split", ["train"] * len(whole)), strict=True)
    )
    for name, line in zip(listing.columns.get("split", []), listing.where, strict=False):
        if name not in PARTS:
            raise UserError(
                f"{line}: unknown split '{name}'.", allowed=[*PARTS, UNLABELLED], given=meant(name)
            )
    part = np.array([PARTS.index(given[i]) for i in whole.ids])
    train, val, test = ((part == p).any() for p in range(3))
    if not train:
        raise UserError(
            f"{listing.root.name} has no train part.",
            then="name a folder of class folders alone, and it is split here",
        )
    return part, () if test else _TEST_FROM_TRAIN if val else _ALL_PARTS


def _copies_joined(listing: Listing, whole: Split, pool: np.ndarray) -> tuple[Split, list[Mark]]:
    """Join images at `pool` (n,) that are byte for byte the same into one group.

    Also returns what a reader must know of it. Only files of one size are read. Bags stay: what a
    user called one lesion is one.
    """
    sizes = np.array([listing.file(name).stat().st_size for name in whole.ids[pool]])
    values, counts = np.unique(sizes, return_counts=True)
    read = pool[np.isin(sizes, values[counts > 1])]
    if not len(read):
        return whole, []  # and no cache is needed
    content = images.content_hashes(
        (whole.images[i] for i in read), images.cache_folder(), f"reading {listing.root.name}"
    )
    first: dict[str, str] = {}
    pairs = [
        (head, i)
        for i, sha256 in zip(whole.ids[read].tolist(), content, strict=True)
        if (head := first.setdefault(sha256, i)) != i
    ]
    if not pairs:
        return whole, []
    groups = joined(whole.ids, whole.groups, pairs)
    counted = (
        "1 image is an exact copy" if len(pairs) == 1 else f"{len(pairs)} images are exact copies"
    )
    what = f"{counted} of another. Copies share a group, so they are in the same part."
    marks = [Mark("remark", what)]
    before, after = (len(np.unique(names)) for names in (whole.groups, groups))
    if "group" in listing.columns and after < before:
        (one, other), files = next(
            (names, pair)
            for names, pair in zip(_groups_of(whole, pairs), pairs, strict=True)
            if names[0] != names[1]
        )
        what = f"{before} groups became {after}, because '{one}' and '{other}' share an identical image ({' = '.join(files)}): are they one patient?"
        marks.append(Mark("look", what))
    return replace(whole, groups=groups), marks


def _groups_of(whole: Split, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    group = dict(zip(whole.ids.tolist(), whole.groups.tolist(), strict=True))
    return [(group[one], group[other]) for one, other in pairs]


FOLDER = TaskFamily(
    name="folder",
    usage="folder:PATH",
    title="Your own images: class folders, or a CSV file with path and label",
    open=open_folder,
)
