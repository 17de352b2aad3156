"""What a folder of class folders says, as a CSV file would.

Rows and columns of strings, each known to name an image. No label is judged here.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medbench.images import decoding, frames, leftovers
from medbench.images.hashing import check_names
from medbench.schema import (
    PARTS,
    Drawn,
    FilesBelow,
    Image,
    Mark,
    UserError,
    counted,
    no_such_path,
    spelling,
    user_path,
)

UNLABELLED = "unlabelled"  # a folder, or a split, of images without labels
_CALLED = {
    "training": "train",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "development": "val",
    "testing": "test",
}


@dataclass
class Listing:
    """What a folder or a CSV says, before it is judged.

    Each column holds N strings; `where` names a row for a person.
    """

    root: Path
    ids: list[str]
    where: Sequence[str]
    columns: dict[str, list[str]]  # the reserved ones that are there, `label:NAME`, and metadata
    marks: list[Mark] = field(default_factory=list)
    # id -> its path on this disk, where that is another Unicode form
    spelled: dict[str, str] = field(default_factory=dict)

    # id -> the id of its file, and the frame, of those of several
    frames: dict[str, tuple[str, Drawn]] = field(default_factory=dict)

    def take(self, rows: Sequence[int]) -> Listing:
        """Return the listing of the images at `rows`, in that order."""
        return replace(
            self,
            ids=[self.ids[i] for i in rows],
            where=[self.where[i] for i in rows],
            columns={name: [column[i] for i in rows] for name, column in self.columns.items()},
        )

    def file(self, name: str) -> Path:
        """Return the path of the image that a table calls `name`."""
        name = self.file_id(name)
        return self.root / self.spelled.get(name, name)

    def file_id(self, name: str) -> str:
        """Return the id of the file that an image is, or is a frame of."""
        return self.frames[name][0] if name in self.frames else name

    @property
    def images(self) -> Sequence[Image]:
        """The image of each of `ids`: a path, or a frame of a file."""
        if self.frames:
            return [
                self.frames[name][1] if name in self.frames else self.file(name)
                for name in self.ids
            ]
        return FilesBelow.of(self.root, (self.spelled.get(name, name) for name in self.ids))


def existing_place(argument: str) -> Path:
    """Return the absolute path of a folder or a .csv or .tsv file.

    Raises UserError with the nearest name that does exist.
    """
    if not argument:
        raise UserError(
            "folder: names no place.",
            allowed=["folder:PATH of a folder of class folders, or of a CSV file"],
        )
    place = Path(os.path.abspath(user_path(argument)))
    check_names([str(place)])
    if _may_be_a_task(place):
        return place
    if place.exists():
        raise UserError(f"{argument} is neither a folder nor a .csv or .tsv file.")
    raise no_such_path(argument, place, _may_be_a_task)


def _may_be_a_task(place: Path) -> bool:
    return place.is_dir() or (place.is_file() and place.suffix.lower() in (".csv", ".tsv"))


def walk(root: Path, *, volumes: bool = False) -> Listing:
    """List the images of class folders, which may lie in folders of parts.

    volumes: NIfTI files are images, too. Raises UserError for a folder without class folders, and
    for one that stands beside parts without being one.
    """
    every = _folders(root)
    folders = [name for name in every if not unlabelled_word(name)]
    if not folders:
        then = "put the images of each class into a folder of its own, or list them in a CSV file"
        raise UserError(f"{root} holds no class folders.", then=table_in(root) or then)
    given = [name for name in PARTS if name in folders]
    strange = next((name for name in folders if name not in PARTS), None) if given else None
    if strange:
        raise UserError(
            f"In {root}, '{strange}' stands beside {' and '.join(given)}.",
            allowed=PARTS,
            given=meant(strange),
        )
    part = next((name for name in folders if meant(name) in PARTS and _folders(root / name)), None)
    if part and not given:  # else it would be a class
        raise UserError(
            f"In {root}, '{part}' holds folders and is called like a part.",
            allowed=PARTS,
            given=meant(part),
            then="rename it",
        )
    if not given and len(folders) == 1 and (deeper := _class_folders_below(root / folders[0])):
        raise UserError(
            f"{root} holds one folder alone, '{folders[0]}': the class folders lie in {deeper}.",
            then=f"medbench run --task {shlex.quote(f'folder:{deeper}')}",
        )
    without = [name for name in every if name not in folders]
    ids: list[str] = []
    listing = Listing(root, ids, ids, {"label": [], **({"split": []} if given or without else {})})
    seen = _Seen(volumes=volumes)
    for part in given or [""]:
        if not _folders(root / part):
            raise UserError(
                f"{root / part} holds no class folders.",
                then=f"put the images of each class into a folder in {part}/",
            )
        inside = folders if not part else _folders(root / part)
        named = part or ("train" if without else "")
        _check_classes(
            root / part,
            {label: _images(root / part / label, seen) for label in inside},
            listing,
            named,
            seen,
        )
    for name in without:
        _list(_images(root / name, seen), root / name, "", UNLABELLED, listing, seen)
    for place in {root, *(root / part for part in given)}:
        seen.left_in(place, [entry.name for entry in place.iterdir()])
    listing.marks += seen.marks()
    return listing


def _class_folders_below(place: Path, levels: int = 3) -> Path | None:
    """Return the first folder on the way down that holds several folders.

    An archive that was unpacked into a folder of its own name leads there. None where images come
    first, or none are near.
    """
    for _ in range(levels):
        inside = [name for name in _folders(place) if not unlabelled_word(name)]
        if any(_is_image(entry) for entry in place.iterdir() if entry.is_file()):
            return None
        if len(inside) > 1:
            return place
        if not inside:
            return None
        place = place / inside[0]
    return None


@dataclass
class _Seen:
    """What a walk leaves out, and why.

    Name of what a system left -> images; suffix of what is no image -> files; image -> what it was
    made of.
    """

    left: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    made: dict[str, str] = field(default_factory=dict)
    volumes: bool = False  # whether NIfTI files count as images
    # called a mask, without the image it was made of
    unsure: list[str] = field(default_factory=list)

    def left_in(self, place: Path, names: Sequence[str]) -> None:
        """Count the images in what a system left in a folder."""
        for name in names:
            kind = leftovers.left_behind(name)
            if kind and (n := leftovers.images_below(place / name)):
                self.left[kind] += n

    def marks(self) -> list[Mark]:
        """Return what every table says of them."""
        found = []
        if self.left:
            each = ", ".join(f"{name} {n}" for name, n in sorted(self.left.items()))
            found.append(
                f"{counted(self.left.total(), 'image')} in what systems leave behind {'was' if self.left.total() == 1 else 'were'} left out ({each})"
            )
        if self.made:
            one, origin = next(iter(self.made.items()))
            were = "was" if len(self.made) == 1 else "were"
            found.append(
                f"{counted(len(self.made), 'image')} that {were} made of others {were} left out (masks, previews: '{one}' of '{origin}')"
            )
        if self.ignored:
            found.append(
                f"{self.ignored.total()} files that are not images were left out ({', '.join(sorted(self.ignored))})"
            )
        return [*(Mark("remark", text) for text in found), *called_masks(self.unsure)]


def called_masks(ids: Sequence[str]) -> list[Mark]:
    """Say that images are named as masks or previews; [] where `ids` is empty.

    ids: the images' names, relative to the data's folder, for which no image lies beside them that
    they could be made of. Returns one `Mark` of kind "look", with their number and the first name.
    """
    what = f"{counted(len(ids), 'image', ('is', 'are'))} called masks or previews, with no image beside them that they were made of"
    return [Mark("look", f"{what} ('{ids[0]}')")] if ids else []


def _check_classes(
    place: Path, classes: dict[str, list[Path]], listing: Listing, part: str, seen: _Seen
) -> None:
    """List the images of the class folders in one place, without those made of others.

    Raises UserError.
    """
    inside = {
        label: {file.relative_to(place / label).as_posix(): file for file in images}
        for label, images in classes.items()
    }
    wrong = leftovers.no_class({label: list(names) for label, names in inside.items()})
    if wrong:
        what = f"{place / wrong[0]} is not a class: its images are called as those of '{wrong[1]}', and were made of them."
        raise UserError(
            what, then=f"move {wrong[0]} out of {place.name}, or rename it where it is a class"
        )
    for label, names in inside.items():
        if not _list(list(names.values()), place / label, label, part, listing, seen):
            raise UserError(
                f"The class folder {place / label} holds no image.", allowed=decoding.SUFFIXES
            )


def _list(
    files: Sequence[Path], place: Path, label: str, part: str, listing: Listing, seen: _Seen
) -> int:
    """Add the images in one folder to the listing, without those made of others.

    Return how many.
    """
    names = {file.relative_to(place).as_posix(): file for file in files}
    made = leftovers.made_of(names)
    ids = [
        file.relative_to(listing.root).as_posix()
        for name, file in names.items()
        if name not in made
    ]
    check_names(ids)
    listing.ids += ids
    listing.columns["label"] += [label] * len(ids)
    if part:
        listing.columns["split"] += [part] * len(ids)
    head = place.relative_to(listing.root)
    seen.made |= {(head / one).as_posix(): (head / origin).name for one, origin in made.items()}
    seen.unsure += [name for name in ids if leftovers.says_so(name)]
    return len(ids)


def unlabelled_word(text: str) -> bool:
    """Return whether a folder, or a split, is named as one of images without labels."""
    return spelling(text) in (UNLABELLED, "unlabeled")


def meant(part: str) -> str:
    """Return our name of a part that may also be called validation, dev or Training.

    Other names stay as they are.
    """
    low = spelling(part)
    return low if low in PARTS else _CALLED.get(low, part)


def table_in(root: Path) -> str:
    """Say what a user who named a CSV file's folder does next; "" where there is none."""
    tables = sorted(file.name for file in root.glob("*.[ct]sv"))
    return (
        f"name the CSV file: --task {shlex.quote(f'folder:{root / tables[0]}')}" if tables else ""
    )


