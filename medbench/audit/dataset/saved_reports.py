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
    """Return the file that holds the audit of data with this content hash.

    sha256: of the data. hashes: of their images, as `content_hashes` gives them: an audit depends
    on their decoders, so that a newer decoder gives another file.
    """
    made_by = {**pixel_ingredients(hashes), "folds": splits.FOLDS, "features": features.EMBEDDING}
    return (
        cache_dir
        / "audits"
        / f"{fingerprint('audit', VERSION, sha256, *raised(made_by))[:32]}.json"
    )


def load_report(cache_dir: Path, sha256: str, hashes: Sequence[str] = ()) -> DatasetReport | None:
    """Load the saved audit of data with this content hash; None where none can be read.

    The deepest that was made: `save_report` keeps no shallower one over it. hashes: as for
    `file_of`. A damaged entry counts as none, so that the audit is made again.
    """
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
    """Write an audit to the cache, and what runs on these images say of it.

    The audit goes to `file_of`, under `report.sha256`. Nothing is written where the saved one has
    compared features (depth "full") and this one only hashes. hashes: of the images' content, as
    `content_hashes` gives them. content: `audit_record.content_key` of the images, under which the
    tables of their runs find `marks`; "": they are told nothing. Raises OSError where the cache
    cannot be written.
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
