"""Plan + rows -> tables. Pure functions of results folders; never imports torch."""

from medbench.table.boards import (
    AXES,
    COLUMNS,
    TITLES,
    Board,
    Line,
    Selection,
    boards,
    known_metric,
    leaderboard,
    picked,
    records,
    shown_axes,
    summarise,
)
from medbench.table.formats import FORMAT_OF, FORMATS, SPREADS, escape_tex, render
from medbench.table.formats import terminal as pivot_terminal
from medbench.table.leaderboards import have_seen, is_quick, markdown, notes, shift_markdown, terminal, weights_in_words, write
from medbench.table.marking import Mark, legend, marks, pairs, prepare
from medbench.table.pivot import KEYS, Entry, Pivot, Places, pivot, places, tasks_by_lines
from medbench.table.selection import only
from medbench.table.shifts import ALL, EACH, MEAN, Drop, at_home, drops, measured, shift_terminal, standing
from medbench.table.shifts import tables as shift_tables

__all__ = [
    "ALL",
    "AXES",
    "COLUMNS",
    "EACH",
    "FORMATS",
    "FORMAT_OF",
    "KEYS",
    "MEAN",
    "SPREADS",
    "TITLES",
    "Board",
    "Drop",
    "Entry",
    "Line",
    "Mark",
    "Pivot",
    "Places",
    "Selection",
    "at_home",
    "boards",
    "drops",
    "escape_tex",
    "have_seen",
    "is_quick",
    "known_metric",
    "leaderboard",
    "legend",
    "markdown",
    "marks",
    "measured",
    "notes",
    "only",
    "pairs",
    "picked",
    "pivot",
    "pivot_terminal",
    "places",
    "prepare",
    "records",
    "render",
    "shift_markdown",
    "shift_tables",
    "shift_terminal",
    "shown_axes",
    "standing",
    "summarise",
    "tasks_by_lines",
    "terminal",
    "weights_in_words",
    "write",
]
