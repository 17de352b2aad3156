"""Some lines of a leaderboard as one of its own.

What is the best, and how many pairs are corrected for, is among these lines alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medbench.report.leaderboard.board import Leaderboard, Selection
from medbench.report.leaderboard.entry import AXES
from medbench.schema import Cell, UserError, parse_budget

#: What lines may be picked by.
PICKED_BY = ("task", "data", *AXES, "labels")


def only(found: Sequence[Leaderboard], asked: Sequence[str]) -> list[Leaderboard]:
    """Return the boards with the lines that `asked` names, as "method=simclr,dino" or "labels=10%".

    Several of one axis are either, of several axes both. A board without such a line is left out.
    Where lines are, each board says of how many (`Leaderboard.selection`). Raises UserError for an
    axis or a value that is not there, and where no line is all of it.
    """
    wanted: dict[str, list[str]] = {}
    cells = [line.cell for board in found for line in board.lines]
    for text in asked:
        axis, equals, values = (part.strip() for part in text.partition("="))
        if axis not in PICKED_BY or not equals:
            what = f"Unknown axis '{axis}'." if equals else f"--only '{text}' is not AXIS=VALUE."
            raise UserError(
                what,
                allowed=PICKED_BY,
                given=axis if equals else None,
                then="--only method=simclr,dino --only labels=10%",
            )
        wanted.setdefault(axis, []).extend(
            _values(axis, values, list(dict.fromkeys(str(getattr(cell, axis)) for cell in cells)))
        )
    picked = [
        replace(board, lines=[line for line in board.lines if _is(line.cell, wanted)])
        for board in found
    ]
    shown, of = _count(picked), _count(found)
    said = "; ".join(
        f"{axis} {', '.join(dict.fromkeys(values))}" for axis, values in wanted.items()
    )
    if not shown:
        raise UserError(f"No line is all of it: {said}.", then="medbench table FOLDER")
    chosen = Selection(shown, of, said) if shown < of else None
    return [replace(board, selection=chosen) for board in picked if board.lines]


def _values(axis: str, text: str, there: Sequence[str]) -> list[str]:
    """Each named value, as cells have it. A name with a comma in it is one, where it is there."""
    found = [text] if text in there else [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise UserError(f"--only '{axis}={text}' names nothing.", allowed=there)
    if axis == "labels":
        found = [str(parse_budget(value)) for value in found]
    for value in found:
        if value not in there:
            raise UserError(
                f"No line with {axis} '{value}' is in these results.", allowed=there, given=value
            )
    return found


def _is(cell: Cell, wanted: dict[str, list[str]]) -> bool:
    return all(str(getattr(cell, axis)) in values for axis, values in wanted.items())


def _count(boards: Sequence[Leaderboard]) -> int:
    """Lines, the same fits scored elsewhere not counted again."""
    return len(
        {
            (board.task, board.data, line.name, line.cell.labels)
            for board in boards
            for line in board.lines
        }
    )
