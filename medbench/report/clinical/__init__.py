"""What a clinician asks of a classifier, from saved scores alone.

Each class, each case, each subgroup, and whether probabilities mean it.

Every number is the mean over the draws of one line of a leaderboard with the leaderboard's own
interval (whole test groups resampled, the draws as a second source of chance). Thresholds and
temperatures come from the labelled subset (`schema.HeldOut`), never from the set that is scored.
Never imports torch.
"""

from medbench.report.clinical.case_labels import Cases, by_case
from medbench.report.clinical.case_metrics import CASE_COLUMNS, case_records, cases
from medbench.report.clinical.class_metrics import CLASS_COLUMNS, class_records, per_class, too_few
from medbench.report.clinical.evidence import evidence
from medbench.report.clinical.one_vs_rest import above_for_specificity, least_for_sensitivity
from medbench.report.clinical.predictions import Draw, LinePredictions, draw_of, read_predictions
from medbench.report.clinical.subgroup_analysis import (
    SUBGROUP_COLUMNS,
    bands,
    subgroup_records,
    subgroups,
)
from medbench.report.clinical.temperature_scaling import (
    CALIBRATION_COLUMNS,
    SEPARABLE,
    calibration,
    calibration_records,
    ece_if_calibrated,
    fit_temperature,
)
from medbench.stats.temperature import tempered

__all__ = [
    "CALIBRATION_COLUMNS",
    "CASE_COLUMNS",
    "CLASS_COLUMNS",
    "SEPARABLE",
    "SUBGROUP_COLUMNS",
    "Cases",
    "Draw",
    "LinePredictions",
    "above_for_specificity",
    "bands",
    "by_case",
    "calibration",
    "calibration_records",
    "case_records",
    "cases",
    "class_records",
    "draw_of",
    "ece_if_calibrated",
    "evidence",
    "fit_temperature",
    "least_for_sensitivity",
    "per_class",
    "read_predictions",
    "subgroup_records",
    "subgroups",
    "tempered",
    "too_few",
]
