"""What chance alone could have done: bootstrap intervals, differences between methods, ties. numpy only, never torch.

The test set's resamples are the same matrix for every method, seed and metric, so that any two can be compared image for image. Whole
groups (patients, lesions) are drawn, because images of one group are not independent (Davison & Hinkley 1997, section 3.8, strategy 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

VERSION = 1
#: An interval is undefined when more than this share of its resamples is: they could all lie beyond one of its ends.
MAX_UNDEFINED = 0.05


@dataclass(frozen=True)
class Summary:
    """A mean over seeds: sd over seeds (n - 1; None for a single one), percentile interval; NaN = undefined."""

    mean: float
    sd: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First minus second. includes_zero: nothing shows that the two differ (so too where the interval is undefined)."""

    value: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        return not (self.low > 0 or self.high < 0)


def group_weights(groups: np.ndarray, n_resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """(N, R) uint8: how often each of N images is in each of R resamples, as `metrics.score` takes them.

    As many whole groups as there are are drawn with replacement. Depends on the group names and the seed alone: images in another order
    keep their weights, and more resamples begin with the same ones. groups: (N,) of anything that sorts.
    """
    group_names, member = np.unique(groups, return_inverse=True)
    n = len(group_names)
    rng = np.random.default_rng(seed)
    counts = np.empty((n, n_resamples), np.uint8)  # more than 255 of one group: only if over 255 groups, with odds below 1 in 255!
    for r in range(n_resamples):
        counts[:, r] = np.bincount(rng.integers(n, size=n), minlength=n)
    return counts[member]


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """(low, high): the percentile interval (Efron & Tibshirani 1993, chapter 13) of resampled values (R,), NaN = undefined.

    Undefined resamples are left out; where they are more than MAX_UNDEFINED of all, both ends are NaN.
    """
    undefined = np.isnan(values)
    if undefined.mean() > MAX_UNDEFINED:
        return float("nan"), float("nan")
    low, high = np.quantile(values[~undefined], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_over_seeds(values: np.ndarray, plain: np.ndarray, *, level: float = 0.95, seed: int = 0) -> Summary:
    """Mean of a metric over S seeds, with one bootstrap over test groups and seeds together.

    values: (S, R), the metric of each seed on the same R resamples of the test set. plain: (S,), on the test set itself; the mean and sd
    are theirs. Each resample also draws S seeds with replacement and averages them; S = 1 leaves the bootstrap over test groups. Like
    every bootstrap of S units it sees (S - 1) / S of the variance between seeds: with few seeds the interval is somewhat narrow.
    """
    _check(values, plain)
    sd = float(np.std(plain, ddof=1)) if len(plain) > 1 else None
    return Summary(float(np.mean(plain)), sd, *interval(_resampled_means(values, seed), level))


def paired_difference(
    a: np.ndarray, b: np.ndarray, plain_a: np.ndarray, plain_b: np.ndarray, *, level: float = 0.95, seed: int = 0
) -> Difference:
    """Difference of two means over seeds, with the interval of a bootstrap that resamples both alike.

    a (S, R) and b (S', R) are on the same resamples of the test set, plain_a (S,) and plain_b (S',) on the test set itself. Where S = S'
    seed s of one is paired with seed s of the other (the same labelled images) and both get the same draws of seeds; otherwise the draws are
    independent. One run that no seed changes (S = 1) stands against every draw of the other side.
    """
    _check(a, plain_a)
    _check(b, plain_b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"not the same resamples: {a.shape[1]} and {b.shape[1]}")
    value = float(np.mean(plain_a) - np.mean(plain_b))
    return Difference(value, *interval(_resampled_means(a, seed) - _resampled_means(b, seed), level))


def ties(
    values: Mapping[str, np.ndarray],
    plain: Mapping[str, np.ndarray],
    *,
    level: float = 0.95,
    seed: int = 0,
    higher_is_better: bool = True,
) -> tuple[str | None, frozenset[str]]:
    """The name with the best mean over seeds, and all names (itself included) that it is not shown to beat.

    values: name -> (S, R), plain: name -> (S,), as in `paired_difference`. A name ties with the best where the interval of its difference
    to the best includes 0. The level is of each comparison, not of all together. Of equal means the first is the best. A name whose mean is
    undefined takes no part; (None, empty) if none is left.
    """
    sign = 1 if higher_is_better else -1
    means = {name: sign * float(np.mean(of_seeds)) for name, of_seeds in plain.items()}
    defined = [name for name in means if not np.isnan(means[name])]
    if not defined:
        return None, frozenset()
    best = max(defined, key=means.__getitem__)

    def tied(name: str) -> bool:
        return paired_difference(values[best], values[name], plain[best], plain[name], level=level, seed=seed).includes_zero

    return best, frozenset(name for name in defined if name == best or tied(name))


def _check(values: np.ndarray, plain: np.ndarray) -> None:
    if values.ndim != 2 or plain.shape != values.shape[:1] or 0 in values.shape:
        raise ValueError(f"values must be (S, R) and plain (S,), none of them empty; got {values.shape} and {plain.shape}")


def _resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    """(R,): at each test resample the mean over S seeds drawn with replacement. Equal S: equal draws; other S: independent ones."""
    s, r = values.shape
    drawn = np.random.default_rng([seed, s]).integers(s, size=(r, s))
    means: np.ndarray = values[drawn, np.arange(r)[:, None]].mean(1)
    return means
