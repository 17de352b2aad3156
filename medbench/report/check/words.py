"""The words of a comparison: names of its cells, no two alike, and sentences on them."""

from __future__ import annotations

import re
from collections import Counter

from medbench.report.check.comparison import CellFinding, Change, Comparison
from medbench.schema import Cell

#: Said only where cells would have one name without it.
_APART = ("size", "source", "encoder")


def cell_names(comparison: Comparison) -> dict[Cell, str]:
    """Name each cell of a comparison: without the encoder, where all have the same one."""
    cells = [finding.cell for finding in comparison.findings]
    brief = len({cell.encoder for cell in cells}) == 1
    names = {cell: _name(cell, brief=brief) for cell in cells}
    for field in _APART:
        count = Counter(names.values())
        alike = {cell for cell, name in names.items() if count[name] > 1}
        values: dict[str, set[object]] = {}
        for cell in alike:
            values.setdefault(names[cell], set()).add(getattr(cell, field))
        names |= {
            cell: f"{names[cell]} {field} {getattr(cell, field)}"
            for cell in alike
            if len(values[names[cell]]) > 1
        }
    return {cell: clean(name) for cell, name in names.items()}


def _name(cell: Cell, *, brief: bool) -> str:
    extra = [
        *([cell.data] if cell.data != "phantom" and cell.data not in cell.task else []),
        *([cell.readout] if cell.readout != "pool" else []),
        *([f"pretraining {cell.pretrain_seed}"] if cell.pretrain_seed else []),
    ]
    name = str(cell)
    return " ".join([name.replace(f" {cell.encoder} ", " ", 1) if brief else name, *extra])


def clean(text: str) -> str:
    """Remove the characters that drive a terminal or that XML cannot hold."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "�", text)


def sentence(finding: CellFinding) -> str:
    """Say what became of a cell, with numbers and, where it is known, the part that moved."""
    told = [change_text(change) for change in finding.ordered[:3]]
    if finding.status == "new":
        return "new: the reference has no such cell"
    if finding.shown and finding.status == "not comparable":
        then, now, by, _ = numbers(finding.shown)
        return f"{finding.status}: {finding.reason} ({finding.shown.name} {now}, was {then}, {by})"
    part = (
        f" [{finding.explanation.part}: {finding.explanation.text}]"
        if finding.explanation and told
        else ""
    )
    return f"{finding.status}: {'; '.join(told) or finding.reason}{part}"


def change_text(change: Change) -> str:
    """Write a change as one sentence would: the metric, now, then, and by how much."""
    then, now, by, tolerance = numbers(change)
    return f"{change.name} {now}, was {then} ({by}, tolerance {tolerance})"


def numbers(change: Change) -> tuple[str, str, str, str]:
    """Return then, now, the difference and the tolerance."""
    by = "" if change.then is None or change.now is None else f"{change.now - change.then:+.4f}"
    then, now = (
        "undefined" if value is None else f"{value:.4f}" for value in (change.then, change.now)
    )
    return then, now, by, f"{change.tolerance:.4f}"
