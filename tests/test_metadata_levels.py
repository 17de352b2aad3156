"""One reading of a metadata column for the audit of features, the audit of data, subgroups and a
user's CSV."""

from __future__ import annotations

import numpy as np
import pytest

from medbench.audit.dataset import label_errors
from medbench.audit.features import read_column
from medbench.report import clinical
from medbench.stats.metadata_levels import BLANK, read_levels
from medbench.tasks import folder

MISSING = ["", "  ", "NaN", "NA", "n/a", "null", "unknown", "UNK", "None"]


@pytest.mark.parametrize("word", MISSING)
def test_a_word_for_missing_is_missing_everywhere(word: str) -> None:
    column = np.array(["a"] * 20 + ["b"] * 15 + [word] * 15)
    assert read_levels("site", column).values == ("a", "b")
    found = read_column("site", column, np.arange(50).astype(str))
    assert (found.values, found.missing) == (("a", "b"), 15)
    named = clinical.bands("site", column)
    assert named is not None and (named[-15:] == "unknown").all()
    assert np.isnan(folder._meta(["5", word.strip(), "7"])).tolist() == [False, True, False], (
        "a column of numbers stays one"
    )
    both = np.array(["a"] * 20 + ["b"] * 15 + [word] * 8 + ["unknown"] * 7)
    assert label_errors._encoded(both).shape[1] == 3, (
        "missing is one indicator, however it is spelled"
    )


def test_what_is_a_value() -> None:
    """-1 as a number is a level; so it is as text.

    "none" is a finding. Classes may be called what metadata may not.
    """
    assert read_levels("grade", np.array([-1, 0, 1])).values == ("-1", "0", "1")
    assert set(read_levels("grade", np.array(["-1", "0", "x"])).values) == {"-1", "0", "x"}
    assert read_levels("artefact", np.array(["none", "hair"])).values == ("hair", "none")
    assert not BLANK & {"unknown", "none"}


def test_bands_of_numbers() -> None:
    """Equal values stay together.

    Each band is named by what is in it, so that no value could lie in two.
    """
    found = read_levels("weight", np.array([1.0] * 5 + [2, 3, 4, 5, 6, 7, np.nan]))
    assert found.values == ("1", "2", "3 to 4", "5 to 7")
    assert found.codes.tolist() == [0] * 5 + [1, 2, 2, 3, 3, 3, -1]
    ages = read_levels("Patient age", np.array([19, 20, 39.5, 61, 80, 101, 5, np.nan]))
    assert ages.values == ("< 20", "20-39", "60-79", "80+") and ages.cut == "20 years"
    assert read_levels("percentage", np.arange(80.0)).cut == "its quarters", (
        "age stands in it, and is not a word of it"
    )
    assert read_levels("nothing", np.full(3, np.nan)).values == ()


def test_subgroups_stand_in_their_order() -> None:
    assert clinical.subgroup_analysis.order(
        "age", np.array([85, 3, 30, 31, 50, 70, 71, np.nan])
    ) == [
        "< 20",
        "20-39",
        "40-59",
        "60-79",
        "80+",
        "unknown",
    ]
    assert clinical.subgroup_analysis.order(
        "site", np.array(["b", "a", "a", "c", "", "c", "c"])
    ) == ["c", "a", "b", "unknown"]
