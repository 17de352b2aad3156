"""Means over seeds, differences and other weighted sums of runs, with what chance in the test set and in the draws could have done.

A run of S seeds scored on G test groups is a reader study: seeds are the readers, groups the cases. The variance of a mean is split as
Obuchowski & Rockette (1995) do: what the test groups make, and what the seeds differ by beyond it. The first is read from the saved
bootstrap resamples, the second from the seeds' own spread, on S - 1 degrees of freedom, so that three seeds are taken for the little
evidence that they are. (A bootstrap of three seeds sees two thirds of their variance and none of its doubt.) An interval's half is the root
of the sum of the squared halves of both parts (Zou & Donner 2008).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from medbench.stats.bootstrap import MAX_UNDEFINED, interval


@dataclass(frozen=True, eq=False)
class Sample:
    """One metric of one line of a leaderboard. plain: (S,), on the test set itself, a number a seed. resamples: (S, R), the same on R
    resamples of G test groups (`group_weights`), NaN where undefined. groups: G. pretrainings: P, where S = P x D runs are D draws of labels
    under each of P pretrainings, draws fastest. Raises ValueError for shapes that do not fit.
    """

    plain: np.ndarray
    resamples: np.ndarray
    groups: int
    pretrainings: int = 1

    def __post_init__(self) -> None:
        if self.resamples.ndim != 2 or self.plain.shape != self.resamples.shape[:1] or 0 in self.resamples.shape or self.groups < 1:
            shapes = f"{self.plain.shape}, {self.resamples.shape} and {self.groups}"
            raise ValueError(f"plain must be (S,), resamples (S, R), groups at least 1, none of them empty; got {shapes}")
        if self.pretrainings < 1 or len(self.plain) % self.pretrainings:
            raise ValueError(f"{len(self.plain)} runs are not all draws of {self.pretrainings} pretrainings")

    @property
    def mean(self) -> float:
        return float(np.mean(self.plain))

    @property
    def faultless(self) -> bool:
        """1 in every resample: what chance could have done to it these groups do not show, as each of them would have to be wrong once."""
        return bool((self.plain > 1 - 1e-6).all() and (self.resamples > 1 - 1e-6).all())  # a mean of ones may be rounded

    def seeds(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(source of chance, plain (n,), resamples (n, R)): means a draw of labels, and means a pretraining."""
        plain = self.plain.reshape(self.pretrainings, -1)
        resamples = self.resamples.reshape(*plain.shape, -1)
        if self.pretrainings == 1:
            yield "draw", plain[0], resamples[0]
            return
        yield "draw", plain.mean(0), resamples.mean(0)
        yield "pretraining", plain.mean(1), resamples.mean(1)


