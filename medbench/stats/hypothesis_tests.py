"""From a difference to a sentence.

Better, worse, practically equal, or not decidable and how many more groups it would take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medbench.stats.estimates import Estimate
from medbench.stats.estimates_batched import p_values, tails
from medbench.stats.number_format import estimate_text, format_p

#: Of the study that `more_groups` plans: the chance to decide, if the truth is what was seen.
POWER = 0.8
#: A study of so many times the test groups is none that a person can plan from here.
OUT_OF_REACH = 20
Word = Literal["better", "worse", "practically equal", "not decidable"]


def holm(p: Sequence[float], family: int | None = None) -> list[float]:
    """Correct p values for their number (Holm 1979); in the same order, at most 1.

    At most `level` of all families holds one false finding where all below it are called. family:
    how many comparisons could have been made, where only these are shown; default: these. NaN stays
    NaN and counts.
    """
    values = np.asarray(p, float)
    corrected = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    left, largest = max(family or 0, len(values)), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (left - place) * values[i]))
        corrected[i] = largest
    return corrected.tolist()


@dataclass(frozen=True)
class Verdict:
    """Judge the difference first minus second.

    p: of "no difference"; p_equal: of "they differ by the margin or more" (two one-sided tests,
    Schuirmann 1987); both corrected over the family. more_groups: where not decidable, how many
    test groups more would decide it with POWER, were the truth what was seen; inf: no number of
    them, as the seeds differ too much; NaN where undefined. groups: in the test set, 0 where not
    said. p_weights: where p allows for other pretrainings, that of the weights at hand alone; else
    None. alone: p, not corrected. least: the uncorrected p that is sure to decide it.
    """

    word: Word
    difference: Estimate
    p: float
    p_equal: float
    more_groups: float = 0.0
    groups: int = 0
    p_weights: float | None = None
    alone: float = float("nan")
    least: float = float("nan")

    def sentence(self, first: str, second: str, group: str) -> str:
        """Write `A is better than B: +0.056 [+0.034, +0.081], p = 0.001.`"""
        low, high = self.difference.interval()
        numbers = estimate_text(self.difference.value, low, high, "+.3f")
        if np.isnan(low):
            return f"{first} and {second}: not decidable; the difference has no interval, too few {group}s."
        if self.word == "practically equal":
            return f"{first} and {second} are practically equal: {numbers}, p {format_p(self.p_equal)}."
        if self.word != "not decidable":
            return f"{first} is {self.word} than {second}: {numbers}, p {format_p(self.p)}."
        return f"{first} and {second}: not decidable, {self.need(group)}: {numbers}, p {format_p(self.p)}."

    def need(self, group: str) -> str:
        """Write what would decide it, where it is not decidable."""
        if np.isnan(self.more_groups):
            return f"too few {group}s for an interval"
        if math.isinf(self.more_groups):
            return f"more {group}s alone would not decide it; it needs more seeds"
        more = f"about {_two_digits(self.more_groups)} more test {group}{'s' * (self.more_groups != 1)}"
        times = (self.groups + self.more_groups) / self.groups if self.groups else float("nan")
        if times > OUT_OF_REACH:
            return f"and no larger test set is in reach ({_two_digits(times)} times the present {self.groups:,} {group}s would decide it)"
        return f"{more} would decide it" + (
            f", {times:.1f} times as many as there are" if times >= 1.05 else ""
        )


def verdicts(
    differences: Sequence[Estimate],
    groups: int,
    margin: float,
    level: float = 0.95,
    family: int | None = None,
) -> list[Verdict]:
    """Judge differences at a margin >= 0 in the metric's own unit, Holm-corrected over all of them.

    family: how many to correct for instead. practically equal: shown to lie within the margin,
    whether or not it is shown to differ from 0. better, worse: shown to differ from 0. Of all
    families at most 1 - level hold a false "better" or "worse", and as many a false "equal".
    groups: in the test set. Raises ValueError for a negative margin.
    """
    if not margin >= 0:
        raise ValueError(f"a margin is at least 0; got {margin}")
    alone, n = p_values(differences), len(differences)
    p = holm(alone, family)
    ends = (
        np.maximum(tails(differences, -margin, [True] * n), tails(differences, margin, [False] * n))
        if margin
        else np.ones(n)
    )
    p_equal = holm(ends.tolist(), family)
    least = (1 - level) / max(family or 0, n, 1)
    each = zip(differences, alone, p, p_equal, strict=True)
    return [
        verdict(d, own, one, same, groups, margin, level, least=least) for d, own, one, same in each
    ]


def verdict(
    difference: Estimate,
    alone: float,
    p: float,
    p_equal: float,
    groups: int,
    margin: float,
    level: float = 0.95,
    *,
    least: float,
    p_weights: float | None = None,
) -> Verdict:
    """Turn p values, alone and corrected, into a verdict on a difference.

    least: the uncorrected p that is sure to decide it.
    """
    alpha = 1 - level
    word: Word = "not decidable"
    if p_equal <= alpha:
        word = "practically equal"
    elif p <= alpha:
        word = "better" if difference.value > 0 else "worse"
    more = more_groups(difference, groups, margin, least) if word == "not decidable" else 0.0
    return Verdict(word, difference, p, p_equal, more, groups, p_weights, alone, least)


def more_groups(difference: Estimate, groups: int, margin: float, alpha: float = 0.05) -> float:
    """Return how many more test groups would show the difference, or equality, with POWER.

    Beside the `groups` at hand; equality: that it lies within the margin. At the difference that
    was seen and on the degrees of freedom at hand; both ways tried, the cheaper taken. Only the
    test groups' part of the variance shrinks with their number. inf: the seeds' part is too large
    already.
    """
    from scipy.special import ndtri

    d = abs(difference.value)
    if np.isnan(difference.error):
        return float("nan")
    (cases, df), *seeds = difference.parts

    def enough(factor: float) -> bool:
        """Of `factor` times the groups, infinity included."""
        planned = Estimate(d, ((cases / factor, df), *seeds))
        both_sides = 1 - (1 - POWER) / 2 if d == 0 else POWER
        differ = d >= planned.half(1 - alpha) + float(ndtri(POWER)) * planned.error
        equal = margin - d >= planned.half(1 - 2 * alpha) + float(ndtri(both_sides)) * planned.error
        return (differ and d > 0) or (equal and margin > d)

    if not enough(float("inf")):
        return float("inf")
    low, high = 1.0, 2.0
    while not enough(high):
        low, high = high, 2 * high
        if high > 1e12:
            return float("inf")
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return float(max(math.ceil(groups * (high - 1)), 1))


def swaps(groups: np.ndarray, n_permutations: int) -> np.ndarray:
    """Draw which images two methods exchange in each of P permutations: (N, P) uint8 of 0 and 1.

    Whole groups are exchanged, by fair coin. groups: (N,).

    The two methods' answers, stacked (2N, ...), with weights [1 - s, s] and [s, 1 - s] are both
    sides of every permutation in one call of `metrics.score`. Scores of two methods are on one
    scale only as ranks: see `permutation_p`.
    """
    names, member = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(0).integers(2, size=(len(names), n_permutations), dtype=np.uint8)
    return drawn[member]


def permutation_p(observed: float, permuted: np.ndarray) -> float:
    """Return the two-sided p value of an observed difference among permuted ones (P,).

    (1 + how many are as far from 0) / (1 + P), over those that are not NaN; NaN where the observed
    or all permuted ones are undefined. The groups' answers are exchanged in all seeds alike: the
    test is of these draws, seeds are not a second source of chance as in
    `estimates.linear_contrast`. For AUC the scores are first made ranks within each method (Bandos,
    Rockette & Gur 2005).
    """
    permuted = permuted[~np.isnan(permuted)]
    if np.isnan(observed) or not len(permuted):
        return float("nan")
    return float((1 + (np.abs(permuted) >= abs(observed) - 1e-12).sum()) / (1 + len(permuted)))


def _two_digits(n: float) -> str:
    """1,234 -> 1,200: more would pretend."""
    return f"{float(f'{n:.2g}'):,.0f}"
