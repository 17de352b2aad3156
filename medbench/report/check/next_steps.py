"""What to do about a check that failed, for each kind of finding."""

from __future__ import annotations

import shlex
from collections import Counter

from medbench.report.check.comparison import CellFinding, Comparison
from medbench.report.check.words import counted

_AROUND = {"library", "device"}


def next_steps(comparison: Comparison, command: str, study: str | None) -> list[str]:
    """Return a line for each kind of failed finding; [] where none failed.

    command: what was run, without options that change nothing. study: its file, where one was run.
    """
    kinds: dict[str, list[CellFinding]] = {}
    for finding in comparison.findings:
        if comparison.fails(finding):
            kinds.setdefault(_kind(finding), []).append(finding)
    folder = shlex.quote(str(comparison.reference.file.parent))
    update = f"{command} --update, then commit {folder} with it"
    if comparison.unrelated:
        return [f"Next: name the reference of this study. If its cells were exchanged: {update}"]
    reference = shlex.quote(str(comparison.reference.file))
    again = shlex.quote(study or "STUDY.py")
    measure = (
        f"medbench check {again} --against {reference} --out A on one machine, --out B on the other, both with one version of medbench; "
        f"then medbench check --measure --rows A --rows B --against {reference}"
    )
    texts = {
        "failed": "its reason stands in the table; mend that, then run the same command again",
        "environment": f"no part of yours is known to have changed, but the machine or a library did. Use the versions of the reference; or, where both are "
        f"right, make the tolerance wide enough: {measure}",
        "replaced": f"the study asks for another setting. Meant: {update}. Not meant: undo it in the study",
        "changed": f"meant: {update}. Not meant: undo the change of {_parts(kinds.get('changed', []))}",
        "missing": f"meant: {update}, which drops them. Not meant: bring them back into the study",
        "new": f"a new cell of the study, or the reference lost a line. Add it: {update}. Let it pass: --allow-new",
    }
    return [
        f"Next ({', '.join(_counts(kinds[kind]))}): {text}"
        for kind, text in texts.items()
        if kind in kinds
    ]


def _kind(finding: CellFinding) -> str:
    if finding.failed:
        return "failed"
    if finding.replaced_by:
        return "replaced"
    if finding.status in ("missing", "new"):
        return finding.status
    parts = set(finding.explanation.parts) if finding.explanation else set()
    return "environment" if parts & _AROUND else "changed"


def _counts(findings: list[CellFinding]) -> list[str]:
    return [
        f"{counted(n, 'cell')} {status}"
        for status, n in Counter(finding.status for finding in findings).items()
    ]


def _parts(findings: list[CellFinding]) -> str:
    found = Counter(
        finding.explanation.part
        for finding in findings
        if finding.explanation and finding.explanation.parts
    )
    return " or ".join(part for part, _ in found.most_common(3)) or "the part that --explain names"
