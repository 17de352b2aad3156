"""Plan + rows -> tables. Pure functions of results folders; never imports torch."""

from medbench.table.boards import (
    AXES,
    COLUMNS,
    TITLES,
    Board,
    Line,
    Mark,
    boards,
    known_metric,
    leaderboard,
    legend,
    marks,
    pairs,
    records,
    shown_axes,
    summarise,
)
from medbench.table.formats import FORMAT_OF, FORMATS, SPREADS, escape_tex, render
from medbench.table.formats import terminal as pivot_terminal
from medbench.table.leaderboards import markdown, notes, terminal, write
from medbench.table.pivot import KEYS, Entry, Pivot, pivot, tasks_by_lines

__all__ = [
    "AXES",
    "COLUMNS",
    "FORMATS",
    "FORMAT_OF",
    "KEYS",
    "SPREADS",
    "TITLES",
    "Board",
    "Entry",
    "Line",
    "Mark",
    "Pivot",
    "boards",
    "escape_tex",
    "known_metric",
    "leaderboard",
    "legend",
    "markdown",
    "marks",
    "notes",
    "pairs",
    "pivot",
    "pivot_terminal",
    "records",
    "render",
    "shown_axes",
    "summarise",
    "tasks_by_lines",
    "terminal",
    "write",
]
