"""Rows that medbench ships: a user's own lines beside them, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import medbench
from medbench.report.leaderboard.board import Leaderboard
from medbench.report.leaderboard.lines import leaderboards
from medbench.run.store import Store
from medbench.schema import Note, UserError

#: Studies of `results/` that stand in the wheel, too (`pyproject.toml`).
STUDIES = ("derm-standard", "derm")


def reference_stores() -> list[Store]:
    """Open the results folders of the reference.

    Those of the installed package, else of the repository that medbench runs from. Raises UserError
    where neither has them.
    """
    package = Path(medbench.__file__).parent
    for folder in (package / "reference", package.parent / "results"):
        found = [folder / name for name in STUDIES if (folder / name / "plan.json").is_file()]
        if found:
            return [Store(place) for place in found]
    raise UserError(
        "This medbench has no reference rows.",
        then="pip install medbench, or a clone of its repository",
    )


def with_reference(*stores: Store) -> list[Leaderboard]:
    """Build the leaderboards of results folders with the reference rows among their lines.

    Those of the same scored images. Raises UserError where no reference row was scored on the same
    images.
    """
    reference = reference_stores()
    boards = leaderboards(*stores, beside=reference)
    joined = [_told(board, reference) for board in boards]
    if all(told is board for told, board in zip(joined, boards, strict=True)):
        there = dict.fromkeys(board.title for store in reference for board in leaderboards(store))
        raise UserError(
            f"The reference rows add no line to these boards: they are of {', '.join(there)}, and a line that is there stays as it is.",
            then="medbench run --task derm --data FOLDER, where FOLDER holds HAM10000",
        )
    return joined


def _told(board: Leaderboard, reference: Sequence[Store]) -> Leaderboard:
    """Name the lines that are the reference's, first of the board's notes."""
    folders = [store.folder for store in reference]
    theirs = [
        line
        for line in board.lines
        if line.stores and all(store.folder in folders for store in line.stores)
    ]
    if not theirs:
        return board
    names = ", ".join(dict.fromkeys(board.called(line) for line in theirs))
    said = Note("reference", f"Reference rows of medbench, not of this folder: {names}.")
    return replace(board, about={**board.about, "marks": [said, *board.about["marks"]]})
