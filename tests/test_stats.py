"""stats.py: what its intervals cover on simulated data, and values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from medbench import stats
from medbench.stats import intervals, label_curves, metrics, seed_variance
from medbench.stats.estimates_batched import tails
from medbench.stats.mean_ranks import mean_ranks

#: scipy.stats.t.ppf(0.975, df)
T = {(0.975, 2): 4.302652729749464, (0.975, 3): 3.182446305284263, (0.975, 49): 2.009575234489209}


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
    """1,000 test sets of 80 groups of 1 to 9 images.

    0.04: five binomial standard errors and what 80 groups cost in coverage.
    """
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), rng.integers(1, 10, 80))
    right = correlated(1000, groups, rng)
    assert covered(resample(right, stats.group_weights(groups, 500)), 0.7) == pytest.approx(
        0.95, abs=0.04
    )
    assert covered(resample(right, stats.group_weights(np.arange(len(groups)), 500)), 0.7) < 0.8


def test_interval_of_a_mean_over_seeds_covers() -> None:
    """10 seeds that differ as much as the test set does.

    The interval over test groups alone misses the seeds' share.
    """
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 3)
    weights = stats.group_weights(groups, 500)
    hits = {"both": 0, "groups": 0}
    for trial in correlated(500, groups, rng):
        values = resample(trial, weights) + rng.normal(0, 0.15, 10)[:, None]
        both = stats.mean_over_seeds(stats.Sample(values.mean(1), values, 60))
        low, high = stats.interval(values.mean(0))
        hits["both"] += both.low <= 0.7 <= both.high
        hits["groups"] += low <= 0.7 <= high
    assert hits["both"] / 500 == pytest.approx(0.95, abs=0.05)
    assert hits["groups"] / 500 < 0.88


def test_group_weights_keep_groups_whole_and_their_number() -> None:
    groups = np.array(["b", "a", "b", "c", "c", "c"])
    weights = stats.group_weights(groups, 300)
    assert weights.shape == (6, 300) and weights.dtype == np.uint8
    assert (
        (weights[0] == weights[2]).all()
        and (weights[3] == weights[4]).all()
        and (weights[3] == weights[5]).all()
    )
    assert (weights[[0, 1, 3]].sum(0) == 3).all()
    # Multinomial(3; 1/3, 1/3, 1/3): mean 1, variance 2/3 a group, all three different in 3!/27 of
    # the draws.
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
    assert stats.interval(np.random.default_rng(0).permutation(values)) == pytest.approx(
        (2.5, 97.5)
    )
    assert stats.interval(values, level=0.5) == pytest.approx((25, 75))
    assert stats.interval(np.concatenate([values, np.full(5, np.nan)])) == pytest.approx(
        (2.5, 97.5)
    )
    assert all(map(math.isnan, stats.interval(np.concatenate([values, np.full(6, np.nan)]))))


def sample(
    plain: list[float], noise: np.ndarray | float = 0.0, groups: int = 50, r: int = 400
) -> stats.Sample:
    """Seeds of these means; noise (R,) is the test set's, the same for every seed, (S, R) each
    seed's own."""
    values = np.array(plain)
    return stats.Sample(values, values[:, None] + np.broadcast_to(noise, (len(plain), r)), groups)


