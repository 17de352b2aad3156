"""Rows against reference rows.

Has a number moved by more than repeating it moves it, and which part of its making moved?

A cell whose identity moved is `not comparable`, whatever its numbers. The cells are computed with a
cache of their own: code that changed without its version would hide behind cached features.

Pure over rows: nothing here runs a cell, reads a score or imports torch. The command line runs the
cells first where it is asked to.
"""

from medbench.report.check.comparison import STATUSES, CellFinding, Change, Comparison, compare_rows
from medbench.report.check.explanation import PARTS, Explanation, explain
from medbench.report.check.formats import check_terminal, explanations, github, json_text, junit
from medbench.report.check.reference_rows import Given, read_rows
from medbench.report.check.reference_update import update
from medbench.report.check.tolerance import Repeatability, measure

__all__ = [
    "PARTS",
    "STATUSES",
    "CellFinding",
    "Change",
    "Comparison",
    "Explanation",
    "Given",
    "Repeatability",
    "check_terminal",
    "compare_rows",
    "explain",
    "explanations",
    "github",
    "json_text",
    "junit",
    "measure",
    "read_rows",
    "update",
]
