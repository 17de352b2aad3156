"""Several methods on several tasks.

Mean ranks, whether they differ at all (Friedman), and which (Nemenyi), as Demsar (2006) compares
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import factorial

import numpy as np

_COUNTED = 50_000  # orders of all tasks that are counted one by one


@dataclass(frozen=True, eq=False)
class Ranking:
    """How K methods rank on T tasks.

    mean, low, high: (K,), the mean rank (1 = best) and its 95 % interval over tasks, NaN for a
    single task. friedman: p value of "all methods rank alike", NaN for a single task: exact where
    the orders can be counted, else in the F form of Iman & Davenport (1980), which takes two tasks
    that agree for proof. critical: the difference of two mean ranks that Nemenyi's test calls real
    at 5 %, over all pairs together.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    friedman: float
    critical: float
    tasks: int


def ranks(scores: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
    """Return the rank of each of K methods: (..., K) float64, 1 = best, ties share their mean rank.

    scores: (..., K), without NaN.
    """
    better = (
        scores[..., None, :] > scores[..., :, None]
        if higher_is_better
        else scores[..., None, :] < scores[..., :, None]
    )
    equal = scores[..., None, :] == scores[..., :, None]
    ranked: np.ndarray = better.sum(-1) + (equal.sum(-1) + 1) / 2
    return ranked


def ranking(scores: np.ndarray, *, higher_is_better: bool = True) -> Ranking:
    """Rank methods by scores (T, K), each method's mean on each task.

    Raises ValueError for NaN, or fewer than two methods or one task.

    The interval of a mean rank is Student's over tasks, cut at 1 and K: how well a rank is known on
    one task shows in how it changes from task to task. Where all T tasks agree, the share u of
    other tasks that do not is at most 1 - 0.05^(1/T) (Clopper & Pearson 1934, of none in T), and
    these may lie at either end. Friedman's statistic is corrected for ties.
    """
    if scores.ndim != 2 or len(scores) < 1 or scores.shape[1] < 2 or np.isnan(scores).any():
        raise ValueError(
            f"scores must be (tasks, methods), at least (1, 2), without NaN; got {scores.shape}"
        )
    from scipy.special import stdtrit

    t, k = scores.shape
    each = ranks(scores, higher_is_better=higher_is_better)
    mean = each.mean(0)
    if t == 1:
        nothing = np.full(k, np.nan)
        return Ranking(mean, nothing, nothing, float("nan"), float("nan"), t)
    half, agree = (
        stdtrit(t - 1, 0.975) * each.std(0, ddof=1) / np.sqrt(t),
        np.ptp(each, axis=0) == 0,
    )
    elsewhere = 1 - 0.05 ** (1 / t)
    low = np.where(agree, mean - elsewhere * (mean - 1), np.maximum(mean - half, 1.0))
    high = np.where(agree, mean + elsewhere * (k - mean), np.minimum(mean + half, float(k)))
    critical = _studentized_range_at(0.05, k) / np.sqrt(2) * _unit(t, k)
    return Ranking(mean, low, high, friedman(each), critical, t)


def _unit(tasks: int, k: int) -> float:
    """Return the standard error of a difference of two mean ranks."""
    return float(np.sqrt(k * (k + 1) / (6 * tasks)))


def friedman(each: np.ndarray) -> float:
    """Return the p value of Friedman's test (1937) from the ranks (T, K), T > 1.

    Ties are shared and corrected for. See `Ranking`.
    """
    from scipy.special import fdtrc

    t, k = each.shape
    sums = each.sum(0)
    # the first task's order may stay: turning all tasks alike changes nothing
    if factorial(k) ** (t - 1) <= _COUNTED:
        drawn = each[:1]
        for task in each[1:]:
            drawn = (drawn[:, None] + np.array(list(permutations(task)))).reshape(-1, k)
        return float(
            (((drawn - sums.mean()) ** 2).sum(1) >= ((sums - sums.mean()) ** 2).sum() - 1e-9).mean()
        )
    spread = ((each - (k + 1) / 2) ** 2).sum()
    chi2 = (k - 1) * ((sums - sums.mean()) ** 2).sum() / spread if spread else 0.0
    rest = t * (k - 1) - chi2
    return 0.0 if rest <= 1e-9 else float(fdtrc(k - 1, (k - 1) * (t - 1), (t - 1) * chi2 / rest))


def _studentized_range_tail(q: np.ndarray, k: int) -> np.ndarray:
    """Return P(range of k standard normal numbers > q), elementwise.

    1 - k times the integral of phi(z) (Phi(z) - Phi(z - q))^(k - 1) over z. By hand because
    scipy.stats, which has it, takes a second to import. The trapezoid rule on 401 points errs by
    less than 1e-10.
    """
    from scipy.special import ndtr

    z = np.linspace(-9, 9, 401)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    inside = k * density * (ndtr(z) - ndtr(z - np.asarray(q, float)[..., None])) ** (k - 1)
    tail: np.ndarray = np.clip(1 - inside.sum(-1) * (z[1] - z[0]), 0.0, 1.0)
    return tail


@cache
def _studentized_range_at(tail: float, k: int) -> float:
    """q with that tail."""
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _studentized_range_tail(np.array(middle), k) > tail else (low, middle)
        )
    return high


def cliques(mean: np.ndarray, critical: float) -> list[tuple[int, int]]:
    """Return which methods a bar of a critical-difference diagram joins.

    mean: (K,) mean ranks. critical: as `Ranking` has it. (first, last) places in rising order of
    mean rank, each as long as can be; methods that nothing joins have none.
    """
    ordered = np.sort(mean)
    spans = [
        (i, int(np.searchsorted(ordered, ordered[i] + critical, side="right")) - 1)
        for i in range(len(ordered))
    ]
    return [(i, j) for i, j in spans if j > i and not any(a < i and j <= b for a, b in spans)]
