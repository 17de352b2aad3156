"""Families of comparisons, moderated variances, draws that lines share, intervals at the edge.

Values worked out by hand, levels by simulation.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from medbench import stats
from medbench.stats import families, intervals, moderation
from medbench.stats.estimates import on_shared_draws
from medbench.stats.paired_lines import paired_lines

GROUPS, R = 80, 200


def lines(
    rng: np.random.Generator,
    means: list[float],
    draws: int,
    spread: list[float],
    noise: float = 0.01,
) -> list[stats.Sample]:
    """Lines whose draws differ by `spread` and whose test set makes `noise`, each its own.

    Half as much is what all share.
    """
    shared, of_draw = rng.normal(0, noise, R), rng.normal(0, 0.02, draws)
    found = []
    for mean, own in zip(means, spread, strict=True):
        seen = mean + rng.normal(0, noise)
        plain = seen + of_draw + rng.normal(0, own, draws)
        found.append(
            stats.Sample(
                plain,
                plain[:, None]
                + shared
                + rng.normal(0, noise * math.sqrt((GROUPS - 1) / GROUPS), R),
                GROUPS,
            )
        )
    return found


def test_draws_that_two_lines_share_are_paired() -> None:
    """Three draws of one, five of the other, the same labelled images.

    What a draw does to both falls away, in whatever order they are named.
    """
    rng = np.random.default_rng(0)
    of_draw, noise = rng.normal(0, 0.1, 5), rng.normal(0, 0.01, R)
    five = stats.Sample(
        0.7 + of_draw, (0.7 + of_draw)[:, None] + noise, GROUPS, draws=(4, 3, 2, 1, 0)
    )
    three = five.of({1, 2, 3})
    three = stats.Sample(three.plain + 0.05, three.resamples + 0.05, GROUPS, draws=three.draws)
    assert three.draws == (1, 2, 3)
    gap = stats.paired_difference(three, five)
    assert gap.value == pytest.approx(0.05) and gap.error == pytest.approx(0, abs=1e-9)
    one = paired_lines([three, five])
    assert one.value[0, 1] == pytest.approx(0.05) and one.draws[0, 1] == 0
    apart = stats.Sample(three.plain, three.resamples, GROUPS, draws=(7, 8, 9))
    assert stats.paired_difference(apart, five).error > 0.025, (
        "other labelled images are not a pair"
    )
    both = paired_lines([apart, five])
    assert both.estimate(0, 1).error == pytest.approx(
        stats.paired_difference(apart, five).error, rel=1e-6
    )
    terms = [(1.0, three), (-1.0, five)]
    assert on_shared_draws([terms])[0][1][1].named == (1, 2, 3)
    with pytest.raises(ValueError, match="not 2 draws"):
        stats.Sample(five.plain, five.resamples, GROUPS, draws=(0, 1))


def test_pairs_of_a_budget_are_those_of_each_pair_alone_but_for_the_spread() -> None:
    """Values and what test groups make: `paired_difference`'s, with one run, runs of several draws,
    and several pretrainings."""
    rng = np.random.default_rng(1)
    samples = [*lines(rng, [0.7, 0.72, 0.69], 4, [0.01] * 3), *lines(rng, [0.7], 1, [0.0])]
    plain = 0.7 + rng.normal(0, 0.01, 8)
    samples.append(stats.Sample(plain, plain[:, None] + rng.normal(0, 0.01, (8, R)), GROUPS, 2))
    found = paired_lines(samples)
    for a in range(5):
        for b in range(5):
            if a != b:
                one, pair = stats.paired_difference(samples[a], samples[b]), found.estimate(a, b)
                assert pair.value == pytest.approx(one.value)
                assert pair.parts[0] == pytest.approx(one.parts[0])


def test_variances_steady_one_another() -> None:
    """Equal variances: nearly as if known.

    One five times as large as the rest: drawn down, by no more than the limit; two lines: as they
    are.
    """
    rng = np.random.default_rng(0)
    one = np.array([0.5, 2.0])
    assert moderation.moderated(one, np.full(2, 3.0), 2)[0] is one
    i, j = np.triu_indices(8, 1)
    draws = rng.normal(size=(400, 8, 4))
    equal = np.array([(of[i] - of[j]).var(1, ddof=1) for of in draws])
    steadied = np.array(
        [moderation.moderated(of, np.full(28, 3.0), 8, moderation.of_pairs(8))[0] for of in equal]
    )
    assert steadied.std() < 0.6 * equal.std() and steadied.mean() == pytest.approx(2, rel=0.15)
    _, df = moderation.moderated(equal[0], np.full(28, 3.0), 8, moderation.of_pairs(8))
    assert (df <= 3 * (1 + moderation.MOST) + 1e-9).all() and (df > 3).all()
    prior_df, scale = moderation._prior(np.array([1.0, 2, 4, 8, 16]), np.full(5, 4.0), 0.0)
    from scipy.special import digamma, polygamma

    logs = np.log([1, 2, 4, 8, 16]) - digamma(2) + np.log(2)
    assert polygamma(1, prior_df / 2) == pytest.approx(logs.var(ddof=1) - polygamma(1, 2), rel=1e-6)
    assert math.log(scale) == pytest.approx(
        logs.mean() + digamma(prior_df / 2) - math.log(prior_df / 2)
    )


def test_lines_that_no_draw_changes_steady_nothing() -> None:
    """At all labels one line has three initialisations, five others one run each.

    One spread, not five.
    """
    rng = np.random.default_rng(3)
    samples = [
        *lines(rng, [0.8], 3, [0.01]),
        *(line for _ in range(5) for line in lines(rng, [0.8], 1, [0.0])),
    ]
    found = paired_lines(samples)
    assert (found.df_draws[0, 1:] == 2).all() and (found.draws[1:, 1:] == 0).all()


def test_max_t_is_dunnetts_and_tukeys() -> None:
    """Independent lines of known variance.

    The corrected p of the critical values in the tables of Dunnett (1964) and of the studentised
    range.
    """
    rng = np.random.default_rng(0)
    means = rng.normal(0, 0.01, (5, 20_000))
    means -= means.mean(1, keepdims=True)
    plain = np.array([0.8, 0.79, 0.79, 0.79, 0.79])
    samples = [stats.Sample(p[None], p + m[None], 10**6) for p, m in zip(plain, means, strict=True)]
    found = paired_lines(samples)
    from scipy.special import ndtr

    def first(kind: stats.Kind, z: float, pairs: list[tuple[int, int]]) -> float:
        p = [2 * float(ndtr(-z)), *[0.9] * (len(pairs) - 1)]
        return families.corrected(p, pairs, found, kind)[0][0]

    against = [(i, 0) for i in range(1, 5)]
    # Dunnett 1964, two-sided, 4 comparisons, infinite df
    assert first("baseline", 2.44, against) == pytest.approx(0.05, abs=0.006)
    every = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    tukey = 3.858 / math.sqrt(2)  # studentised range of 5, infinite df
    assert first("all", tukey, every) == pytest.approx(0.05, abs=0.006)
    assert first("best", tukey, [(0, i) for i in range(1, 5)]) == pytest.approx(0.05, abs=0.006), (
        "the best is picked after looking"
    )


def test_corrected_p_lies_between_its_own_and_holms_and_falls_with_the_evidence() -> None:
    rng = np.random.default_rng(5)
    samples = lines(rng, [0.8, 0.79, 0.78, 0.76, 0.72], 3, [0.005] * 5)
    for kind, pairs in (("all", 10), ("best", 10), ("baseline", 4)):
        made = stats.compared(samples, kind, baseline=2)
        alone, p = np.array([c.verdict.alone for c in made]), np.array([c.verdict.p for c in made])
        assert (p >= alone - 1e-12).all() and (
            p <= np.array(stats.holm(alone.tolist(), pairs)) + 1e-12
        ).all()
        order = np.argsort(alone)
        assert (np.diff(p[order]) >= 0).all()
        assert all(
            (c.first == 0)
            if kind == "best"
            else c.second == 2
            if kind == "baseline"
            else samples[c.first].mean > samples[c.second].mean
            for c in made
        )
    assert stats.compared(samples[:1]) == []
    lower = stats.compared(samples, "best", higher_is_better=False)
    assert {c.first for c in lower} == {4} and all(c.verdict.difference.value > 0 for c in lower)
    with pytest.raises(ValueError, match="names it"):
        stats.compared(samples, "baseline")
    with pytest.raises(ValueError, match="at least 0"):
        stats.compared(samples, margin=-1)


def test_an_undefined_line_is_not_decided_and_takes_nothing_from_others() -> None:
    rng = np.random.default_rng(6)
    samples = lines(rng, [0.8, 0.7, 0.6], 3, [0.005] * 3)
    holed = stats.Sample(
        samples[1].plain, np.where(np.arange(R) < 40, np.nan, samples[1].resamples), GROUPS
    )
    words = {c.second: c.verdict for c in stats.compared([samples[0], holed, samples[2]])}
    assert math.isnan(words[1].p) and words[1].word == "not decidable" and words[2].word == "better"


def test_a_board_that_learns_of_pretrainings_keeps_what_it_says_of_the_weights() -> None:
    """Two equal pretrainings of one line, four of three others.

    P of these weights stays, that of the method has more degrees of freedom than its own.
    """
    rng = np.random.default_rng(7)
    once = lines(rng, [0.80, 0.76, 0.77], 3, [0.004] * 3)
    twice = [
        stats.Sample(
            np.tile(s.plain, 2) + np.repeat([0.004, -0.004], 3),
            np.tile(s.resamples, (2, 1)),
            GROUPS,
            2,
        )
        for s in once
    ]
    spread = stats.pretraining_spread(twice, "abc")
    assert all(df > 1 for _, df in spread.values()) and all(
        variance > 0 for variance, _ in spread.values()
    )
    before, after = (
        stats.compared(once),
        stats.compared(twice, pretraining=[spread[name] for name in "abc"]),
    )
    for old, new in zip(before, after, strict=True):
        assert (
            new.verdict.p_weights == pytest.approx(old.verdict.p, abs=0.005)
            and old.verdict.p_weights is None
        )
        assert new.verdict.p > old.verdict.p
    alone = stats.pretraining_spread(twice[:1] * 3, "aaa")
    assert alone["a"][1] == 1, "budgets share their pretrainings"


@pytest.mark.parametrize(
    ("kind", "unsteady"),
    [
        ("best", 3.0),
        *(pytest.param(kind, 3.0, marks=pytest.mark.slow) for kind in ("all", "baseline")),
        pytest.param("best", 1.0, marks=pytest.mark.slow),
    ],
)
def test_equal_lines_are_seldom_told_apart(kind: stats.Kind, unsteady: float) -> None:
    """300 boards of five lines of equal truth, three draws, one line perhaps three times as
    unsteady. 2.5 standard errors above 5 % are let pass."""
    rng = np.random.default_rng(8)
    false = sum(
        any(
            c.verdict.word in ("better", "worse")
            for c in stats.compared(
                lines(rng, [0.8] * 5, 3, [0.01] * 4 + [0.01 * unsteady]), kind, baseline=0
            )
        )
        for _ in range(300)
    )
    assert false / 300 <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 300)


def test_degrees_of_freedom_are_the_rarer_classs() -> None:
    assert stats.reference("auc", (95, 5), 100, binary=True).df == pytest.approx(4.4, abs=0.1)
    assert stats.reference("auc", (50, 50), 100, binary=True).df == pytest.approx(98)
    assert stats.reference("accuracy", (95, 5), 100, binary=True).df == 99
    kappa = stats.reference("kappa", (98, 2), 100, binary=True)
    assert (kappa.df, kappa.prior, kappa.fewest) == (99, 2, 2), (
        "every group moves a kappa, the rare class's alone say what a perfect one is worth"
    )
    assert (
        stats.reference("ece", (50, 50), 100, binary=True) is None
        and stats.reference("auc", (), 100) is None
    )
    seven = stats.reference("auc", (66, 103, 220, 23, 223, 1342, 28), 1487)
    assert 22 < seven.df < 200 and seven.fewest == 23


def test_a_difference_has_a_few_degrees_of_freedom_more_and_never_more_than_groups() -> None:
    plain, resamples = np.array([0.8]), np.random.default_rng(0).normal(0.8, 0.02, (1, R))
    for of_class, df in (((95, 5), 4.4 + 8), ((50, 50), 99), ((5, 5), 9)):
        known = stats.reference("auc", of_class, sum(of_class), binary=True)
        assert stats.Sample(plain, resamples, sum(of_class), reference=known).df == pytest.approx(
            df, abs=0.1
        )
    assert stats.Sample(plain, resamples, GROUPS).df == GROUPS - 1


def test_an_interval_at_the_edge() -> None:
    """Wilson's interval of 18 of 20 where the resamples say what a binomial does, by Student's
    quantile; exact ones of 20 and of 0 of 20."""
    known = stats.reference("accuracy", (20,), 20)
    value = np.array([0.9])
    ends = intervals.of_scores(value, [(value * (1 - value) / 20, known.df)], 0.95, known)
    t = intervals.t_quantile(0.95, 19 + 8)
    centre, half = (
        (0.9 + t * t / 40) / (1 + t * t / 20),
        math.sqrt(t * t / 20 * 0.09 + (t * t / 40) ** 2) / (1 + t * t / 20),
    )
    assert np.ravel(ends) == pytest.approx([centre - half, centre + half], abs=1e-7)
    perfect = stats.Sample(np.ones(3), np.ones((3, R)), 20, reference=known)
    summary = stats.mean_over_seeds(perfect)
    assert (summary.low, summary.high) == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert (stats.means_over_seeds([perfect])[0].low, summary.low) == pytest.approx(
        (summary.low, summary.low)
    )
    none = stats.Sample(np.zeros(1), np.zeros((1, R)), 20, reference=known)
    assert (stats.mean_over_seeds(none).low, stats.mean_over_seeds(none).high) == pytest.approx(
        (0.0, 1 - 0.025 ** (1 / 20))
    )
    assert math.isnan(stats.mean_over_seeds(stats.Sample(np.ones(1), np.ones((1, R)), 20)).low), (
        "without counts nothing is known of a perfect score"
    )


@pytest.mark.parametrize(
    "metric", ["accuracy", "balanced_accuracy", "auc", "f1", "kappa", "weighted_kappa"]
)
def test_the_ends_of_an_interval_are_inside_the_range_and_around_the_value(metric: str) -> None:
    known = stats.reference(metric, (30, 4, 66), 100)
    bottom, top = known.range
    values = np.linspace(bottom, top, 41)
    assert (known.at(values) >= 0).all() and (known.at(values[1:-1])[20:] > 0).all()
    for variance in (0.0, 1e-6, 1e-3, 0.1):
        low, high = intervals.of_scores(
            values,
            [(np.full(41, variance), known.df), (np.full(41, variance / 2), 2.0)],
            0.95,
            known,
        )
        assert (
            (bottom <= low).all()
            and (low <= values).all()
            and (values <= high).all()
            and (high <= top).all()
        )
        assert (high - low > 0).all()


@pytest.mark.parametrize(
    ("positive", "auc"),
    [
        (5, 0.95),
        pytest.param(5, 0.85, marks=pytest.mark.slow),
        pytest.param(20, 0.95, marks=pytest.mark.slow),
    ],
)
def test_the_interval_of_a_rare_class_covers(positive: int, auc: float) -> None:
    """400 test sets of 100 groups.

    Percentiles hold the truth in .80 to .90 of them, all misses on one side.
    """
    from scipy.special import ndtri

    rng = np.random.default_rng(positive)
    known, apart = (
        stats.reference("auc", (100 - positive, positive), 100, binary=True),
        ndtri(auc) * math.sqrt(2),
    )
    held, before = 0, 0
    for _ in range(400):
        wins = (rng.normal(apart, 1, positive)[:, None] > rng.normal(0, 1, 100 - positive)).astype(
            float
        )
        weights = rng.multinomial(100, np.full(100, 0.01), R).astype(float)
        with np.errstate(all="ignore"):
            resamples = ((weights[:, :positive] @ wins) * weights[:, positive:]).sum(1) / (
                weights[:, :positive].sum(1) * weights[:, positive:].sum(1)
            )
        sample = stats.Sample(
            wins.mean(keepdims=True).ravel(), resamples[None], 100, reference=known
        )
        summary, old = (
            stats.mean_over_seeds(sample, within=(0, 1)),
            stats.mean_over_seeds(stats.Sample(sample.plain, resamples[None], 100), within=(0, 1)),
        )
        held += summary.low <= auc <= summary.high
        before += old.low <= auc <= old.high
    error = 2.5 * math.sqrt(0.05 * 0.95 / 400)
    assert 0.93 - error <= held / 400 <= 0.985 + error / 2
    assert before < held
