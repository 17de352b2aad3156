"""Plan + rows + scores -> figures for a paper. Never imports torch; matplotlib only when something is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from medbench.plot.answers import attention, confusion, reliability
from medbench.plot.lines import readable
from medbench.plot.results import cost, critical_difference, curves, heatmap
from medbench.plot.shifts import shift
from medbench.plot.style import FORMATS, WIDTHS, Drawing, paper, save
from medbench.spec import UserError
from medbench.store import Damaged
from medbench.table import Board, at_home, known_metric

KINDS = {
    "curves": curves,
    "heatmap": heatmap,
    "cd": critical_difference,
    "cost": cost,
    "reliability": reliability,
    "confusion": confusion,
    "attention": attention,
    "shift": shift,
}


def draw(
    boards: Sequence[Board],
    kinds: Sequence[str],
    folder: Path,
    forms: Sequence[str] = ("pdf", "png"),
    *,
    metric: str | None = None,
    width: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write the figures of `kinds` (keys of KINDS; none: all that can be drawn) and return their files.

    width: a key of WIDTHS, "" for what each figure needs. say: is told which figures show the best of many lines alone, as they say
    themselves. Raises UserError for a kind that was named and cannot be drawn from these results,
    or where none can.
    """
    known_metric(boards, metric)
    drawings: list[Drawing] = []
    reasons: list[str] = []
    with paper():
        for kind in kinds or KINDS:
            try:
                drawings += KINDS[kind](boards if kind == "shift" else at_home(boards), metric, width)
            except UserError as error:
                if kinds or isinstance(error, Damaged):
                    raise
                reasons.append(str(error))
        if not drawings:
            raise UserError(f"Nothing can be drawn. {' '.join(reasons)}")
        files = save(drawings, folder, forms)
    for said in dict.fromkeys(drawing.said for drawing in drawings if drawing.said):
        say(f"{', '.join(drawing.name for drawing in drawings if drawing.said == said)}: {said}; the others stand in the tables.")
    return files


__all__ = ["FORMATS", "KINDS", "WIDTHS", "Drawing", "draw", "paper", "readable"]
