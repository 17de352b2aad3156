"""How a number, an interval and a p value are written, in every table, sentence and page.

Undefined is said, never left out.
"""

from __future__ import annotations

from math import isnan

UNDEFINED, NONE = "[undefined]", "–"


def number_text(value: float | None, form: str = ".3f") -> str:
    """Write a number, a dash where there is none.

    >>> number_text(0.81), number_text(float("nan")), number_text(0.1, "+.2f")
    ('0.810', '–', '+0.10')
    """
    return NONE if value is None or isnan(value) else f"{value:{form}}"


def interval_text(low: float, high: float, form: str = ".3f") -> str:
    """Write the two ends in brackets; a word where one is undefined.

    >>> interval_text(0.5, 0.75), interval_text(0.5, float("nan"))
    ('[0.500, 0.750]', '[undefined]')
    """
    return UNDEFINED if isnan(low) or isnan(high) else f"[{low:{form}}, {high:{form}}]"


def estimate_text(value: float | None, low: float, high: float, form: str = ".3f") -> str:
    """Write a number with its interval; a dash alone where there is no number.

    >>> estimate_text(0.6, 0.5, 0.75, ".2f"), estimate_text(None, 0.5, 0.75)
    ('0.60 [0.50, 0.75]', '–')
    """
    written = number_text(value, form)
    return NONE if written == NONE else f"{written} {interval_text(low, high, form)}"


def format_p(p: float) -> str:
    """Write a p value in [0, 1] as it stands after the letter p.

    >>> format_p(0.0312), format_p(1e-9)
    ('= 0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def p_cell(p: float) -> str:
    """Write a p value for a table's column of them.

    >>> p_cell(0.0312), p_cell(1e-9), p_cell(float("nan"))
    ('0.031', '< 0.001', '–')
    """
    return NONE if isnan(p) else format_p(p).removeprefix("= ")