def _folders(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not leftovers.left_behind(entry.name) and not _is_results(entry)
    )


def _is_results(folder: Path) -> bool:
    """Tell whether a folder is what `medbench run` leaves where it is started inside the data.

    A results folder, or a folder of them.
    """
    # raises an error that names it, where `is_file` would name a file that it may not hold
    os.listdir(folder)
    return (folder / "plan.json").is_file() or any(folder.glob("*/plan.json"))


def _images(folder: Path, seen: _Seen) -> list[Path]:
    """Image files in a folder and those in it, sorted; the others are counted."""
    found = []
    for place, inner, names in leftovers.folders_below(folder):
        seen.left_in(place, [*inner, *names])
        inner[:] = [name for name in inner if not leftovers.left_behind(name)]
        for file in (place / name for name in names if not leftovers.left_behind(name)):
            if not file.exists():
                raise UserError(
                    f"{file} is a link to nothing.",
                    then="fetch what it names (git annex get, datalad get), or remove it",
                )
            if _is_image(file) or (seen.volumes and frames.is_volume(file.name)):
                found.append(file)
            else:
                seen.ignored[file.suffix.lower() or "no suffix"] += 1
    return sorted(found)


def _is_image(file: Path) -> bool:
    """Scanners name DICOM files without a suffix, or by a UID that ends in a number.

    These are told by their first bytes.
    """
    if not file.is_file():  # a pipe or a socket: opening it could wait for ever
        return False
    if not re.fullmatch(r"(\.\d+)?", file.suffix):
        return file.suffix.lower() in decoding.SUFFIXES
    with file.open("rb") as stream:
        return decoding.is_dicom(stream.read(132))
