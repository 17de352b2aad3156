"""1,000 simulated studies of known truth.

Do the intervals cover, does the paired test keep its level, are the verdicts right?

A study is a binary task scored by AUC: patients of one to four images, a score that is normal in
each class with a part of the patient, a part of the patient and method, and a part of each draw
(seed): its separation varies from draw to draw. The truth is the mean AUC over all patients and all
draws, Phi(m / sqrt(2 s^2 + t^2)) for separation m with sd t over draws and score variance s^2. Run
with: pytest -m slow -s tests/test_stats_slow.py
"""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from fakes.features import drawn

from medbench import stats
from medbench.audit.features import nearest, robustness
from medbench.report import clinical
from medbench.report.clinical import Draw, LinePredictions
from medbench.stats import metrics

pytestmark = pytest.mark.slow
PLAN = runpy.run_path(
    str(Path(__file__).parents[1] / "benchmarks" / "decide_simulation.py"),
    run_name="decide_simulation",
)
STUDIES = 1000
PATIENTS = 120
PHI = NormalDist()


def separation(auc: float, t: float) -> float:
    return PHI.inv_cdf(auc) * math.sqrt(2 + t * t)


def study(
    rng: np.random.Generator, means: list[float], seeds: int, t: float, shared: float = 0.5
) -> list[stats.Sample]:
    """A sample for each method, all on the same patients.

    shared: of the variance of a score, what the patient gives to every method.
    """
    groups = np.repeat(np.arange(PATIENTS), rng.integers(1, 5, PATIENTS))
    labels = (rng.permutation(PATIENTS) < PATIENTS // 2).astype(int)[groups]
    weights = stats.group_weights(groups, 400, seed=int(rng.integers(2**31)))
    patient = rng.normal(0, math.sqrt(shared), PATIENTS)
    found = []
    for auc in means:
        own = rng.normal(0, math.sqrt(0.2), PATIENTS)
        plain, resampled = [], []
        for m in rng.normal(separation(auc, t), t, seeds):
            score = (
                labels * m
                + (patient + own)[groups]
                + rng.normal(0, math.sqrt(0.8 - shared), len(groups))
            )
            p = 1 / (1 + np.exp(-score))
            answer = (labels, np.stack([1 - p, p], 1), (p > 0.5).astype(int), "binary")
            plain.append(metrics.score(*answer).values["auc"])
            resampled.append(metrics.score(*answer, weights).values["auc"])
        found.append(stats.Sample(np.array(plain), np.stack(resampled), PATIENTS))
    return found


def joint_bootstrap(sample: stats.Sample) -> tuple[float, float]:
    """What `mean_over_seeds` was before.

    Seeds drawn with replacement at each resample of the patients.
    """
    s, r = sample.resamples.shape
    drawn = np.random.default_rng([0, s]).integers(s, size=(r, s))
    return stats.interval(sample.resamples[drawn, np.arange(r)[:, None]].mean(1))


@pytest.mark.parametrize(
    ("seeds", "t"), [(1, 0.0), (3, 0.0), (3, 0.1), (3, 0.3), (3, 0.6), (5, 0.3)]
)
def test_interval_covers_and_the_paired_test_keeps_its_level(seeds: int, t: float) -> None:
    rng = np.random.default_rng([seeds, int(10 * t)])
    truth, inside, before, alarms, alarms_before = 0.8, 0, 0, 0, 0
    for _ in range(STUDIES):
        a, b = study(rng, [truth, truth], seeds, t)
        summary, (low, high) = stats.mean_over_seeds(a), joint_bootstrap(a)
        inside += summary.low <= truth <= summary.high
        before += low <= truth <= high
        alarms += stats.paired_difference(a, b).p() <= 0.05
        low, high = joint_bootstrap(
            stats.Sample(a.plain - b.plain, a.resamples - b.resamples, PATIENTS)
        )
        alarms_before += not low <= 0 <= high
    shares = [count / STUDIES for count in (inside, before, alarms, alarms_before)]
    print(
        f"\n{seeds} seeds, sd {t}: coverage {shares[0]:.3f} (before {shares[1]:.3f}), false alarms {shares[2]:.3f} (before {shares[3]:.3f})"
    )
    # of the simulation itself; granted on the careful side alone
    chance = 2 * math.sqrt(0.05 * 0.95 / STUDIES)
    assert 0.93 <= shares[0] <= 0.97 + chance
    assert 0.03 - chance <= shares[2] <= 0.07


@pytest.mark.parametrize("difference", [0.0, 0.02, 0.05, 0.10])
def test_verdicts_are_wrong_in_at_most_five_of_a_hundred(difference: float) -> None:
    """Margin 0.05.

    Wrong: "better" or "worse" where there is no difference or the other one, "practically equal"
    where it is the margin.
    """
    rng = np.random.default_rng(int(100 * difference))
    words: dict[str, int] = {}
    for _ in range(STUDIES):
        a, b = study(rng, [0.8 + difference, 0.8], 3, 0.1)
        (verdict,) = stats.verdicts([stats.paired_difference(a, b)], PATIENTS, 0.05)
        words[verdict.word] = words.get(verdict.word, 0) + 1
    print(f"\ntrue difference {difference}: {words}")
    wrong = (
        words.get("worse", 0)
        + (words.get("better", 0) if difference == 0 else 0)
        + (words.get("practically equal", 0) if difference >= 0.05 else 0)
    )
    assert wrong / STUDIES <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / STUDIES)


