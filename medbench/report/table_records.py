"""A leaderboard as records for a program: numbers, marks, notes and the answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medbench.report.answer import answers
from medbench.report.leaderboard import Leaderboard, marks, notes, records, standing
from medbench.schema import Note


def table_records(found: Sequence[Leaderboard], metric: str | None = None) -> list[dict[str, Any]]:
    """Return what `medbench table --json` writes, a record for each metric of each line.

    Parameters
    ----------
    found : sequence of Leaderboard
    metric : str or None
        Which is judged; None: each task's primary one.

    Returns
    -------
    list of dict
        The columns of leaderboard.csv. mark: the sign that the table prints beside the judged
        metric, "*" the best, "=" not significantly worse, "?" too few groups, "" worse; None for
        the other metrics. p: of the difference to the best, corrected, in [0, 1]. notes, answer:
        what is printed of the line's board, in the same words; answer is None for corrupted images
        and common classes.
    """
    records(found)  # works out all lines at once, which is ten times as fast
    answered = dict(zip(standing(found), answers(standing(found), metric), strict=True))
    made = []
    for board in found:
        shown = board.shown(metric)
        said = {"notes": note_records(notes(board, metric)), "answer": answered.get(board)}
        signs = marks(board, shown) if board in answered else {}
        for line in board.lines:
            sign = signs.get(line)
            for record in records([replace(board, lines=[line])]):
                own = sign if record["metric"] == shown else None
                verdict = {"mark": own.sign if own else None, "p": own.p if own else None}
                made.append({**record, **verdict, **said})
    return made


def note_records(notes: Sequence[Note]) -> list[dict[str, str]]:
    """Return kind and text of what a reader must know."""
    return [{"kind": note.kind, "text": str(note)} for note in notes]
