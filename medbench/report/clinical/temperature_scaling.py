"""Whether probabilities mean what they say.

As given and after one temperature that was fitted inside the labelled subset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import stats
from medbench.report.clinical.predictions import Draw, LinePredictions, read_predictions
from medbench.report.clinical.recalibration import recalibration
from medbench.report.leaderboard import LeaderboardEntry
from medbench.schema import Kind
from medbench.stats.metrics import ECE_BINS, calibration_gaps, ratio
from medbench.stats.metrics import metric as metric_of
from medbench.stats.temperature import SMALLEST, tempered

if TYPE_CHECKING:
    import pandas as pd

CALIBRATION_COLUMNS = ("state", "metric", "mean", "sd", "low", "high", "note")
RANGE = (0.05, 20.0)  # of temperatures that are looked at
MIN_HELD_OUT = 20  # images a temperature is fitted on: with fewer, one lucky answer decides
#: What a table says beside a slope that is undefined.
SEPARABLE = "Separable: a threshold parts the two classes without an error, and the slope has no finite value."
_WORLDS = 200  # in which the probabilities are right; two hundred know their mean to 2 % or so


def fit_temperature(draw: Draw, kind: Kind) -> float:
    """Fit the temperature T with the lowest log-loss on the held-out scores.

    They are those of the labelled subset, and T is within RANGE; NaN where there are fewer than 20
    images or one class alone. Several labels an image share one T, as single ones have too few
    positives. Probabilities become softmax(log p / T), of each label sigmoid(logit p / T) (Guo et
    al. 2017, section 4.2): no decision for the most probable class changes.
    """
    if draw.held is None or draw.held_labels is None or len(draw.held) < MIN_HELD_OUT:
        return float("nan")
    labels, held = draw.held_labels, draw.held
    known = ~np.isnan(labels) & ~np.isnan(held) if labels.ndim == 2 else np.ones(len(labels), bool)
    if len(np.unique(labels[known])) < 2:
        return float("nan")
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return float(_losses(labels, tempered(held, float(np.exp(log_t)), kind))[known].mean())

    best = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def calibration(line: LeaderboardEntry | LinePredictions) -> pd.DataFrame:
    """Describe calibration, one row per state and metric, columns CALIBRATION_COLUMNS.

    state: "before", "after" the temperature of `fit_temperature`, and "change", after minus before
    on the same resamples; NaN after, where a draw has no temperature. "if calibrated": the ece that
    chance alone makes of so many images, no interval. temperature: mean and sd over draws, no
    interval (state "after"). ece: 15 bins, as the leaderboard. brier: mean over images of the sum
    over classes of (p - y)^2; binary: of the second class alone; several labels: mean over all
    known pairs. log_loss: nats an image (a known pair). slope, intercept (binary alone): of the
    logistic regression of the label on logit p over the scored set, 1 and 0 where calibrated (Cox
    1958); a description of the set, nothing is corrected by it. NaN where a draw's scores separate
    the classes, and no interval where more resamples do than an interval may lack: note says so,
    and is "" elsewhere. Raises UserError where the line is not complete.
    """
    import pandas as pd

    numbers = dict.fromkeys(CALIBRATION_COLUMNS[2:-1], float)
    return pd.DataFrame(calibration_records(line), columns=list(CALIBRATION_COLUMNS)).astype(
        numbers
    )


def calibration_records(line: LeaderboardEntry | LinePredictions) -> list[dict[str, Any]]:
    """Return `calibration` as records, None for no number; the same errors."""
    answers = line if isinstance(line, LinePredictions) else read_predictions(line)
    temperatures = [fit_temperature(draw, answers.kind) for draw in answers.draws]
    before = [_measured(answers, draw.probabilities) for draw in answers.draws]
    after = [
        dict.fromkeys(before[0], np.full(answers.weights.shape[1], np.nan))
        if np.isnan(t)
        else _measured(answers, tempered(draw.probabilities, t, answers.kind))
        for draw, t in zip(answers.draws, temperatures, strict=True)
    ]
    sd = float(np.std(temperatures, ddof=1)) if len(temperatures) > 1 else np.nan
    nothing = {**dict.fromkeys(CALIBRATION_COLUMNS, np.nan), "note": ""}
    records: list[dict[str, Any]] = [
        {
            **nothing,
            "state": "after",
            "metric": "temperature",
            "mean": float(np.mean(temperatures)),
            "sd": sd,
        }
    ]
    by_chance = float(
        np.mean([ece_if_calibrated(answers.labels, draw.probabilities) for draw in answers.draws])
    )
    records.append({**nothing, "state": "if calibrated", "metric": "ece", "mean": by_chance})
    for metric in before[0]:
        samples = {
            name: answers.sample([values[metric] for values in part])
            for name, part in (("before", before), ("after", after))
        }
        for state, sample in samples.items():
            signed = metric in ("slope", "intercept")
            within = (-np.inf if signed else 0.0, np.inf)
            s = stats.mean_over_seeds(
                sample, within=within, grows_by_chance=metric_of(metric).grows_by_chance
            )
            note = (
                _without_slope(sample, answers.labels)
                if signed and (state == "before" or not np.isnan(temperatures).any())
                else ""
            )
            records.append(
                {
                    "state": state,
                    "metric": metric,
                    "mean": s.mean,
                    "sd": s.sd,
                    "low": s.low,
                    "high": s.high,
                    "note": note,
                }
            )
        gap = stats.paired_difference(samples["after"], samples["before"])
        low, high = gap.interval()
        records.append(
            {
                **nothing,
                "state": "change",
                "metric": metric,
                "mean": gap.value,
                "low": low,
                "high": high,
            }
        )
    return records


def _without_slope(sample: stats.Sample, labels: np.ndarray) -> str:
    """Why a slope or its interval is undefined; "" where both are known."""
    draws, resamples = np.isnan(sample.plain), float(np.isnan(sample.resamples).any(0).mean())
    if len(np.unique(labels)) < 2:
        return "one class alone"
    if draws.any():
        return "separable" if draws.all() else f"separable in {draws.sum()} of {len(draws)} draws"
    return (
        f"separable in {100 * resamples:.0f} % of resamples"
        if resamples > stats.MAX_UNDEFINED
        else ""
    )


def ece_if_calibrated(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Compute the ECE to expect on these images if the probabilities were right.

    Each is right with the probability that its confidence says, independently of the others
    (consistency resampling, Bröcker & Smith 2007, Weather Forecast 22:651). labels (N,) or (N, C)
    with NaN where unknown, probabilities (N, C).
    """
    if labels.ndim == 2:
        p = probabilities[~np.isnan(labels)]
        confidence = np.maximum(p, 1 - p)
    else:
        confidence = probabilities.max(1)
    which = np.searchsorted(np.arange(1, ECE_BINS) / ECE_BINS, confidence, side="left")
    rng, found = np.random.default_rng(0), []
    for _ in range(_WORLDS):
        right = rng.random(len(confidence)) < confidence
        found.append(
            np.abs(np.bincount(which, confidence - right, ECE_BINS)).sum() / len(confidence)
        )
    return float(np.mean(found))


