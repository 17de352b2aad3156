"""Predictive values and net benefit at another prevalence: Bayes' rule by hand, the scored set's
own where the prevalence is its own, and by simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.results import study

from medbench import UserError, stats
from medbench.report.clinical.predictions import Draw, LinePredictions
from medbench.report.clinical.prevalence import (
    asked_prevalence,
    net_benefit_records,
    predictive_records,
)


def answers(n: int, prevalence: float, seed: int, held: int = 200) -> LinePredictions:
    """Calibrated probabilities of two normal classes."""

    def drawn(n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
        labels = (rng.random(n) < share).astype(int)
        x = rng.normal(0, 1, n) + 1.5 * labels
        p = 1 / (1 + np.exp(-(1.5 * x - 1.125 + np.log(share / (1 - share)))))
        return labels, np.column_stack([1 - p, p])

    rng = np.random.default_rng(seed)
    (labels, p), (own, held_p) = drawn(n, prevalence), drawn(held, prevalence)
    weights = np.concatenate(
        [np.ones((n, 1), np.uint8), stats.group_weights(np.arange(n), 300)], axis=1
    )
    draws = [Draw(p, p.argmax(1), held_p, own)]
    return LinePredictions(
        "binary", ("no", "yes"), "image", labels, np.arange(n), weights, None, {}, draws
    )


def test_at_the_prevalence_of_the_set_itself_values_are_those_that_are_counted() -> None:
    of = answers(500, 0.3, 0)
    positive, decided = of.labels == 1, of.draws[0].decisions == 1
    (first, *_) = predictive_records(of, {"yes": float(positive.mean())})
    assert first["point"] == "as decided" and first["ppv"] == pytest.approx(
        positive[decided].mean()
    )
    assert (
        first["npv"] == pytest.approx((~positive)[~decided].mean())
        and first["ppv_low"] < first["ppv"] < first["ppv_high"]
    )


def test_another_prevalence_is_what_a_set_of_it_shows() -> None:
    there = answers(60_000, 0.05, 1)
    positive, p = there.labels == 1, there.draws[0].probabilities[:, 1]
    held = 0
    for seed in range(20):
        of = answers(800, 0.4, seed + 2, held=2000)
        least = next(
            one
            for one in predictive_records(of, {"yes": 0.05})
            if one["point"] == "sensitivity 0.9"
        )
        threshold = np.sort(of.draws[0].held[of.draws[0].held_labels == 1, 1])  # type: ignore[index]
        cut = threshold[len(threshold) - int(np.ceil(0.9 * len(threshold)))]
        # the same score among rarer positives
        logit = np.log(cut / (1 - cut)) + np.log(0.05 / 0.95) - np.log(0.4 / 0.6)
        truth = positive[p >= 1 / (1 + np.exp(-logit))].mean()
        held += least["ppv_low"] <= truth <= least["ppv_high"]
    assert held >= 17
    made = net_benefit_records(answers(4000, 0.4, 99, held=4000), {"yes": 0.05})
    for one in made:
        at = p >= one["threshold"]
        truth = (positive & at).mean() - (~positive & at).mean() * one["threshold"] / (
            1 - one["threshold"]
        )
        assert one["low"] - 0.003 <= truth <= one["high"] + 0.003, one
        assert one["all"] == pytest.approx(0.05 - 0.95 * one["threshold"] / (1 - one["threshold"]))


def test_what_is_asked_is_read_or_refused() -> None:
    assert (
        asked_prevalence("0.05", ("no", "yes"), "binary")
        == {"yes": 0.05}
        == asked_prevalence("yes=0.05", ("no", "yes"), "binary")
    )
    assert asked_prevalence("a=0.1, b = 0.2", ("a", "b", "c"), "multiclass") == {"a": 0.1, "b": 0.2}
    for text, why in {
        "0.1": "names no class. Allowed: a, b",
        "a=2": "between 0 and 1",
        "a=x": "given 'x'",
        ",": "names nothing",
    }.items():
        with pytest.raises(UserError, match=why):
            asked_prevalence(text, ("a", "b", "c"), "multiclass")


def test_the_command_shows_both_tables(
    tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path / "results")
    assert medbench("clinical", "results", "--prevalence", "0.05", "--format", "markdown") == 0
    said = capsys.readouterr().out
    assert (
        "Predictive values at a prevalence" in said
        and "| yes | 0.05 | as decided |" in said
        and "Decision curve" in said
    )
    assert medbench("clinical", "results", "--prevalence", "5") == 2
    assert "between 0 and 1" in capsys.readouterr().err
