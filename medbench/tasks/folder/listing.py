"""What a folder of class folders or a CSV file says: rows and columns of strings, each known to name a file. Nothing is judged here."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medbench.images import decoding
from medbench.images.hashing import check_names
from medbench.schema import PARTS, Mark, UserError, user_path

RESERVED = ("path", "label", "group", "bag", "split")
MULTI = "label:"  # of several label columns
_CALLED = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "development": "val", "testing": "test"}
_LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx"}  # and everything that starts with a dot


@dataclass
class Listing:
    """What a folder or a CSV says, before it is judged. Each column holds N strings; `where` names a row for a person."""

    root: Path
    ids: list[str]
    where: list[str]
    columns: dict[str, list[str]]  # the reserved ones that are there, `label:NAME`, and metadata
    marks: list[Mark] = field(default_factory=list)
    spelled: dict[str, str] = field(default_factory=dict)  # id -> its path on this disk, where that is another Unicode form

    def file(self, name: str) -> Path:
        return self.root / self.spelled.get(name, name)


def existing_place(argument: str) -> Path:
    """The absolute path. Raises UserError with the nearest name that does exist."""
    if not argument:
        raise UserError("folder: names no place.", allowed=["folder:PATH of a folder of class folders, or of a CSV file"])
    place = Path(os.path.abspath(user_path(argument)))
    check_names([str(place)])
    if place.is_dir() or (place.is_file() and place.suffix.lower() in (".csv", ".tsv")):
        return place
    if place.exists():
        raise UserError(f"{argument} is neither a folder nor a .csv or .tsv file.")
    while not place.parent.is_dir():
        place = place.parent
    beside = sorted(entry.name for entry in place.parent.iterdir() if not entry.name.startswith("."))
    raise UserError(f"{argument} does not exist: no '{place.name}' in {place.parent}.", allowed=beside, given=place.name)


def walk(root: Path) -> Listing:
    """Class folders, in parts or not."""
    folders = _folders(root)
    if not folders:
        then = "put the images of each class into a folder of its own, or list them in a CSV file"
        raise UserError(f"{root} holds no class folders.", then=table_in(root) or then)
    given = [name for name in PARTS if name in folders]
    strange = next((name for name in folders if name not in PARTS), None) if given else None
    if strange:
        raise UserError(f"In {root}, '{strange}' stands beside {' and '.join(given)}.", allowed=PARTS, given=meant(strange))
    part = next((name for name in folders if meant(name) in PARTS and _folders(root / name)), None)
    if part and not given:  # else it would be a class
        raise UserError(f"In {root}, '{part}' holds folders and is called like a part.", allowed=PARTS, given=meant(part), then="rename it")
    listing = Listing(root, [], [], {"label": [], **({"split": []} if given else {})})
    ignored: Counter[str] = Counter()
    for part in given or [""]:
        if not _folders(root / part):
            raise UserError(f"{root / part} holds no class folders.", then=f"put the images of each class into a folder in {part}/")
        for label in _folders(root / part):
            images = _images(root / part / label, ignored)
            if not images:
                raise UserError(f"The class folder {root / part / label} holds no image.", allowed=decoding.SUFFIXES)
            ids = [file.relative_to(root).as_posix() for file in images]
            check_names(ids)
            listing.ids += ids
            listing.where += ids
            listing.columns["label"] += [label] * len(ids)
            if part:
                listing.columns["split"] += [part] * len(ids)
    if ignored:
        what = f"{ignored.total()} files that are no images were left out ({', '.join(sorted(ignored))})"
        listing.marks.append(Mark("remark", what))
    return listing


def meant(part: str) -> str:
    """The name of ours for what is also called validation, dev or Training; other names as they are."""
    low = part.casefold()
    return low if low in PARTS else _CALLED.get(low, part)


def table_in(root: Path) -> str:
    """What a person who named a CSV file's folder does next, "" where there is none."""
    tables = sorted(file.name for file in root.glob("*.[ct]sv"))
    return f"name the CSV file: folder:{root / tables[0]}" if tables else ""


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not _left_behind(entry.name) and not _is_results(entry))


def _is_results(folder: Path) -> bool:
    """What `medbench run` itself leaves where it is started inside the data: a results folder, or a folder of them."""
    return (folder / "plan.json").is_file() or any(folder.glob("*/plan.json"))


