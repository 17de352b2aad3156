"""A metadata column as a few values, and how strongly it goes with the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Spelled like this, a value says that it is not known.
MISSING = ("", "nan", "none", "unknown", "unk", "n/a", "na")
FEWEST = 5  # groups that a value must have: fewer can be neither held out nor trusted
BINS = 4  # of a column of numbers: its quarters
FEW = 6  # numbers with so many different values at most are names


@dataclass(frozen=True, eq=False)
class MetadataColumn:
    """codes: (N,) int64 index into `values`, -1 where missing or in a value with fewer than `FEWEST` groups. notes: what was left out and why."""

    name: str
    codes: np.ndarray
    values: tuple[str, ...]
    missing: int
    notes: tuple[str, ...]


def read_column(name: str, column: np.ndarray, groups: np.ndarray) -> MetadataColumn:
    """A column (N,) of numbers or text: numbers with more than `FEW` different values are cut at their quartiles, ties together."""
    texts, notes = _bands(column) if _is_measured(column) else (np.array([_word(v) for v in column.tolist()]), [])
    known = np.array([text.lower() not in MISSING for text in texts.tolist()], bool)
    codes = np.full(len(texts), -1, np.int64)
    values: list[str] = []
    for value in _ordered(texts[known]):
        here = known & (texts == value)
        n = len(np.unique(groups[here]))
        if n < FEWEST:
            notes.append(f"'{value}' left out: {n} group{'s' * (n > 1)}")
            continue
        codes[here] = len(values)
        values.append(value)
    return MetadataColumn(name, codes, tuple(values), int((~known).sum()), tuple(notes))


def cramers_v(codes: np.ndarray, classes: np.ndarray, n_groups: int) -> float:
    """Cramér's V in [0, 1] of two codings (N,), NaN where one is constant; corrected for what chance gives (Bergsma 2013, J Korean Stat Soc 42:323).

    The correction counts groups, not images: images of one patient are not independent.
    """
    from scipy.stats.contingency import association

    _, rows = np.unique(codes, return_inverse=True)
    _, columns = np.unique(classes, return_inverse=True)
    if not len(rows) or rows.max() == 0 or columns.max() == 0 or n_groups < 2:
        return float("nan")
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(table, (rows, columns), 1)
    r, c = table.shape
    phi2 = float(association(table, method="cramer")) ** 2 * min(r - 1, c - 1)
    chance = n_groups - 1
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / chance)
    room = min(r - (r - 1) ** 2 / chance, c - (c - 1) ** 2 / chance) - 1
    return float(min(1.0, (phi2 / room) ** 0.5)) if room > 0 else float("nan")


def _is_measured(column: np.ndarray) -> bool:
    if column.dtype.kind not in "fiu":
        return False
    return len(np.unique(column[np.isfinite(column.astype(float))])) > FEW


def _bands(column: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(N,) text `low to high`, "" where not a number."""
    numbers = column.astype(float)
    known = np.isfinite(numbers)
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    band = np.searchsorted(edges, numbers, side="left")
    texts = np.full(len(numbers), "", object)
    for b in np.unique(band[known]):
        inside = known & (band == b)
        low, high = numbers[inside].min(), numbers[inside].max()
        texts[inside] = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return texts.astype(str), ["bands: its quarters"]


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).strip()


def _ordered(texts: np.ndarray) -> list[str]:
    """Distinct values; bands and numbers by size."""

    def key(text: str) -> tuple[float, str]:
        try:
            return float(text.split(" to ")[0]), text
        except ValueError:
            return float("inf"), text

    return sorted(set(texts.tolist()), key=key)
