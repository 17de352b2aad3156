"""Rows to compare: of a results folder, or of a rows.jsonl alone.

Every line is checked, for a reference is a file that people edit and merge.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from medbench.run.store import Store
from medbench.schema import Cell, ChecksumError, Row, UserError, checked, has_checksum, parsed
from medbench.stats.array_sketch import PROJECTIONS


@dataclass(frozen=True)
class Given:
    """Hold rows to compare.

    rows: one for each cell, in the order of the file, the last where there are several. lines: of
    each in its file, from 1. failures: why a cell has no row. file: where they were read.
    """

    file: Path
    rows: Mapping[Cell, Row]
    lines: Mapping[Cell, int] = field(default_factory=dict)
    failures: Mapping[Cell, str] = field(default_factory=dict)


class DamagedReference(UserError):
    """A reference cannot be read whole. `--update` replaces it; nothing else may pass over it.

    file, line: where, for an annotation.
    """

    def __init__(self, what: str, *, then: str, file: Path, line: int = 1):
        super().__init__(what, then=then)
        self.file, self.line = file, line


def read_rows(
    place: Path, then: str = "medbench run --out FOLDER writes FOLDER/rows.jsonl"
) -> Given:
    """Read the rows of a results folder (those of its plan, where it has one) or of a file.

    Raises UserError; then: what it says to do next where there are none.
    """
    plan = Store(place).plan().cells if place.is_dir() else ()
    file = place / "rows.jsonl" if place.is_dir() else place
    if not file.is_file() and not plan:
        raise UserError(f"There are no rows in {place}.", then=then)
    # of a plan whose cells all failed
    text = _text(file) if file.exists() else ""
    if place.is_dir():
        text = text[: text.rfind("\n") + 1]  # without the line that a killed run was writing
    wanted = {planned.fingerprint for planned in plan}
    rows: dict[Cell, Row] = {}
    lines: dict[Cell, int] = {}
    for number, line in enumerate(io.StringIO(text), 1):
        row = _row(file, number, line, "remove that line, and the run that wrote it makes it again")
        if not wanted or row.fingerprint in wanted:
            rows.pop(row.cell, None)
            rows[row.cell], lines[row.cell] = row, number
    failed = Store(place).failures() if plan else {}
    lacking = {
        planned.cell: f"it failed: {failed[planned.fingerprint]}"
        if planned.fingerprint in failed
        else "its run did not finish"
        for planned in plan
        if planned.cell not in rows
    }
    return Given(file, rows, lines, lacking)


def read_reference(file: Path, update: str, *, replaced: bool = False) -> tuple[Given, str]:
    """Read a reference, and say what is damaged in it: "" where it is whole.

    update: the command that replaces it. replaced: whether this command does so, and takes of a
    damaged one the lines that are whole. Raises DamagedReference, else.
    """
    rows: dict[Cell, Row] = {}
    lines: dict[Cell, int] = {}
    damage: DamagedReference | None = None
    then = f"git restore {file}, or replace it: {update}"
    try:
        text = _text(file)
    except UserError as error:
        damage, text = DamagedReference(str(error), then=then, file=file), ""
    signed = any(map(has_checksum, io.StringIO(text)))  # references of an older medbench: none
    for number, line in enumerate(io.StringIO(text), 1):
        try:
            row = _row(file, number, line, then, update)
            if signed and not has_checksum(line):
                what = f"{file}, line {number}, has no checksum, which medbench wrote in other lines: it was changed or added by hand."
                raise DamagedReference(what, then=then, file=file, line=number)
            if row.cell in rows:
                what = f"{file}, line {number}, holds the same cell as line {lines[row.cell]} ({row.cell})"
                raise DamagedReference(
                    f"{what}: it is not known which one counts.", then=then, file=file, line=number
                )
        except DamagedReference as error:
            damage = damage or error
            continue
        rows[row.cell], lines[row.cell] = row, number
    if not rows and damage is None:
        damage = DamagedReference(f"The reference {file} holds no row.", then=then, file=file)
    if damage and not replaced:
        raise damage
    return Given(file, rows, lines), str(damage or "").partition(" Next: ")[0]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} cannot be read: it is no text in UTF-8.") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error


_CONFLICT = tuple(7 * character for character in "<=>|")


def _row(file: Path, number: int, line: str, then: str, update: str = "") -> Row:
    """Read one line. Raises DamagedReference, which says what the line is instead of a row.

    update: the command that replaces a reference. git restores no file that is not merged.
    """
    where = f"{file}, line {number},"
    damaged = partial(DamagedReference, file=file, line=number)
    if line.startswith(_CONFLICT):
        what = f"{where} is a git conflict marker: two versions of the file were not merged."
        merged = (
            f"git checkout --ours {file} (or --theirs); if both sides changed it, then: {update}"
        )
        raise damaged(what, then=merged if update else then)
    if not line.strip():
        raise damaged(f"{where} is empty.", then=then)
    try:
        row = Row.from_json(parsed(line))
        _check_sketches(row.provenance)
        return row
    except ChecksumError as error:
        what = f"{where} was changed after medbench wrote it: its numbers and its checksum do not match."
        raise damaged(what, then=then) from error
    except json.JSONDecodeError as error:
        cut = not line.rstrip().endswith("}")
        what = f"{where} is cut off." if cut else f"{where} is not a row of medbench (no JSON)."
        raise damaged(what, then=then) from error
    except (ValueError, TypeError) as error:
        what = f"{where} is not a row of medbench ({error})."
        raise damaged(what, then=then) from error


_SKETCHES = ("tensors", "pixels", "input", "features", "probabilities")


def _check_sketches(provenance: Mapping[str, Any]) -> None:
    """Check that what a row says of its stages is what is compared.

    Raises TypeError or ValueError.
    """
    stages = [provenance.get("scores", {})]
    for made in provenance.get("features", []):
        checked(made or {}, {}, "features")
        stages.append((made or {}).get("checks", {}))
    for stage in stages:
        checked(stage, {}, "checks")
        checked(
            stage, {name: list for name in (*_SKETCHES, "channel_means") if name in stage}, "checks"
        )
        for name, numbers in ((name, stage[name]) for name in _SKETCHES if name in stage):
            if len(numbers) != 1 + PROJECTIONS or not all(
                type(number) in (int, float) for number in numbers
            ):
                raise ValueError(f"its sketch of {name} is {numbers!r:.60}")
