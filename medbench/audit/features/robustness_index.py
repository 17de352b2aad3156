"""Whose neighbours an image has.

The robustness index of PathoROB (arXiv:2507.17845; de Jong et al. 2025, arXiv:2501.18055), for any
column.

Of each image's k nearest neighbours count SO, those of the same class and another value of the
column, and OS, those of another class and the same value. The index is sum SO / (sum SO + sum OS),
in [0, 1]: 1 where features follow the class alone, 0 where the column alone. As there, features
have unit length, and neighbours of the image's own group (there: slide) do not count.

PathoROB balances its data so that classes and centres are equally frequent. Here nothing is
balanced, and the index of features that do not know the column is not one number: it depends on the
classes' separation and on both frequencies. So it is stated beside the index: `expected` puts in
the place of each neighbour's value the share that this value has among the images of the
neighbour's class in other groups. `difference` = index - expected is 0 without a shortcut, however
well the classes separate and however strongly the column goes with the class, and negative with
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench import stats

K = 20
_BLOCK = 1024  # images whose similarities to all others are held at a time


@dataclass(frozen=True)
class Index:
    """value and expected in [0, 1], NaN where no neighbour is SO or OS.

    low, high: 95 % intervals, of the index and of the difference.
    """

    k: int
    value: float
    low: float
    high: float
    expected: float
    difference: float
    difference_low: float
    difference_high: float


def nearest(features: np.ndarray, groups: np.ndarray, k: int = K) -> np.ndarray:
    """Return the most similar images by cosine, nearest first: (N, k) int64.

    features: (N, D) float, finite. groups: (N,); none of the image's own group is taken, -1 where
    there are not so many others. Of equally similar images the one with the smaller number is
    nearer.
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = (features / np.where(length > 0, length, 1)).astype(np.float32)
    _, member = np.unique(groups, return_inverse=True)
    n = len(unit)
    found = np.full((n, k), -1, np.int64)
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        similar = unit[rows] @ unit.T
        similar[member[rows, None] == member[None]] = -np.inf
        order = _first(-similar, min(k, n))
        usable = np.isfinite(np.take_along_axis(similar, order, axis=1))
        found[rows, : order.shape[1]] = np.where(usable, order, -1)
    return found


def _first(distance: np.ndarray, k: int) -> np.ndarray:
    """Return columns of the k smallest of each row (B, N), in order: (B, k) int64.

    The smaller number is first among equals. A whole sort is paid only by rows where the k-th has
    equals: with 10,000 columns it costs ten times as much.
    """
    order = np.argpartition(distance, k - 1, axis=1)[:, :k]
    order.sort(axis=1)
    order = np.take_along_axis(
        order,
        np.argsort(np.take_along_axis(distance, order, axis=1), axis=1, kind="stable"),
        axis=1,
    )
    last = np.take_along_axis(distance, order[:, -1:], axis=1)
    tied = (distance <= last).sum(1) > k
    order[tied] = np.argsort(distance[tied], axis=1, kind="stable")[:, :k]
    return order


def robustness(
    neighbours: np.ndarray, classes: np.ndarray, codes: np.ndarray, groups: np.ndarray
) -> Index:
    """Compute the index of neighbours (N, k) as `nearest` gives them.

    classes, codes, groups: (N,), none missing.

    The intervals are Student's over groups, of what a pair of images adds to the index to first
    order. A pair belongs to two groups, and what two groups make together is chance too: the
    variance of the difference is that of dyads (Fafchamps & Gubert 2007, J Dev Econ 83:326; Aronow,
    Samii & Assenova 2015, Polit Anal 23:564), of the index alone the larger one of the jackknife
    (Efron & Stein 1981). Drawing groups with replacement counts a pair of groups three times (Owen
    2007, Ann Appl Stat 1:386). `tests/test_stats_slow.py` has what they cover.
    """
    image, place = np.nonzero(neighbours >= 0)
    other = neighbours[image, place]
    same_class, same_code = classes[image] == classes[other], codes[image] == codes[other]
    chance = _chance(classes, codes, groups, image, other)
    seen = np.stack([same_class & ~same_code, ~same_class & same_code]).astype(np.float64)
    wanted = np.stack([same_class * (1 - chance), ~same_class * chance])
    (value, of_index), (expected, of_expected) = _ratio(seen), _ratio(wanted)
    _, member = np.unique(groups, return_inverse=True)
    n = int(member.max()) + 1
    first, second = member[image], member[other]
    small = n / (n - 1) if n > 1 else np.nan
    wide, _ = _variances(of_index, first, second, n)
    jackknife, dyads = _variances(of_index - of_expected, first, second, n)
    low, high = stats.Estimate(value, ((small * wide, n - 1.0),)).interval(within=(0.0, 1.0))
    # never less than what the dyads make
    gap = stats.Estimate(value - expected, ((small * max(jackknife - dyads, dyads), n - 1.0),))
    return Index(neighbours.shape[1], value, low, high, expected, gap.value, *gap.interval())


def _variances(
    added: np.ndarray, first: np.ndarray, second: np.ndarray, n: int
) -> tuple[float, float]:
    """Return two variances of a sum of `added` (P,), each by a pair of two groups of n.

    first, second: the groups (P,), always two. The squares of all that a group has a part in, and
    of all that two groups have a part in. The second counts twice in the first.
    """
    pair, of = np.unique(
        np.minimum(first, second) * n + np.maximum(first, second), return_inverse=True
    )
    together = np.bincount(of, added, len(pair))
    alone = np.bincount(pair // n, together, n) + np.bincount(pair % n, together, n)
    return float(alone @ alone), float(together @ together)


def _chance(
    classes: np.ndarray, codes: np.ndarray, groups: np.ndarray, image: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Return the share of the image's value among the images of the neighbour's class.

    (P,) in [0, 1], the image's own group left out.
    """
    _, kind = np.unique(classes, return_inverse=True)
    _, code = np.unique(codes, return_inverse=True)
    _, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((member.max() + 1, kind.max() + 1, code.max() + 1))
    np.add.at(counts, (member, kind, code), 1)
    total = counts.sum(0)
    same = total[kind[other], code[image]] - counts[member[image], kind[other], code[image]]
    all_ = total.sum(1)[kind[other]] - counts.sum(2)[member[image], kind[other]]
    share: np.ndarray = same / np.maximum(all_, 1)
    return share


def _ratio(counts: np.ndarray) -> tuple[float, np.ndarray]:
    """Return first / (first + second) of the sums (2, P), and what each pair adds to it.

    The second is (P,), to first order; NaN where undefined.
    """
    top, both = counts[0].sum(), counts.sum()
    value = float(top / both) if both else float("nan")
    added: np.ndarray = (
        (counts[0] - value * counts.sum(0)) / both if both else np.full(counts.shape[1], np.nan)
    )
    return value, added