def _measured(answers: LinePredictions, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Each (1 + R,)."""
    labels, several = answers.labels, answers.kind == "multilabel"
    weights = answers.weights.astype(float)
    known = (~np.isnan(labels)).astype(float) if several else np.ones((len(labels), 1))
    pairs = known.sum(1) @ weights
    truth = (
        np.nan_to_num(labels) if several else (labels[:, None] == np.arange(probabilities.shape[1]))
    )
    squares = (probabilities - truth) ** 2
    squares = (
        (squares * known).sum(1)
        if several
        else squares[:, 1]
        if answers.kind == "binary"
        else squares.sum(1)
    )
    losses = _losses(labels, probabilities)
    losses = (np.nan_to_num(losses) * known).sum(1) if several else losses
    gaps = calibration_gaps(labels, probabilities, several).T @ weights
    assert len(gaps) == ECE_BINS
    found = {
        "ece": ratio(np.abs(gaps).sum(0), pairs),
        "brier": ratio(squares @ weights, pairs),
        "log_loss": ratio(losses @ weights, pairs),
    }
    if answers.kind == "binary":
        p = np.clip(probabilities[:, 1], SMALLEST, 1 - SMALLEST)
        found["slope"], found["intercept"] = recalibration(
            np.log(p / (1 - p)), labels == 1, weights
        )
    return found


def _losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) nats, or (N, C) a label with NaN where it is unknown."""
    p = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    if labels.ndim == 2:
        each: np.ndarray = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
        return each
    of_label: np.ndarray = -np.log(np.take_along_axis(p, labels[:, None].astype(int), 1)[:, 0])
    return of_label