def standard(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers whose mean over the last axis is 0 and whose variance (n - 1) is 1, exactly."""
    values = rng.normal(size=shape)
    values -= values.mean(-1, keepdims=True)
    return values / values.std(-1, ddof=1, keepdims=True)


def test_one_seed_is_the_bootstrap_over_test_groups() -> None:
    values = np.random.default_rng(0).normal(size=(1, 400))
    summary = stats.mean_over_seeds(stats.Sample(np.array([0.25]), values, 50))
    level = 1 - 2 * 0.0211794  # scipy.stats: norm.cdf(t.ppf(0.025, 49) * sqrt(50 / 49))
    assert (summary.low, summary.high) == pytest.approx(stats.interval(values[0], level), abs=1e-5)
    assert (summary.low, summary.high) == pytest.approx(stats.expanded_interval(values[0], 50))
    assert summary.mean == 0.25 and summary.sd is None
    assert all(map(math.isnan, stats.expanded_interval(values[0], 1)))


@pytest.mark.parametrize("n", [10, 20, 40])
def test_an_interval_of_few_groups_covers(n: int) -> None:
    """2,000 test sets of n groups of 1 to 9 images, mean 0.7 between 0 and 1; 0.03: Student's own
    interval misses by as much on such numbers."""
    rng = np.random.default_rng(n)
    groups = np.repeat(np.arange(n), rng.integers(1, 10, n))
    resampled = resample(correlated(2000, groups, rng), stats.group_weights(groups, 500))
    ends = np.array([stats.expanded_interval(values, n) for values in resampled])
    assert np.mean((ends[:, 0] <= 0.7) & (ends[:, 1] >= 0.7)) == pytest.approx(0.95, abs=0.03)
    assert n > 20 or covered(resampled, 0.7) < 0.91


def test_three_seeds_without_test_variance_are_students_interval() -> None:
    summary = stats.mean_over_seeds(sample([0.0, 3.0, 6.0]))
    half = T[0.975, 2] * 3 / math.sqrt(3)
    assert (summary.mean, summary.sd) == (3.0, 3.0)
    assert (summary.low, summary.high) == pytest.approx((3 - half, 3 + half))


def test_test_groups_and_seeds_add_as_squares() -> None:
    """Test groups: variance 4 x 50 / 49 on 49 degrees of freedom; seeds: 9 / 3 on 2, as none of it
    is the test set's."""
    estimate = stats.linear_contrast(
        [(1.0, sample([0.0, 3.0, 6.0], 2 * standard(np.random.default_rng(0), 400)))]
    )
    low, high = estimate.interval()
    half = math.sqrt(T[0.975, 49] ** 2 * 4 * 50 / 49 + T[0.975, 2] ** 2 * 3)
    assert (low, high) == pytest.approx((3 - half, 3 + half))
    assert estimate.error == pytest.approx(math.sqrt(4 * 50 / 49 + 3))


def test_what_the_test_set_makes_of_seeds_is_not_counted_twice() -> None:
    """Seeds that resamples make differ by 3 each.

    Their own spread, sd 3, is no more than that and adds nothing.
    """
    noise = standard(np.random.default_rng(1), 3, 400) * 3
    estimate = stats.linear_contrast([(1.0, sample([0.0, 3.0, 6.0], noise, groups=10**6))])
    assert estimate.error**2 == pytest.approx(np.var(noise.mean(0), ddof=1), rel=0.1)
    assert len(estimate.parts) == 1 or estimate.parts[1][0] < 0.1 * estimate.parts[0][0]


def test_undefined_seeds_make_the_mean_undefined() -> None:
    values = np.zeros((2, 100))
    values[1] = np.nan
    summary = stats.mean_over_seeds(stats.Sample(np.array([0.5, np.nan]), values, 20))
    assert all(map(math.isnan, (summary.mean, summary.sd, summary.low, summary.high)))
    difference = stats.paired_difference(
        stats.Sample(np.array([0.5]), values[1:], 20), stats.Sample(np.array([0.4]), values[:1], 20)
    )
    assert math.isnan(difference.p()) and all(map(math.isnan, difference.interval()))


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(0)
    plain, noise = [0.5, 0.6, 0.4, 0.5], rng.normal(size=400)
    difference = stats.paired_difference(
        sample([x + 0.01 for x in plain], noise), sample(plain, noise)
    )
    assert difference.value == pytest.approx(0.01)
    assert difference.interval() == pytest.approx((0.01, 0.01)) and difference.p() < 1e-12
    assert stats.paired_difference(sample(plain, noise), sample(plain, noise)).p() == 1.0


def test_one_run_without_seeds_stands_against_every_seed() -> None:
    noise = np.random.default_rng(0).normal(size=400)
    alone = stats.paired_difference(sample([0.5], noise), sample([0.1, 0.2, 0.3]))
    repeated = stats.paired_difference(sample([0.5] * 3, noise), sample([0.1, 0.2, 0.3]))
    assert alone.value == repeated.value
    assert alone.interval() == pytest.approx(repeated.interval())


def test_seeds_of_other_draws_are_independent() -> None:
    """Variances add: 1 / 3 on 2 degrees of freedom and 5 / 3 / 4 on 3."""
    others = replace(sample([0.0, 1.0, 2.0, 3.0]), draws=(3, 4, 5, 6))
    difference = stats.paired_difference(sample([0.0, 1.0, 2.0]), others)
    assert difference.value == -0.5
    half = math.sqrt(T[0.975, 2] ** 2 / 3 + T[0.975, 3] ** 2 * 5 / 12)
    assert difference.interval() == pytest.approx((-0.5 - half, -0.5 + half))


def test_the_p_value_is_the_level_whose_interval_reaches_the_null() -> None:
    difference = stats.Estimate(1.0, ((0.1, 49.0), (0.05, 2.0)))
    low, _ = difference.interval(1 - difference.p())
    assert low == pytest.approx(0, abs=1e-6)
    low, _ = difference.interval(1 - difference.p(null=0.4))
    assert low == pytest.approx(0.4, abs=1e-6)
    alone = stats.Estimate(1.0, ((0.25, 2.0),))
    # scipy.stats.t.sf(2, 2) * 2
    assert alone.p() == pytest.approx(0.1835034190722739)
    assert alone.tail(0, above=False) == pytest.approx(1 - 0.1835034190722739 / 2)


def test_holm() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.2]
    # statsmodels.stats.multitest.multipletests(p, method="holm")[1]
    assert stats.holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.2])
    assert stats.holm(p, family=10) == pytest.approx([0.09, 0.28, 0.24, 0.05, 1.0])
    assert stats.holm([0.01, math.nan, 0.02])[::2] == pytest.approx([0.03, 0.04])


