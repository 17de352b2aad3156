"""A comparison for machines: JSON, JUnit XML, annotations of GitHub."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from medbench.report.check.comparison import Change, Comparison
from medbench.report.check.reference_rows import DamagedReference
from medbench.report.check.terminal import summary, unguarded
from medbench.report.check.words import cell_names, change_text, clean, sentence
from medbench.schema import UserError

TOLD = 10  # cells of an annotation


def json_text(comparison: Comparison, steps: Sequence[str] = ()) -> str:
    """Write a whole comparison as JSON, without NaN or Infinity, which are null.

    steps: what to do next, a sentence each.
    """
    findings = [
        {
            "status": finding.status,
            "fails": comparison.fails(finding),
            "cell": asdict(finding.cell),
            "replaced_by": asdict(finding.replaced_by) if finding.replaced_by else None,
            "reason": finding.reason,
            "line": finding.line,
            "largest": _finite(finding.largest),
            "shown": _change(finding.shown) if finding.shown else None,
            "interval": finding.interval,
            "changes": [_change(change) for change in finding.changes],
            "explanation": asdict(finding.explanation) if finding.explanation else None,
        }
        for finding in comparison.findings
    ]
    whole = {
        "red": comparison.red,
        "reference": str(comparison.reference.file),
        "environments_measured": comparison.measured,
        "counts": comparison.counts,
        "next": list(steps),
        "findings": findings,
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def _change(change: Change) -> dict[str, Any]:
    return {
        **asdict(change),
        "tolerances": _finite(change.tolerances),
        "better": change.better,
    }


def junit(comparison: Comparison) -> str:
    """Write JUnit XML, a test case a cell, as CI servers read it."""
    names = cell_names(comparison)
    suite = ElementTree.Element(
        "testsuite",
        name=clean(f"medbench check against {comparison.reference.file}"),
        tests=str(len(comparison.findings)),
        failures=str(sum(map(comparison.fails, comparison.findings))),
        errors="0",
        skipped=str(comparison.counts.get("new", 0) if comparison.allow_new else 0),
    )
    for finding in comparison.findings:
        # servers make a folder of what stands before a full stop
        words = (str(finding.cell.task), finding.cell.method, finding.cell.protocol)
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=clean(".".join(word.replace(".", "_") for word in ("medbench", *words))),
            name=names[finding.cell],
        )
        if comparison.fails(finding):
            failure = ElementTree.SubElement(
                case, "failure", type=finding.status, message=clean(sentence(finding))
            )
            told = [sentence(finding), *(change_text(change) for change in finding.ordered)]
            failure.text = clean("\n".join(told))
        elif finding.status == "new":
            ElementTree.SubElement(case, "skipped", message=clean(sentence(finding)))
    ElementTree.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        + ElementTree.tostring(suite, encoding="unicode")
        + "\n"
    )


def github(
    comparison: Comparison, study: str | None = None, steps: Sequence[str] = ()
) -> list[str]:
    """Write workflow commands: one annotation for the study, beside its file where there is one.

    The cells are no lines of a file that somebody changed. steps: what to do next.
    """
    place = {"file": study, "line": "1"} if study else {}
    failing = [finding for finding in comparison.findings if comparison.fails(finding)]
    names = cell_names(comparison)
    told = [f"{names[finding.cell]}: {sentence(finding)}" for finding in failing[:TOLD]]
    more = [f"and {len(failing) - TOLD} more"] if len(failing) > TOLD else []
    lines = []
    if failing:
        text = "\n".join([summary(comparison), *told, *more, *steps])
        lines.append(f"::error {_properties(place, 'medbench check')}::{_escape(clean(text))}")
    return lines + [
        f"::warning {_properties(place, 'medbench check: new')}::{_escape(clean(line))}"
        for line in unguarded(comparison)
    ]


def error_json(error: UserError) -> str:
    """Write why nothing was compared, as JSON."""
    return json.dumps({"red": True, "error": str(error)}, indent=1) + "\n"


def error_junit(error: UserError) -> str:
    """Write why nothing was compared, as JUnit XML: a suite of one test case with an error."""
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0"}
    suite = ElementTree.Element("testsuite", {"name": "medbench check", **counts})
    case = ElementTree.SubElement(suite, "testcase", classname="medbench", name="check")
    ElementTree.SubElement(case, "error", message=clean(str(error)))
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suite, "unicode")}\n'


def error_github(error: UserError, study: str | None) -> str:
    """Write why nothing was compared, as an annotation of the damaged line, else of the study."""
    place = {"file": study, "line": "1"} if study else {}
    if isinstance(error, DamagedReference):
        place = {"file": str(error.file), "line": str(error.line)}
    return f"::error {_properties(place, 'medbench check')}::{_escape(clean(str(error)))}"


def _properties(place: dict[str, str], title: str) -> str:
    every = {**place, "title": title}
    return ",".join(f"{name}={_escape(clean(value), ':,')}" for name, value in every.items())


def _escape(text: str, more: str = "") -> str:
    """Escape a workflow command's message as GitHub's own toolkit does.

    With ":,", its properties.
    """
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _finite(value: float) -> Any:
    return value if value != float("inf") else None