def test_the_marks_of_five_equal_methods() -> None:
    """Any line told from the best is a false finding.

    The family is all ten pairs, as the best was picked after looking.
    """
    rng = np.random.default_rng(7)
    false = {"max-T": 0, "Holm": 0, "each alone": 0}
    studies = STUDIES // 2
    for _ in range(studies):
        samples = study(rng, [0.8] * 5, 1, 0.0)
        samples.sort(key=lambda sample: -sample.mean)
        p = [stats.paired_difference(sample, samples[0]).p() for sample in samples[1:]]
        false["max-T"] += any(one.decided for one in stats.compared(samples))
        false["Holm"] += min(stats.holm(p, family=10)) <= 0.05
        false["each alone"] += min(p) <= 0.05
    print(
        f"\nfive equal methods, false findings: { ({name: n / studies for name, n in false.items()}) }"
    )
    assert max(false["max-T"], false["Holm"]) / studies <= 0.05 + 2 * math.sqrt(
        0.05 * 0.95 / studies
    )


@pytest.mark.parametrize("place", [8, 12, 13, 14, 21, 24, 32, 33, 37, 41])
def test_no_family_holds_more_false_verdicts_than_it_says(place: int) -> None:
    """Rows of the plan in `benchmarks/decide_simulation.py`.

    Unsteady methods, rare classes, groups of unequal size, heavy tails, kappa, a margin.
    """
    setting, studies = PLAN["LEVEL"][place], 400
    found = PLAN["level"](setting, studies)
    print(f"\n{setting}: {found}")
    assert max(found[kind] for kind in ("best", "all", "baseline")) <= 0.065 + 2 * math.sqrt(
        0.065 * 0.935 / studies
    )


@pytest.mark.parametrize("place", [5, 7, 13, 15, 19, 24, 26, 39, 47])
def test_a_score_interval_covers_where_a_class_is_rare_and_near_one(place: int) -> None:
    setting, studies = PLAN["COVERAGE"][place], 400
    found = PLAN["coverage"](setting, studies)
    print(f"\n{setting}: {found}")
    low, high = (0.91, 0.985) if setting.positive < 20 else (0.93, 0.975)
    chance = 2 * math.sqrt(0.05 * 0.95 / studies)
    assert low - chance <= found["shipped"][0] <= high + chance


