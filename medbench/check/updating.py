"""A reference made anew: its rows, and beside them the leaderboard that people read."""

from __future__ import annotations

import json
import os
from pathlib import Path

from medbench.check.reading import Given
from medbench.spec import UserError


def update(reference: Path, given: Given, *, board: Path | None = None) -> None:
    """Make `given` the reference: `reference` is replaced, whole or not at all, in the order of cells, so that a diff shows what moved.

    board: a results folder whose leaderboard.md and leaderboard.csv are copied beside it. Raises UserError where a cell failed: a reference
    holds finished cells alone.
    """
    if given.failures:
        cell, why = next(iter(given.failures.items()))
        raise UserError(
            f"{len(given.failures)} cells failed ({cell}: {why}): the reference stays as it was.", then="mend them, then run it again"
        )
    if not given.rows:
        raise UserError(f"{given.file} holds no row: the reference stays as it was.")
    rows = sorted(given.rows.values(), key=lambda row: row.cell)
    lines = [json.dumps(row.to_json(), allow_nan=False, ensure_ascii=False) for row in rows]
    write(reference, "".join(f"{line}\n" for line in lines))
    for name in ("leaderboard.md", "leaderboard.csv"):
        if board and (board / name).is_file():
            write(reference.with_name(name), (board / name).read_text(encoding="utf-8"))


def write(file: Path, text: str) -> None:
    """A file, whole or not at all. Raises UserError."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)
