"""What textbooks say of the variance of a metric whose true value and groups per class are known.

The measure that an estimated one is held against.

Near an end of its range, and where a class is rare, a metric's own variance is hardly known: of
five positives it has four degrees of freedom, of a perfect score it is 0. How it changes with the
true value is known, and so is about how large it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: Metrics with a variance here. A metric without one has an interval of another kind (`intervals`).
KNOWN = ("accuracy", "balanced_accuracy", "auc", "f1", "kappa", "weighted_kappa")


@dataclass(frozen=True)
class ReferenceVariance:
    """Know the textbook's variance of one metric of one run.

    metric: one of KNOWN. of_class: groups of each class (of a multi-label task: of each label's
    positives). total: groups in all. binary: two classes, of which the AUC is the second's.
    Independent images within groups are not assumed: groups count, as they are what is resampled.
    """

    metric: str
    of_class: tuple[int, ...]
    total: int
    binary: bool = False

    @cached_property
    def _sides(self) -> list[tuple[int, int]]:
        """(groups with it, groups without it) of each class or label that has both."""
        each = [(n, max(self.total - n, 1)) for n in self.of_class]
        pairs = (
            [(self.of_class[1], self.of_class[0])]
            if self.binary and len(self.of_class) == 2
            else each
        )
        return [pair for pair in pairs if min(pair) > 0]

    @cached_property
    def _parts(self) -> list[int]:
        """The numbers of groups that the metric is a mean over."""
        if self.metric == "accuracy" or not self._sides:
            return [self.total]
        if self.metric == "auc":
            return [n for pair in self._sides for n in pair]
        return [n for n in self.of_class if n > 0]

    @cached_property
    def df(self) -> float:
        """Return degrees of freedom of a variance that is estimated from these groups.

        Welch & Satterthwaite: near the rarer class's groups less one where it is rare, near all
        groups less two where two classes are equal. Of a kappa all groups less one: each of them
        moves its agreement by chance.
        """
        if self.metric.endswith("kappa"):
            return float(max(self.total - 1, 1))
        parts = np.array(self._parts, float)
        return float((1 / parts).sum() ** 2 / (1 / parts**2 / np.maximum(parts - 1, 1)).sum())

    @cached_property
    def fewest(self) -> int:
        """The groups that a perfect score rests on: of the rarer class; of an accuracy all."""
        return min(self._parts)

    @property
    def prior(self) -> float:
        """Degrees of freedom that this variance counts for beside the test groups' own.

        Chosen by coverage (`benchmarks/decide_simulation.py`). A kappa's counts for less, as it
        takes decisions to have the shares of the true classes.
        """
        return 2.0 if self.metric.endswith("kappa") else 8.0

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest value that the metric can take."""
        return (-1.0, 1.0) if self.metric.endswith("kappa") else (0.0, 1.0)

    def at(self, value: np.ndarray) -> np.ndarray:
        """Return the variance of the metric where its true value is `value` (L,): (L,) float64.

        value: in `range`; the variance is 0 at its ends, but for a kappa of -1. Accuracy, balanced
        accuracy and F1: binomial, of the mean over classes. AUC: Hanley & McNeil 1982 as Newcombe
        2006 (Statistics in Medicine 25:559, method 5) fits it for score intervals. Kappas: Bloch &
        Kraemer 1989 (Biometrics 45:269), two raters with the same shares of classes.
        """
        if self.metric == "auc":
            sides = self._sides or [(self.total, self.total)]
            mean: np.ndarray = np.mean([_auc(value, *pair) for pair in sides], axis=0) / len(sides)
            return mean
        if self.metric.endswith("kappa"):
            return self._kappa(value)
        variance: np.ndarray = (
            value * (1 - value) * sum(1 / n for n in self._parts) / len(self._parts) ** 2
        )
        return variance

    def _kappa(self, value: np.ndarray) -> np.ndarray:
        """Compute the variance of two raters with the same shares of classes.

        Bloch & Kraemer 1989, Biometrics 45:269.
        """
        shares = np.array(self.of_class, float) / max(sum(self.of_class), 1)
        chance = max(1 - float((shares**2).sum()), 1e-3)  # of two raters to differ by chance
        variance = (
            (1 - value)
            * ((1 - value) * (1 - 2 * value) + value * (2 - value) / chance)
            / self.total
        )
        known: np.ndarray = np.maximum(variance, 0.0)
        return known

    def perfect(self, level: float) -> float:
        """Return the least true value at which a perfect score is not yet surprising, in (0, 1).

        The lower end of the two-sided interval of `level` of as many right in as many (Clopper &
        Pearson 1934), of the `fewest` groups.
        """
        return float(((1 - level) / 2) ** (1 / self.fewest))


def _auc(value: np.ndarray, positive: int, negative: int) -> np.ndarray:
    """Compute Hanley & McNeil's (1982) variance, as it holds its level in score intervals.

    Newcombe 2006, Statistics in Medicine 25:559, method 5.
    """
    half = (positive + negative) / 2 - 1
    variance: np.ndarray = (
        value
        * (1 - value)
        * (1 + half * ((1 - value) / (2 - value) + value / (1 + value)))
        / (positive * negative)
    )
    return variance


def reference(
    metric: str, of_class: Sequence[int], total: int, *, binary: bool = False
) -> ReferenceVariance | None:
    """Return the textbook's variance of a metric; None of one that has none.

    Also None where no class's groups are known. Arguments as of `ReferenceVariance`.
    """
    known = metric in KNOWN and any(of_class) and total > 0
    return ReferenceVariance(metric, tuple(map(int, of_class)), total, binary) if known else None
