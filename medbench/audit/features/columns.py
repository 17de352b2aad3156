"""A metadata column as a few values, and how strongly it goes with the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench.schema import Note
from medbench.stats.metadata_levels import read_levels

FEWEST = 5  # groups that a value must have: fewer can be neither held out nor trusted


@dataclass(frozen=True, eq=False)
class MetadataColumn:
    """A column of the metadata, as codes.

    codes: (N,) int64 index into `values`, -1 where missing or in a value with fewer than `FEWEST`
    groups. notes: what was left out and why.
    """

    name: str
    codes: np.ndarray
    values: tuple[str, ...]
    missing: int
    notes: tuple[Note, ...]


def read_column(name: str, column: np.ndarray, groups: np.ndarray) -> MetadataColumn:
    """Read a column (N,) of numbers or words in the levels of `metadata_levels`.

    Levels that too few groups have are left out.
    """
    found = read_levels(name, column)
    notes = [f"bands: {found.cut}"] if found.cut else []
    codes, values = np.full(len(column), -1, np.int64), list[str]()
    for code, value in enumerate(found.values):
        here = found.codes == code
        n = len(np.unique(groups[here]))
        if n < FEWEST:
            notes.append(f"'{value}' left out: {n} group{'s' * (n > 1)}")
            continue
        codes[here] = len(values)
        values.append(value)
    return MetadataColumn(
        name,
        codes,
        tuple(values),
        int((found.codes < 0).sum()),
        tuple(Note("column", text) for text in notes),
    )


def cramers_v(codes: np.ndarray, classes: np.ndarray, n_groups: int) -> float:
    """Return Cramér's V in [0, 1] of two codings, NaN where one is constant.

    codes, classes: (N,) int. Corrected for what chance gives (Bergsma 2013, J Korean Stat Soc
    42:323); the correction counts groups, not images: images of one patient are not independent.
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
