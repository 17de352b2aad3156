"""Calibration slope and intercept against scikit-learn on random, nearly separable, rare and
clipped cases; what is separable is told exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from test_clinical import line_of, study

from medbench.report import clinical
from medbench.report.clinical import tables
from medbench.report.clinical.recalibration import recalibration, without_slope

KINDS = ("random", "nearly separable", "clipped", "rare", "separable", "tied")
CASES = 40  # of each kind


def case(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """logits (N,), positive (N,), weights (N, 8): once each, then resamples."""
    n, spread = int(rng.integers(6, 300)), rng.choice([0.05, 0.5, 2.0, 6.0, 12.0])
    z = rng.normal(3 * rng.normal(), spread, n)
    y = rng.random(n) < expit(rng.normal() * z - rng.normal())
    if kind == "nearly separable":
        y = z + rng.normal(0, 0.05 * spread, n) > np.median(z)
    elif kind == "clipped":
        z = np.clip(5 * z, -15.94, 15.94)
        y = z + rng.normal(0, spread, n) > 0
    elif kind == "rare":
        y = rng.random(n) < 0.05
    elif kind == "separable":
        y = (z > np.median(z)) ^ bool(rng.integers(2))
    elif kind == "tied":
        z = np.round(z / spread)
    return (
        z,
        y,
        np.concatenate([np.ones((n, 1)), rng.multinomial(n, np.full(n, 1 / n), 7).T], axis=1),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_scikit_learns_wherever_there_is_one(kind: str) -> None:
    """The old rule of Newton without a line search left 3,714 of 9,473 such resamples without a
    number."""
    rng, fits = np.random.default_rng(0), 0
    for _ in range(CASES):
        z, y, weights = case(kind, rng)
        slope, intercept = recalibration(z, y, weights)
        there = ~without_slope(z, y, weights)
        np.testing.assert_array_equal(np.isfinite(slope), there)
        np.testing.assert_array_equal(np.isfinite(intercept), there)
        for r in np.flatnonzero(there)[:2]:
            model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000, solver="newton-cholesky")
            model.fit(z[:, None], y, sample_weight=weights[:, r])
            expected = np.array([model.coef_[0, 0], model.intercept_[0]])
            np.testing.assert_allclose([slope[r], intercept[r]], expected, rtol=1e-4, atol=1e-4)
            fits += 1
    assert fits >= CASES or kind == "separable"


def test_separable_is_what_a_linear_program_calls_so() -> None:
    """A line that leaves no image on the wrong side and one at least off it (Albert & Anderson
    1984), looked for by scipy."""
    rng, found = np.random.default_rng(1), []
    for _ in range(150):
        n = int(rng.integers(3, 12))
        z, y = np.round(rng.normal(0, 2, n)), rng.random(n) < 0.5
        if len(set(y)) < 2 or len(set(z)) < 2:
            continue
        signed = np.where(y, 1.0, -1.0)[:, None] * np.column_stack([np.ones(n), z])
        best = linprog(-signed.sum(0), A_ub=-signed, b_ub=np.zeros(n), bounds=[(-1, 1)] * 2)
        parted = -best.fun > 1e-9
        assert without_slope(z, y, np.ones((n, 1)))[0] == parted
        found.append(parted)
    assert 20 < sum(found) < len(found) - 20


def test_one_class_alone_and_equal_logits_have_no_slope() -> None:
    ones = np.ones((4, 1))
    for z, y in (
        ([1.0, 2, 3, 4], [1, 1, 1, 1]),
        ([1.0, 2, 3, 4], [0, 0, 0, 0]),
        ([2.0, 2, 2, 2], [0, 1, 0, 1]),
    ):
        assert np.isnan(recalibration(np.array(z), np.array(y, bool), ones)[0]).all()
    assert without_slope(
        np.array([1.0, 2, 3, 4]),
        np.array([False, True, False, True]),
        np.array([[1, 1], [1, 1], [1, 0], [1, 1]]),
    ).tolist() == [
        False,
        True,
    ]


def test_what_is_separable_is_said_and_not_left_out(tmp_path: Path) -> None:
    answers = clinical.read_predictions(line_of(study(tmp_path, "binary")))
    order = (
        np.argsort(np.argsort(answers.labels, kind="stable"), kind="stable")
        / len(answers.labels)
        * 0.9
        + 0.05
    )
    parted = np.stack([1 - order, order], axis=1)
    both = replace(answers, draws=[replace(draw, probabilities=parted) for draw in answers.draws])
    one = replace(answers, draws=[both.draws[0], *answers.draws[1:]])
    nearly = parted.copy()
    at = np.flatnonzero(answers.labels == 0)[0]
    nearly[at] = [0.001, 0.999]
    few = replace(answers, draws=[replace(draw, probabilities=nearly) for draw in answers.draws])
    for given, note in (
        (both, "separable"),
        (one, "separable in 1 of 2 draws"),
        (few, "separable in "),
        (answers, ""),
    ):
        found = clinical.calibration(given).set_index(["state", "metric"])
        said = found.loc[("before", "slope"), "note"]
        assert said.startswith(note) and bool(said) == bool(note)
        assert np.isnan(found.loc[("before", "slope"), "mean"]) == (
            note in ("separable", "separable in 1 of 2 draws")
        )
        sheet = tables._calibration(given)
        (row,) = [row for row in sheet.body if row[0] == "slope"]
        assert (
            (note in row[1])
            and "nan" not in " ".join(row)
            and (clinical.SEPARABLE in sheet.notes) == bool(note)
        )
    resamples = clinical.calibration(few).set_index(["state", "metric"]).loc[("before", "slope")]
    assert (
        np.isfinite(resamples["mean"])
        and np.isnan(resamples["low"])
        and resamples["note"].endswith("% of resamples")
    )
