"""What to do about a check that failed, for each kind of finding."""

from __future__ import annotations

import shlex
from collections import Counter

from medbench.report.check.comparison import CellFinding, Comparison
from medbench.schema import counted

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
        own = "Next: name the reference of this study, or a new folder with --update"
        return [f"{own}; or delete {folder} if its study is gone"]
    reference = shlex.quote(str(comparison.reference.file))
    again = shlex.quote(study or "STUDY.py")
    measure = (
        f"medbench check {again} --against {reference} --out A on one machine, --out B on the other, both with one version of medbench; "
        f"then medbench check --measure --rows A --rows B --against {reference}"
    )
    texts = {
        "failed": "the table gives the reason; fix that, then run the same command again",
        "environment": f"code and data are not known to have changed, but the machine or a library did. Use the versions of the reference; or, if both are "
        f"right, widen the tolerance: {measure}",
        "replaced": f"the study asks for another setting. If intended: {update}. If not, undo it in the study",
        "changed": f"if intended: {update}. If not, undo the change of {_parts(kinds.get('changed', []))}",
        "missing": f"if intended: {update}, which drops them. If not, bring them back into the study",
        "new": f"the study grew, or the reference lost a line. To add them: {update}. To let them pass: --allow-new",
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
    named = " or ".join(part for part, _ in found.most_common(3))
    look = " (git status and git diff --stat of the images' folder)" if "data" in found else ""
    return named + look if named else "the part that --explain names"