def test_verdicts() -> None:
    def difference(value: float) -> stats.Estimate:
        return stats.Estimate(value, ((0.01**2, 1e6),))

    words = [
        v.word for v in stats.verdicts([difference(x) for x in (0.05, -0.05, 0.03)], 100, 0.02)
    ]
    assert words == ["better", "worse", "better"]
    (verdict,) = stats.verdicts([difference(0.015)], 100, 0.02)
    assert verdict.word == "not decidable"
    assert [stats.verdicts([difference(x)], 100, 0.05)[0].word for x in (0.0, 0.03)] == [
        "practically equal",
        "practically equal",
    ]
    assert stats.verdicts([difference(0.0)], 100, 0.0)[0].word == "not decidable", (
        "without a margin nothing is shown to be equal"
    )
    assert stats.verdicts([difference(0.03)], 100, 0.01, family=100)[0].word == "not decidable"
    with pytest.raises(ValueError, match="at least 0"):
        stats.verdicts([], 100, -0.1)


def test_sentences_say_the_need() -> None:
    (verdict,) = stats.verdicts([stats.Estimate(0.015, ((0.01**2, 1e6),))], 100, 0.0)
    # 100 x (1.959964 + 0.841621)^2 / 1.5^2 = 348.8 groups for a power of 80 %
    assert verdict.more_groups == 249
    assert verdict.sentence("A", "B", "lesion") == (
        "A and B: not decidable, about 250 more test lesions would decide it, 3.5 times as many as there are: +0.015 [-0.005, +0.035], p = 0.134."
    )
    (verdict,) = stats.verdicts([stats.Estimate(0.002, ((0.01**2, 1e6),))], 100, 0.0)
    assert (
        "not decidable, and no larger test set is in reach (200 times the present 100 lesions would decide it)"
        in (verdict.sentence("A", "B", "lesion"))
    )
    (verdict,) = stats.verdicts([stats.Estimate(0.015, ((1e-6, 1e6), (0.01**2, 2.0)))], 100, 0.0)
    assert "more lesions alone would not decide it; it needs more seeds" in verdict.sentence(
        "A", "B", "lesion"
    )
    (verdict,) = stats.verdicts([stats.Estimate(0.1, ((math.nan, math.nan),))], 1, 0.0)
    assert "too few lesions" in verdict.sentence("A", "B", "lesion")


