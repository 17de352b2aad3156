"""A case (a lesion, a study) is several images.

What the mean of their probabilities gives, beside each of the same images on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import stats
from medbench.report.clinical.case_labels import Cases, by_case
from medbench.report.clinical.predictions import LinePredictions, read_predictions
from medbench.report.leaderboard import LeaderboardEntry
from medbench.schema import counted
from medbench.stats import metrics
from medbench.stats.case_labels import RULES
from medbench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

CASE_COLUMNS = (
    "metric",
    "images",
    "image",
    "image_low",
    "image_high",
    "cases",
    "case",
    "case_low",
    "case_high",
    "gain",
    "gain_low",
    "gain_high",
)


def cases(line: LeaderboardEntry | LinePredictions) -> pd.DataFrame:
    """Score a line by case and by image, one row per metric, columns CASE_COLUMNS.

    On so many images, on the cases that they are, and case minus image on the same resamples, each
    with its 95 % interval over groups and draws; ece has no gain, as chance makes it larger on
    fewer. `attrs["said"]`: the sentences of `case_notes`. Empty where bags were not saved, where no
    case has two images, and where no case has one label. Raises UserError where the line is not
    complete.
    """
    import pandas as pd

    records, said = case_records(line)
    frame = pd.DataFrame(records, columns=list(CASE_COLUMNS))
    frame.attrs["said"] = said
    return frame


def case_records(
    line: LeaderboardEntry | LinePredictions,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return `cases` as records, and what a reader of them must know.

    Both empty where there are no cases of several images.
    """
    answers = line if isinstance(line, LinePredictions) else read_predictions(line)
    if answers.bags is None:
        return [], []
    found = by_case(answers)
    if len(found.answers.labels) + found.left_out == len(answers.labels):
        return [], []
    # no group has two bags: a reader knows it by its own name
    alone = len(np.unique(answers.bags)) == len(np.unique(answers.groups))
    return (_compared(found) if len(found.answers.labels) else []), case_notes(
        found, answers.group if alone else "bag"
    )


def case_notes(found: Cases, group: str = "bag") -> list[str]:
    """Say what a case is, what becomes of cases of several labels, and what is left out.

    A sentence each. group: what a case's images share, in words.
    """
    several = found.answers.kind == "multilabel"
    said = [f"A case is the images of one {group}, its probability their mean."]
    if found.mixed:
        of = (
            "for some label images that have it and images that do not"
            if several
            else "images of different classes"
        )
        said.append(
            f"{counted(found.mixed, 'case', ('holds', 'hold'))} {of}. The label is {RULES[found.answers.cases]}."
        )
    if found.left_out:
        why = "no label of theirs is known" if several else "their images have different classes"
        said.append(
            f"Left out on both sides: {counted(found.left_out, 'case')} with {counted(found.left_out_images, 'image')}, as {why}."
        )
    for name, n in found.lost.items():
        said.append(
            f"No case has the label {name}; {counted(n, 'case', ('holds', 'hold'))} an image of it."
        )
    if not len(found.answers.labels):
        said.append("No case is left to be scored.")
    return said


def _compared(found: Cases) -> list[dict[str, Any]]:
    images, whole = found.images, found.answers
    image, case = overall(images), overall(whole)
    records = []
    for metric in image:
        about = METRICS[metric]
        of_image = images.sample(image[metric], reference=images.reference(metric))
        of_case = whole.sample(case[metric], reference=whole.reference(metric))
        record: dict[str, Any] = {
            "metric": metric,
            "images": len(images.labels),
            "cases": len(whole.labels),
        }
        for name, sample in (("image", of_image), ("case", of_case)):
            s = stats.mean_over_seeds(
                sample, within=about.range, grows_by_chance=about.grows_by_chance
            )
            record |= {name: s.mean, f"{name}_low": s.low, f"{name}_high": s.high}
        gain = stats.paired_difference(of_case, of_image)
        low, high = gain.interval()
        numbers = (np.nan, np.nan, np.nan) if about.grows_by_chance else (gain.value, low, high)
        record |= dict(zip(("gain", "gain_low", "gain_high"), numbers, strict=True))
        records.append(record)
    return records


def overall(answers: LinePredictions) -> dict[str, list[np.ndarray]]:
    """Compute the leaderboard's metrics of each draw: name -> one (1 + R,) a draw.

    The value itself, then on the R resamples.
    """
    found = [
        metrics.score(
            answers.labels, d.probabilities, d.decisions, answers.kind, answers.weights
        ).values
        for d in answers.draws
    ]
    return {metric: [values[metric] for values in found] for metric in found[0]}
