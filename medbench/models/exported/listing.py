"""The image files that a user names: a folder, or a CSV file."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from medbench.images import decoding, leftovers
from medbench.images.hashing import check_names
from medbench.schema import UserError, spelling
from medbench.system.csv_rows import check_once, check_text, csv_rows

_KINDS = 4  # of files that are no images, which are named


@dataclass(frozen=True)
class Listed:
    """One image: what the predictions call it, and its file."""

    id: str
    file: Path


class Listing(NamedTuple):
    """images of a folder or a CSV file; others: files of the folder that are no images."""

    images: list[Listed]
    others: Sequence[str] = ()

    @property
    def passed_over(self) -> str:
        """Say how many files were passed over, and which kinds; "" where none was."""
        if not self.others:
            return ""
        kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in self.others)
        shown = [f"{n} {kind}" for kind, n in kinds.most_common(_KINDS)]
        more = [f"{len(kinds) - _KINDS} more kinds"] if len(kinds) > _KINDS else []
        one = len(self.others) == 1
        return (
            f"{len(self.others)} file{' is' if one else 's are'} passed over, no image{'' if one else 's'} by name: "
            f"{', '.join([*shown, *more])}; first {self.others[0]}"
        )


def listed(place: Path) -> Listing:
    """List the images of a folder or a CSV file.

    Of a folder sorted, named by their path in it; of a CSV file with a column `path`, from its own
    folder on, named by its column `id` or as `path` says. Raises UserError where there are none, or
    two have one name.
    """
    others: Sequence[str] = ()
    if place.is_dir():
        found, others = _of_folder(place)
    elif place.is_file() and place.suffix.lower() in (".csv", ".tsv"):
        found = _of_csv(place)
    else:
        raise UserError(
            f"{place} is neither a folder of images nor a CSV file.",
            then="name a folder, or a .csv with a column 'path'",
        )
    check_names(str(one.file) for one in found)
    if not found:
        passed = Listing([], others).passed_over
        raise UserError(
            f"{place} names no image{passed and f' ({passed})'}.",
            allowed=[f"*{suffix}" for suffix in decoding.SUFFIXES],
        )
    double = next((name for name, n in Counter(one.id for one in found).items() if n > 1), None)
    if double is not None:
        raise UserError(
            f"{place} names two images '{double}'.",
            then="give each an id of its own in a column 'id'",
        )
    return Listing(found, others)


def _of_folder(place: Path) -> tuple[list[Listed], list[str]]:
    """Return its images, and the names of what is none. What systems leave counts as neither."""
    found: list[Path] = []
    others: list[Path] = []
    for folder, inner, names in leftovers.folders_below(place):
        inner[:] = [name for name in inner if not leftovers.left_behind(name)]
        files = (folder / name for name in names if not leftovers.left_behind(name))
        for file in files:
            (found if _is_image(file) else others).append(file)
    names = [file.relative_to(place).as_posix() for file in sorted(others)]
    return [Listed(file.relative_to(place).as_posix(), file) for file in sorted(found)], names


def _is_image(file: Path) -> bool:
    """Tell whether a file is an image by its name or its first bytes.

    Scanners name DICOM files without a suffix, or by a number. A link to nothing is an image that
    cannot be read; a pipe or a socket is none, and opening it could wait for ever.
    """
    if file.exists() and not file.is_file():
        return False
    if re.fullmatch(r"(\.\d+)?", file.suffix) and file.is_file():
        with file.open("rb") as stream:
            return decoding.is_dicom(stream.read(decoding.HEAD))
    return file.suffix.lower() in decoding.SUFFIXES


def _of_csv(place: Path) -> list[Listed]:
    check_text(place)
    try:
        with place.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv_rows(stream, "path")
            header = list(map(spelling, next(rows.reader, [])))
            if "path" not in header:
                raise UserError(f"{place} has no column 'path'.", allowed=["path", "id"])
            check_once(place, header, ("path", "id"))
            wanted, called = header.index("path"), header.index("id" if "id" in header else "path")
            found = []
            for row in rows.reader:
                if len(row) != len(header) and row:
                    raise UserError(
                        f"{place}, line {rows.line}: {len(row)} cells under {len(header)} columns."
                    )
                if row and "\0" in row[wanted]:
                    raise UserError(f"{place}, line {rows.line}: a path cannot hold a zero byte.")
                if row:
                    found.append(Listed(row[called], place.parent / row[wanted]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{place} cannot be read as CSV ({error}).", then="save it as CSV in UTF-8"
        ) from error
    return found
