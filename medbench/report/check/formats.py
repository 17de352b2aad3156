"""A comparison for people and machines: a table, JSON, JUnit XML, annotations of GitHub."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from medbench.report.check.comparison import RED, CellFinding, Change, Comparison

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 20  # lines of the table; the rest is counted
ANNOTATIONS = 10  # GitHub shows no more of one step
COLOURS = {
    "worse": "red",
    "better": "magenta",
    "not comparable": "yellow",
    "missing": "yellow",
    "new": "blue",
    "same": "green",
}


def check_terminal(comparison: Comparison, *, explained: bool = False) -> list[RenderableType]:
    """Draw the cells that are not the same, worst first, and a line that sums up.

    With `explained`, which part moved and how often.
    """
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    shown = [finding for finding in comparison.findings if finding.status != "same"]
    if shown:
        table = Table()
        table.add_column("", no_wrap=True)
        for name in ("cell", "what"):
            table.add_column(name, overflow="fold")
        only = {finding.cell.encoder for finding in comparison.findings}
        for name in ("reference", "now", "change", "tolerance"):
            table.add_column(name, justify="right", no_wrap=True)
        lines = _alike(shown)
        for finding, *others in lines[:SHOWN]:
            numbers = _numbers(finding.changes[0]) if finding.changes else ("", "", "", "")
            more = f" and {len(others)} more" if others else ""
            table.add_row(
                Text(finding.status, COLOURS[finding.status]),
                Text(clean(_name(finding, brief=len(only) == 1)) + more),
                Text(clean(_what(finding))),
                *map(Text, numbers),
            )
        parts.append(table)
        if left := sum(map(len, lines[SHOWN:])):
            parts.append(f"... and {left} more; --json FILE has them all")
    if explained:
        parts += [clean(line) for line in explanations(comparison)]
    return [*parts, *map(clean, _unguarded(comparison)), clean(summary(comparison))]


def _alike(findings: Sequence[CellFinding]) -> list[list[CellFinding]]:
    """Group the findings that would be the same line again and again, but for the cell."""
    found: dict[object, list[CellFinding]] = {}
    for finding in findings:
        same = (finding.status, finding.reason) if not finding.changes else id(finding)
        found.setdefault(same, []).append(finding)
    return list(found.values())


def _unguarded(comparison: Comparison) -> list[str]:
    """Warn of cells that pass because nothing is known of them; [] where there are none."""
    count = comparison.counts.get("new", 0)
    if not count:
        return []
    cells = f"{count} cell{'s are' if count != 1 else ' is'} new"
    return [
        f"warning: {cells}: without a reference nothing guards {'them' if count != 1 else 'it'} before medbench check ... --update"
    ]


def explanations(comparison: Comparison) -> list[str]:
    """Write a line for each cause: the part, what was seen, in how many cells."""
    causes: dict[tuple[str, str], list[CellFinding]] = {}
    for finding in comparison.findings:
        if finding.status in RED and finding.explanation:
            cause = finding.explanation.cause or finding.explanation.text
            causes.setdefault((finding.explanation.part, cause), []).append(finding)
    lines = []
    for (part, _), findings in sorted(causes.items(), key=lambda item: -len(item[1])):
        explanation = findings[0].explanation
        assert explanation is not None
        also = f" (beside it: {'; '.join(explanation.also)})" if explanation.also else ""
        lines.append(
            f"{part or 'not known'}: {len(findings)} cells, as {_name(findings[0])}: {explanation.text}{also}"
        )
    return lines


def summary(comparison: Comparison) -> str:
    """Write the verdict, counts, the largest difference and the tolerance in one line."""
    counts = ", ".join(f"{n} {status}" for status, n in comparison.counts.items()) or "none"
    closest = max(
        (finding.nearest for finding in comparison.findings if finding.status == "same"),
        default=None,
    )
    largest = (
        f" (largest difference: {closest:.2f} of its tolerance)" if closest is not None else ""
    )
    how = f"tolerance: spread over {comparison.measured} environments" if comparison.measured else (
        "tolerance: one image's decision, because repeatability was not measured (medbench check --measure)"
    )  # fmt: skip
    return f"{'FAILED' if comparison.red else 'passed'}: {len(comparison.findings)} cells against {comparison.reference.file}: {counts}{largest}; {how}"


def json_text(comparison: Comparison) -> str:
    """Return everything, as JSON without NaN or Infinity."""
    findings = [
        {
            "status": finding.status,
            "cell": asdict(finding.cell),
            "reason": finding.reason,
            "line": finding.line,
            "nearest": _finite(finding.nearest),
            "changes": [
                {
                    **asdict(change),
                    "tolerances": _finite(change.tolerances),
                    "better": change.better,
                }
                for change in finding.changes
            ],
            "explanation": asdict(finding.explanation) if finding.explanation else None,
        }
        for finding in comparison.findings
    ]
    whole = {
        "red": comparison.red,
        "reference": str(comparison.reference.file),
        "environments_measured": comparison.measured,
        "counts": comparison.counts,
        "findings": findings,
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def junit(comparison: Comparison) -> str:
    """Write JUnit XML, a test case a cell, as CI servers read it."""
    red, new = (
        sum(finding.status in RED for finding in comparison.findings),
        comparison.counts.get("new", 0),
    )
    suite = ElementTree.Element(
        "testsuite",
        name="medbench check",
        tests=str(len(comparison.findings)),
        failures=str(red),
        errors="0",
        skipped=str(new),
    )
    for finding in comparison.findings:
        cell = finding.cell
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=clean(f"medbench.{cell.task}.{cell.method}.{cell.protocol}"),
            name=clean(_name(finding)),
        )
        if finding.status in RED:
            failure = ElementTree.SubElement(
                case, "failure", type=finding.status, message=clean(_sentence(finding))
            )
            failure.text = clean(
                "\n".join([_sentence(finding), *(_change(change) for change in finding.changes)])
            )
        elif finding.status == "new":
            ElementTree.SubElement(case, "skipped", message=clean(_sentence(finding)))
    ElementTree.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        + ElementTree.tostring(suite, encoding="unicode")
        + "\n"
    )


def github(comparison: Comparison) -> list[str]:
    """Write workflow commands: each failed cell beside its line of the reference, and new ones."""
    red = [finding for finding in comparison.findings if finding.status in RED]
    lines = []
    for finding in red[: ANNOTATIONS - 1] if len(red) > ANNOTATIONS else red:
        place = {
            "file": str(comparison.reference.file),
            "line": str(finding.line or 1),
            "title": f"medbench check: {finding.status}",
        }
        properties = ",".join(f"{name}={_escape(value, ':,')}" for name, value in place.items())
        lines.append(f"::error {properties}::{_escape(f'{_name(finding)}: {_sentence(finding)}')}")
    if len(red) > ANNOTATIONS:
        lines.append(f"::error title=medbench check::{_escape(summary(comparison))}")
    new = [line.removeprefix("warning: ") for line in _unguarded(comparison)]
    return [*lines, *(f"::warning title=medbench check: new::{_escape(line)}" for line in new)]


def clean(text: str) -> str:
    """Remove the characters that drive a terminal or that XML cannot hold."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "�", text)


