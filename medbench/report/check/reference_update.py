"""A reference made anew: its rows, and beside them the leaderboard that people read."""

from __future__ import annotations

from pathlib import Path

from medbench.report.check.reference_rows import Given
from medbench.schema import UserError, with_checksum
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
            f"{len(given.failures)} cells failed ({cell}: {why}): the reference stays as it was.",
            then="fix them, then run it again",
        )
    if not given.rows:
        raise UserError(f"{given.file} holds no row: the reference stays as it was.")
    rows = sorted(given.rows.values(), key=lambda row: row.cell)
    lines = [with_checksum(row.to_json()).decode() for row in rows]
    write_reference(reference, "".join(f"{line}\n" for line in lines))
    for name in ("leaderboard.md", "leaderboard.csv"):
        if board and (board / name).is_file():
            write_reference(reference.with_name(name), (board / name).read_text(encoding="utf-8"))


def write_reference(file: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises UserError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write.write(file, lambda partial: partial.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
