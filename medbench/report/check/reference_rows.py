"""Rows to compare: of a results folder, or of a rows.jsonl alone.

Every line is checked, for a reference is a file that people edit and merge.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medbench.run.store import Store
from medbench.schema import Cell, ChecksumError, Row, UserError, checked, parsed
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
    try:
        # of a plan whose cells all failed
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}.") from error
    if place.is_dir():
        text = text[: text.rfind("\n") + 1]  # without the line that a killed run was writing
    wanted = {planned.fingerprint for planned in plan}
    rows: dict[Cell, Row] = {}
    lines: dict[Cell, int] = {}
    for number, line in enumerate(io.StringIO(text), 1):
        row = _row(file, number, line)
        if not wanted or row.fingerprint in wanted:
            rows.pop(row.cell, None)
            rows[row.cell], lines[row.cell] = row, number
    failed = Store(place).failures() if plan else {}
    return Given(
        file,
        rows,
        lines,
        {
            planned.cell: failed[planned.fingerprint]
            for planned in plan
            if planned.fingerprint in failed
        },
    )


#: A line that is taken out would leave its cell without a reference. What cannot be read is not
#: compared, so that --update alone would end here again.
_AGAIN = (
    "git restore {0}; or delete it and make it anew: medbench check STUDY.py --against {0} --update"
)


def _row(file: Path, number: int, line: str) -> Row:
    try:
        row = Row.from_json(parsed(line))
        _check_sketches(row.provenance)
        return row
    except ChecksumError as error:
        raise UserError(
            f"{file}, line {number}, was changed after medbench wrote it: its numbers and its checksum do not belong together.",
            then=_AGAIN.format(file),
        ) from error
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{file}, line {number}, is not a row of medbench ({error}).", then=_AGAIN.format(file)
        ) from error


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
