"""Whose the images of a published pool are, as the table of its publisher has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medbench.schema import UserError
from medbench.system.csv_rows import check_text, csv_rows


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

        Raises UserError for a table that does not hold what it should.
        """
        found: dict[str, str] = {}
        for group in self.tables:
            here = [file for name in group for file in (place / name, place.parent / name)]
            file = next((one for one in here if one.is_file()), None)
            if file is not None:
                found |= self._table(file)
        return found

    def _table(self, file: Path) -> dict[str, str]:
        check_text(file)
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv_rows(stream, self.columns[0][0]).reader
            header = [name.strip() for name in next(rows, [])]
            both = next((pair for pair in self.columns if set(pair) <= set(header)), None)
            if both is None:
                raise UserError(
                    f"{file} has no column of images and one of {self.word}s.",
                    allowed=[", ".join(pair) for pair in self.columns],
                    then="download it again, or move it away",
                )
            image, owner = map(header.index, both)
            wide = (row for row in rows if len(row) > max(image, owner))
            return {row[image].strip(): row[owner].strip() for row in wide if row[owner].strip()}
