"""Scores at some numbers of labels -> what the next draw would score at others, with an interval.

The labels that a score needs; where two curves cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medbench.stats.extrapolation.constants import LEARNT
from medbench.stats.extrapolation.gaussian_process import SMALLEST, factor, noise_of, posterior
from medbench.stats.extrapolation.shape import Shape, shape_of
from medbench.stats.intervals import half_width

#: How many times the largest number of labels is predicted; of what lies beyond nothing is known
#: (`docs/statistics.md`).
MOST_TIMES = 10.0
#: The level of its intervals.
LEVEL = 0.9
#: Labelled images below which a curve was not judged.
FEWEST = 20
#: Degrees of freedom with which a draw's chance is known from other curves.
_KNOWN = 4.0
_POINTS = 241  # between the largest number of labels and ten times as many


@dataclass(frozen=True, eq=False)
class Prediction:
    """Hold what the next draw of labels would score at H numbers of labels, with an interval.

    value: the middle; low, high: of the 90 % interval; each (H,), in the metric's own range. at:
    the numbers of labels, rising. sizes, scores: what was given, in rising order. shape: what the
    curve looks like so far. location, scale, df, shared: Student's t of the log error, and the
    standard deviation that the test set's chance adds. best, worst, decided: of the metric.
    """

    sizes: np.ndarray
    scores: np.ndarray
    shape: Shape
    at: np.ndarray
    location: np.ndarray
    scale: np.ndarray
    df: float
    shared: float
    best: float
    worst: float
    decided: bool

    @cached_property
    def value(self) -> np.ndarray:
        """The predicted score at each size, (H,) float64."""
        return self._score(self.location)

    def interval(self, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """Return (low, high), each (H,) float64."""
        own = (self.scale * factor(self.at / self.sizes[-1], LEARNT, decided=self.decided)) ** 2
        half = half_width([(own, self.df), (np.full_like(own, self.shared**2), np.inf)], level)
        poor, good = self._score(self.location + half), self._score(self.location - half)
        good = np.where(self.location - half <= np.log(SMALLEST), self.best, good)
        return (poor, good) if self.best > self.worst else (good, poor)

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The 90 % interval: (low, high), each (H,) float64."""
        return self.interval()

    @property
    def low(self) -> np.ndarray:
        """The lower end of the 90 % interval, (H,) float64."""
        return self.ends[0]

    @property
    def high(self) -> np.ndarray:
        """The upper end of the 90 % interval, (H,) float64."""
        return self.ends[1]

    def _score(self, error: np.ndarray) -> np.ndarray:
        sign = 1.0 if self.best > self.worst else -1.0
        found: np.ndarray = np.clip(
            self.best - sign * np.exp(error), min(self.best, self.worst), max(self.best, self.worst)
        )
        return found


def predict(
    sizes: Sequence[float] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    at: Sequence[float] | np.ndarray | None = None,
    errors: Sequence[float] | np.ndarray | None = None,
    draws: Sequence[int] | np.ndarray | None = None,
    *,
    labelled: float | None = None,
    shared: float = 0.0,
    best: float = 1.0,
    worst: float = 0.0,
    decided: bool = False,
) -> Prediction:
    """Return what a learning curve promises at other numbers of labels.

    >>> found = predict([25, 50, 100, 200], [0.70, 0.74, 0.77, 0.80], at=[400, 2000])
    >>> bool((found.low < found.value).all() and (found.value < found.high).all() and found.value[1] > found.value[0] > 0.80)
    True

    Parameters
    ----------
    sizes, scores : (K,), two or more; labelled images, all different, and the score of each. at :
    (H,), labelled images from the largest size to `MOST_TIMES` as many. None: a grid over all of
    these. errors : (K,), the standard error that the draw of the labels gives each score; NaN where
    it is not known. None: of none it is. draws : (K,), over how many draws each score is the mean.
    None: one. labelled : images that have labels, from which `MOST_TIMES` counts. None: the largest
    size; more, where a part was held out of each score. shared : the standard error that the test
    set gives the last score. The interval then holds the chance of another test set, too. best,
    worst : of the metric. The error is the distance to `best`. decided : whether the metric is one
    of decisions, as accuracy is, and not of an order, as the AUC is: how far such curves stray was
    learnt apart.

    Raises
    ------
    ValueError
        For shapes that do not fit, numbers out of range, and `at` outside of what can be said.
    """
    n, score, error, drawn = _checked(sizes, scores, errors, draws, best, worst)
    now = float(n[-1] if labelled is None else labelled)
    where = np.geomspace(now, MOST_TIMES * now, _POINTS) if at is None else np.asarray(at, float)
    if (
        where.ndim != 1
        or not ((where >= now * (1 - 1e-9)) & (where <= MOST_TIMES * now * (1 + 1e-9))).all()
    ):
        raise ValueError(
            f"at lies from {now:g} labels to {MOST_TIMES:g} times as many; got {np.asarray(at).tolist()}"
        )
    left = np.maximum(np.abs(best - score), SMALLEST)
    last = float(np.log(left[-1]))
    size = _size_of_noise(n, error / left, drawn, last)
    noise, later = size * noise_of(n, last, LEARNT) / drawn, size * noise_of(where, last, LEARNT)
    shape = shape_of(n, np.abs(best - score), np.log(left), noise)
    location, scale, df = posterior(
        n[None], np.log(left)[None], noise[None], where[None], later[None], LEARNT
    )
    return Prediction(
        n,
        score,
        shape,
        where,
        location[0],
        scale[0],
        df,
        shared / float(left[-1]),
        best,
        worst,
        decided,
    )