def test_more_groups_give_the_power_they_promise() -> None:
    """Equality at a margin: the planned study ends inside it in 80 of 100 draws."""
    margin, error, groups = 0.05, 0.03, 80
    more = stats.more_groups(stats.Estimate(0.01, ((error**2, 1e6),)), groups, margin)
    planned = error * math.sqrt(groups / (groups + more))
    seen = np.random.default_rng(0).normal(0.01, planned, 20_000)
    shown = (seen + 1.6448536 * planned < margin) & (seen - 1.6448536 * planned > -margin)
    assert shown.mean() == pytest.approx(0.8, abs=0.03)


def test_permutation_of_whole_groups_against_all_of_them() -> None:
    """Ten groups have 1,024 exchanges.

    The share of them as far from 0 as what was seen, counted one by one.
    """
    groups = np.repeat(np.arange(10), 3)
    rng = np.random.default_rng(3)
    gap = rng.normal(0.4, 1, 30)
    sums = np.bincount(groups, gap)
    signs = 1 - 2 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1)
    exact = (np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12).mean()
    swap = stats.swaps(groups, 20_000).astype(float)
    p = stats.permutation_p(gap.mean(), gap @ (1 - 2 * swap) / 30)
    assert p == pytest.approx(exact, abs=0.012)
    assert stats.permutation_p(1.0, np.zeros(99)) == 0.01
    assert (np.diff(stats.swaps(groups, 50).reshape(10, 3, 50), axis=1) == 0).all(), (
        "a group is never torn"
    )


SCORES = [
    [0.763, 0.768, 0.771, 0.798],
    [0.599, 0.591, 0.590, 0.569],
    [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898],
    [0.936, 0.931, 0.916, 0.931],
]


def test_ranks_over_tasks() -> None:
    found = stats.ranking(np.array(SCORES))
    # scipy.stats.rankdata(-x) for each row, mean; scipy.stats.t.interval(0.95, 5, mean, sd /
    # sqrt(6))
    assert found.mean == pytest.approx([3, 1.916667, 2.833333, 2.25], abs=1e-6)
    assert found.low == pytest.approx([1.374221, 1.076026, 2.043347, 1.019428], abs=1e-6)
    assert found.high == pytest.approx([4, 2.757307, 3.623320, 3.480572], abs=1e-6)
    # c = scipy.stats.friedmanchisquare(*SCORES.T).statistic; f = 5 c / (18 - c);
    # scipy.stats.f.sf(f, 3, 15)
    assert found.friedman == pytest.approx(0.4550800117612803)
    # scipy.stats.studentized_range.ppf(0.95, 4, inf) / sqrt(2) * sqrt(4 * 5 / 6 / 6)
    assert found.critical == pytest.approx(1.9148432265902373)
    assert stats.ranking(-np.array(SCORES), higher_is_better=False).friedman == found.friedman
    assert np.isnan(stats.ranking(np.array(SCORES[:1])).low).all()


def test_few_tasks_prove_little() -> None:
    """Friedman by counting: all of n tasks agree on k methods in one of (k!)^(n - 1) ways, times k!
    orders to agree on, over (k!)^n."""
    agree = np.array([[0.9, 0.8, 0.7]] * 3)
    two = stats.ranking(agree[:2])
    assert two.friedman == pytest.approx(1 / 6)
    share = 1 - math.sqrt(0.05)  # of tasks that may be otherwise, where two of two are not
    assert two.low == pytest.approx([1, 2 - share, 3 - 2 * share]) and two.high == pytest.approx(
        [1 + 2 * share, 2 + share, 3]
    )
    assert stats.ranking(agree).friedman == pytest.approx(1 / 36)
    assert stats.ranking(np.full((3, 3), 0.5)).friedman == 1.0
    rng = np.random.default_rng(0)
    each = stats.ranks(np.array(SCORES[:4]))
    drawn = sum(rng.permuted(np.tile(row, (20_000, 1)), axis=1) for row in each)
    spread = lambda sums: ((sums - 10) ** 2).sum(-1)
    assert stats.ranking(np.array(SCORES[:4])).friedman == pytest.approx(
        (spread(drawn) >= spread(each.sum(0)) - 1e-9).mean(), abs=0.015
    )


