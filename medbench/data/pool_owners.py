"""Whose the images of a published pool are, as the table of its publisher has it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from medbench.schema import UserError, told
from medbench.system.csv_rows import check_text, csv_rows

#: Names that other data sets' tables have, too.
COMMON = ("train.csv", "test.csv")


@dataclass(frozen=True)
class Owners:
    """A publisher's table of a pool.

    word: what owns an image. tables: names of the files, each looked for in the pool's folder and
    beside it; the first that is there of each group counts. columns: (image, owner) as a table may
    call them.
    """

    word: str
    tables: tuple[tuple[str, ...], ...]
    columns: tuple[tuple[str, str], ...]

    def read(self, place: Path) -> dict[str, str]:
        """Return image, without its suffix -> owner; {} where no table is there.

        A file of a `COMMON` name beside the pool's folder counts only with the columns. Raises
        UserError for any other table without them, and for one that cannot be read.
        """
        found: dict[str, str] = {}
        for group in self.tables:
            here = (file for name in group for file in (place / name, place.parent / name))
            for file in filter(Path.is_file, here):
                table = self._table(file)
                if table is not None:
                    found |= table
                    break
                if file.parent == place or file.name not in COMMON:
                    raise UserError(
                        f"{file} has no column of images and one of {self.word}s.",
                        allowed=[", ".join(pair) for pair in self.columns],
                        then="download it again, or move it away",
                    )
        return found

    def _table(self, file: Path) -> dict[str, str] | None:
        """Read a table; None where it lacks the columns."""
        try:
            return self._rows(file)
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(
                f"{file} cannot be read as a CSV file in UTF-8 ({told(error)}).",
                then="download it again, or move it away",
            ) from None

    def _rows(self, file: Path) -> dict[str, str] | None:
        check_text(file)
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv_rows(stream, self.columns[0][0]).reader
            header = [name.strip() for name in next(rows, [])]
            both = next((pair for pair in self.columns if set(pair) <= set(header)), None)
            if both is None:
                return None
            image, owner = map(header.index, both)
            wide = (row for row in rows if len(row) > max(image, owner))
            return {row[image].strip(): row[owner].strip() for row in wide if row[owner].strip()}
