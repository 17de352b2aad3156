"""Replace a reference: its rows, and beside them the leaderboard that people read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medbench.report.check.comparison import STATUSES, Comparison
from medbench.report.check.reference_rows import Given
from medbench.schema import Row, UserError, counted, parsed, with_checksum
from medbench.system import atomic_write


def update(reference: Path, given: Given, *, board: Path | None = None) -> None:
    """Make `given` the reference.

    `reference` is replaced, whole or not at all, in the order of cells, so that a diff shows what
    moved. board: a results folder whose leaderboard.md and leaderboard.csv are copied beside it.
    Raises UserError where a cell failed: a reference holds finished cells alone.
    """
    if given.failures:
        cell, why = next(iter(given.failures.items()))
        raise UserError(
            f"{counted(len(given.failures), 'cell')} without a row ({cell}: {why}): the reference stays as it was.",
            then="fix that, then run it again",
        )
    if not given.rows:
        raise UserError(f"{given.file} holds no row: the reference stays as it was.")
    rows = sorted(given.rows.values(), key=lambda row: row.cell)
    lines = [with_checksum(row.to_json()).decode() for row in rows]
    write_reference(reference, "".join(f"{line}\n" for line in lines))
    for name in ("leaderboard.md", "leaderboard.csv"):
        if board and (board / name).is_file():
            write_reference(reference.with_name(name), (board / name).read_text(encoding="utf-8"))


def update_text(comparison: Comparison, given: Given) -> str:
    """Say what became of the reference's rows, and what to do with them."""
    counts = comparison.counts
    replaced = sum(finding.replaced_by is not None for finding in comparison.findings)
    kinds = {
        "added": counts.get("new", 0) + replaced,
        "dropped": counts.get("missing", 0) + replaced,
        "changed": sum(counts.get(status, 0) for status in STATUSES[:3]) - replaced,
        "unchanged": counts.get("same", 0),
    }
    told = ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n)
    file, rows = comparison.reference.file, counted(len(given.rows), "row")
    if not comparison.reference.rows:
        return f"{file} is a new reference of {rows}. Commit its folder: {file.parent}"
    return f"{file} holds {rows} now: {told}. Look at the difference (git diff), then commit the folder: {file.parent}"


def check_alone(reference: Path, rows: Sequence[Path] = ()) -> None:
    """Raise UserError where another reference lies in the same folder.

    The two would have one leaderboard and one repeatability. rows: files that are compared with it,
    which are no reference.
    """
    mine = {reference.resolve(), *(file.resolve() for file in rows)}
    others = [
        other.name
        for other in sorted(reference.parent.glob("*.jsonl"))
        if other.resolve() not in mine and _holds_rows(other)
    ]
    if others:
        what = f"{reference.parent} also holds {', '.join(others)}: a leaderboard and a repeatability.json are of one reference."
        own = reference.parent / reference.stem
        raise UserError(what, then=f"give each study a folder of its own: --against {own}")


def _holds_rows(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as lines:
            Row.from_json(parsed(lines.readline()))
    except (OSError, ValueError, TypeError):  # of something else: failed.jsonl, notes
        return False
    return True


def write_reference(file: Path, text: str) -> None:
    """Write a file, whole or not at all; folders above are made.

    Raises UserError where it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write.write(file, lambda partial: partial.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
