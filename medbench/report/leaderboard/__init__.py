"""Plan + rows -> tables. Pure functions of results folders; never imports torch."""

from medbench.report.leaderboard.board import (
    Leaderboard,
    Selection,
    at_home,
    known_metric,
    picked,
    standing,
)
from medbench.report.leaderboard.board_notes import (
    drawn,
    encoder_marks,
    external,
    have_seen,
    is_quick,
    judged_unit,
    notes,
    weights_in_words,
)
from medbench.report.leaderboard.entry import (
    AXES,
    LeaderboardEntry,
    SignificanceMark,
    shown_axes,
    summarise,
)
from medbench.report.leaderboard.families import (
    ALL_PAIRS,
    BEST,
    Family,
    PairwiseComparison,
    comparisons,
)
from medbench.report.leaderboard.lines import COLUMNS, leaderboard, leaderboards, records
from medbench.report.leaderboard.newest_audit import LOUD
from medbench.report.leaderboard.pivot_formats import (
    FORMAT_OF,
    FORMATS,
    SPREADS,
    escape_tex,
    pivot_terminal,
    render_pivot,
)
from medbench.report.leaderboard.pivot_table import (
    KEYS,
    Pivot,
    PivotCell,
    Places,
    pivot,
    places,
    tasks_by_lines,
)
from medbench.report.leaderboard.rare_classes import class_columns, class_notes
from medbench.report.leaderboard.robustness import (
    ALL,
    EACH,
    MEAN,
    RobustnessGap,
    drop_difference,
    measured,
    robustness_gaps,
)
from medbench.report.leaderboard.robustness_tables import shift_terminal
from medbench.report.leaderboard.robustness_tables import tables as shift_tables
from medbench.report.leaderboard.selection import only
from medbench.report.leaderboard.shipped_rows import with_reference
from medbench.report.leaderboard.significance import legend, marks, pairs, precompute
from medbench.report.leaderboard.sites import over_sites, site_records, site_tables
from medbench.report.leaderboard.standard_tables import markdown, shift_markdown, terminal, write

__all__ = [
    "ALL",
    "ALL_PAIRS",
    "AXES",
    "BEST",
    "COLUMNS",
    "EACH",
    "FORMATS",
    "FORMAT_OF",
    "KEYS",
    "LOUD",
    "MEAN",
    "SPREADS",
    "Family",
    "Leaderboard",
    "LeaderboardEntry",
    "PairwiseComparison",
    "Pivot",
    "PivotCell",
    "Places",
    "RobustnessGap",
    "Selection",
    "SignificanceMark",
    "at_home",
    "class_columns",
    "class_notes",
    "comparisons",
    "drawn",
    "drop_difference",
    "encoder_marks",
    "escape_tex",
    "external",
    "have_seen",
    "is_quick",
    "judged_unit",
    "known_metric",
    "leaderboard",
    "leaderboards",
    "legend",
    "markdown",
    "marks",
    "measured",
    "notes",
    "only",
    "over_sites",
    "pairs",
    "picked",
    "pivot",
    "pivot_terminal",
    "places",
    "precompute",
    "records",
    "render_pivot",
    "robustness_gaps",
    "shift_markdown",
    "shift_tables",
    "shift_terminal",
    "shown_axes",
    "site_records",
    "site_tables",
    "standing",
    "summarise",
    "tasks_by_lines",
    "terminal",
    "weights_in_words",
    "with_reference",
    "write",
]
