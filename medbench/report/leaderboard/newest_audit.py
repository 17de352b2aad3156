"""What a plan says of its images, brought up to the newest audit of them.

A leak that was found after a run stands on its tables, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medbench.data import audit_record
from medbench.data.audit_record import AuditRecord
from medbench.schema import Mark, Row, UserError
from medbench.system.cache_folder import cache_folder

#: Marks that nobody may overlook, whichever way results are read.
LOUD = ("leak", "partial", "conflict")


def with_newest_audit(about: Mapping[str, Any], rows: Iterable[Row]) -> Mapping[str, Any]:
    """Return `about` of a scored set, with the newest audit's marks and findings.

    The audit is of its task's images, which its rows name. A full audit takes the place of what the
    run's own said; one by hashes adds to it, as the run's may have been a deeper one on another
    machine.
    """
    digests = next((row.provenance["parts"] for row in rows if row.provenance.get("parts")), None)
    if (
        digests is None or about.get("shift", {}).get("kind") == "data"
    ):  # another data set is scored: no copy in the task's own parts is seen
        return about
    found = _newest(digests)
    if found is None:
        return about
    marks, findings = list(about["marks"]), list(about.get("audit", ()))
    if found.depth == "full":
        said = audit_record.table_marks_of(findings)
        marks, findings = [mark for mark in marks if mark not in said], []
    return {**about, "marks": _with(marks, found.marks), "audit": _with(findings, found.findings)}


def _newest(digests: Mapping[str, Any]) -> AuditRecord | None:
    try:
        return audit_record.newest(cache_folder(to_write=False), audit_record.content_key(digests))
    except UserError:  # there is no cache folder, and none is needed to read results
        return None


def _with(marks: list[Mark], more: Iterable[Mark]) -> list[Mark]:
    return [*marks, *(mark for mark in more if mark not in marks)]
