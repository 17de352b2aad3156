"""A person's CSV file as a reader of rows, whichever program wrote it.

Commas, semicolons or tabs, with or without the line that Excel puts first.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from medbench.schema import UserError, spelling
from medbench.system import file_kinds

_SAID = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's own, read by no other program
_DELIMITERS = ",;\t"
_DECIMAL = re.compile(r"[+-]?\d+(,\d+)?")


@dataclass(frozen=True, eq=False)
class CsvRows:
    """A CSV file that is read up to its header.

    delimiter: one character. skipped: lines before what the reader counts.
    """

    reader: Any  # csv.reader's type has no name
    delimiter: str
    skipped: int

    @property
    def line(self) -> int:
        """The line of the file where the row ends that was read last."""
        return int(self.reader.line_num) + self.skipped


def check_text(file: Path) -> None:
    """Raise UserError for a file that is no table of text, whatever its name says.

    Its first bytes decide, and say what it is.
    """
    with file.open("rb") as stream:
        kind = file_kinds.kind_of(stream.read(file_kinds.HEAD))
    if kind:
        raise UserError(f"{file.name} is not a CSV file, but {kind}.", then="save it as CSV UTF-8")


def check_once(file: Path, header: Sequence[str], names: Iterable[str]) -> None:
    """Raise UserError for a header in which one of these names stands twice."""
    double = next((name for name in names if header.count(name) > 1), None)
    if double is not None:
        raise UserError(f"{file} has two columns '{double:.80}'.", then="leave one of them out")


def csv_rows(stream: TextIO, column: str) -> CsvRows:
    """Read the rows of a stream that can go back, told by its header, which names `column`.

    The delimiter is what a first line `sep=;` says, else the one that cuts `column` out of the
    header, else the most frequent: in a header of semicolons names may hold commas.
    """
    head = next(filter(str.strip, stream), "")
    said = _SAID.fullmatch(head)
    if said:
        return CsvRows(csv.reader(stream, delimiter=said[1], strict=True), said[1], 1)
    stream.seek(0)
    cuts = [
        mark
        for mark in _DELIMITERS
        if mark in head and column in map(spelling, next(csv.reader([head], delimiter=mark), []))
    ]
    delimiter = cuts[0] if len(cuts) == 1 else max(_DELIMITERS, key=head.count)
    return CsvRows(csv.reader(stream, delimiter=delimiter, strict=True), delimiter, 0)


def with_points(column: Iterable[str], delimiter: str) -> list[str]:
    """Return a column's numbers with decimal points.

    Where a file of semicolons has decimal commas (as programs write them in half of Europe).

    >>> with_points(["63,5", "7", ""], ";"), with_points(["63,5", "a"], ";"), with_points(["63,500"], ",")
    (['63.5', '7', ''], ['63,5', 'a'], ['63,500'])
    """
    texts = list(column)
    if (
        delimiter != ";"
        or not any("," in text for text in texts)
        or not all(_DECIMAL.fullmatch(text) for text in texts if text)
    ):
        return texts
    return [text.replace(",", ".") for text in texts]
