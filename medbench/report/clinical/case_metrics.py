"""A case (a lesion, a study) is several images: what the mean of their probabilities gives, beside each image on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import stats
from medbench.report.clinical.predictions import LinePredictions, by_case, read_predictions
from medbench.report.leaderboard import LeaderboardEntry
from medbench.stats import metrics
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
    """One row a metric of the leaderboard, columns CASE_COLUMNS: on so many images, on so many cases, and case minus image on the same resamples,
    each with its 95 % interval over groups and draws; ece has no gain, as chance makes it larger on
    fewer. `attrs["torn"]`: cases left out, as their images have different labels.

    Empty where bags were not saved, or no case has two images. Raises UserError where the line is not complete.
    """
    import pandas as pd

    records, torn = case_records(line)
    frame = pd.DataFrame(records, columns=list(CASE_COLUMNS))
    if records:
        frame.attrs["torn"] = torn
    return frame


def case_records(line: LeaderboardEntry | LinePredictions) -> tuple[list[dict[str, Any]], int]:
    """`cases` as records, and how many cases were left out."""
    answers = line if isinstance(line, LinePredictions) else read_predictions(line)
    if answers.bags is None:
        return [], 0
    whole, torn = by_case(answers)
    if len(whole.labels) + torn == len(answers.labels):
        return [], torn
    image, case = overall(answers), overall(whole)
    records = []
    for metric in image:
        of_image, of_case = answers.sample(image[metric]), answers.sample(case[metric])
        record: dict[str, Any] = {"metric": metric, "images": len(answers.labels), "cases": len(whole.labels)}
        for name, sample in (("image", of_image), ("case", of_case)):
            s = stats.mean_over_seeds(sample, within=METRICS[metric].range)
            record |= {name: s.mean, f"{name}_low": s.low, f"{name}_high": s.high}
        gain = stats.paired_difference(of_case, of_image)
        low, high = gain.interval()
        numbers = (np.nan, np.nan, np.nan) if METRICS[metric].grows_by_chance else (gain.value, low, high)
        record |= dict(zip(("gain", "gain_low", "gain_high"), numbers, strict=True))
        records.append(record)
    return records, torn


def overall(answers: LinePredictions) -> dict[str, list[np.ndarray]]:
    """metric of the leaderboard -> (1 + R,) a draw."""
    found = [metrics.score(answers.labels, d.probabilities, d.decisions, answers.kind, answers.weights).values for d in answers.draws]
    return {metric: [values[metric] for values in found] for metric in found[0]}
