"""How an interval is computed, and what a paper says of it.

A rule that changes here changes in every row, table, figure and audit.

An interval is none of a row's ingredients: tables work it out from the resamples that are saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

from medbench.stats.reference_variance import ReferenceVariance

Numbers = TypeVar("Numbers", float, np.ndarray)

#: An interval is undefined when more than this share of its resamples is: they could all lie beyond
#: one of its ends.
MAX_UNDEFINED = 0.05
#: What the methods paragraph says of `of_scores`: (words, the source behind them).
RULE = (
    (
        "score intervals on the degrees of freedom of the rarer class",
        "Newcombe 2006, Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2, Statistics in Medicine "
        "25(4):559-573, doi:10.1002/sim.2324",
    ),
    (
        "draws of labels as crossed random factors",
        "Obuchowski and Rockette 1995, Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests, Communications in "
        "Statistics - Simulation and Computation 24(2):285-308, doi:10.1080/03610919508813243",
    ),
    (
        "their parts joined by squares",
        "Zou and Donner 2008, Construction of confidence limits about effect measures, Statistics in Medicine 27(10):1693-1702, "
        "doi:10.1002/sim.3095",
    ),
)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled values (R,): (low, high).

    Efron & Tibshirani 1993, chapter 13; NaN = undefined. Undefined resamples are left out; where
    they are more than MAX_UNDEFINED of all, both ends are NaN.
    """
    low, _, high = _percentiles(values[None], level)
    return float(low[0]), float(high[0])


def expanded_interval(values: np.ndarray, groups: int, level: float = 0.95) -> tuple[float, float]:
    """Return (low, high), the percentile interval at the level `expanded` for few test groups.

    values: (R,), a number on resamples of so many groups, NaN = undefined. NaN as `interval` has
    it, and of one group.
    """
    return interval(values, expanded(level, groups)) if groups > 1 else (float("nan"), float("nan"))


def mean_interval(
    means: np.ndarray,
    values: np.ndarray,
    groups: int,
    parts: Sequence[tuple[np.ndarray, float]],
    level: float,
    reference: ReferenceVariance | None = None,
    *,
    grows_by_chance: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high), each (L,), of L means over seeds.

    values (L,), means (L, R) on resamples of the test groups, parts as `half_width` takes them, the
    test groups' first. Computed by `of_scores` where a reference is known, by `of_biased_means`
    where the metric grows by chance, else by `of_means`.
    """
    if grows_by_chance:
        return of_biased_means(means, values, groups, parts, level)
    return (
        of_means(means, values, groups, parts, level)
        if reference is None
        else of_scores(values, parts, level, reference)
    )


def of_scores(
    values: np.ndarray,
    parts: Sequence[tuple[np.ndarray, float]],
    level: float,
    reference: ReferenceVariance,
) -> tuple[np.ndarray, np.ndarray]:
    """Return score intervals of L means over seeds: (low, high), each (L,).

    values: (L,). parts: as `half_width` takes them, the test groups' first.

    The true values from which what was seen does not differ, by the standard error that each of
    *them* would have. The textbook's variance at a true value, times how much larger or smaller
    than it the resamples' variance is at the value seen. That ratio has the degrees of freedom of
    the rarer class (of a kappa: of all groups), and is drawn towards 1 by the textbook's own
    (`prior`), which count for the quantile, too. What seeds add goes the same way towards the ends.
    A score interval (Wilson 1927; for the AUC Newcombe 2006): it never leaves the range, is not
    flattered near 1, and exists where no resample moves the value. Of a perfect or a worthless
    score it is exact.
    """
    (cases, _), *seeds = parts
    df, prior = reference.df, reference.prior
    bottom, top = reference.range
    inside = np.clip(values, bottom + 1e-9, top - 1e-9)
    assumed = np.maximum(reference.at(inside), 1e-300)
    square = (cases / assumed + prior / df) / (1 + prior / df) * t_quantile(level, df + prior) ** 2
    square = square + sum(
        variance / assumed * t_quantile(level, own) ** 2 for variance, own in seeds
    )
    low, high = (_end(values, square, end, reference) for end in (bottom, top))
    exact = reference.perfect(level)
    low, high = (
        np.where(values >= top - 1e-9, np.minimum(exact, values), low),
        np.where(values >= top - 1e-9, top, high),
    )
    if bottom == 0:
        low, high = np.where(values <= 1e-9, 0.0, low), np.where(values <= 1e-9, 1 - exact, high)
    unknown = np.isnan(values) | np.isnan(cases)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def _end(
    values: np.ndarray, square: np.ndarray, end: float, reference: ReferenceVariance
) -> np.ndarray:
    """Find the end of a score interval between each of `values` and `end`.

    It is the true value that lies as far from the value seen as its own standard error, times the
    root of `square`, reaches.
    """
    far, near = np.full_like(values, end), values.astype(float)
    for _ in range(34):
        middle = (far + near) / 2
        outside = (values - middle) ** 2 > square * reference.at(middle)
        far, near = np.where(outside, middle, far), np.where(outside, near, middle)
    found: np.ndarray = (far + near) / 2
    return found


def of_means(
    means: np.ndarray,
    values: np.ndarray,
    groups: int,
    parts: Sequence[tuple[np.ndarray, float]],
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high), each (L,), of L means over seeds by the expanded percentile bootstrap.

    values (L,), means (L, R) on resamples of the test groups, parts as `half_width` takes them, the
    test groups' first.

    The two halves of the expanded percentile interval over test groups are stretched from the width
    that the groups alone ask for to the one that seeds and groups ask for: it keeps the bootstrap's
    skewness. Symmetric where no resample moves the mean.
    """
    low, centre, high = _percentiles(means, expanded(level, groups))
    down, up = _stretched(low, centre, high, parts, level)
    flat, halves = _flat(low, high, parts), half_width(parts, level)
    return np.where(flat, values - halves, down), np.where(flat, values + halves, up)


