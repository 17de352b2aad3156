"""Answers of images -> answers of cases: the images of one bag in one group, their mean probability, one label by the task's rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from medbench.report.clinical.predictions import Draw, LinePredictions
from medbench.stats import metrics

#: What a table says of a case whose images have several labels.
RULES = {
    "worst": "the highest class of its images",
    "any": "each label that one of its images has",
    "same": "none, and the case is left out",
}


@dataclass(frozen=True, eq=False)
class Cases:
    """The cases of a line, and their own images: two units with the same labels known, to be set beside each other.

    Attributes
    ----------
    answers : LinePredictions
        A case each.
    images : LinePredictions
        The images of these cases. Several labels: a label is known where the case's is, too.
    mixed : int
        How many cases hold images of several labels (of a multi-label task: of some label).
    left_out, left_out_images : int
        Cases without a label by the rule, and their images. Several labels: cases without any label that is known.
    lost : Mapping[str, int]
        Class -> how many cases hold an image of it, where none of them has that label in `answers`.
    """

    answers: LinePredictions
    images: LinePredictions
    mixed: int
    left_out: int
    left_out_images: int
    lost: Mapping[str, int]


def by_case(answers: LinePredictions) -> Cases:
    """Score cases: a case's probability is the mean of its images'.

    It is decided for the class of the largest mean probability, a label from 0.5 on. Its label is
    that of its images, and by `answers.cases` where they have several; unknown (NaN) where an
    image's is, unless the rule is `any` and another image has it. Raises ValueError where the bags
    are not known.
    """
    if answers.bags is None:
        raise ValueError("the bags of these answers are not known")
    groups = np.unique(answers.groups, return_inverse=True)[1]
    _, first, case = np.unique([groups, answers.bags], axis=1, return_index=True, return_inverse=True)
    case = case.reshape(-1)
    low, high = _extremes(answers.labels, case, len(first))
    mixed: np.ndarray = low != high
    if answers.labels.ndim == 2:
        none_known = np.isinf(low)
        labels = np.where(none_known | (mixed & (answers.cases == "same")), np.nan, high)
        hidden = np.zeros(labels.shape, bool)
        np.logical_or.at(hidden, case, np.isnan(answers.labels))
        labels = np.where(hidden & (labels == 0), np.nan, labels)
        mixed, kept = np.asarray((mixed & ~none_known).any(1)), np.asarray(~np.isnan(labels).all(1))
        of_images = np.where(np.isnan(labels[case]), np.nan, answers.labels)
    else:
        labels, of_images = high, answers.labels
        kept = ~mixed if answers.cases == "same" else np.ones(len(first), bool)
    whole = replace(answers.take(first), labels=labels, draws=[_of_cases(draw, case, labels.ndim == 2) for draw in answers.draws])
    images = replace(answers, labels=of_images).take(kept[case])
    whole = whole.take(kept)
    return Cases(whole, images, int(mixed.sum()), int((~kept).sum()), int((~kept[case]).sum()), _lost(answers, whole, case))


def _extremes(labels: np.ndarray, case: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest label among the images of each of n cases.

    Of a label that no image knows, inf and -inf.
    """
    ends = (np.inf, -np.inf) if labels.ndim == 2 else (labels.max(), labels.min())
    low, high = (np.full((n, *labels.shape[1:]), end) for end in ends)
    np.fmin.at(low, case, labels)
    np.fmax.at(high, case, labels)
    return low, high


def _of_cases(draw: Draw, case: np.ndarray, multilabel: bool) -> Draw:
    size = np.bincount(case)
    mean = np.zeros((len(size), draw.probabilities.shape[1]))
    np.add.at(mean, case, draw.probabilities)
    mean = np.clip(mean / size[:, None], 0, 1)
    return replace(draw, probabilities=mean, decisions=metrics.decided(mean, multilabel))


def _lost(answers: LinePredictions, whole: LinePredictions, case: np.ndarray) -> dict[str, int]:
    """See `Cases.lost`."""
    found = {}
    for c, name in enumerate(answers.classes):
        known, positive = answers.positives(c)
        if positive.any() and not whole.positives(c)[1].any():
            found[name] = len(np.unique(case[known[positive]]))
    return found
