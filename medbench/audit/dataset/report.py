"""What an audit found, as values: what is counted, how bad it is, which images, what to do.

JSON, CSV and lines are made from these.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from medbench.schema import Mark, csv_cell

Severity = Literal["leak", "conflict", "look", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
_EXAMPLES = 5
BY_HASHES = "only hashes were compared: cropped, padded or squeezed copies are not found"
PAIR_COLUMNS = (
    "image",
    "other",
    "kind",
    "part",
    "other_part",
    "label",
    "other_label",
    "correlation",
    "overlap",
    "bits",
)


@dataclass(frozen=True)
class DatasetFinding:
    """One finding, and how much it weighs.

    severity: leak (a score would be too good), conflict (labels contradict each other), look (a
    person should), note.
    """

    check: str
    severity: Severity
    count: int
    sentence: str
    examples: tuple[str, ...] = ()
    then: str = ""


@dataclass(frozen=True)
class DatasetReport:
    """Hold what an audit of a data set found.

    parts: name -> {"images", "groups", "classes": {class: images}}. pairs, suspects, columns: rows
    as the CSV and JSON have them. depth: "full", or "hashes" where no features were compared.
    settings: thresholds and how much was looked at. seconds: the audit took.
    """

    name: str
    sha256: str
    depth: str
    parts: dict[str, Any]
    findings: tuple[DatasetFinding, ...]
    pairs: tuple[dict[str, Any], ...] = ()
    suspects: tuple[dict[str, Any], ...] = ()
    columns: tuple[dict[str, Any], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def leaks(self) -> tuple[DatasetFinding, ...]:
        """The findings by which a score would be too good."""
        return tuple(finding for finding in self.findings if finding.severity == "leak")

    @property
    def fails(self) -> bool:
        """Whether a check should fail: a leak, or labels that contradict each other."""
        return any(finding.severity in ("leak", "conflict") for finding in self.findings)

    def to_json(self) -> str:
        """Return the report as JSON with a line end, which `from_record` reads once parsed."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> DatasetReport:
        """Read a report from what its JSON parses to.

        Raises TypeError or KeyError for any other record.
        """
        findings = [
            DatasetFinding(**{**found, "examples": tuple(found["examples"])})
            for found in record["findings"]
        ]
        lists = {name: tuple(record[name]) for name in ("pairs", "suspects", "columns")}
        return DatasetReport(**{**record, **lists, "findings": tuple(findings)})

    def to_csv(self) -> str:
        """Write the pairs as CSV, one per line, columns PAIR_COLUMNS."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, PAIR_COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            {name: csv_cell(value) for name, value in pair.items()} for pair in self.pairs
        )
        return stream.getvalue()

    def marks(self) -> tuple[Mark, ...]:
        """Return what was found as marks for a run's plan, the worst first, without notes.

        Last, of an audit by hashes, what it cannot find.
        """
        found = [
            Mark(one.severity, one.sentence) for one in self.findings if one.severity != "note"
        ]
        less = "only hashes were compared: run `medbench audit` for cropped or padded copies"
        return (*found, *([Mark("remark", less)] if self.depth == "hashes" else []))

    def lines(self) -> list[str]:
        """Return the lines that a terminal shows."""
        shown = [f"{self.name}: {sum(part['images'] for part in self.parts.values())} images"]
        for name, part in self.parts.items():
            classes = ", ".join(f"{label} {n}" for label, n in part["classes"].items())
            shown.append(
                f"  {name}: {part['images']} images, {part['groups']} groups"
                + (f" ({classes})" if classes else "")
            )
        for found in self.findings:
            shown += ["", f"{found.severity.upper()}  {found.sentence}"]
            shown += [f"  {example}" for example in found.examples[:_EXAMPLES]]
            if found.count > len(found.examples[:_EXAMPLES]) > 0:
                shown.append(f"  ... {found.count} in all")
            if found.then:
                shown.append(f"  Next: {found.then}")
        counts = {
            severity: sum(found.severity == severity for found in self.findings)
            for severity in SEVERITIES
        }
        words = ", ".join(
            f"{n} {severity}{'s' if n != 1 and severity != 'look' else ''}"
            for severity, n in counts.items()
            if n
        )
        if self.depth == "hashes":
            shown += ["", BY_HASHES]
        return [*shown, "", f"{words or 'nothing found'}; {self.seconds:.0f} s"]


def worst_first(findings: Sequence[DatasetFinding]) -> tuple[DatasetFinding, ...]:
    """Sort findings by severity, in the order of SEVERITIES; equals stay in their order."""
    return tuple(sorted(findings, key=lambda found: SEVERITIES.index(found.severity)))