@pytest.mark.parametrize("place", [2, 6, 14])
def test_ten_draws_of_five_methods_find_nearly_what_an_oracle_finds(place: int) -> None:
    setting = PLAN["POWER"][place]
    found = PLAN["power"](setting, 200)
    print(f"\n{setting}: {found}")
    assert (
        found["best"] >= 0.9 * found["oracle best"] - 0.05
        and found["all"] >= 0.9 * found["oracle all"] - 0.05
    )


@pytest.mark.parametrize(("n_groups", "strength"), [(20, 0.0), (50, 0.0), (120, 0.0), (120, 1.0)])
def test_the_interval_of_a_robustness_index_covers(n_groups: int, strength: float) -> None:
    """The truth of the difference is 0 without a shortcut; else, and for the index, the mean over
    all sets."""
    sets = STUDIES // 2
    found = []
    for seed in range(sets):
        features, classes, codes, groups = drawn(strength, seed, n_groups, skew=0.3)
        found.append(robustness(nearest(features, groups), classes, codes, groups))
    values = np.array(
        [[i.difference, i.difference_low, i.difference_high, i.value, i.low, i.high] for i in found]
    )
    of_difference = 0.0 if strength == 0 else values[:, 0].mean()
    inside = ((values[:, 1] <= of_difference) & (of_difference <= values[:, 2])).mean()
    of_index = (
        (values[:, 4] <= values[:, 3].mean()) & (values[:, 3].mean() <= values[:, 5])
    ).mean()
    wider = (values[:, 2] - values[:, 1]).mean() / (2 * 1.96 * values[:, 0].std())
    print(
        f"\n{n_groups} groups, shortcut {strength}: difference covered {inside:.3f}, {wider:.2f} times as wide as need be; index covered {of_index:.3f}"
    )
    chance = 2 * math.sqrt(0.05 * 0.95 / sets)
    assert 0.95 - chance <= inside
    assert 0.95 - chance <= of_index


@pytest.mark.parametrize(
    ("patients", "share", "seeds", "levels"),
    [(60, 0.25, 1, 2), (120, 0.2, 1, 2), (120, 0.2, 3, 2), (400, 0.1, 1, 2), (200, 0.0, 1, 4)],
)
@pytest.mark.parametrize("metric", ["auc", "accuracy", "balanced_accuracy", "f1"])
def test_subgroups_that_do_not_differ_are_seldom_told_apart(
    metric: str, patients: int, share: float, seeds: int, levels: int
) -> None:
    """A false alarm is a study with any p <= 0.05, Holm-corrected.

    Of `share` of the patients beside the rest, or of four equal parts.
    """
    rng = np.random.default_rng([patients, seeds, levels])
    alarms = told = 0
    for _ in range(STUDIES // 2):
        groups = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
        site = (
            rng.integers(0, 4, patients)
            if levels == 4
            else (rng.permutation(patients) < share * patients).astype(int)
        )
        labels = (rng.random(patients) < 0.3).astype(int)[groups]
        shared = rng.normal(0, 0.7, patients)[groups]
        draws = []
        for m in rng.normal(1.2, 0.1, seeds):
            p = 1 / (
                1
                + np.exp(
                    -1.2 * (m * labels + shared + rng.normal(0, 0.7, len(groups)) - 0.6 * m - 0.8)
                )
            )
            draws.append(Draw(np.stack([1 - p, p], 1), (p > 0.5).astype(int)))
        ones = np.ones((len(groups), 1), np.uint8)
        weights = np.concatenate(
            [ones, stats.group_weights(groups, 300, seed=int(rng.integers(2**31)))], axis=1
        )
        meta = {"site": np.array(list("abcd"))[site][groups]}
        answers = LinePredictions(
            "binary", ("no", "yes"), "patient", labels, groups, weights, None, meta, draws
        )
        p_values = [
            row["p"] for row in clinical.subgroup_records(answers, metric) if not np.isnan(row["p"])
        ]
        told += bool(p_values)
        alarms += min(p_values, default=1.0) <= 0.05
    print(
        f"\n{metric}, {patients} patients, {share} of them, {seeds} seeds: {alarms / told:.3f} false alarms in {told} studies"
    )
    assert alarms / told <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / told)