@dataclass(frozen=True)
class Estimate:
    """A number and its independent sources of chance. parts: (variance, degrees of freedom) of each, the test groups' first; variance NaN =
    undefined.
    """

    value: float
    parts: tuple[tuple[float, float], ...]

    @property
    def error(self) -> float:
        """The standard error."""
        return float(np.sqrt(sum(variance for variance, _ in self.parts)))

    def half(self, level: float) -> float:
        """Half the width of the interval of that level."""
        return float(np.sqrt(sum(variance * t_quantile(level, df) ** 2 for variance, df in self.parts)))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(low, high), symmetric."""
        half = self.half(level)
        return self.value - half, self.value + half

    def p(self, null: float = 0.0) -> float:
        """Two-sided p value of the hypothesis that the truth is `null`: 1 - level of the interval that just reaches it. NaN where undefined."""
        return 2 * self.tail(null, above=self.value > null)

    def tail(self, null: float, *, above: bool) -> float:
        """One-sided p value: small where the truth is shown to lie above (else below) `null`. No error: the value alone decides."""
        gap = (self.value - null) if above else (null - self.value)
        error = self.error
        if np.isnan(gap) or np.isnan(error):
            return float("nan")
        if error == 0:
            return 0.0 if gap > 0 else 0.5 if gap == 0 else 1.0
        return self._beyond(gap) if gap >= 0 else 1 - self._beyond(-gap)

    def _beyond(self, gap: float) -> float:
        """The one-sided p whose interval has the half `gap`."""
        from scipy.special import stdtr

        parts = [(variance, df) for variance, df in self.parts if variance > 0]
        if len(parts) == 1:
            ((variance, df),) = parts
            return float(stdtr(df, -gap / np.sqrt(variance)))
        variances, dfs = np.array(parts).T[..., None]
        return float(beyond(np.array([gap]), variances, dfs)[0])


def beyond(gap: np.ndarray, variance: np.ndarray, df: np.ndarray) -> np.ndarray:
    """The one-sided p whose interval has the half `gap` (L,) >= 0, of several sources of chance: variances > 0 and degrees of freedom (P, L)."""
    from scipy.special import stdtr, stdtrit

    low = np.maximum(stdtr(df, -gap / np.sqrt(variance)).max(0), 1e-300)  # more variance, more doubt: p lies above that of any part alone
    high = np.full(len(gap), 0.5)
    for _ in range(26):  # to 1e-7 of p
        p = np.sqrt(low) * np.sqrt(high)
        wide = (variance * stdtrit(df, p) ** 2).sum(0) > gap * gap  # halves fall as p grows
        low, high = np.where(wide, p, low), np.where(wide, high, p)
    return high


@dataclass(frozen=True)
class Summary:
    """A mean over seeds: sd over seeds (n - 1; None for a single one), 95 % interval; NaN = undefined."""

    mean: float
    sd: float | None
    low: float
    high: float


def linear_contrast(terms: Sequence[tuple[float, Sample]]) -> Estimate:
    """Sum of coefficient x mean over seeds, of samples on the same test resamples.

    Samples of the same number of seeds are paired seed for seed (the same labelled images); of different numbers they are independent. One
    run that no seed changes (S = 1) brings no variance between seeds. Draws and pretrainings are two sources, each with its own number; what
    only the two together make counts in both. Undefined where every sample is faultless. Raises ValueError where the resamples are not the
    same.
    """
    return across([terms])


def across(sets: Sequence[Sequence[tuple[float, Sample]]]) -> Estimate:
    """The same of terms on several test sets that share no group, each with its own terms: a two-sample bootstrap over groups.

    The sets' own chance is independent and adds up; seeds are shared: samples of the same number of seeds are paired seed for seed, on
    whichever set they were scored. Raises ValueError where the resamples of one set are not the same.
    """
    value = float(sum(weight * sample.mean for terms in sets for weight, sample in terms))
    parts: list[tuple[float, float]] = []
    plains: dict[tuple[str, int], np.ndarray] = {}
    owns: dict[tuple[str, int], float] = {}
    for terms in sets:
        shapes = {(sample.resamples.shape[1], sample.groups) for _, sample in terms}
        if len(shapes) != 1:
            raise ValueError(f"not the same resamples: {sorted(shapes)}")
        by_seeds: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        for weight, sample in terms:
            for source, own_plain, own_resamples in sample.seeds():
                key = source, len(own_plain)
                plain, resamples = by_seeds.get(key, (0.0, 0.0))
                by_seeds[key] = (plain + weight * own_plain, resamples + weight * own_resamples)
        total = np.sum([resamples.mean(0) for (source, _), (_, resamples) in by_seeds.items() if source == "draw"], axis=0)
        if np.isnan(value) or np.isnan(total).mean() > MAX_UNDEFINED or all(sample.faultless for _, sample in terms):
            return Estimate(value, ((float("nan"), float("nan")),))
        groups = terms[0][1].groups
        small = groups / (groups - 1) if groups > 1 else np.nan  # a bootstrap of G groups sees (G - 1) / G of the variance
        parts.append((small * _variance(total), float(groups - 1)))
        for key, (plain, resamples) in by_seeds.items():
            plains[key] = plains.get(key, 0.0) + plain
            seeds = key[1]
            if seeds > 1:
                own = small * (_variance(resamples) - _variance(resamples.mean(0))) * seeds / (seeds - 1)
                owns[key] = owns.get(key, 0.0) + own
    for key, own in owns.items():  # the seeds' spread beyond what the test sets alone make of it
        beyond, seeds = float(np.var(plains[key], ddof=1)) - max(own, 0.0), key[1]
        parts += [(beyond / seeds, float(seeds - 1))] if beyond > 0 else []
    nothing = 1e-16 * max(1.0, value * value)
    # NaN, of one group, stays
    return Estimate(value, tuple((0.0 if variance <= nothing else variance, df) for variance, df in parts))


def mean_over_seeds(sample: Sample, level: float = 0.95) -> Summary:
    """Mean, sd and interval over test groups and seeds.

    The expanded percentile interval of the bootstrap over test groups, its two halves stretched from the width that the groups alone ask for to
    the one that seeds and groups ask for: it keeps the bootstrap's skewness. Undefined for one group, of which all resamples are the same, and
    for a faultless sample.
    """
    sd = float(np.std(sample.plain, ddof=1)) if len(sample.plain) > 1 else None
    means = sample.resamples.mean(0)
    estimate = linear_contrast([(1.0, sample)])
    if not np.isfinite(estimate.error):
        return Summary(sample.mean, sd, np.nan, np.nan)
    low, high = expanded_interval(means, sample.groups, level)
    (variance, df), *_ = estimate.parts
    if low == high or variance == 0:  # nothing to stretch
        return Summary(sample.mean, sd, *estimate.interval(level))
    centre = float(np.nanmedian(means) if np.isnan(means).any() else np.median(means))
    stretch = estimate.half(level) / (np.sqrt(variance) * t_quantile(level, df))
    return Summary(sample.mean, sd, centre - stretch * (centre - low), centre + stretch * (high - centre))


def expanded_interval(values: np.ndarray, groups: int, level: float = 0.95) -> tuple[float, float]:
    """(low, high): the percentile interval at `expanded` of a number's values (R,) on resamples of so many test groups, NaN = undefined; NaN as
    `interval` has it, and of one group."""
    return interval(values, expanded(level, groups)) if groups > 1 else (float("nan"), float("nan"))


def expanded(level: float, groups: int) -> float:
    """The level whose percentiles hold the truth as often as `level` promises (Hesterberg 2014, arXiv:1411.5279, expanded percentile interval).

    A bootstrap of G groups sees (G - 1) / G of the variance, and its percentiles take that for known: of a normal mean they reach as far as
    Student's interval at 2 Phi(t sqrt(G / (G - 1))) - 1.
    """
    from scipy.special import ndtr

    return float(2 * ndtr(t_quantile(level, groups - 1) * np.sqrt(groups / (groups - 1))) - 1)


def paired_difference(a: Sample, b: Sample) -> Estimate:
    """First minus second, on the same resamples of the test set; seeds as `linear_contrast` pairs them."""
    return linear_contrast([(1.0, a), (-1.0, b)])


def _variance(values: np.ndarray) -> float:
    """Over the resamples (last axis) where it is defined; the mean over what is before it."""
    variance = np.nanvar if np.isnan(values).any() else np.var  # the first takes three times as long
    return float(np.mean(variance(values, axis=-1, ddof=1)))


@lru_cache(maxsize=1024)
def t_quantile(level: float, df: float) -> float:
    """The two-sided quantile of Student's t; NaN for no degree of freedom."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri((1 + level) / 2) if np.isinf(df) else stdtrit(df, (1 + level) / 2))
