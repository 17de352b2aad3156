"""Plan + rows + scores -> figures for a paper.

Never imports torch; matplotlib only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from medbench.report.figures.calibration_confusion import attention, confusion, reliability
from medbench.report.figures.cost_scatter import cost
from medbench.report.figures.differences import forest
from medbench.report.figures.label_curves import curves
from medbench.report.figures.line_selection import readable
from medbench.report.figures.rank_diagram import critical_difference
from medbench.report.figures.robustness import shift
from medbench.report.figures.style import FORMATS, WIDTHS, paper, save_figures
from medbench.report.figures.task_heatmap import heatmap
from medbench.report.leaderboard import Leaderboard, at_home, known_metric
from medbench.run.store import Damaged
from medbench.schema import UserError
from medbench.system import fork_pool

KINDS = {
    "curves": curves,
    "forest": forest,
    "heatmap": heatmap,
    "cd": critical_difference,
    "cost": cost,
    "reliability": reliability,
    "confusion": confusion,
    "attention": attention,
    "shift": shift,
}


def draw_figures(
    boards: Sequence[Leaderboard],
    kinds: Sequence[str],
    folder: Path,
    forms: Sequence[str] = ("pdf", "png"),
    *,
    metric: str | None = None,
    width: str = "",
    say: Callable[[str], None] = lambda line: None,
    processes: int = 1,
) -> list[Path]:
    """Write the figures of `kinds` and return their files.

    Keys of KINDS; none: all that can be drawn. width: a key of WIDTHS, "" for what each figure
    needs. say: is told which figures show the best of many lines alone, as they say themselves.
    processes: how many kinds are drawn at once, or files of a single kind written
    (`fork_pool.each`). Raises UserError for a kind that was named and cannot be drawn from these
    results, or where none can.
    """
    known_metric(boards, metric)
    home, asked = at_home(boards), list(kinds or KINDS)

    def drawn(kind: str) -> tuple[list[Path], list[tuple[str, str]]] | str:
        """Files of one kind, and (name, what it says) of those that do not show all.

        Says why, where there are none.
        """
        try:
            drawings = KINDS[kind](boards if kind == "shift" else home, metric, width)
        except UserError as error:
            if kinds or isinstance(error, Damaged):
                raise
            return str(error)
        return save_figures(drawings, folder, forms, processes if len(asked) == 1 else 1), [
            (drawing.name, drawing.said) for drawing in drawings if drawing.said
        ]

    with paper():
        made = fork_pool.each(drawn, asked, processes)
    done = [entry for entry in made if not isinstance(entry, str)]
    if not done:
        raise UserError(
            f"Nothing can be drawn. {' '.join(entry for entry in made if isinstance(entry, str))}"
        )
    said: dict[str, list[str]] = {}
    for name, words in chain.from_iterable(names for _, names in done):
        said.setdefault(words, []).append(name)
    for words, names in said.items():
        say(f"{', '.join(names)}: {words}; the others stand in the tables.")
    return [file for files, _ in done for file in files]


__all__ = ["FORMATS", "KINDS", "WIDTHS", "draw_figures", "paper", "readable"]
