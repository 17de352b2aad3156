"""What a CSV file of images says: rows and columns of strings, each row known to name a file.

No label is judged here.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from array import array
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from medbench.images import leftovers
from medbench.schema import UserError, counted, csv_text, spelling
from medbench.system.csv_rows import check_text, csv_rows, with_points
from medbench.tasks.folder.listing import Listing, called_masks

RESERVED = ("path", "label", "group", "bag", "split")
MULTI = "label:"  # of several label columns


class Lines(Sequence[str]):
    """Names of rows for a person, by the lines of their file.

    The text is made when it is asked for.
    """

    def __init__(self, file: str, numbers: Sequence[int]):
        self.file, self.numbers = file, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: Any) -> Any:
        return f"{self.file} line {self.numbers[i]}"


def read_csv(file: Path) -> Listing:
    """Read the images, labels, groups and parts that a CSV file lists.

    Raises UserError for a table without the columns path and label, without a row, or with a path
    twice.
    """
    columns, lines = _columns(file)
    if "path" not in columns or not any(
        name == "label" or name.startswith(MULTI) for name in columns
    ):
        shown = ", ".join(columns)
        raise UserError(
            f"{file.name} needs the columns path and label (or label:NAME, several); "
            f"{f'it has: {shown[:300]}' + ' ...' * (len(shown) > 300) if columns else 'it is empty'}."
        )
    if not lines:
        raise UserError(f"{file.name} lists no image.")
    where = Lines(file.name, lines)
    ids = _relative(columns.pop("path"), where)
    first: dict[str, int] = {}
    named = [name for name in columns if name == "label" or name.startswith(MULTI)]
    for i, name in enumerate(ids):
        j = first.setdefault(unicodedata.normalize("NFC", name), i)
        if j != i:
            same = all(columns[c][i] == columns[c][j] for c in named)
            raise UserError(
                f"{where[i]} repeats '{name}' of line {lines[j]}{'' if same else ' with another label'}."
            )
    spelled = _check_files(file.parent, ids, where)
    _check_images(ids, where)
    return Listing(
        file.parent,
        ids,
        where,
        columns,
        called_masks([name for name in ids if leftovers.says_so(name)]),
        spelled,
    )


def _check_images(ids: Sequence[str], where: Sequence[str]) -> None:
    """Raise UserError for rows that name what a system left.

    The same for an image and one that was made of it, both listed.
    """
    left = [
        (line, name)
        for name, line in zip(ids, where, strict=True)
        if any(map(leftovers.litter, PurePosixPath(name).parts))
    ]
    if left:
        what = f"{left[0][0]}: '{left[0][1]}' is what a system leaves behind, no image of the task ({counted(len(left), 'such line')})."
        raise UserError(what, then="take the lines out")
    made = leftovers.made_of(ids)
    if made:
        one, origin = next(iter(made.items()))
        what = f"{where[ids.index(one)]}: '{one}' is called as what was made of '{origin}' ({counted(len(made), 'such line')}: masks, previews)."
        raise UserError(what, then="take the lines out; an image of its own needs another name")


def _columns(file: Path) -> tuple[dict[str, list[str]], array[int]]:
    """Column name -> N stripped values, and each row's line number.

    Reserved names are found in every spelling.
    """
    check_text(file)
    # of a million rows few have a word of their own: cell -> what it says
    said: dict[str, str] = {}
    lines = array("q")
    table = None
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = csv_rows(stream, "path")
            names = [name.strip() for name in next(filter(None, table.reader), [])]
            names = [_reserved(csv_text(name)) for name in names]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                called = f"'{twice}'" if twice else "without a name"
                raise UserError(f"{file.name} has two columns {called}.")
            if MULTI in names:
                raise UserError(
                    f"{file.name} has a column '{MULTI}' that names no class.",
                    then=f"call it {MULTI}NAME",
                )
            columns: dict[str, list[str]] = {name: [] for name in names}
            for row in filter(None, table.reader):
                if len(row) != len(names):
                    raise UserError(
                        f"{file.name} line {table.line} has {counted(len(row), 'field')}, the header {len(names)}."
                    )
                lines.append(table.line)
                for (name, column), cell in zip(columns.items(), row, strict=True):
                    if name == "path":
                        column.append(cell.strip())
                    elif cell in said:
                        column.append(said[cell])
                    else:
                        column.append(said.setdefault(cell, csv_text(cell.strip())))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file.name} is not UTF-8 text (byte {error.start}).", then="save it as CSV UTF-8"
        ) from error
    except csv.Error as error:
        line = f" line {table.line}" if table and table.line else ""
        raise UserError(
            f"{file.name}{line} is not CSV: {error}.",
            then="look for a quotation mark that is not closed" if line else "save it as CSV UTF-8",
        ) from error
    named = [name for name in names if name in RESERVED or name.startswith(MULTI)]
    return {
        name: texts if name in named else with_points(texts, table.delimiter)
        for name, texts in columns.items()
    }, lines


def _reserved(name: str) -> str:
    """Return the name of a column that means something here, whichever way it is spelled.

    Another one stays as it is.
    """
    head, colon, rest = name.partition(":")
    if colon and spelling(head) == "label":
        return MULTI + rest.strip()
    return spelling(name) if spelling(name) in RESERVED else name


def _relative(paths: Sequence[str], where: Sequence[str]) -> list[str]:
    """POSIX paths without '.' steps.

    Raises UserError for one that is empty, absolute, or climbs out.
    """
    ids = []
    for text, line in zip(paths, where, strict=True):
        path = PurePosixPath(text.replace("\\", "/"))
        if not path.parts:
            raise UserError(f"{line} has no path.")
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", text):
            what = f"{line}: '{text}' is not a relative path that stays in the CSV's folder."
            raise UserError(
                what, then="put the CSV file above its images, with paths relative to it"
            )
        if max(len(part.encode(errors="replace")) for part in path.parts) > 255 or len(text) > 4000:
            raise UserError(f"{line}: '{text[:80]}...' is longer than a file's name can be.")
        name = path.as_posix()
        ids.append(text if name == text else name)  # one string, not two
    return ids


def _check_files(root: Path, ids: Sequence[str], where: Sequence[str]) -> dict[str, str]:
    """Names that this disk spells in another Unicode form (archives made on macOS do): id -> path.

    Raises UserError for files that are missing or that a link takes out of the folder. Each folder
    is resolved once, not each file.
    """
    real_root = root.resolve()
    inside: dict[Path, bool] = {}
    missing, spelled = [], {}
    for name, line in zip(ids, where, strict=True):
        file = root / name
        if not file.is_file():
            other = next(
                (
                    text
                    for form in ("NFC", "NFD")
                    if (root / (text := unicodedata.normalize(form, name))).is_file()
                ),
                None,
            )
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
            then="fix their paths, which are relative to the CSV's folder, or take the lines out",
        )
    return spelled
