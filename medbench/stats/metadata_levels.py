"""A metadata column as a few named levels, for audits and subgroups alike.

What says that a value is missing, and how numbers are cut into bands.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medbench.schema import visible

#: An empty cell of a table, as programs write one, in lower case: what a label, a group or a bag
#: may not be. A class may be called "unknown" or "none".
BLANK = frozenset(
    {
        *(
            "",
            "nan",
            "-nan",
            "na",
            "n/a",
            "#n/a",
            "#n/a n/a",
            "#na",
            "<na>",
            "null",
            "(null)",
            "<null>",
            "nat",
            "(blank)",
            "?",
        ),
        *(
            "#ref!",
            "#value!",
            "#name?",
            "#div/0!",
            "#num!",
            "#null!",
            "#spill!",
            "#calc!",
            "#field!",
            "#getting_data",
        ),
        # C, pandas, MySQL, SAS and Stata
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "pd.na", "n.a.", "[null]", "\\n", "."),
    }
)
#: Of metadata these words say that nobody knows, too, in lower case.
_UNKNOWN = frozenset({"unknown", "unk"})
# as Python and pandas write a missing value; "none" in lower case is a finding ("no artefact")
_PYTHON = "None"
FEW = 6  # numbers with so many different values at most are names
QUARTERS = (0.25, 0.5, 0.75)
AGES = (20, 40, 60, 80)  # years where an age band begins
_AGE = re.compile(r"(^|[^a-z])age([^a-z]|$)")


def is_blank(text: str) -> bool:
    """Return whether a text is an empty cell of a table. Characters that show nothing are nothing.

    >>> [is_blank(text) for text in ("<NA>", "None", "none", "\u200b", "unknown")]
    [True, True, False, True, False]
    """
    word = visible(text)
    return word == _PYTHON or word.lower() in BLANK


def is_missing(text: str) -> bool:
    """Return whether a text of a metadata column says that the value is missing.

    "-1" does not: a number is a number, as text too.

    >>> [is_missing(text) for text in ("UNK", " n/a", "None", "none", "-1")]
    [True, True, True, False, False]
    """
    return is_blank(text) or visible(text).lower() in _UNKNOWN


def texts(column: np.ndarray) -> np.ndarray:
    """Return (N,) str of a column of words, blanks around them cut, "" where missing."""
    words = (
        f"{value:g}" if isinstance(value, float) else str(value).strip()
        for value in column.tolist()
    )
    return np.array(["" if is_missing(word) else word for word in words], str)


@dataclass(frozen=True, eq=False)
class Levels:
    """Hold the levels of a metadata column.

    codes: (N,) int64 index into `values`, -1 where missing. values: numbers and bands from small to
    large, words by the alphabet; each occurs. measured: of numbers. cut: how they were cut into
    bands, "" where they were not.
    """

    codes: np.ndarray
    values: tuple[str, ...]
    measured: bool
    cut: str = ""

    def named(self, missing: str) -> np.ndarray:
        """Return (N,) str: the level of each image, `missing` where it has none."""
        names: np.ndarray = np.array([*self.values, missing], str)[self.codes]
        return names


def read_levels(name: str, column: np.ndarray) -> Levels:
    """Read the levels of a column (N,) of numbers or words.

    Numbers with six different values at most stay as they are; ages (the name says it) are cut into
    bands of 20 years, "80+" the last; other numbers into quarters of the images, equal values
    together, each named by the least and the largest value in it.
    """
    if column.dtype.kind not in "iuf":
        words = texts(column)
        return _coded(
            words, [str(word) for word in np.unique(words) if word], words != "", measured=False
        )
    numbers = column.astype(float)
    known = np.isfinite(numbers)
    distinct = np.unique(numbers[known])
    if len(distinct) <= FEW:
        return _coded(
            np.array([f"{value:g}" for value in numbers]),
            [f"{value:g}" for value in distinct],
            known,
        )
    if _AGE.search(name.lower()):
        bands = [
            f"< {AGES[0]}",
            *(f"{low}-{high - 1}" for low, high in itertools.pairwise(AGES)),
            f"{AGES[-1]}+",
        ]
        named = np.array(bands)[np.searchsorted(AGES, np.nan_to_num(numbers), side="right")]
        return _coded(
            named, [band for band in bands if band in set(named[known])], known, cut="20 years"
        )
    edges = np.unique(np.quantile(numbers[known], QUARTERS, method="lower"))
    band = np.searchsorted(edges, numbers, side="left")
    ends = {
        int(b): (numbers[known & (band == b)].min(), numbers[known & (band == b)].max())
        for b in np.unique(band[known])
    }
    title = {
        b: f"{low:g}" if low == high else f"{low:g} to {high:g}" for b, (low, high) in ends.items()
    }
    return _coded(
        np.array([title.get(int(b), "") for b in band]),
        list(title.values()),
        known,
        cut="its quarters",
    )


def _coded(
    named: np.ndarray,
    values: Iterable[str],
    known: np.ndarray,
    *,
    measured: bool = True,
    cut: str = "",
) -> Levels:
    """From the name (N,) of each image's level.

    values: the names in their order; of two numbers that read alike, one.
    """
    order = {value: code for code, value in enumerate(dict.fromkeys(values))}
    codes = np.array(
        [
            order[value] if there else -1
            for value, there in zip(named.tolist(), known.tolist(), strict=True)
        ],
        np.int64,
    )
    return Levels(codes, tuple(order), measured, cut)
