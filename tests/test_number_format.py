"""Tables, sentences and the page write one number alike; what is undefined is said."""

from __future__ import annotations

import pytest

from medbench.audit.features import report as features_report
from medbench.audit.features.metadata_probe import Auc
from medbench.report.clinical.subgroup_analysis import SUBGROUP_COLUMNS
from medbench.report.html import clinical_sections
from medbench.report.html.elements import estimate_markup, interval_markup
from medbench.stats import number_format

NAN = float("nan")


def test_an_undefined_interval_is_said_everywhere() -> None:
    assert number_format.estimate_text(0.8, NAN, NAN) == "0.800 [undefined]"
    assert interval_markup(NAN, 0.3) == "[undefined]"
    assert estimate_markup(0.8, NAN, NAN) == ["0.800", " ", "<small>[undefined]</small>"]
    assert estimate_markup(NAN, NAN, NAN) == ["–"]
    assert features_report._interval(Auc(0.8, NAN, NAN)) == "0.80 [undefined]"


@pytest.mark.parametrize(("p", "shown"), [(1e-7, "&lt; 0.001"), (0.0312, "0.031"), (NAN, "–")])
def test_the_page_has_no_p_of_zero(p: float, shown: str) -> None:
    row = dict.fromkeys(SUBGROUP_COLUMNS, NAN) | {
        "column": "sex",
        "subgroup": "f",
        "images": 9,
        "groups": 9,
        "worst": False,
        "note": "",
    }
    row |= {
        "value": 0.8,
        "low": 0.7,
        "high": 0.9,
        "difference": -0.2,
        "difference_low": -0.3,
        "difference_high": -0.1,
        "p": p,
    }
    page = clinical_sections._subgroups([row], "who", "auc")
    assert page is not None and page.count(f">{shown}</td>") == 1
    assert "[0.700, 0.900]" in page and "−0.200" in page
