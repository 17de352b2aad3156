"""Rows against reference rows: has a number moved by more than repeating it moves it, and which part of its making moved?

Pure over rows: nothing here runs a cell, reads a score or imports torch. The command line runs the cells first where it is asked to.
"""

from medbench.check.comparing import STATUSES, Change, Comparison, Finding, compare
from medbench.check.explaining import PARTS, Explanation, explain
from medbench.check.reading import Given, read
from medbench.check.reports import explanations, github, json_text, junit, terminal
from medbench.check.tolerance import Repeatability, measure
from medbench.check.updating import update

__all__ = [
    "PARTS",
    "STATUSES",
    "Change",
    "Comparison",
    "Explanation",
    "Finding",
    "Given",
    "Repeatability",
    "compare",
    "explain",
    "explanations",
    "github",
    "json_text",
    "junit",
    "measure",
    "read",
    "terminal",
    "update",
]