def _escape(text: str, more: str = "") -> str:
    """Escape a workflow command's message as GitHub's own toolkit does.

    With ":,", its properties.
    """
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _name(finding: CellFinding, *, brief: bool = False) -> str:
    """brief: without the encoder, for a table of one."""
    cell = finding.cell
    extra = [
        *([cell.data] if cell.data != "phantom" else []),
        *([cell.readout] if cell.readout != "pool" else []),
        *([f"on {cell.target}"] if cell.target != "test" else []),
        *([f"pretraining {cell.pretrain_seed}"] if cell.pretrain_seed else []),
    ]
    name = str(cell)
    return " ".join([name.replace(f" {cell.encoder} ", " ", 1) if brief else name, *extra])


def _what(finding: CellFinding) -> str:
    if not finding.changes:
        return finding.reason
    more = f" and {len(finding.changes) - 1} more" if len(finding.changes) > 1 else ""
    return finding.changes[0].name + more


def _sentence(finding: CellFinding) -> str:
    what = "; ".join(_change(change) for change in finding.changes[:3]) or finding.reason
    part = (
        f" [{finding.explanation.part}: {finding.explanation.text}]"
        if finding.explanation and finding.changes
        else ""
    )
    return f"{finding.status}: {what}{part}"


def _change(change: Change) -> str:
    then, now, by, tolerance = _numbers(change)
    return f"{change.name} {now}, was {then} ({by}, tolerance {tolerance})"


def _numbers(change: Change) -> tuple[str, str, str, str]:
    by = "" if change.then is None or change.now is None else f"{change.now - change.then:+.4f}"
    then, now = (
        "undefined" if value is None else f"{value:.4f}" for value in (change.then, change.now)
    )
    return then, now, by, f"{change.tolerance:.4f}"


def _finite(value: float) -> Any:
    return value if value != float("inf") else None
