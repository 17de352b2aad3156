"""Every two lines of one budget, paired.

Their differences and where these come from, estimated from all lines together.

The spread between draws of two lines has as many degrees of freedom as draws less one: of three
draws, two. The differences of all pairs of a budget steady one another's (`moderation`), and so do
all pretrained lines of a board (`pretraining_spread`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from medbench.stats.estimates import Estimate, Sample
from medbench.stats.intervals import MAX_UNDEFINED
from medbench.stats.moderation import moderated, of_pairs
from medbench.stats.seed_variance import beyond_groups, from_groups, settled

Name = TypeVar("Name", bound=Hashable)
#: Of one line: variance between pretrainings (of one pretraining) and its degrees of freedom.
Spread = tuple[float, float]


@dataclass(frozen=True, eq=False)
class PairedLines:
    """Hold the differences of every two of K lines and their sources of chance.

    value (K, K): mean of the row's line less that of the column's, NaN where undefined. groups,
    draws, pretrainings, each (K, K): variances of that difference that test groups, draws and
    pretrainings make, 0 where none is known; df_*: their degrees of freedom. covariance (K, K): of
    the lines' means, up to what all share; only for how pairs hang together.
    """

    value: np.ndarray
    groups: np.ndarray
    draws: np.ndarray
    pretrainings: np.ndarray
    df_groups: np.ndarray
    df_draws: np.ndarray
    df_pretrainings: np.ndarray
    covariance: np.ndarray

    def estimate(self, a: int, b: int, *, weights_alone: bool = False) -> Estimate:
        """Estimate the mean of line a less that of line b, with its sources of chance.

        a, b: places of the lines. weights_alone: of the weights at hand, as if no other pretraining
        were possible. Undefined (NaN) where a line is.
        """
        value = float(self.value[a, b])
        if np.isnan(self.groups[a, b]):
            return Estimate(value, ((float("nan"), float("nan")),))
        parts = [(float(self.groups[a, b]), float(self.df_groups[a, b]))]
        seeds = [(self.draws, self.df_draws)] + (
            [] if weights_alone else [(self.pretrainings, self.df_pretrainings)]
        )
        parts += [
            (float(variance[a, b]), float(df[a, b])) for variance, df in seeds if variance[a, b] > 0
        ]
        return Estimate(value, tuple(parts))


def pretraining_spread(samples: Sequence[Sample], names: Sequence[Name]) -> Mapping[Name, Spread]:
    """Return how much one pretraining of a line differs from another: name -> `Spread`.

    For lines with several pretrainings; {} where none has. names: of each sample's line, which may
    stand at several budgets. The budgets of a line share its pretrainings: their mean is steadier,
    and has no more degrees of freedom. Lines are moderated by one another.
    """
    found: dict[Name, list[tuple[float, float]]] = {}
    runs: dict[Name, int] = {}
    for sample, name in zip(samples, names, strict=True):
        if sample.pretrainings < 2 or np.isnan(sample.plain).any():
            continue
        plain, resamples = _by_pretraining(sample)
        each, joint = _mean_variance(resamples), _mean_variance(resamples.mean(0))
        excess = max(from_groups(each, sample.groups) - from_groups(joint, sample.groups), 0.0)
        found.setdefault(name, []).append(
            (float(plain.var(ddof=1)), excess * sample.pretrainings / (sample.pretrainings - 1))
        )
        runs[name] = min(runs.get(name, sample.pretrainings), sample.pretrainings)
    if not found:
        return {}
    raw, excess_of = np.array([np.mean(of, axis=0) for of in found.values()]).T
    variance, df = moderated(raw, np.array([runs[name] - 1.0 for name in found]), len(found))
    own = np.maximum(variance - excess_of, 0.0)
    return dict(zip(found, zip(own.tolist(), df.tolist(), strict=True), strict=True))


def paired_lines(
    samples: Sequence[Sample], pretraining: Sequence[Spread | None] = ()
) -> PairedLines:
    """Compare all pairs of lines on one test set.

    pretraining: of each line what `pretraining_spread` says; None of one that was pretrained once.

    Two lines are paired on the draws that they share; a line of one run that no draw changes stands
    against each. A line is undefined where one of its runs or more than MAX_UNDEFINED of its
    resamples are. Raises ValueError where the resamples are not the same.
    """
    shapes = {(sample.resamples.shape[1], sample.groups) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"not the same resamples: {sorted(shapes)}")
    lines = [_Line(sample) for sample in samples]
    known = [place for place, line in enumerate(lines) if line.known]
    undefined = (
        np.any([np.isnan(lines[place].resamples).any(0) for place in known], axis=0)
        if known
        else np.zeros(0, bool)
    )
    for place in known:
        lines[place].resamples = lines[place].resamples[:, ~undefined]
    sums = _Sums(len(lines))
    patterns = list(dict.fromkeys(lines[place].named for place in known))
    for i, first in enumerate(patterns):
        for second in patterns[i:]:
            sides = [
                [place for place in known if lines[place].named == pattern]
                for pattern in (first, second)
            ]
            _fill(sums, lines, *sides)
    faultless = np.array([sample.faultless for sample in samples])
    sums.groups[np.outer(faultless, faultless)] = np.nan
    draws, df_draws = sums.between_draws([line.known and len(line.named) == 1 for line in lines])
    pretrained, df_pretrained, own = _pretrainings(samples, pretraining)
    covariance = np.diag(_of_lines(draws) + own)
    if known:
        means = np.stack([lines[place].resamples.mean(0) for place in known])
        covariance[np.ix_(known, known)] += from_groups(
            np.atleast_2d(np.cov(means)), samples[0].groups
        )
    df_groups = np.minimum.outer(*[np.array([sample.df for sample in samples])] * 2)
    return PairedLines(
        sums.value, sums.groups, draws, pretrained, df_groups, df_draws, df_pretrained, covariance
    )


class _Line:
    """A sample draw by draw: means over its pretrainings, plain (D,) and on resamples (D, R)."""

    def __init__(self, sample: Sample) -> None:
        self.named, self.total = sample.named, sample.groups
        self.plain = sample.plain.reshape(sample.pretrainings, -1).mean(0)
        self.resamples = sample.resamples.reshape(sample.pretrainings, len(self.plain), -1).mean(
            0, dtype=float
        )
        self.known = (
            sample.groups > 1
            and not np.isnan(self.plain).any()
            and np.isnan(self.resamples).any(0).mean() <= MAX_UNDEFINED
        )

    def at(self, draws: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Of these draws, (n,) and (n, R); of a single run the same for each."""
        rows = (
            [0] * len(draws) if len(self.named) == 1 else [self.named.index(draw) for draw in draws]
        )
        return self.plain[rows], self.resamples[rows]


