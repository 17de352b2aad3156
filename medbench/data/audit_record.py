"""What the deepest and newest audit of some images found, by their content.

Tables that were made before it say it, too.

Rows carry digests of their images (`TaskData.digests`); with these a results folder finds the
audit, without the images and whatever the classes are called or ordered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medbench.schema import PARTS, Mark, checked, fingerprint, parsed
from medbench.system import atomic_write

VERSION = 10  # of what an audit finds: raise it with every change


@dataclass(frozen=True)
class AuditRecord:
    """Hold what an audit found, for plans and tables of the same images.

    depth: "full", or "hashes" without features. marks: what every table says. findings: all that a
    person should see, the worst first.
    """

    depth: str
    marks: tuple[Mark, ...]
    findings: tuple[Mark, ...]

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> AuditRecord:
        """Read a record. Raises TypeError, ValueError or KeyError for any other."""
        checked(record, {"depth": str, "marks": list, "findings": list}, "audit")
        return AuditRecord(
            record["depth"],
            *(tuple(map(Mark.from_json, record[name])) for name in ("marks", "findings")),
        )


def content_key(digests: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the key that names the images of a task, their parts and groups.

    digests: of each part, as `TaskData.digests` and rows have them.
    """
    return fingerprint(
        "content",
        {
            part: [digests[part][of] for of in ("ids", "content", "groups")]
            for part in PARTS
            if part in digests
        },
    )


def keep(cache_dir: Path, key: str, record: AuditRecord) -> None:
    """Write what an audit found under the images' content key, over an older record."""
    file = _file(cache_dir, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.record(file, asdict(record), indent=1)


def newest(cache_dir: Path, key: str) -> AuditRecord | None:
    """Return what the newest audit of this content found; None where there is no whole one.

    key: of `content_key`. The next audit writes a damaged one anew.
    """
    try:
        return AuditRecord.from_json(parsed(_file(cache_dir, key).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def table_mark(finding: Mark) -> Mark:
    """Return what tables say of a leak that an audit alone found."""
    return Mark("leak", f"{finding.text} (audit)")


def table_marks_of(findings: Iterable[Mark]) -> set[Mark]:
    """Return all that tables may say of these findings: of each the same fault in other words."""
    return {
        mark for finding in findings for mark in (table_mark(finding), Mark("blank", finding.text))
    }


def _file(cache_dir: Path, key: str) -> Path:
    return cache_dir / "audits" / f"content-{fingerprint(VERSION, key)[:32]}.json"
