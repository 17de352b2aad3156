"""Cells of a reference that another cell of the study took the place of: an option changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from medbench.report.check.explanation import Explanation
from medbench.schema import Cell

#: Which part a field of a cell belongs to. A seed or a scored set replaces no other.
FIELDS: Mapping[str, str] = {
    "task": "data",
    "data": "data",
    "labels": "split",
    "method": "weights",
    "source": "weights",
    "encoder": "weights",
    "size": "preprocessing",
    "readout": "readout",
    "protocol": "probe",
}


def replaced_cells(
    gone: Sequence[Cell], fresh: Sequence[Cell]
) -> dict[Cell, tuple[Cell, Explanation]]:
    """Pair each missing cell with the one new cell that differs from it in one field alone.

    Only where it can be told: neither of the two has another partner.
    """
    partners = {cell: [other for other in fresh if _changed(cell, other)] for cell in gone}
    found = {}
    for cell, others in partners.items():
        if len(others) == 1 and sum(others[0] in of for of in partners.values()) == 1:
            name = _changed(cell, others[0])
            text = f"{name} is {getattr(others[0], name)}, was {getattr(cell, name)}"
            found[cell] = others[0], Explanation((FIELDS[name],), text)
    return found


def _changed(cell: Cell, other: Cell) -> str:
    """Return the field in which two cells differ, "" where that is none of FIELDS alone."""
    mine, theirs = asdict(cell), asdict(other)
    changed = [name for name in mine if mine[name] != theirs[name]]
    return changed[0] if len(changed) == 1 and changed[0] in FIELDS else ""
