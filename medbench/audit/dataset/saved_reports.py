"""Audits in the cache, by what the data are, and what a run says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from medbench.audit.dataset.report import DatasetReport
from medbench.data import audit_record
from medbench.data.audit_record import VERSION, AuditRecord
from medbench.images import pixel_ingredients
from medbench.models import features
from medbench.schema import Mark, fingerprint, parsed
from medbench.schema.ingredients import raised
from medbench.stats import splits
from medbench.system import atomic_write


def file_of(cache_dir: Path, sha256: str, hashes: Sequence[str] = ()) -> Path:
    """sha256: of the data; hashes: of their images, whose decoders an audit depends on."""
    made_by = {**pixel_ingredients(hashes), "folds": splits.FOLDS, "features": features.EMBEDDING}
    return (
        cache_dir
        / "audits"
        / f"{fingerprint('audit', VERSION, sha256, *raised(made_by))[:32]}.json"
    )


def load_report(cache_dir: Path, sha256: str, hashes: Sequence[str] = ()) -> DatasetReport | None:
    """Load the deepest audit of data of that hash; None where there was none."""
    try:
        return DatasetReport.from_record(parsed(file_of(cache_dir, sha256, hashes).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # a broken entry is made anew
        return None


def save_report(
    cache_dir: Path,
    report: DatasetReport,
    hashes: Sequence[str] = (),
    content: str = "",
    marks: Sequence[Mark] = (),
) -> None:
    """Keep it, unless a deeper one of the same data is there.

    content: names the images for the tables of their runs, which say `marks`.
    """
    known = load_report(cache_dir, report.sha256, hashes)
    if known and known.depth == "full" and report.depth != "full":
        return
    file = file_of(cache_dir, report.sha256, hashes)
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.remove_abandoned(file.parent)
    atomic_write.record(file, asdict(report), indent=1)
    if content:
        audit_record.keep(
            cache_dir, content, AuditRecord(report.depth, tuple(marks), report.marks())
        )