def test_ties_share_a_rank_and_a_diagram_joins_what_is_close() -> None:
    assert stats.ranks(np.array([0.5, 0.7, 0.5, 0.1])).tolist() == [2.5, 1, 2.5, 4]
    assert stats.cliques(np.array([1.0, 1.4, 2.6, 2.9, 4.0]), 1.3) == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
    ]
    assert stats.cliques(np.array([1.0, 2.0]), 0.5) == []


def test_one_rule_makes_every_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rule in `intervals` reaches a row, an audit, one mean and many.

    Without seeds nothing is stretched.
    """
    rng = np.random.default_rng(0)
    one, other = (
        stats.Sample(np.array([0.6]), rng.normal(0.6, 0.02, (1, 200)), 40) for _ in range(2)
    )
    basic = lambda values, level: np.array([[0.5], [0.6], [0.9]]) * np.ones(len(values))
    monkeypatch.setattr(intervals, "_percentiles", basic)
    assert (
        stats.interval(one.resamples[0])
        == stats.expanded_interval(one.resamples[0], 40)
        == (0.5, 0.9)
    )
    for summary in (stats.mean_over_seeds(one), *stats.means_over_seeds([one, other])):
        assert (summary.low, summary.high) == pytest.approx((0.5, 0.9))
    assert (
        stats.mean_over_seeds(one, within=(0.55, 0.7))
        == stats.means_over_seeds([one, other], within=(0.55, 0.7))[0]
    )
    assert stats.mean_over_seeds(one, within=(0.55, 0.7)).high == 0.7


def test_parts_of_seeds_and_groups_by_hand() -> None:
    """Two seeds: groups make 0.04 of each, 0.01 of the mean, so 2 (0.04 - 0.01) of the spread.

    What is left is halved.
    """
    assert seed_variance.beyond_groups(0.1, 0.04, 0.01, 2) == pytest.approx((0.1 - 0.06) / 2)
    assert seed_variance.beyond_groups(
        np.array([0.1, 0.02]), np.array([0.01, 0.03]), np.array([0.04, 0.0]), 2
    ) == pytest.approx([0.05, -0.02])
    assert seed_variance.from_groups(0.3, 4) == pytest.approx(0.4) and math.isnan(
        seed_variance.from_groups(0.3, 1)
    )
    assert seed_variance.settled(np.array([-1.0, 1e-17, 0.2, math.nan]), np.zeros(4))[
        :3
    ].tolist() == [0.0, 0.0, 0.2]
    assert math.isnan(seed_variance.settled(math.nan, 0.5))


@pytest.mark.parametrize(
    ("runs", "pretrainings"),
    [
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((3, 3, 3, 3), (1, 1, 1, 1)),
        ((3, 3, 1, 1), (1, 1, 1, 1)),  # all labels are one draw, as in every committed study
        ((6, 6, 2, 3), (2, 2, 2, 1)),
    ],
)
def test_intervals_along_a_curve_are_those_of_one_at_a_time(
    runs: tuple[int, ...], pretrainings: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(len(runs))
    common = rng.normal(0, 0.02, 300)
    made = [
        stats.Sample(rng.normal(m, 0.03, n), rng.normal(m, 0.01, (n, 300)) + common, 50, of)
        for m, n, of in zip((0.6, 0.7, 0.85, 0.8), runs, pretrainings, strict=True)
    ]
    points, reference = list(zip((10.0, 40.0, 90.0), made[:3], strict=True)), made[3]
    where = np.array([10.0, 12.0, 40.0, 77.0, 90.0])
    together = label_curves._together(made, label_curves._weights_between(points, where), 0.95)
    alone = [
        stats.linear_contrast([*label_curves._between(points, n), (-1.0, reference)]).interval()
        for n in where
    ]
    assert together == pytest.approx(np.array(alone), abs=1e-12)
    perfect = stats.Sample(np.ones(1), np.ones((1, 300)), 50)
    other_set = stats.Sample(np.ones(1), np.full((1, 200), 0.5), 50)
    for one in (perfect, other_set):
        assert label_curves._together([*made[:3], one], np.ones((1, 4)), 0.95) is None, (
            "one at a time, which knows what is undefined"
        )
    made[0].resamples[0, 0] = np.nan
    assert label_curves._together(made, np.ones((1, 4)), 0.95) is None


def test_pretrainings_are_a_source_of_chance_along_a_curve_too() -> None:
    """Two pretrainings that differ by 0.1, in truth, and three draws that do not differ.

    The six runs are no six independent seeds.
    """
    rng = np.random.default_rng(0)

    def twice(mean: float) -> stats.Sample:
        plain = np.repeat([mean + rng.normal(0, 0.05), mean + rng.normal(0, 0.05)], 3)
        return stats.Sample(plain, plain[:, None] + rng.normal(0, 0.004, 200), 50, pretrainings=2)

    curve, reference = [(10.0, twice(0.6)), (100.0, twice(0.7)), (1000.0, twice(0.8))], twice(0.7)
    found = stats.label_efficiency(curve, reference)
    ends = [
        stats.linear_contrast([(1.0, sample), (-1.0, reference)]).interval() for _, sample in curve
    ]
    assert all(low < 0 < high for low, high in ends)
    assert (found.low, found.high) == (10.0, math.inf)


def test_one_group_has_no_interval() -> None:
    for alone in (
        stats.Sample(np.array([0.8]), np.full((1, 100), 0.8), 1),
        stats.Sample(np.array([0.8, 0.9]), np.full((2, 100), 0.8), 1),
    ):
        for summary in (stats.mean_over_seeds(alone), *stats.means_over_seeds([alone])):
            assert math.isnan(summary.low) and math.isnan(summary.high)
        other = stats.Sample(alone.plain - 0.1, alone.resamples - 0.1, 1)
        difference = stats.paired_difference(alone, other)
        assert math.isnan(difference.p()) and math.isnan(
            stats.differences_to([alone], other)[0].error
        )
        assert stats.verdicts([difference], 1, 0.05)[0].word == "not decidable"
        assert math.isnan(stats.label_efficiency([(10.0, other), (100.0, alone)], alone).low)


def test_a_perfect_score_has_no_interval_and_two_of_them_no_verdict() -> None:
    """No resample moves it, however few groups there are.

    That shows nothing of the next patient.
    """
    rng = np.random.default_rng(0)
    for seeds in (1, 3):
        perfect = stats.Sample(np.ones(seeds), np.ones((seeds, 100)), 13)
        for summary in (stats.mean_over_seeds(perfect), *stats.means_over_seeds([perfect])):
            assert summary.mean == 1 and math.isnan(summary.low) and math.isnan(summary.high)
        for difference in (
            stats.paired_difference(perfect, perfect),
            *stats.differences_to([perfect], perfect),
        ):
            (verdict,) = stats.verdicts([difference], 13, 0.05)
            assert (
                verdict.word == "not decidable"
                and math.isnan(verdict.p)
                and math.isnan(verdict.p_equal)
            )
            assert "too few patients" in verdict.sentence("A", "B", "patient")
        worse = stats.Sample(np.full(seeds, 0.8), rng.normal(0.8, 0.02, (seeds, 100)), 13)
        for difference in (
            stats.paired_difference(perfect, worse),
            *stats.differences_to([perfect, worse], worse)[:1],
        ):
            assert difference.value == pytest.approx(0.2) and 0 < difference.p() < 0.001
    same = stats.paired_difference(worse, worse)
    assert same.interval() == (0, 0), "the same answers, right and wrong, do not differ"


def test_label_efficiency_on_a_straight_line() -> None:
    """0.6, 0.7, 0.8 at 10, 100, 1,000 labels: 0.75 is reached at 10^2.5.

    Without noise the interval is the point, to the grid's step.
    """
    curve = [(10.0, sample([0.6])), (100.0, sample([0.7])), (1000.0, sample([0.8]))]
    found = stats.label_efficiency(curve, sample([0.75]))
    assert found.value == pytest.approx(10**2.5)
    assert found.low == pytest.approx(10**2.5, rel=0.03) and found.high == pytest.approx(
        10**2.5, rel=0.03
    )
    assert found.share(1000, "B").startswith(
        "needs 32 % of the labels to equal B (95 % interval: 32 %"
    )


def test_label_efficiency_with_noise_is_where_the_paired_difference_holds_zero() -> None:
    """Independent noise of sd 0.01 at each budget, none in the reference.

    At 100 and 1,000 labels the half is z x 0.01.
    """
    rng = np.random.default_rng(0)
    curve = [
        (n, sample([y], 0.01 * standard(rng, 400), groups=10**6))
        for n, y in ((10.0, 0.6), (100.0, 0.7), (1000.0, 0.8))
    ]
    found = stats.label_efficiency(curve, sample([0.7], groups=10**6))
    for n, end in ((found.low, 1), (found.high, -1)):
        gap = np.interp(math.log(n), np.log([10, 100, 1000]), [0.6, 0.7, 0.8]) - 0.7
        share = abs(gap) / 0.1
        assert gap * end < 0
        assert abs(gap) == pytest.approx(1.96 * 0.01 * math.hypot(share, 1 - share), abs=0.0025)


def test_a_score_out_of_reach_is_never_reached() -> None:
    curve = [(10.0, sample([0.6])), (1000.0, sample([0.7]))]
    found = stats.label_efficiency(curve, sample([0.9]))
    assert math.isinf(found.value) and math.isinf(found.low)
    assert found.share(1000, "B") == "does not equal B even with all of the labels"
    assert (
        stats.label_efficiency(curve, sample([0.5])).share(1000, "B")
        == "needs 1 % or less of the labels to equal B (95 % interval: 1 % or less)"
    )
    wide = [
        (n, sample([y], 0.1 * standard(np.random.default_rng(0), 400), groups=10**6))
        for n, y in ((10.0, 0.6), (1000.0, 0.7))
    ]
    untold = stats.label_efficiency(wide, sample([0.65], groups=10**6))
    assert not untold.told and found.told
    assert (
        untold.share(1000, "B")
        == "may equal B with 1 % or less of the labels, or not even with all: more test images would decide"
    )
    assert (
        stats.LabelEfficiency(120, 50, 310, 10, 1000).share(1000, "B")
        == "needs 12 % of the labels to equal B (95 % interval: 5 % to 31 %)"
    )
    assert stats.LabelEfficiency(120, 50, math.inf, 10, 500).share(1000, "B") == (
        "needs 12 % of the labels to equal B (95 % interval: 5 % to more than 50 %)"
    )
    assert stats.LabelEfficiency(math.inf, 50, math.inf, 10, 1000).share(1000, "B") == (
        "did not equal B with all of the labels, which may be chance (95 % interval: 5 % to more than all)"
    )
    assert stats.label_efficiency(
        [(n, sample([-s.mean])) for n, s in curve], sample([-0.65]), higher_is_better=False
    ).value == pytest.approx(100)
    with pytest.raises(ValueError, match="two budgets"):
        stats.label_efficiency(curve[:1], sample([0.5]))


def test_area_under_the_label_curve() -> None:
    """Trapezoids over log10: (0.6 + 0.7) / 2 over one decade, (0.7 + 0.9) / 2 over two, divided by
    three."""
    noise = standard(np.random.default_rng(0), 400)
    curve = [
        (10.0, sample([0.6], noise)),
        (100.0, sample([0.7], noise)),
        (10_000.0, sample([0.9], noise)),
    ]
    assert stats.area(curve).value == pytest.approx((0.65 + 1.6) / 3)
    assert stats.area(curve).error == pytest.approx(math.sqrt(50 / 49)), (
        "noise that all budgets share stays whole"
    )


def test_auc_interval_from_scores_to_ends() -> None:
    """metrics and stats together.

    The interval of an AUC is as wide as Hanley & McNeil's (1982) standard error says.
    """
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 400)
    p = 1 / (1 + np.exp(-rng.normal(1.0 * labels, 1)))
    weights = stats.group_weights(np.arange(800), 1000)
    probabilities = np.stack([1 - p, p], 1)
    auc = metrics.score(labels, probabilities, (p > 0.5).astype(int), "binary").values["auc"]
    low, high = stats.interval(
        metrics.score(labels, probabilities, (p > 0.5).astype(int), "binary", weights).values["auc"]
    )
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = math.sqrt((auc * (1 - auc) + 399 * (q1 - auc**2 + q2 - auc**2)) / 400**2)
    assert low < auc < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="not the same resamples"):
        stats.paired_difference(sample([0.5], r=5), sample([0.5], r=6))
    with pytest.raises(ValueError, match=r"plain must be \(S,\)"):
        stats.Sample(np.zeros(3), np.zeros((2, 5)), 10)
    with pytest.raises(ValueError, match="without NaN"):
        stats.ranking(np.array([[0.5, np.nan]]))


def test_many_samples_at_once_give_the_same_as_one_at_a_time() -> None:
    """Single runs, several seeds, an undefined resample, a metric that is always 1, and a reference
    of another number of seeds."""
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 0.02, 200)
    samples = [
        stats.Sample(
            v := 0.7 + rng.normal(0, 0.02, s),
            v[:, None] + shared + rng.normal(0, 0.01, (s, 200)),
            40,
        )
        for s in (1, 3, 3, 5, 1)
    ]
    holed = samples[1].resamples.copy()
    holed[0, :3] = np.nan
    samples += [
        stats.Sample(samples[1].plain, holed, 40),
        stats.Sample(np.ones(3), np.ones((3, 200)), 40),
        stats.Sample(np.ones(2), np.ones((2, 200)), 1),
    ]
    for sample, found in zip(samples, stats.means_over_seeds(samples), strict=True):
        expected = stats.mean_over_seeds(sample)
        assert (found.sd is None) == (expected.sd is None)
        assert (found.mean, found.low, found.high) == pytest.approx(
            (expected.mean, expected.low, expected.high), rel=1e-12, nan_ok=True
        )
    for reference in samples[:2]:
        for sample, gap in zip(
            samples[:-1], stats.differences_to(samples[:-1], reference), strict=True
        ):
            one = stats.paired_difference(sample, reference)
            assert gap.value == pytest.approx(one.value, abs=1e-15)
            assert np.array(gap.parts) == pytest.approx(
                np.array(one.parts), rel=1e-10, abs=1e-18, nan_ok=True
            )
    # two sources of chance, one, none, undefined
    gaps = [stats.paired_difference(a, b) for a in samples[:-1] for b in samples[:-1]]
    gaps += [
        stats.Estimate(value, ((1e-4, 39.0), (3e-5, 2.0)))
        for value in (-0.9, -0.02, 0.0, 0.001, 0.05, 0.9, np.nan)
    ]
    assert stats.p_values(gaps) == pytest.approx([gap.p() for gap in gaps], rel=1e-10, nan_ok=True)
    for above in (True, False):
        one = [gap.tail(-0.01, above=above) for gap in gaps]
        assert tails(gaps, -0.01, [above] * len(gaps)) == pytest.approx(one, rel=1e-10, nan_ok=True)
    assert stats.p_values([]) == []


def test_draws_and_pretrainings_are_two_sources() -> None:
    """300 lines of three draws under each of three pretrainings.

    Taken for nine seeds their intervals would hold the truth in 69 %.
    """
    rng = np.random.default_rng(0)
    held = {1: 0, 3: 0}
    for _ in range(300):
        plain = (rng.normal(0, 0.02, (3, 1)) + rng.normal(0, 0.02, (1, 3))).ravel()
        resamples = plain[:, None] + rng.normal(0, 0.002, 100)
        for pretrainings in held:
            low, high = stats.linear_contrast(
                [(1.0, stats.Sample(plain, resamples, 400, pretrainings))]
            ).interval()
            held[pretrainings] += low <= 0 <= high
    assert held[1] < 240 < 280 < held[3]
    both = stats.Sample(
        np.repeat([0.0, 0.3, 0.6], 3), np.repeat([[0.0], [0.3], [0.6]], 3, 0) + np.zeros(10), 400, 3
    )
    # the pretrainings' alone
    assert stats.linear_contrast([(1.0, both)]).parts[-1] == pytest.approx((0.09 / 3, 2))
    with pytest.raises(ValueError, match="not all draws"):
        stats.Sample(plain, resamples, 400, 2)


def test_mean_ranks_are_those_of_scipy():
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    for values in (rng.integers(0, 5, 40) / 3, rng.random((30, 3)).round(1), np.zeros(1)):
        assert (mean_ranks(values) == rankdata(values, axis=0)).all()
