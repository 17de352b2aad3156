"""Answers of images -> answers of cases.

The images of one bag in one group, their mean probability, one label by the task's rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from medbench.report.clinical.predictions import Draw, LinePredictions
from medbench.stats import metrics
from medbench.stats.case_labels import cases_of, label_cases, mean_of_cases


@dataclass(frozen=True, eq=False)
class Cases:
    """The cases of a line, and their own images.

    Two units with the same labels known, to be set beside each other.

    Attributes
    ----------
    answers : LinePredictions
        A case each.
    images : LinePredictions
        The images of these cases. Several labels: a label is known where the case's is, too.
    mixed : int
        How many cases hold images of several labels (of a multi-label task: of some label).
    left_out, left_out_images : int
        Cases without a label by the rule, and their images. Several labels: cases without any label
        that is known.
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
    first, case = cases_of(answers.groups, answers.bags)
    found = label_cases(answers.labels, case, answers.cases)
    labels, kept, of_images = found.labels, found.kept, answers.labels
    if labels.ndim == 2:
        of_images = np.where(np.isnan(labels[case]), np.nan, of_images)
    whole = replace(
        answers.take(first),
        labels=labels,
        draws=[_of_cases(draw, case, labels.ndim == 2) for draw in answers.draws],
    )
    images = replace(answers, labels=of_images).take(kept[case])
    whole = whole.take(kept)
    return Cases(
        whole,
        images,
        int(found.mixed.sum()),
        int((~kept).sum()),
        int((~kept[case]).sum()),
        _lost(answers, whole, case),
    )


def _of_cases(draw: Draw, case: np.ndarray, multilabel: bool) -> Draw:
    mean = np.clip(mean_of_cases(draw.probabilities, case, case.max() + 1), 0, 1)
    return replace(draw, probabilities=mean, decisions=metrics.decided(mean, multilabel))


def _lost(answers: LinePredictions, whole: LinePredictions, case: np.ndarray) -> dict[str, int]:
    """See `Cases.lost`."""
    found = {}
    for c, name in enumerate(answers.classes):
        known, positive = answers.positives(c)
        if positive.any() and not whole.positives(c)[1].any():
            found[name] = len(np.unique(case[known[positive]]))
    return found
