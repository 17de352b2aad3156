"""False findings, coverage and power of what `medbench table` and `medbench compare` say, on
simulated studies of known truth.

    python benchmarks/decide_simulation.py level --only 0:20      # false "better", "worse" and "equal", by the shipped `stats.compared`
    python benchmarks/decide_simulation.py coverage               # of single numbers, by every candidate; of differences and drops
    python benchmarks/decide_simulation.py power                  # against an oracle that knows the variances

The plan is the tables below, written before the first run. A study is a binary task: groups of one
or of one to four images, each group of one class; a score that is normal (or Student's t of 3
degrees of freedom) in each class, made of a part that all methods share (`alike` of its variance),
a part of the method and a part of the draw, half of the rest each; a separation that differs
between draws (`spread`, its sd), three times as much in a method that is `unsteady`. Of a kappa,
which depends on the share of the positives, their number is drawn in each study, as resamples draw
it. Two hundred resamples of groups. Of 20 positive groups or more a resample's AUC is taken to the
first order, below it is exact.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from medbench import stats
from medbench.stats import families, intervals
from medbench.stats.paired_lines import paired_lines

R, WEIGHTS, MARGIN = 200, 40, 0.05


@dataclass(frozen=True)
class Setting:
    """One row of the plan.

    gap: by how much the second half of the methods is worse (level: `MARGIN`, to count false
    "equal"; power: the first alone is better).
    """

    groups: int
    positive: int
    methods: int
    draws: int
    auc: float = 0.8
    spread: float = 0.15
    unsteady: bool = False
    sizes: int = 1
    heavy: bool = False
    alike: float = 0.5
    metric: str = "auc"
    gap: float = 0.0

    def __str__(self) -> str:
        more = [
            word
            for word, on in (
                ("unsteady", self.unsteady),
                ("heavy", self.heavy),
                ("sizes", self.sizes > 1),
            )
            if on
        ]
        more += [f"gap {self.gap:g}"] * bool(self.gap) + [f"alike {self.alike:g}"] * (
            self.alike != 0.5
        )
        return f"{self.metric:8} {self.groups:4d}/{self.positive:<3d} K {self.methods:2d} D {self.draws:2d} {self.auc:.2f} t {self.spread:.2f} {' '.join(more)}"


#: 42 settings of equal truth, or of a true difference of the margin. No share of studies with a
#: false difference, nor with a false "equal", above .065, their mean at most .053.
LEVEL = [
    Setting(10, 5, 2, 3),
    Setting(20, 10, 2, 3),
    Setting(20, 10, 5, 3, spread=0.3),
    Setting(50, 25, 2, 3, auc=0.6),
    Setting(50, 25, 5, 5),
    Setting(50, 25, 9, 3, unsteady=True),
    Setting(100, 50, 2, 3, spread=0.4),
    Setting(100, 50, 2, 20),
    Setting(100, 50, 3, 3, unsteady=True),
    Setting(100, 50, 3, 5, unsteady=True, spread=0.3),
    Setting(100, 50, 5, 3),
    Setting(100, 50, 5, 3, unsteady=True),
    Setting(100, 50, 5, 3, unsteady=True, spread=0.4),
    Setting(100, 50, 5, 5, unsteady=True, spread=0.4),
    Setting(100, 50, 5, 10, unsteady=True, spread=0.3),
    Setting(100, 50, 5, 20, unsteady=True),
    Setting(100, 50, 9, 3),
    Setting(100, 50, 9, 10, unsteady=True),
    Setting(100, 50, 12, 3, unsteady=True, spread=0.3),
    Setting(100, 50, 12, 5),
    Setting(200, 100, 5, 3, spread=0.5),
    Setting(200, 100, 5, 3, unsteady=True, spread=0.5),
    Setting(200, 100, 5, 10, auc=0.9, unsteady=True),
    Setting(200, 100, 9, 5, unsteady=True, alike=0.8),
    Setting(100, 5, 2, 3),
    Setting(100, 5, 5, 3, auc=0.9),
    Setting(200, 10, 2, 3, auc=0.95),
    Setting(200, 10, 5, 5, unsteady=True),
    Setting(100, 20, 5, 3, auc=0.97),
    Setting(200, 20, 5, 10, auc=0.99),
    Setting(200, 50, 5, 3, auc=0.95, unsteady=True),
    Setting(60, 30, 5, 5, sizes=4),
    Setting(120, 20, 5, 3, sizes=4, unsteady=True),
    Setting(100, 50, 5, 5, heavy=True),
    Setting(100, 20, 3, 3, heavy=True, auc=0.9),
    Setting(100, 20, 5, 3, metric="kappa", auc=0.5),
    Setting(100, 30, 5, 5, metric="kappa", auc=0.98),
    Setting(60, 30, 3, 3, metric="kappa", auc=0.95, unsteady=True),
    Setting(100, 50, 5, 3, metric="accuracy", auc=0.9),
    Setting(100, 50, 2, 3, gap=MARGIN),
    Setting(200, 100, 5, 5, gap=MARGIN, alike=0.9, spread=0.05),
    Setting(200, 100, 5, 10, gap=MARGIN, unsteady=True, alike=0.9, spread=0.05),
]
#: Single numbers (methods 1), differences (2): .93 to .975 where the rarer class has 20 groups and
#: the truth is at most .97, .91 to .985 where it has 5.
COVERAGE = [
    *(
        Setting(groups, positive, 1, 1, auc, 0.0)
        for groups, positive in ((10, 5), (100, 5), (40, 20), (100, 20), (1000, 20))
        for auc in (0.6, 0.85, 0.95, 0.97)
    ),
    *(Setting(100, positive, 1, 3, auc) for positive in (5, 20, 50) for auc in (0.7, 0.9, 0.97)),
    Setting(200, 100, 1, 1, 0.99, 0.0),
    Setting(100, 5, 1, 1, 0.85, 0.0, heavy=True),
    Setting(100, 20, 1, 1, 0.85, 0.0, heavy=True),
    Setting(60, 20, 1, 3, 0.9, sizes=4),
    *(
        Setting(100, positive, 1, draws, auc, spread, metric=metric)
        for metric in ("accuracy", "sensitivity", "kappa")
        for positive in (5, 20)
        for draws, spread in ((1, 0.0), (3, 0.15))
        for auc in (0.8, 0.95)
    ),
    *(Setting(100, positive, 2, 3, auc) for positive in (5, 20, 50) for auc in (0.7, 0.9, 0.97)),
]
#: From 5 methods and 10 draws on at least .9 of the oracle's.
POWER = [
    Setting(groups, groups // 2, 5, draws, 0.8, 0.1, alike=alike, gap=gap)
    for groups in (100, 400)
    for alike in (0.5, 0.7, 0.9)
    for gap in (0.03, 0.05)
    for draws in (10, 3)
]


def separation(auc: float, spread: float) -> float:
    return float(ndtri(auc)) * math.sqrt(2 + spread**2)


def weights_of(rng: np.random.Generator, s: Setting) -> np.ndarray:
    return rng.multinomial(s.groups, np.full(s.groups, 1 / s.groups), (WEIGHTS, R)).astype(
        np.float32
    )


def noise(rng: np.random.Generator, heavy: bool, *shape: int) -> np.ndarray:
    return rng.standard_t(3, shape) / math.sqrt(3) if heavy else rng.standard_normal(shape)


def scores(rng: np.random.Generator, s: Setting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K, D, N) scores, (N,) group of each image, (K,) true AUCs.

    The first `positive` groups are positive.
    """
    member = np.repeat(
        np.arange(s.groups), rng.integers(1, s.sizes + 1, s.groups) if s.sizes > 1 else 1
    )
    k, d = s.methods, s.draws
    truth = np.full(k, s.auc)
    if s.gap:
        truth[(k + 1) // 2 :] -= s.gap
    spread = np.full(k, s.spread)
    spread[-1] *= 3 if s.unsteady else 1
    mean = np.array([separation(*of) for of in zip(truth, spread, strict=True)])
    apart = mean[:, None] + spread[:, None] * rng.standard_normal((k, d))
    rest = (1 - s.alike) / 2
    found = (
        math.sqrt(s.alike) * noise(rng, s.heavy, s.groups)[member]
        + math.sqrt(rest) * noise(rng, s.heavy, k, 1, s.groups)[..., member]
    )
    found = found + math.sqrt(rest) * noise(rng, s.heavy, k, d, len(member))
    return found + apart[..., None] * (member < s.positive), member, truth


def auc_of(
    found: np.ndarray, member: np.ndarray, s: Setting, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K, D) AUCs, (K, D, R) on resamples, (K, D, m, n) wins of groups over groups."""
    split = int((member < s.positive).sum())
    wins = (found[..., :split, None] > found[..., None, split:]).astype(np.float32)
    sizes = np.bincount(member, minlength=s.groups).astype(np.float32)
    if s.sizes > 1:
        starts = np.searchsorted(member, np.arange(s.groups))
        wins = np.add.reduceat(wins, starts[: s.positive], axis=2)
        wins = np.add.reduceat(wins, starts[s.positive :] - split, axis=3)
    one, none = sizes[: s.positive], sizes[s.positive :]
    plain = wins.sum((2, 3), dtype=float) / (one.sum() * none.sum())
    w1, w0 = weights[:, : s.positive], weights[:, s.positive :]
    if s.positive < 20:
        with np.errstate(all="ignore"):
            resampled = ((w1 @ wins) * w0).sum(-1) / ((w1 @ one) * (w0 @ none))
        return plain, resampled.astype(float), wins
    of_one = wins.sum(3) / (one.sum() * none.sum()) - plain[..., None] * one / one.sum()
    of_none = wins.sum(2) / (one.sum() * none.sum()) - plain[..., None] * none / none.sum()
    return (
        plain,
        plain[..., None] + np.concatenate([of_one, of_none], -1) @ (weights - 1).T.astype(float),
        wins,
    )


def decided_of(
    rng: np.random.Generator, s: Setting, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(K, D) and (K, D, R): accuracy, sensitivity or kappa of decisions that are right with chance
    `auc`, on average over draws."""
    k, d, g = s.methods, s.draws, s.groups
    spread = np.full(k, s.spread)
    spread[-1] *= 3 if s.unsteady else 1
    at = ndtri(s.auc) * np.sqrt(1 + spread[:, None] ** 2) + spread[:, None] * rng.standard_normal(
        (k, d)
    )
    rest = (1 - s.alike) / 2
    own = math.sqrt(s.alike) * rng.standard_normal(g) + math.sqrt(rest) * rng.standard_normal(
        (k, 1, g)
    )
    right = (own + math.sqrt(rest) * rng.standard_normal((k, d, g)) < at[..., None]).astype(
        np.float32
    )
    every = np.concatenate([np.ones((1, g), np.float32), weights])
    positive = (np.arange(g) < s.positive).astype(np.float32)
    hits, hits_of = right @ every.T, (right * positive) @ every.T
    n, of = every.sum(1), every @ positive
    if s.metric == "accuracy":
        values = hits / n
    elif s.metric == "sensitivity":
        with np.errstate(all="ignore"):
            values = hits_of / of
    else:
        called = hits_of + (n - of) - (hits - hits_of)  # positives found, and negatives missed
        chance = (of * called + (n - of) * (n - called)) / n**2
        with np.errstate(all="ignore"):
            values = (hits / n - chance) / (1 - chance)
    values = values.astype(float)
    return values[..., 0], values[..., 1:]


def reference_of(s: Setting) -> stats.ReferenceVariance | None:
    if s.metric == "sensitivity":
        return stats.reference("accuracy", (s.positive,), s.positive)
    return stats.reference(s.metric, (s.groups - s.positive, s.positive), s.groups, binary=True)


def studies(
    s: Setting, n: int, seed: int = 0
) -> Iterator[tuple[list[stats.Sample], np.ndarray, np.ndarray | None]]:
    """(samples, true values, wins) of n studies."""
    rng = np.random.default_rng(
        [
            seed,
            s.groups,
            s.positive,
            s.methods,
            s.draws,
            int(1000 * s.auc),
            int(1000 * s.spread),
            s.unsteady,
            s.sizes,
            s.heavy,
        ]
    )
    every, known = weights_of(rng, s), reference_of(s)
    for i in range(n):
        weights, wins = every[i % WEIGHTS], None
        if s.metric == "auc":
            found, member, truth = scores(rng, s)
            plain, resampled, wins = auc_of(found, member, s, weights)
        else:
            drawn = s
            if s.metric == "kappa":
                drawn = replace(
                    s,
                    positive=int(
                        np.clip(rng.binomial(s.groups, s.positive / s.groups), 1, s.groups - 1)
                    ),
                )
                known = reference_of(drawn)
            plain, resampled = decided_of(rng, drawn, weights)
            truth = np.full(s.methods, true_value(s))
        yield (
            [
                stats.Sample(p, r, s.groups, reference=known)
                for p, r in zip(plain, resampled, strict=True)
            ],
            truth,
            wins,
        )


def true_value(s: Setting) -> float:
    if s.heavy:  # by drawing: no closed form
        rng, rest = np.random.default_rng(0), math.sqrt((1 - s.alike) / 2)
        pairs = [math.sqrt(s.alike) * noise(rng, True, 2, 10**6)] + [
            rest * noise(rng, True, 2, 10**6) for _ in range(2)
        ]
        one, none = np.sum(pairs, axis=0)
        return float((one + separation(s.auc, s.spread) > none).mean())
    if s.metric != "kappa":
        return s.auc
    share = s.positive / s.groups
    called = share * s.auc + (1 - share) * (1 - s.auc)
    chance = share * called + (1 - share) * (1 - called)
    return (s.auc - chance) / (1 - chance)


def words_before(gaps: list[stats.Estimate], groups: int, margin: float) -> list[str]:
    """What was said of them when every variance was a pair's own and Holm's family were all
    pairs."""
    if margin:
        return [one.word for one in stats.verdicts(gaps, groups, margin)]
    p = stats.holm(stats.p_values(gaps))
    return [
        "not decidable" if not one <= 0.05 else "better" if gap.value > 0 else "worse"
        for gap, one in zip(gaps, p, strict=True)
    ]


def level(s: Setting, n: int) -> dict[str, float]:
    """Share of studies with a false "better" or "worse", by family and before (own variances, all
    groups' degrees of freedom, Holm over all pairs), and, of settings with a gap, with a false
    "equal": two claims, each of which is to be false in 5 % at most.
    """
    kinds = ("best", "all", "baseline", "before best", "before all")
    different, equal = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    for samples, truth, _ in studies(s, n):
        margin = MARGIN if s.gap else 0.0

        def count(kind: str, words: list[tuple[int, int, str]], truth: np.ndarray = truth) -> None:
            gaps = [(truth[a] - truth[b], word) for a, b, word in words]
            different[kind] += any(
                (word == "better" and gap < 1e-9) or (word == "worse" and gap > -1e-9)
                for gap, word in gaps
            )
            equal[kind] += any(
                word == "practically equal" and abs(gap) > MARGIN - 1e-9 for gap, word in gaps
            )

        for kind in ("best", "all", "baseline"):
            count(kind, made_words(stats.compared(samples, kind, baseline=0, margin=margin)))
        bare = [replace(sample, reference=None) for sample in samples]
        order = sorted(range(len(bare)), key=lambda place: -bare[place].mean)
        pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
        gaps = [stats.paired_difference(bare[a], bare[b]) for a, b in pairs]
        words = [
            (*pair, word)
            for pair, word in zip(pairs, words_before(gaps, s.groups, margin), strict=True)
        ]
        count("before all", words)
        count("before best", words[: len(bare) - 1])
    found = {name: times / n for name, times in different.items()}
    return found | {f"equal {name}": times / n for name, times in equal.items()} if s.gap else found


def candidates(
    sample: stats.Sample, wins: np.ndarray | None, s: Setting, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """95 % intervals of one number by every rule."""
    known = sample.reference
    assert known is not None
    bare = stats.mean_over_seeds(replace(sample, reference=None), within=known.range)
    shipped = stats.mean_over_seeds(sample, within=known.range)
    found = {"before": (bare.low, bare.high), "shipped": (shipped.low, shipped.high)}
    value, parts = sample.mean, stats.linear_contrast([(1.0, sample)]).parts
    bottom, top = known.range
    unit = (value - bottom) / (top - bottom)
    if not 0 < unit < 1 or np.isnan(parts[0][0]):
        exact = (found["shipped"][0], found["shipped"][1])
        return {**found, "logit-t": exact, "Wilson-t": exact, "Newcombe": exact}
    half = float(intervals.half_width(parts, 0.95)) / (top - bottom) / (unit * (1 - unit))
    found["logit-t"] = tuple(
        bottom + (top - bottom) * expit(logit(unit) + side * half) for side in (-1, 1)
    )
    c = (half * unit * (1 - unit)) ** 2 / (unit * (1 - unit))
    middle, wide = (unit + c / 2) / (1 + c), math.sqrt(c * unit * (1 - unit) + c * c / 4) / (1 + c)
    found["Wilson-t"] = tuple(bottom + (top - bottom) * (middle + side * wide) for side in (-1, 1))
    score = intervals.of_scores(
        np.array([value]), [(known.at(np.array([value])), np.inf)], 0.95, known
    )
    found["Newcombe"] = (float(score[0][0]), float(score[1][0]))
    if wins is not None and s.draws == 1 and s.sizes == 1:
        found |= _delong(wins[0, 0], rng)
    return found


def _delong(wins: np.ndarray, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """DeLong's on the logit, and the bootstrap-t on the logit with DeLong's variance (60 resamples
    of either class)."""

    def logit_of(w: np.ndarray) -> tuple[float, float]:
        m, n = w.shape
        at = min(max(float(w.mean()), 0.5 / (m * n)), 1 - 0.5 / (m * n))
        variance = w.mean(1).var(ddof=1) / m + w.mean(0).var(ddof=1) / n
        return float(logit(at)), max(math.sqrt(variance) / (at * (1 - at)), 1e-6)

    at, error = logit_of(wins)
    m, n = wins.shape
    drawn = [
        logit_of(wins[np.ix_(rng.integers(m, size=m), rng.integers(n, size=n))]) for _ in range(60)
    ]
    low, high = np.quantile([(one - at) / own for one, own in drawn], [0.025, 0.975])
    return {
        "DeLong logit": (float(expit(at - 1.96 * error)), float(expit(at + 1.96 * error))),
        "bootstrap-t": (float(expit(at - high * error)), float(expit(at - low * error))),
    }


def coverage(s: Setting, n: int) -> dict[str, tuple[float, float, float, float]]:
    """Rule -> (covered, truth below it, truth above it, mean width)."""
    ends: dict[str, list[tuple[float, float]]] = {}
    rng = np.random.default_rng(1)
    truth = true_value(s)
    for samples, _, wins in studies(s, n, seed=1):
        if s.methods == 1:
            made = candidates(samples[0], wins, s, rng)
        else:
            bare = [replace(sample, reference=None) for sample in samples]
            (one,) = stats.compared(samples, "all")
            made = {
                "before": stats.paired_difference(*bare).interval(),
                "shipped": one.verdict.difference.interval(),
            }
            made["drop"] = stats.across([[(1.0, samples[0])], [(-1.0, samples[1])]]).interval()
            truth = 0.0
        for name, pair in made.items():
            ends.setdefault(name, []).append(pair)
    found = {}
    for name, pairs in ends.items():
        low, high = np.array(pairs).T
        below, above = (
            np.nanmean(np.where(np.isnan(low), 1.0, truth < low - 1e-12)),
            np.nanmean(truth > high + 1e-12),
        )
        found[name] = (1 - below - above, below, above, float(np.nanmean(high - low)))
    return found


def power(s: Setting, n: int) -> dict[str, float]:
    """Share of the pairs with the better method that are told, by family.

    An oracle's that knows the variances, and before.
    """
    told = dict.fromkeys(("best", "all", "before best", "before all"), 0.0)
    better = range((s.methods + 1) // 2)
    means = []
    for samples, _, _ in studies(s, n, seed=2):
        means.append([sample.mean for sample in samples])
        for kind in ("best", "all"):
            made = stats.compared(samples, kind)
            told[kind] += _true(made_words(made), better)
        bare = [replace(sample, reference=None) for sample in samples]
        order = sorted(range(len(bare)), key=lambda place: -bare[place].mean)
        pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
        gaps = [stats.paired_difference(bare[a], bare[b]) for a, b in pairs]
        words = [
            (*pair, word)
            for pair, word in zip(pairs, words_before(gaps, s.groups, 0.0), strict=True)
        ]
        told["before all"] += _true(words, better)
        told["before best"] += _true(words[: len(bare) - 1], better)
    every = np.array(means)
    covariance = np.cov(every.T)
    known = replace(paired_lines(samples), covariance=covariance)
    own = np.diag(covariance)
    error = np.sqrt(own[:, None] + own - 2 * covariance + np.eye(len(own)))
    oracle = dict.fromkeys(("best", "all"), 0.0)
    for at in every:
        for kind in ("best", "all"):
            pairs = families._pairs(at, kind, None)
            p, _ = families.corrected(
                [2 * float(ndtr(-abs(at[a] - at[b]) / error[a, b])) for a, b in pairs],
                pairs,
                known,
                kind,
            )
            oracle[kind] += _true(
                [(a, b, "better" if q <= 0.05 else "") for (a, b), q in zip(pairs, p, strict=True)],
                better,
            )
    return {
        name: count / n
        for name, count in (*told.items(), *((f"oracle {kind}", of) for kind, of in oracle.items()))
    }


def made_words(made: list[stats.Comparison]) -> list[tuple[int, int, str]]:
    return [(c.first, c.second, c.verdict.word) for c in made]


def _true(words: list[tuple[int, int, str]], better: range) -> float:
    """Share of the worse methods that a better one is told from, of the pairs that the family
    holds."""
    right = [word == "better" for a, b, word in words if a in better and b not in better]
    return sum(right) / max(len(right), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("level", "coverage", "power"))
    parser.add_argument("--only", default=":", help="settings FIRST:LAST of the plan")
    parser.add_argument("--studies", type=int, default=2000)
    given = parser.parse_args()
    first, last = (int(end) if end else None for end in given.only.split(":"))
    plan = {"level": LEVEL, "coverage": COVERAGE, "power": POWER}[given.what]
    for place, s in list(enumerate(plan))[first:last]:
        start = time.perf_counter()
        found = {"level": level, "coverage": coverage, "power": power}[given.what](s, given.studies)
        shown = {
            name: f"{value:.3f}"
            if isinstance(value, float)
            else "{:.3f} ({:.3f} {:.3f}) {:.3f}".format(*value)
            for name, value in found.items()
        }
        print(
            f"{place:2d} {s}: {'; '.join(f'{name} {text}' for name, text in shown.items())}  [{time.perf_counter() - start:.0f} s]",
            flush=True,
        )


if __name__ == "__main__":
    main()
