"""stats.py: what its intervals cover on simulated data, and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medbench import metrics, stats


def resample(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means (..., R) of values (..., N): what accuracy is for 0/1 values."""
    return values @ weights.astype(float) / weights.sum(0)


def correlated(trials: int, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(trials, N) of 0/1 with mean 0.7: images of one group share most of their difficulty."""
    p = rng.beta(0.7, 0.3, (trials, groups.max() + 1))
    return (rng.random((trials, len(groups))) < p[:, groups]).astype(float)


def covered(resampled: np.ndarray, truth: float) -> float:
    limits = np.array([stats.interval(values) for values in resampled])
    return float(np.mean((limits[:, 0] <= truth) & (truth <= limits[:, 1])))


def test_group_bootstrap_covers_where_the_image_bootstrap_does_not() -> None:
    """1,000 test sets of 80 groups of 1 to 9 images. 0.04: five binomial standard errors and what 80 groups cost in coverage."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), rng.integers(1, 10, 80))
    right = correlated(1000, groups, rng)
    assert covered(resample(right, stats.group_weights(groups, 500)), 0.7) == pytest.approx(0.95, abs=0.04)
    assert covered(resample(right, stats.group_weights(np.arange(len(groups)), 500)), 0.7) < 0.8


def test_interval_of_a_mean_over_seeds_covers() -> None:
    """10 seeds that differ as much as the test set does. The interval over test groups alone misses the seeds' share."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 3)
    weights = stats.group_weights(groups, 500)
    hits = {"both": 0, "groups": 0}
    for trial in correlated(500, groups, rng):
        values = resample(trial, weights) + rng.normal(0, 0.15, 10)[:, None]
        both = stats.mean_over_seeds(values, values.mean(1))
        low, high = stats.interval(values.mean(0))
        hits["both"] += both.low <= 0.7 <= both.high
        hits["groups"] += low <= 0.7 <= high
    assert hits["both"] / 500 == pytest.approx(0.95, abs=0.05)
    assert hits["groups"] / 500 < 0.88


def test_group_weights_keep_groups_whole_and_their_number() -> None:
    groups = np.array(["b", "a", "b", "c", "c", "c"])
    weights = stats.group_weights(groups, 300)
    assert weights.shape == (6, 300) and weights.dtype == np.uint8
    assert (weights[0] == weights[2]).all() and (weights[3] == weights[4]).all() and (weights[3] == weights[5]).all()
    assert (weights[[0, 1, 3]].sum(0) == 3).all()
    # Multinomial(3; 1/3, 1/3, 1/3): mean 1, variance 2/3 a group, all three different in 3!/27 of the draws.
    assert weights[[0, 1, 3]].mean(1) == pytest.approx([1, 1, 1], abs=0.2)
    assert (weights[[0, 1, 3]] == 1).all(0).mean() == pytest.approx(6 / 27, abs=0.1)


def test_group_weights_depend_on_names_and_seed_alone() -> None:
    groups = np.array([f"patient{i % 7}" for i in range(30)])
    weights = stats.group_weights(groups, 50, seed=4)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(stats.group_weights(groups, 50, seed=4), weights)
    np.testing.assert_array_equal(stats.group_weights(groups[order], 50, seed=4), weights[order])
    np.testing.assert_array_equal(stats.group_weights(groups, 80, seed=4)[:, :50], weights)
    assert (stats.group_weights(groups, 50, seed=5) != weights).any()


def test_interval_is_the_percentiles_of_what_is_defined() -> None:
    values = np.arange(101.0)
    assert stats.interval(np.random.default_rng(0).permutation(values)) == pytest.approx((2.5, 97.5))
    assert stats.interval(values, level=0.5) == pytest.approx((25, 75))
    assert stats.interval(np.concatenate([values, np.full(5, np.nan)])) == pytest.approx((2.5, 97.5))
    assert all(map(math.isnan, stats.interval(np.concatenate([values, np.full(6, np.nan)]))))


def test_one_seed_is_the_bootstrap_over_test_groups() -> None:
    values = np.random.default_rng(0).normal(size=(1, 400))
    summary = stats.mean_over_seeds(values, np.array([0.25]))
    assert (summary.low, summary.high) == stats.interval(values[0])
    assert summary.mean == 0.25 and summary.sd is None


def test_mean_over_seeds_by_hand() -> None:
    """Three seeds without test variance: means of three draws from {0, 3, 6}; all three the same extreme in 1/27 each, over 2.5 %."""
    values = np.repeat([[0.0], [3.0], [6.0]], 4000, axis=1)
    summary = stats.mean_over_seeds(values, np.array([0.0, 3.0, 6.0]))
    assert summary == stats.Summary(mean=3.0, sd=3.0, low=0.0, high=6.0)
    narrow = stats.mean_over_seeds(values, np.array([0.0, 3.0, 6.0]), level=0.9)  # 5 %: P(mean <= 1) = 4/27
    assert (narrow.low, narrow.high) == (1.0, 5.0)


def test_undefined_seeds_make_the_mean_undefined() -> None:
    values = np.zeros((2, 100))
    values[1] = np.nan
    summary = stats.mean_over_seeds(values, np.array([0.5, np.nan]))
    assert all(map(math.isnan, (summary.mean, summary.sd, summary.low, summary.high)))


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1, 500)) + rng.normal(size=(4, 1))
    difference = stats.paired_difference(shared + 0.01, shared, np.full(4, 0.51), np.full(4, 0.5))
    assert difference.value == pytest.approx(0.01) and difference.low == pytest.approx(0.01) and difference.high == pytest.approx(0.01)
    assert not difference.includes_zero
    reverse = stats.paired_difference(shared, shared + 0.01, np.full(4, 0.5), np.full(4, 0.51))
    assert reverse.high == pytest.approx(-0.01) and not reverse.includes_zero
    assert stats.paired_difference(shared, shared, np.full(4, 0.5), np.full(4, 0.5)).includes_zero


def test_one_run_without_seeds_stands_against_every_seed() -> None:
    rng = np.random.default_rng(0)
    one, several = rng.normal(size=(1, 500)), rng.normal(size=(5, 500))
    alone = stats.paired_difference(one, several, np.zeros(1), np.zeros(5))
    repeated = stats.paired_difference(np.repeat(one, 5, axis=0), several, np.zeros(5), np.zeros(5))
    assert (alone.low, alone.high) == pytest.approx((repeated.low, repeated.high))


def test_seeds_of_unequal_number_are_drawn_independently() -> None:
    """Variances add: 3 and 4 seeds, each (n - 1) / n of its variance over n."""
    a, b = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0, 3.0])
    n = 20_000
    difference = stats.paired_difference(np.repeat(a[:, None], n, 1), np.repeat(b[:, None], n, 1), a, b, level=0.6826895)
    sd = math.sqrt(np.var(a) / 3 + np.var(b) / 4)
    assert difference.value == -0.5
    assert (difference.high - difference.low) / 2 == pytest.approx(sd, rel=0.12)  # the differences lie on a grid of 1/12


def test_undefined_interval_separates_nothing() -> None:
    nan = np.full((1, 100), np.nan)
    assert stats.paired_difference(nan, np.zeros((1, 100)), np.ones(1), np.zeros(1)).includes_zero


def test_ties() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 3, 500))
    values = {"worse": noise[0] + 0.7, "close": noise[1] + 0.799, "best": noise[0] + 0.8, "broken": np.full((3, 500), np.nan)}
    plain = {"worse": np.full(3, 0.7), "close": np.full(3, 0.799), "best": np.full(3, 0.8), "broken": np.full(3, np.nan)}
    assert stats.ties(values, plain) == ("best", {"best", "close"})
    assert stats.ties(values, plain, higher_is_better=False) == ("worse", {"worse"})
    assert stats.ties({"broken": values["broken"]}, {"broken": plain["broken"]}) == (None, frozenset())


def test_same_numbers_every_time() -> None:
    values, plain = np.random.default_rng(0).normal(size=(3, 200)), np.zeros(3)
    assert stats.mean_over_seeds(values, plain) == stats.mean_over_seeds(values, plain)
    assert stats.mean_over_seeds(values, plain) != stats.mean_over_seeds(values, plain, seed=1)


def test_auc_interval_from_scores_to_ends() -> None:
    """metrics and stats together: the interval of an AUC is as wide as Hanley & McNeil's (1982) standard error says."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 400)
    p = 1 / (1 + np.exp(-rng.normal(1.0 * labels, 1)))
    weights = stats.group_weights(np.arange(800), 1000)
    probabilities = np.stack([1 - p, p], 1)
    auc = metrics.score(labels, probabilities, (p > 0.5).astype(int), "binary").values["auc"]
    low, high = stats.interval(metrics.score(labels, probabilities, (p > 0.5).astype(int), "binary", weights).values["auc"])
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = math.sqrt((auc * (1 - auc) + 399 * (q1 - auc**2 + q2 - auc**2)) / 400**2)
    assert low < auc < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="not the same resamples"):
        stats.paired_difference(np.zeros((1, 5)), np.zeros((1, 6)), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match=r"values must be \(S, R\)"):
        stats.mean_over_seeds(np.zeros((2, 5)), np.zeros(3))
