"""Findings of encoders as a table, a CSV and a JSON file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medbench.audit.features.metadata_probe import Auc
from medbench.audit.features.metadata_survey import ColumnFinding
from medbench.schema import csv_cell
from medbench.stats.number_format import NONE, estimate_text, number_text

if TYPE_CHECKING:
    from rich.console import RenderableType

CITATION = "robustness index: PathoROB, arXiv:2507.17845, and de Jong et al. 2025, arXiv:2501.18055; Cramér's V: Bergsma 2013, J Korean Stat Soc 42:323"


@dataclass(frozen=True)
class Examined:
    """What one encoder's features tell of one task's metadata.

    data: `phantom` or the data set's name. weights: as tables call them. size: px. images: how many
    were looked at. findings: one a column.
    """

    task: str
    data: str
    method: str
    source: str
    weights: str
    encoder: str
    readout: str
    size: int
    images: int
    findings: tuple[ColumnFinding, ...]


def findings_terminal(examined: Sequence[Examined], k: int, part: str) -> list[RenderableType]:
    """Draw a table per encoder, and say what its columns mean."""
    from rich.table import Table
    from rich.text import Text

    shown: list[RenderableType] = []
    remarks: dict[str, None] = {}
    for one in examined:
        where = "PHANTOM: drawn images" if one.data == "phantom" else one.data
        table = Table(
            title=f"{one.task} ({where}), {part}: {one.method} ({one.weights}), {one.encoder} at {one.size} px",
            title_justify="left",
        )
        several = any(finding.label for finding in one.findings)
        names = [
            "column",
            *(["label"] if several else []),
            "V",
            "AUC column",
            "AUC class",
            "index",
            "expected",
            "difference",
            "shortcut",
        ]
        for name in names:
            table.add_column(
                name, justify="left" if name in ("column", "label", "shortcut") else "right"
            )
        for finding in one.findings:
            index = finding.index
            cells = [
                finding.column,
                *([finding.label] if several else []),
                number_text(finding.cramers_v, ".2f"),
            ]
            cells += [_interval(finding.column_auc), _interval(finding.class_auc)]
            cells += (
                [number_text(index.value, ".2f"), number_text(index.expected, ".2f")]
                if index
                else [NONE, NONE]
            )
            cells += [
                estimate_text(index.difference, index.difference_low, index.difference_high, "+.2f")
                if index
                else NONE,
                _SHOWN[finding.verdict],
            ]
            table.add_row(*map(Text, cells))
            what = (
                f"{finding.column}: {', '.join(finding.values)}"
                if len(finding.values) > 1
                else finding.column
            )
            missing = [f"{finding.missing} missing"] if finding.missing else []
            plain = [
                note.text for note in finding.notes if not (several and note.kind == "confounded")
            ]
            remarks.setdefault("; ".join([what, *missing, *plain]))
        shown.append(table)
    shown += [Text(line) for line in remarks]
    shown.append(
        Text(
            f"V: Cramér's V of column and class, chance taken off. AUC: of a linear probe on images of groups that it has not seen. index: of the {k} nearest "
            "neighbours in other groups, those with the class and another value, among these and those with the value and another class (1: the class "
            "alone counts, 0: the column alone). expected: the same if the column played no part. difference with its whole interval below 0: "
            "a shortcut lies ready. 95 % intervals over groups."
        )
    )
    shown.append(Text(CITATION))
    return shown


def finding_records(examined: Sequence[Examined]) -> list[dict[str, Any]]:
    """Return a flat record per finding, JSON values."""
    rows = []
    for one in examined:
        head = {
            name: getattr(one, name)
            for name in (
                "task",
                "data",
                "method",
                "source",
                "weights",
                "encoder",
                "readout",
                "size",
            )
        }
        for finding in one.findings:
            found = finding.to_json()
            flat: dict[str, Any] = {}
            for name, value in found.items():
                if name in ("column_auc", "class_auc", "index"):
                    fields = value or {}
                    keys = ("value", "low", "high") if name != "index" else _INDEX
                    flat.update(
                        {
                            name if key == "value" else f"{name}_{key}": fields.get(key)
                            for key in keys
                        }
                    )
                else:
                    flat[name] = " | ".join(value) if isinstance(value, list) else value
            rows.append({**head, **flat})
    return rows


_SHOWN = {
    "follows the column": "yes",
    "no shortcut shown": "not shown",
    "away from the column": "the reverse",
    "-": "–",
}
_INDEX = (
    "k",
    "value",
    "low",
    "high",
    "expected",
    "difference",
    "difference_low",
    "difference_high",
)


def to_csv(examined: Sequence[Examined]) -> str:
    """Write a line per finding; undefined is empty."""
    rows = finding_records(examined)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def to_json(examined: Sequence[Examined], part: str) -> str:
    """Write {"part", "citation", "encoders": [{..., "findings": [...]}]}; undefined is null."""
    encoders = [
        {**one.__dict__, "findings": [finding.to_json() for finding in one.findings]}
        for one in examined
    ]
    return (
        json.dumps(
            {"part": part, "citation": CITATION, "encoders": encoders}, indent=1, ensure_ascii=False
        )
        + "\n"
    )


def _interval(value: Auc | None) -> str:
    return NONE if value is None else estimate_text(value.value, value.low, value.high, ".2f")
