"""Rows against reference rows.

Has a number moved by more than repeating it moves it, and which part of its making moved?

A cell whose identity moved is `not comparable`, whatever its numbers. The cells are computed with a
cache of their own: code that changed without its version would hide behind cached features.

Pure over rows: nothing here runs a cell, reads a score or imports torch. The command line runs the
cells first where it is asked to.
"""

from medbench.report.check.comparison import STATUSES, CellFinding, Change, Comparison, compare_rows
from medbench.report.check.explanation import PARTS, Explanation, explain
from medbench.report.check.formats import github, json_text, junit
from medbench.report.check.measuring import joined, measure
from medbench.report.check.next_steps import next_steps
from medbench.report.check.reference_rows import DamagedReference, Given, read_reference, read_rows
from medbench.report.check.reference_update import update
from medbench.report.check.terminal import check_terminal, explanations
from medbench.report.check.tolerance import Repeatability

__all__ = [
    "PARTS",
    "STATUSES",
    "CellFinding",
    "Change",
    "Comparison",
    "DamagedReference",
    "Explanation",
    "Given",
    "Repeatability",
    "check_terminal",
    "compare_rows",
    "explain",
    "explanations",
    "github",
    "joined",
    "json_text",
    "junit",
    "measure",
    "next_steps",
    "read_reference",
    "read_rows",
    "update",
]
