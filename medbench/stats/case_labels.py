"""Which images are one case, and the label of a case whose images have several.

One rule for runs by case and for tables of cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench.schema import CaseRule

#: What a table says of a case whose images have several labels.
RULES: dict[CaseRule, str] = {
    "worst": "the highest class of its images",
    "any": "each label that one of its images has",
    "same": "none, and the case is left out",
}


@dataclass(frozen=True, eq=False)
class CaseLabels:
    """Hold the labels of M cases.

    labels: (M,) int64, or (M, C) float64 with NaN where unknown. kept: (M,) bool, which cases have
    a label. mixed: (M,) bool, whose images have several.
    """

    labels: np.ndarray
    kept: np.ndarray
    mixed: np.ndarray


def cases_of(groups: np.ndarray, bags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each case's first image, and the case of each image.

    first: (M,) int64, ascending. case: (N,) int64 in [0, M). A case is the images of one bag in one
    group. groups, bags: (N,) of anything that sorts.
    """
    codes = [np.unique(names, return_inverse=True)[1] for names in (groups, bags)]
    _, first, case = np.unique(codes, axis=1, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return np.sort(first), rank[case.reshape(-1)]


def label_cases(labels: np.ndarray, case: np.ndarray, rule: CaseRule) -> CaseLabels:
    """Label cases by their images, and by `rule` where these have several labels.

    Several labels: unknown (NaN) where an image's is, unless the rule is `any` and another image
    has it; kept is a case of which some label is known.

    labels: (N,) int or (N, C) float of the images. case: (N,) as of `cases_of`.
    """
    low, high = _extremes(labels, case)
    mixed: np.ndarray = low != high
    if labels.ndim == 1:
        return CaseLabels(high, ~mixed if rule == "same" else np.ones(len(high), bool), mixed)
    none_known = np.isinf(low)
    found = np.where(none_known | (mixed & (rule == "same")), np.nan, high)
    hidden = np.zeros(found.shape, bool)
    np.logical_or.at(hidden, case, np.isnan(labels))
    found = np.where(hidden & (found == 0), np.nan, found)
    return CaseLabels(
        found, np.asarray(~np.isnan(found).all(1)), np.asarray((mixed & ~none_known).any(1))
    )


def _extremes(labels: np.ndarray, case: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest label among the images of each case.

    For a label that no image knows, inf and -inf.
    """
    n = case.max() + 1
    ends = (np.inf, -np.inf) if labels.ndim == 2 else (labels.max(), labels.min())
    low, high = (np.full((n, *labels.shape[1:]), end) for end in ends)
    np.fmin.at(low, case, labels)
    np.fmax.at(high, case, labels)
    return low, high


def mean_of_cases(values: np.ndarray, case: np.ndarray, n: int) -> np.ndarray:
    """Return the mean over the images of each case: (n, C) float64; NaN for a case without images.

    values: (N, C) of the N images. case: (N,) int in [0, n), the case of each image.
    """
    total = np.zeros((n, values.shape[1]))
    np.add.at(total, case, values)
    mean: np.ndarray = total / np.bincount(case, minlength=n)[:, None]
    return mean
