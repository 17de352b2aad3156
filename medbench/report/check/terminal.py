"""A comparison on a terminal: a table, what moved, what that means and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medbench.report.check.comparison import CellFinding, Comparison
from medbench.report.check.words import cell_names, clean, numbers
from medbench.schema import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 20  # lines of the table; the rest is counted
COLOURS = {
    "worse": "red",
    "better": "magenta",
    "not comparable": "yellow",
    "missing": "yellow",
    "new": "blue",
    "same": "green",
}


def check_terminal(
    comparison: Comparison,
    *,
    explained: bool = False,
    updating: bool = False,
    steps: Sequence[str] = (),
) -> list[RenderableType]:
    """Draw the cells that are not the same, worst first, and a line that sums up.

    explained: which part moved, and how often. updating: they become the reference, so that none
    fails. steps: what to do next.
    """
    told: list[RenderableType] = []
    shown = [finding for finding in comparison.findings if finding.status != "same"]
    if updating and not comparison.reference.rows:
        return []
    if comparison.unrelated:
        told.append(clean(_unrelated(comparison)))
    elif shown:
        lines = _alike(shown)
        told.append(_table(comparison, lines[:SHOWN]))
        if left := sum(map(len, lines[SHOWN:])):
            told.append(f"... and {left} more; --json FILE has them all")
    if explained:
        told += [clean(line) for line in explanations(comparison)]
    if updating:
        return told
    notes = [*_chance(comparison), *(f"warning: {line}" for line in unguarded(comparison))]
    return [*told, *map(clean, [*notes, summary(comparison), *steps])]


def _alike(findings: Sequence[CellFinding]) -> list[list[CellFinding]]:
    """Group the findings that would be the same line again and again, but for the cell."""
    found: dict[object, list[CellFinding]] = {}
    for finding in findings:
        moved = finding.shown is not None and finding.shown.then != finding.shown.now
        same = id(finding) if moved else (finding.status, finding.reason)
        found.setdefault(same, []).append(finding)
    return list(found.values())


def _table(comparison: Comparison, lines: Sequence[Sequence[CellFinding]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    names = cell_names(comparison)
    table = Table()
    table.add_column("", no_wrap=True)
    for name in ("cell", "what"):
        table.add_column(name, overflow="fold")
    for name in ("reference", "now", "change", "tolerance"):
        table.add_column(name, justify="right", no_wrap=True)
    before = ""
    for finding, *others in lines:
        one = finding.shown if not others else None  # numbers are of one cell
        more = f" and {len(others)} more" if others else ""
        what = _what(finding, again=finding.reason == before)
        table.add_row(
            Text(finding.status, COLOURS[finding.status]),
            Text(names[finding.cell] + more),
            Text(clean(what)),
            *map(Text, numbers(one) if one else ("", "", "", "")),
        )
        before = finding.reason
    return table


def _what(finding: CellFinding, *, again: bool) -> str:
    """Name what a table shows, then what else moved. again: its reason stands in the line above."""
    if not finding.changes:
        reason = "as above" if again and finding.reason else finding.reason
        return f"{reason}; {finding.shown.name}" if finding.shown else reason
    first, *more = (change.name for change in finding.ordered)
    values = [name for name in more if "," not in name]
    ends = len(more) - len(values)
    also = [*values, *([counted(ends, "end") + " of intervals"] if ends else [])]
    return f"{first} (also {', '.join(also)})" if also else first


def _unrelated(comparison: Comparison) -> str:
    cells = {
        status: [finding.cell for finding in comparison.findings if finding.status == status]
        for status in ("missing", "new")
    }
    have, want = (counted(len(of), "cell") for of in cells.values())
    return (
        f"The reference {comparison.reference.file} is of another study: none of its {have} (the first: "
        f"{cells['missing'][0]}) is among the {want} that were compared with it ({cells['new'][0]})"
    )


def _chance(comparison: Comparison) -> list[str]:
    """Relate changes to the sample: a value beyond tolerance may lie inside the interval."""
    moved = [
        (finding.shown, finding.shown.now, finding.interval)
        for finding in comparison.findings
        if finding.status in ("worse", "better")
        and finding.shown
        and finding.shown.bound == "value"
        and finding.shown.now is not None
        and finding.interval
    ]
    if not moved:
        return []
    inside = sum(low <= now <= high for _, now, (low, high) in moved)
    first, _, (low, high) = moved[0]
    then, now, *_ = numbers(first)
    return [
        f"Of {counted(len(moved), 'changed value')}, {inside} in the 95 % interval of the reference (the first: {first.name} {then} -> {now}, "
        f"interval {low:.4f} to {high:.4f}). The same images were scored, so this is not chance: code, data or environment changed"
    ]


def unguarded(comparison: Comparison) -> list[str]:
    """Warn of cells that pass because nothing is known of them; [] where there are none."""
    count = comparison.counts.get("new", 0)
    if not count or not comparison.allow_new:
        return []
    cells, them = counted(count, "cell", ("is", "are")), "it" if count == 1 else "them"
    return [f"{cells} new: without a reference nothing guards {them}"]


def explanations(comparison: Comparison) -> list[str]:
    """Write a line for each cause: the part, what was seen, in how many cells."""
    causes: dict[tuple[str, str], list[CellFinding]] = {}
    for finding in comparison.findings:
        if comparison.fails(finding) and finding.explanation:
            cause = finding.explanation.cause or finding.explanation.text
            causes.setdefault((finding.explanation.part, cause), []).append(finding)
    names, lines = cell_names(comparison), []
    for (part, _), findings in sorted(causes.items(), key=lambda item: -len(item[1])):
        explanation = findings[0].explanation
        assert explanation is not None
        also = f" (beside it: {'; '.join(explanation.also)})" if explanation.also else ""
        lines.append(
            f"{part or 'not known'}: {counted(len(findings), 'cell')}, as {names[findings[0].cell]}: {explanation.text}{also}"
        )
    return lines


def summary(comparison: Comparison) -> str:
    """Write the verdict, counts, the largest difference and the tolerance in one line."""
    counts = ", ".join(f"{n} {status}" for status, n in comparison.counts.items()) or "none"
    closest = max(
        (finding.largest for finding in comparison.findings if finding.status == "same"),
        default=None,
    )
    if closest is None:
        largest = ""
    elif closest == 0:
        largest = " (no number differs)"
    else:
        largest = f" (largest difference: {closest:.2g} of its tolerance)"
    how = f"tolerance: spread over {comparison.measured} environments" if comparison.measured else (
        "tolerance: one image's decision, because repeatability was not measured (medbench check --measure)"
    )  # fmt: skip
    cells = counted(len(comparison.findings), "cell")
    return f"{'FAILED' if comparison.red else 'passed'}: {cells} against {comparison.reference.file}: {counts}{largest}; {how}"
