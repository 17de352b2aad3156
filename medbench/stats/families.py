"""Which comparisons are one question, and p values corrected for their number.

Against the best, against a baseline, all pairs.

Families are of one budget each. What a table says of 1 % and of 100 % are two answers to two
questions: no one reads "A is better at some budget", and a study that adds a budget must not decide
less at the others. Who does claim "better at one of B budgets, no matter which" multiplies p by B;
"better at every budget" needs no correction (intersection-union).

`best`: is a line shown to be worse than the best? The best is picked after looking, so that *any*
two lines may be the pair in question. Hsu's multiple comparisons with the best (1984) asks for less
evidence and says less: of lines of equal truth it may rule out several, as none of them is *alone*
the best. Here a line is told from the best only if it differs, hence step-down max-T: the lines not
yet told from the best and the best itself are a family of all their pairs, and it shrinks by one
line a step. (A false step can first be made while every line as good as the best is still in the
family, and then at the family's full price: no more than `level` of studies hold one.) `baseline`:
step-down Dunnett. `all`: step-down over all pairs.

Max-T (Westfall & Young 1993): the largest of many standardised differences, under no difference at
all, as they hang together. How they hang together is in the resamples that all lines share, drawn
normal with their covariance; what a difference has of degrees of freedom is in its own p. Never
above Holm's (1979), never below the uncorrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from medbench.stats.estimates import Sample
from medbench.stats.estimates_batched import p_values, tails
from medbench.stats.hypothesis_tests import Verdict, holm, verdict
from medbench.stats.paired_lines import PairedLines, Spread, paired_lines

Kind = Literal["best", "baseline", "all"]
#: Normal draws of all lines: a corrected p of .05 is known to .002.
DRAWN = 10_000


@dataclass(frozen=True)
class Comparison:
    """Two lines by their places. verdict: of first less second, + where the first is better."""

    first: int
    second: int
    verdict: Verdict

    @property
    def decided(self) -> bool:
        """Whether the two are shown to differ, or to be practically equal."""
        return self.verdict.word != "not decidable"


def compared(
    samples: Sequence[Sample],
    kind: Kind = "best",
    *,
    baseline: int | None = None,
    margin: float = 0.0,
    higher_is_better: bool = True,
    pretraining: Sequence[Spread | None] = (),
    level: float = 0.95,
) -> list[Comparison]:
    """Compare the lines of one budget on one test set as one family, in the order of the lines.

    best: each other line with the one of the highest mean, which stands first. baseline: each other
    line with that at the place `baseline`, which stands second. all: each two, the better first.
    margin: what is too small to matter. pretraining: `pretraining_spread`, where a line was
    pretrained more than once. [] for fewer than two lines with a mean. Raises ValueError for a
    negative margin.
    """
    if not margin >= 0:
        raise ValueError(f"a margin is at least 0; got {margin}")
    if len(samples) < 2:
        return []
    sign = 1.0 if higher_is_better else -1.0
    merit = np.array([sign * sample.mean for sample in samples])
    pairs = _pairs(merit, kind, baseline)
    found = paired_lines(samples, pretraining)
    weights = [found.estimate(a, b, weights_alone=True).times(sign) for a, b in pairs]
    methods = [found.estimate(a, b).times(sign) for a, b in pairs]
    p_weights, least = corrected(p_values(weights), pairs, found, kind, 1 - level)
    alone = p_values(methods)
    p_methods = p_weights if weights == methods else corrected(alone, pairs, found, kind)[0]
    n, groups = len(pairs), samples[0].groups
    ends = (
        np.maximum(tails(methods, -margin, [True] * n), tails(methods, margin, [False] * n))
        if margin
        else np.ones(n)
    )
    p_equal = holm(np.where([np.isnan(d.value) for d in methods], np.nan, ends).tolist())
    made = []
    for place, ((a, b), d) in enumerate(zip(pairs, methods, strict=True)):
        of_weights = p_weights[place] if weights[place] != d else None
        p = alone[place], p_methods[place], p_equal[place]
        made.append(
            Comparison(
                a, b, verdict(d, *p, groups, margin, level, least=least, p_weights=of_weights)
            )
        )
    return made


def _pairs(merit: np.ndarray, kind: Kind, baseline: int | None) -> list[tuple[int, int]]:
    places = range(len(merit))
    if kind == "baseline":
        if baseline is None:
            raise ValueError("a family against a baseline names it")
        return [(place, baseline) for place in places if place != baseline]
    if np.isnan(merit).all():
        return []
    if kind == "best":
        best = int(np.nanargmax(merit))
        return [(best, place) for place in places if place != best]
    ordered = sorted(
        places, key=lambda place: -np.inf if np.isnan(merit[place]) else merit[place], reverse=True
    )
    return [(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]]


def corrected(
    p: Sequence[float],
    pairs: Sequence[tuple[int, int]],
    found: PairedLines,
    kind: Kind,
    alpha: float = 0.05,
) -> tuple[list[float], float]:
    """Correct p values over the family that `kind` of comparison makes; NaN stays NaN.

    p: of the pairs (places of two lines) in `pairs`, two-sided. found: their joint covariance.
    Returns the corrected ones, in the same order, and the uncorrected p that comes to alpha in the
    whole family. Fewer than two p stay as they are.
    """
    values = np.asarray(p, float)
    known = np.flatnonzero(~np.isnan(values))
    adjusted = np.full(len(values), np.nan)
    # from the one with the least evidence on
    order = known[np.argsort(-values[known], kind="stable")]
    if len(order) < 2:
        adjusted[order] = values[order]
        return adjusted.tolist(), alpha
    counted, largest = _as_large(
        _standard(values[order]), [pairs[place] for place in order], found, kind
    )
    steps = np.arange(1, len(order) + 1)
    # comparisons in the family of each step
    sizes = steps * (steps + 1) / 2 if kind == "best" else steps
    each = np.clip(counted, values[order], np.minimum(sizes * values[order], 1.0))
    # the least evidence last: none before it has more
    adjusted[order] = np.maximum.accumulate(each[::-1])[::-1]
    from scipy.special import ndtr

    return adjusted.tolist(), max(
        2 * float(ndtr(-np.quantile(largest, 1 - alpha))), alpha / float(sizes[-1])
    )


def _as_large(
    seen: np.ndarray, pairs: Sequence[tuple[int, int]], found: PairedLines, kind: Kind
) -> tuple[np.ndarray, np.ndarray]:
    """Count how often the largest difference of a family would be as large as the one seen.

    (n,): for each of `pairs`, with rising evidence, the share of draws in which, were nothing
    different, the largest standardised difference of its family at its step is at least the one
    `seen`. And the largest differences of the whole family, (DRAWN,).
    """
    drawn, own = _drawn(found), np.diag(found.covariance)
    scale = np.sqrt(np.maximum(own[:, None] + own - 2 * found.covariance, 0.0))
    # two lines of the same scores: rounding is no difference
    scale[scale <= 1e-5 * np.sqrt(own.max())] = np.inf
    running = np.zeros(drawn.shape[1], np.float32)
    joined, counted = [pairs[0][0]], np.empty(len(pairs))
    for step, (a, b) in enumerate(pairs):
        for other in joined if kind == "best" else [a]:
            gap = drawn[b] - drawn[other]
            np.abs(gap, out=gap)
            gap /= scale[b, other]
            np.maximum(running, gap, out=running)
        joined.append(b)
        counted[step] = (1 + np.count_nonzero(running >= seen[step])) / (1 + len(running))
    return counted, running


def _drawn(found: PairedLines) -> np.ndarray:
    """(K, DRAWN) float32: the lines' means, were all true values equal."""
    values, vectors = np.linalg.eigh(found.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).astype(np.float32)
    drawn: np.ndarray = root @ _normal(len(values))
    return drawn


@lru_cache(maxsize=4)
def _normal(k: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((k, DRAWN), np.float32)


def _standard(p: np.ndarray) -> np.ndarray:
    """Return the standard normal number that has the two-sided p."""
    from scipy.special import ndtri

    found: np.ndarray = -ndtri(np.clip(p, 1e-300, 1.0) / 2)
    return found