class _Sums:
    """Hold sums of every two lines, (K, K).

    value, groups, and raw: the variance of the plain difference over its draws; each and joint: as
    `beyond_groups` has them; seeds: how many draws.
    """

    def __init__(self, k: int) -> None:
        self.value, self.groups = np.full((k, k), np.nan), np.full((k, k), np.nan)
        self.raw, self.each, self.joint = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, k))
        self.seeds = np.ones((k, k))

    def between_draws(self, fixed: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
        """(variance of the mean difference, its degrees of freedom), each (K, K), steadied.

        fixed: lines that no draw changes, which are all alike.
        """
        k = len(fixed)
        alike = [next(j for j in range(k) if fixed[j]) if fixed[i] else i for i in range(k)]
        raw, df = self.raw.copy(), self.seeds - 1
        one, other = np.triu_indices(k, 1)
        mine = np.array(
            [alike[i] == i and alike[j] == j for i, j in zip(one, other, strict=True)], bool
        )
        one, other = (
            one[mine & (self.seeds[one, other] > 1)],
            other[mine & (self.seeds[one, other] > 1)],
        )
        if len(one):
            lines = len(set(one) | set(other))
            variance, own = moderated(raw[one, other], df[one, other], lines, of_pairs(lines))
            raw[one, other] = raw[other, one] = variance
            df[one, other] = df[other, one] = own
        raw, df = raw[np.ix_(alike, alike)], df[np.ix_(alike, alike)]
        with np.errstate(all="ignore"):
            beyond = beyond_groups(raw, self.each, self.joint, self.seeds)
        return np.where(
            self.seeds > 1, settled(np.maximum(beyond, 0.0), self.value), 0.0
        ), np.where(self.seeds > 1, df, np.inf)


def _fill(sums: _Sums, lines: Sequence[_Line], first: Sequence[int], second: Sequence[int]) -> None:
    """All pairs of a line of `first` and one of `second`; the lines of each have the same draws."""
    draws = _shared(lines[first[0]].named, lines[second[0]].named)
    if draws is None:
        for a in first:
            for b in second:
                _fill_apart(sums, lines, a, b)
        return
    places = list(dict.fromkeys([*first, *second]))
    plain, resamples = (
        np.stack(arrays)
        for arrays in zip(*(lines[place].at(draws) for place in places), strict=True)
    )
    total, n = lines[places[0]].total, len(draws)
    where = [places.index(place) for place in first], [places.index(place) for place in second]
    joint = from_groups(_of_differences(_covariance(resamples.mean(1))), total)
    each = from_groups(
        np.mean([_of_differences(_covariance(resamples[:, d])) for d in range(n)], axis=0), total
    )
    raw = _of_differences(_covariance(plain)) if n > 1 else np.zeros_like(joint)
    means = plain.mean(1)
    value = means[:, None] - means
    for name, matrix in (
        ("value", value),
        ("joint", joint),
        ("each", each),
        ("raw", raw),
        ("groups", settled(joint, value)),
    ):
        getattr(sums, name)[np.ix_(first, second)] = matrix[np.ix_(*where)]
        getattr(sums, name)[np.ix_(second, first)] = (-matrix if name == "value" else matrix)[
            np.ix_(*where)
        ].T
    sums.seeds[np.ix_(first, second)] = sums.seeds[np.ix_(second, first)] = n


def _shared(first: tuple[int, ...], second: tuple[int, ...]) -> Sequence[int] | None:
    """Return the draws that two lines are paired on; None where they are not."""
    if len(first) == 1 or len(second) == 1:
        return max(first, second, key=len)
    both = sorted(set(first) & set(second))
    return both if len(both) > 1 else None


def _fill_apart(sums: _Sums, lines: Sequence[_Line], a: int, b: int) -> None:
    """Two lines whose draws are independent.

    Their variances between draws add, on the degrees of freedom of the fewer.
    """
    n = min(len(lines[a].named), len(lines[b].named))
    means = [lines[place].resamples.mean(0) for place in (a, b)]
    joint = from_groups(float(np.var(means[0] - means[1], ddof=1)), lines[a].total)
    raw = each = shared = 0.0
    for place, mean in zip((a, b), means, strict=True):
        own = len(lines[place].named)
        raw += float(np.var(lines[place].plain, ddof=1)) * n / own
        each += (
            from_groups(_mean_variance(lines[place].resamples), lines[a].total)
            * n
            / own
            * (n - 1)
            / n
            * own
            / (own - 1)
        )
        shared += (
            from_groups(float(np.var(mean, ddof=1)), lines[a].total)
            * n
            / own
            * (n - 1)
            / n
            * own
            / (own - 1)
        )
    value = float(lines[a].plain.mean() - lines[b].plain.mean())
    for i, j, sign in ((a, b, 1.0), (b, a, -1.0)):
        sums.value[i, j], sums.groups[i, j], sums.raw[i, j] = sign * value, joint, raw
        sums.each[i, j], sums.joint[i, j], sums.seeds[i, j] = each, shared, n


def _pretrainings(
    samples: Sequence[Sample], spread: Sequence[Spread | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the variance that pretrainings make of each difference and of each line's mean.

    (variance, degrees of freedom), (K, K), and (K,) of the means.
    """
    known = [(spread[i] if i < len(spread) else None) or (0.0, np.inf) for i in range(len(samples))]
    own = np.array(
        [
            variance / sample.pretrainings
            for (variance, _), sample in zip(known, samples, strict=True)
        ]
    )
    parts = own**2 / np.array([df for _, df in known])
    pair = own[:, None] + own
    with np.errstate(all="ignore"):
        return pair, np.where(pair > 0, pair**2 / (parts[:, None] + parts), np.inf), own


def _by_pretraining(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """plain (P,) and resamples (P, R): means over draws."""
    *_, (_, plain, resamples) = sample.seeds()
    return plain, resamples


def _covariance(values: np.ndarray) -> np.ndarray:
    """(K, K) of values (K, n)."""
    centred = values - values.mean(1, keepdims=True)
    found: np.ndarray = centred @ centred.T / (values.shape[1] - 1)
    return found


def _of_differences(covariance: np.ndarray) -> np.ndarray:
    """(K, K): the variance of each difference of two."""
    own = np.diag(covariance)
    found: np.ndarray = np.maximum(own[:, None] + own - 2 * covariance, 0.0)
    return found


def _of_lines(of_pairs: np.ndarray) -> np.ndarray:
    """(K,): the lines' own variances whose sums come nearest to those of pairs (K, K)."""
    k, rows = len(of_pairs), np.asarray(of_pairs.sum(1), float)
    own = rows / 2 if k < 3 else np.maximum((rows - rows.sum() / (2 * (k - 1))) / (k - 2), 0.0)
    return np.asarray(own)


def _mean_variance(resamples: np.ndarray) -> float:
    return float(np.mean(np.nanvar(resamples, axis=-1, ddof=1)))