def of_biased_means(
    means: np.ndarray,
    values: np.ndarray,
    groups: int,
    parts: Sequence[tuple[np.ndarray, float]],
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals of `of_means` for numbers >= 0 that chance makes larger, as an ECE.

    A resample doubles the chance that a value holds, and all percentiles may lie above the value
    (Roelofs et al. 2022, arXiv:2012.08668). Arguments have its shapes: as `of_means` takes them.

    What chance adds to the square is nearly a number, and a resample adds it once more, so that
    their difference is free of it. Hence the basic interval of the square (Davison & Hinkley 1997,
    section 5.2): twice the value's less the percentiles, stretched as in `of_means`, its root, and
    the value where it lies outside. `tests/test_ece_interval.py` holds its coverage.
    """
    low, centre, high = _percentiles(means**2, expanded(level, groups))
    down, up = _stretched(
        2 * values**2 - high, 2 * values**2 - centre, 2 * values**2 - low, parts, level
    )
    down, up = np.sqrt(np.maximum(down, 0)), np.sqrt(np.maximum(up, 0))  # of NaN: NaN
    flat, halves = _flat(low, high, parts), half_width(parts, level)
    return np.where(flat, values - halves, np.minimum(down, values)), np.where(
        flat, values + halves, np.maximum(up, values)
    )


def _flat(
    low: np.ndarray, high: np.ndarray, parts: Sequence[tuple[np.ndarray, float]]
) -> np.ndarray:
    """Whether no resample moves a number."""
    flat: np.ndarray = (low == high) | (parts[0][0] == 0)
    return flat


def _stretched(
    low: np.ndarray,
    centre: np.ndarray,
    high: np.ndarray,
    parts: Sequence[tuple[np.ndarray, float]],
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Stretch the two halves of an interval over test groups to the width of all parts."""
    (variance, df), *_ = parts
    with np.errstate(all="ignore"):  # what is flat has nothing to stretch
        stretch = half_width(parts, level) / (np.sqrt(variance) * t_quantile(level, df))
        return centre - stretch * (centre - low), centre + stretch * (high - centre)


def expanded(level: float, groups: int) -> float:
    """Return the level whose percentiles hold the truth as often as `level` promises.

    groups: at least two. Hesterberg 2014, arXiv:1411.5279, expanded percentile interval. A
    bootstrap of G groups sees (G - 1) / G of the variance, and its percentiles take that for known:
    of a normal mean they reach as far as Student's interval at 2 Phi(t sqrt(G / (G - 1))) - 1.
    """
    from scipy.special import ndtr

    return float(2 * ndtr(t_quantile(level, groups - 1) * np.sqrt(groups / (groups - 1))) - 1)


def half_width(parts: Iterable[tuple[Numbers, float]], level: float) -> Numbers:
    """Return half the width of an interval of independent parts; NaN where one is undefined.

    parts: (variance, degrees of freedom) each, variances numbers or arrays (L,). It is the root of
    the sum of their squared halves (Zou & Donner 2008). level: in (0, 1).
    """
    half: Numbers = np.sqrt(sum(variance * t_quantile(level, df) ** 2 for variance, df in parts))
    return half


@lru_cache(maxsize=1024)
def t_quantile(level: float, df: float) -> float:
    """Return the two-sided quantile of Student's t at a level in (0, 1).

    NaN for no degree of freedom; df = inf is the normal distribution.
    """
    from scipy.special import ndtri, stdtrit

    return float(ndtri((1 + level) / 2) if np.isinf(df) else stdtrit(df, (1 + level) / 2))


def _percentiles(values: np.ndarray, level: float) -> np.ndarray:
    """Return low, median and high of the defined resamples of values (L, R): (3, L).

    NaN where more than MAX_UNDEFINED are undefined.
    """
    ends = [(1 - level) / 2, 0.5, (1 + level) / 2]
    undefined = np.isnan(values)
    if not undefined.any():
        # sorted, it takes a fifth of the time
        found: np.ndarray = np.quantile(np.sort(values), ends, axis=1)
        return found
    found = np.full((3, len(values)), np.nan)
    for i in np.flatnonzero(undefined.mean(1) <= MAX_UNDEFINED):
        found[:, i] = np.quantile(values[i, ~undefined[i]], ends)
    return found