def _left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def _images(folder: Path, ignored: Counter[str]) -> list[Path]:
    """Image files in a folder and those in it, sorted; the others are counted by suffix."""
    found, visited = [], set()
    for place, inner, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:  # a link that leads back up
            inner.clear()
            continue
        visited.add(real)
        inner[:] = [name for name in inner if not _left_behind(name)]
        for file in (Path(place, name) for name in names if not _left_behind(name)):
            if not file.exists():
                raise UserError(f"{file} is a link to nothing.", then="fetch what it names (git annex get, datalad get), or remove it")
            if _is_image(file):
                found.append(file)
            else:
                ignored[file.suffix.lower() or "no suffix"] += 1
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error


def _is_image(file: Path) -> bool:
    """Scanners name DICOM files without a suffix, or by a UID that ends in a number: these are told by their first bytes."""
    if not file.is_file():  # a pipe or a socket: opening it could wait for ever
        return False
    if not re.fullmatch(r"(\.\d+)?", file.suffix):
        return file.suffix.lower() in decoding.SUFFIXES
    with file.open("rb") as stream:
        return decoding.is_dicom(stream.read(132))


def read_csv(file: Path) -> Listing:
    columns, lines = _columns(file)
    if "path" not in columns or not any(name == "label" or name.startswith(MULTI) for name in columns):
        raise UserError(f"{file.name} needs the columns path and label (or label:NAME, several); it has: {', '.join(columns)}.")
    if not lines:
        raise UserError(f"{file.name} lists no image.")
    where = [f"{file.name} line {line}" for line in lines]
    ids = _relative(columns.pop("path"), where)
    first: dict[str, int] = {}
    named = [name for name in columns if name == "label" or name.startswith(MULTI)]
    for i, name in enumerate(ids):
        j = first.setdefault(name, i)
        if j != i:
            same = all(columns[c][i] == columns[c][j] for c in named)
            raise UserError(f"{where[i]} repeats '{name}' of line {lines[j]}{'' if same else ' with another label'}.")
    return Listing(file.parent, ids, where, columns, spelled=_check_files(file.parent, ids, where))


def _columns(file: Path) -> tuple[dict[str, list[str]], list[int]]:
    """Column name -> N stripped values, and each row's line number. Reserved names are found in upper case too."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            head = next(filter(str.strip, stream), "")
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(",;\t", key=head.count), strict=True)
            names = [name.strip() for name in next(filter(None, reader), [])]
            names = [name.lower() if name.lower() in RESERVED else name for name in names]
            rows, lines = [], []
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise UserError(f"{file.name} is not UTF-8 text (byte {error.start}).", then="save it as CSV UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{file.name} is not a CSV file: {error}.") from error
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        called = f"'{twice}'" if twice else "without a name"
        raise UserError(f"{file.name} has two columns {called}.")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise UserError(f"{file.name} line {line} has {len(row)} fields, the header {len(names)}.")
    return {name: [row[c].strip() for row in rows] for c, name in enumerate(names)}, lines


def _relative(paths: Sequence[str], where: Sequence[str]) -> list[str]:
    """POSIX paths without '.' steps. Raises UserError for one that is empty, absolute, or climbs out."""
    ids = []
    for text, line in zip(paths, where, strict=True):
        path = PurePosixPath(text.replace("\\", "/"))
        if not path.parts:
            raise UserError(f"{line} has no path.")
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", text):
            what = f"{line}: '{text}' is no relative path that stays in the CSV's folder."
            raise UserError(what, then="put the CSV file above its images, with paths relative to it")
        ids.append(path.as_posix())
    return ids


def _check_files(root: Path, ids: Sequence[str], where: Sequence[str]) -> dict[str, str]:
    """Names that this disk spells in another Unicode form (archives made on macOS do): id -> path.

    Raises UserError for files that are missing or that a link takes out of the folder. Each folder is resolved once, not each file.
    """
    real_root = root.resolve()
    inside: dict[Path, bool] = {}
    missing, spelled = [], {}
    for name, line in zip(ids, where, strict=True):
        file = root / name
        if not file.is_file():
            other = next((text for form in ("NFC", "NFD") if (root / (text := unicodedata.normalize(form, name))).is_file()), None)
            if other is None:
                missing.append(name)
                continue
            spelled[name], file = other, root / other
        start = file if file.is_symlink() else file.parent
        if start not in inside:
            inside[start] = start.resolve().is_relative_to(real_root)
        if not inside[start]:
            raise UserError(f"{line}: '{name}' leaves the CSV's folder by a symbolic link.")
    if missing:
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UserError(
            f"{len(missing)} of {len(ids)} images do not exist in {root}: {shown}.",
            then="mend their paths, which are relative to the CSV's folder, or take the lines out",
        )
    return spelled