def _size_of_noise(n: np.ndarray, errors: np.ndarray, draws: np.ndarray, last: float) -> float:
    """How many times larger a draw's variance is than other curves taught.

    Their word and this curve's own, each by its degrees of freedom.
    """
    known = np.isfinite(errors)
    if not known.any():
        return 1.0
    df = np.maximum(draws[known] - 1, 1)
    ratio = errors[known] ** 2 * draws[known] / noise_of(n[known], last, LEARNT)
    return float((_KNOWN + (df * ratio).sum()) / (_KNOWN + df.sum()))


def _checked(
    sizes: Sequence[float] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    errors: Sequence[float] | np.ndarray | None,
    draws: Sequence[int] | np.ndarray | None,
    best: float,
    worst: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sizes in rising order, and the others with them. Raises ValueError."""
    n, score = np.asarray(sizes, float), np.asarray(scores, float)
    error = np.full(n.shape, np.nan) if errors is None else np.asarray(errors, float)
    drawn = np.ones(n.shape) if draws is None else np.asarray(draws, float)
    if n.ndim != 1 or len(n) < 2 or not n.shape == score.shape == error.shape == drawn.shape:
        raise ValueError(
            f"a curve has two sizes or more, and a score for each; got {n.shape}, {score.shape}, {error.shape}, {drawn.shape}"
        )
    if not (np.isfinite(n) & (n > 0)).all() or len(np.unique(n)) < len(n):
        raise ValueError(f"sizes are numbers of labelled images, all different; got {n.tolist()}")
    if best == worst or not ((min(best, worst) <= score) & (score <= max(best, worst))).all():
        raise ValueError(
            f"scores lie from {min(best, worst):g} to {max(best, worst):g}; got {score.tolist()}"
        )
    if (error < 0).any() or not (drawn >= 1).all():
        raise ValueError(
            f"errors are 0 or more and draws 1 or more; got {error.tolist()} and {drawn.tolist()}"
        )
    order = np.argsort(n)
    return n[order], score[order], error[order], drawn[order]


def labels_for(prediction: Prediction, target: float) -> tuple[float, float, float]:
    """Return the labels at which a prediction first reaches a score: (value, low, high).

    Read off the prediction's middle, its better end and its worse end, over its grid. inf: not
    within the grid. The first size of the grid where the target is reached from the start. target:
    in the metric's own unit.
    """
    up = prediction.best > prediction.worst
    better, worse = (prediction.high, prediction.low) if up else (prediction.low, prediction.high)
    sign = 1.0 if up else -1.0

    def first(values: np.ndarray) -> float:
        reached = np.flatnonzero(sign * values >= sign * target)
        return float(prediction.at[reached[0]]) if len(reached) else float("inf")

    return first(prediction.value), first(better), first(worse)


def crossing(one: Prediction, other: Prediction) -> float:
    """Return the labels from which on `other`, which is behind at first, is ahead of `one`.

    The middles of two predictions are compared over the range that their grids share; inf where
    `other` is ahead from the start, or behind at its end.
    """
    start, end = max(one.at[0], other.at[0]), min(one.at[-1], other.at[-1])
    if start >= end:
        return float("inf")
    where = np.geomspace(start, end, _POINTS)
    sign = 1.0 if one.best > one.worst else -1.0
    first, second = (
        sign * np.interp(np.log(where), np.log(each.at), each.value) for each in (one, other)
    )
    ahead = second > first
    if ahead[0] or not ahead[-1]:
        return float("inf")
    return float(where[np.flatnonzero(~ahead)[-1] + 1])
