"""Show predictive values and the decision curve at a stated prevalence."""

from __future__ import annotations

from collections.abc import Mapping

from medbench.report.clinical.predictions import LinePredictions
from medbench.report.clinical.prevalence import net_benefit_records, predictive_records
from medbench.report.clinical.sheet_formats import Sheet
from medbench.stats import number_format


def prevalence_sheets(
    answers: LinePredictions, asked: Mapping[str, float], *, specificity: float, sensitivity: float
) -> list[Sheet]:
    """Make a table of predictive values and one of net benefits at stated prevalences.

    asked: class -> prevalence. specificity, sensitivity: of the two thresholds.
    """
    import pandas as pd

    made = predictive_records(answers, asked, specificity=specificity, sensitivity=sensitivity)
    values = [
        [
            one["class"],
            f"{one['prevalence']:g}",
            one["point"],
            *(
                number_format.estimate_text(one[of], one[f"{of}_low"], one[f"{of}_high"], ".2f")
                for of in ("ppv", "npv")
            ),
        ]
        for one in made
    ]
    note = "Computed from sensitivity and specificity on this set, which are taken to hold at the prevalence that was asked for; not measured there."
    curve = net_benefit_records(answers, asked)
    benefits = [
        [
            one["class"],
            f"{one['prevalence']:g}",
            f"{one['threshold']:g}",
            number_format.estimate_text(one["benefit"], one["low"], one["high"], ".4f"),
            f"{one['all']:.4f}",
            "0",
        ]
        for one in curve
    ]
    meaning = (
        "Net benefit: true positives a patient, less false positives weighed by the odds of the threshold probability, from which on one would treat. "
        "Probabilities are moved to the prevalence. Of use where it lies above both treating all and nobody."
    )
    return [
        Sheet(
            "Predictive values at a prevalence",
            ["class", "prevalence", "point", "PPV", "NPV"],
            values,
            [note],
            pd.DataFrame(made),
        ),
        Sheet(
            "Decision curve at a prevalence",
            ["class", "prevalence", "threshold", "net benefit", "treat all", "treat nobody"],
            benefits,
            [meaning],
            pd.DataFrame(curve),
        ),
    ]
