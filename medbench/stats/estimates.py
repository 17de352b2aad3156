"""Means over seeds, differences and other weighted sums of runs.

With what chance in the test set and in the draws could have done. A run of S seeds scored on G test
groups is a reader study: seeds are the readers, groups the cases. The variance of a mean is split
as Obuchowski & Rockette (1995) do: what the test groups make, and what the seeds differ by beyond
it. The first is read from the saved bootstrap resamples, the second from the seeds' own spread, on
S - 1 degrees of freedom, so that three seeds are taken for the little evidence that they are. (A
bootstrap of three seeds sees two thirds of their variance and none of its doubt.) The formula is
`seed_variance`'s, the rule of an interval `intervals`'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medbench.stats.intervals import MAX_UNDEFINED, half_width, mean_interval
from medbench.stats.reference_variance import ReferenceVariance
from medbench.stats.seed_variance import beyond_groups, from_groups, settled

#: No limits of a metric's own range.
ANYWHERE = (-np.inf, np.inf)


@dataclass(frozen=True, eq=False)
class Sample:
    """Hold one metric of one leaderboard line.

    plain: (S,), on the test set itself, one number per seed. resamples: (S, R), the same on R
    resamples of G test groups (`group_weights`), NaN where undefined. groups: G. pretrainings: P,
    where S = P x D runs are D draws of labels under each of P pretrainings, draws fastest. draws:
    which D they are, so that samples are paired on those they share; default the first D.
    reference: what is known of the metric's variance on these groups; without it, degrees of
    freedom are all groups less one. Raises ValueError for shapes that do not fit.
    """

    plain: np.ndarray
    resamples: np.ndarray
    groups: int
    pretrainings: int = 1
    draws: tuple[int, ...] = ()
    reference: ReferenceVariance | None = None

    def __post_init__(self) -> None:
        if (
            self.resamples.ndim != 2
            or self.plain.shape != self.resamples.shape[:1]
            or 0 in self.resamples.shape
            or self.groups < 1
        ):
            shapes = f"{self.plain.shape}, {self.resamples.shape} and {self.groups}"
            raise ValueError(
                f"plain must be (S,), resamples (S, R), groups at least 1, none of them empty; got {shapes}"
            )
        if self.pretrainings < 1 or len(self.plain) % self.pretrainings:
            raise ValueError(
                f"{len(self.plain)} runs are not all draws of {self.pretrainings} pretrainings"
            )
        if self.draws and len(self.draws) * self.pretrainings != len(self.plain):
            raise ValueError(
                f"{len(self.plain)} runs are not {len(self.draws)} draws under {self.pretrainings} pretrainings"
            )

    @property
    def mean(self) -> float:
        """The mean over seeds, NaN where one run is undefined."""
        return float(np.mean(self.plain))

    @property
    def df(self) -> float:
        """Degrees of freedom of what the test groups make.

        The reference's and its prior's more, as resamples of one run after another agree with the
        textbook's variance; never more than all groups less one.
        """
        most = float(self.groups - 1)
        return min(self.reference.df + self.reference.prior, most) if self.reference else most

    @property
    def named(self) -> tuple[int, ...]:
        """The numbers of its draws, as `draws` or the first D."""
        return self.draws or tuple(range(len(self.plain) // self.pretrainings))

    def of(self, draws: Collection[int]) -> Sample:
        """Return the sample of these draws alone, in rising order; unknown ones are ignored."""
        kept = sorted(
            (place for place, draw in enumerate(self.named) if draw in draws),
            key=self.named.__getitem__,
        )
        if kept == list(range(len(self.named))):
            return self
        rows = (np.arange(self.pretrainings)[:, None] * len(self.named) + kept).ravel()
        return replace(
            self,
            plain=self.plain[rows],
            resamples=self.resamples[rows],
            draws=tuple(self.named[place] for place in kept),
        )

    @property
    def faultless(self) -> bool:
        """Whether every run is 1 in every resample.

        What chance could have done to it these groups do not show, as each of them would have to be
        wrong once.
        """
        # a mean of ones may be rounded
        return bool((self.plain > 1 - 1e-6).all() and (self.resamples > 1 - 1e-6).all())

    def seeds(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield each source of chance among seeds: (name, plain (n,), resamples (n, R)).

        "draw": means over pretrainings of n draws of labels; "pretraining", where there are
        several: means over draws of n pretrainings.
        """
        plain = self.plain.reshape(self.pretrainings, -1)
        resamples = self.resamples.reshape(*plain.shape, -1)
        if self.pretrainings == 1:
            yield "draw", plain[0], resamples[0]
            return
        yield "draw", plain.mean(0), resamples.mean(0)
        yield "pretraining", plain.mean(1), resamples.mean(1)


@dataclass(frozen=True)
class Estimate:
    """Hold a number and its independent sources of chance.

    parts: (variance, degrees of freedom) of each, the test groups' first; variance NaN = undefined.
    """

    value: float
    parts: tuple[tuple[float, float], ...]

    @property
    def error(self) -> float:
        """The standard error."""
        return float(np.sqrt(sum(variance for variance, _ in self.parts)))

    def times(self, sign: float) -> Estimate:
        """Return the estimate of the number times `sign`, 1 or -1."""
        return replace(self, value=sign * self.value)

    def half(self, level: float) -> float:
        """Return half the width of the interval of that level in (0, 1); NaN where undefined."""
        return float(half_width(self.parts, level))

    def interval(
        self, level: float = 0.95, within: tuple[float, float] = ANYWHERE
    ) -> tuple[float, float]:
        """Return (low, high), symmetric, cut at the two ends of `within`; NaN where undefined."""
        half = self.half(level)
        return cut(self.value - half, within), cut(self.value + half, within)

    def p(self, null: float = 0.0) -> float:
        """Return the two-sided p value of the hypothesis that the truth is `null`.

        1 - level of the interval that just reaches it. NaN where undefined.
        """
        return 2 * self.tail(null, above=self.value > null)

    def tail(self, null: float, *, above: bool) -> float:
        """Return the one-sided p: small where the truth is shown to lie above (else below) `null`.

        No error: the value alone decides.
        """
        gap = (self.value - null) if above else (null - self.value)
        error = self.error
        if np.isnan(gap) or np.isnan(error):
            return float("nan")
        if error == 0:
            return 0.0 if gap > 0 else 0.5 if gap == 0 else 1.0
        return self._beyond(gap) if gap >= 0 else 1 - self._beyond(-gap)

    def _beyond(self, gap: float) -> float:
        """Return the one-sided p at which the interval's half width is `gap`."""
        from scipy.special import stdtr

        parts = [(variance, df) for variance, df in self.parts if variance > 0]
        if len(parts) == 1:
            ((variance, df),) = parts
            return float(stdtr(df, -gap / np.sqrt(variance)))
        variances, dfs = np.array(parts).T[..., None]
        return float(beyond(np.array([gap]), variances, dfs)[0])


def beyond(gap: np.ndarray, variance: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Return the one-sided p at which the half width of an interval is `gap` (L,) >= 0.

    (L,) in (0, 0.5], to 1e-7 of p, by bisection. variance, df: (P, L), > 0, of P sources of chance.
    """
    from scipy.special import stdtr, stdtrit

    # more variance, more doubt: p lies above that of any part alone
    low = np.maximum(stdtr(df, -gap / np.sqrt(variance)).max(0), 1e-300)
    high = np.full(len(gap), 0.5)
    for _ in range(26):  # to 1e-7 of p
        p = np.sqrt(low) * np.sqrt(high)
        wide = (variance * stdtrit(df, p) ** 2).sum(0) > gap * gap  # halves fall as p grows
        low, high = np.where(wide, p, low), np.where(wide, high, p)
    return high


def cut(end: float, within: tuple[float, float]) -> float:
    """Cut the end of an interval to the nearest number inside `within`; NaN stays.

    >>> cut(1.2, (0.0, 1.0)), cut(float("nan"), (0.0, 1.0))
    (1.0, nan)
    """
    low, high = within
    return low if end < low else high if end > high else end


@dataclass(frozen=True)
class Summary:
    """A mean over seeds.

    sd over seeds (n - 1; None for a single one), 95 % interval; NaN = undefined.
    """

    mean: float
    sd: float | None
    low: float
    high: float


def linear_contrast(terms: Sequence[tuple[float, Sample]]) -> Estimate:
    """Estimate the sum of coefficient x mean over seeds, of samples on the same test resamples.

    terms: (coefficient, sample). Samples of the same draws are paired draw for draw (the same
    labelled images); others are independent, see `on_shared_draws`. One run that no seed changes (S
    = 1) stands against every draw and brings no variance between them. Draws and pretrainings are
    two sources, each with its own number; what only the two together make counts in both. Undefined
    where every sample is faultless. Raises ValueError where the resamples are not the same.
    """
    return across([terms])


def across(sets: Sequence[Sequence[tuple[float, Sample]]]) -> Estimate:
    """Contrast terms on several test sets that share no group: a two-sample bootstrap over groups.

    Each set has its own terms. The sets' own chance is independent and adds up; draws are shared:
    samples of the same ones are paired, on whichever set they were scored. Raises ValueError where
    the resamples of one set are not the same.
    """
    value = float(sum(weight * sample.mean for terms in sets for weight, sample in terms))
    parts: list[tuple[float, float]] = []
    plains: dict[_Seeds, np.ndarray] = {}
    # what test groups make of one seed, and of the seeds' mean, all sets together
    each: dict[_Seeds, float] = {}
    joint: dict[_Seeds, float] = {}
    for terms in sets:
        groups, by_seeds = _by_seeds(terms)
        df = min(sample.df for _, sample in terms)
        total = np.sum(
            [
                resamples.mean(0)
                for (source, _), (_, resamples) in by_seeds.items()
                if source == "draw"
            ],
            axis=0,
        )
        if (
            np.isnan(value)
            or np.isnan(total).mean() > MAX_UNDEFINED
            or all(sample.faultless for _, sample in terms)
        ):
            return Estimate(value, ((float("nan"), float("nan")),))
        parts.append((from_groups(_variance(total), groups), df))
        for key, (plain, resamples) in by_seeds.items():
            plains[key] = plains.get(key, 0.0) + plain
            if len(key[1]) == 1:
                continue  # a single run says nothing of seeds
            each[key] = each.get(key, 0.0) + from_groups(_variance(resamples), groups)
            joint[key] = joint.get(key, 0.0) + from_groups(_variance(resamples.mean(0)), groups)
    for key, plain in plains.items():
        seeds = len(key[1])
        if seeds > 1:
            own = float(beyond_groups(float(np.var(plain, ddof=1)), each[key], joint[key], seeds))
            parts += [(own, float(seeds - 1))] if own > 0 else []
    return Estimate(value, tuple((float(settled(variance, value)), df) for variance, df in parts))


def on_shared_draws(
    sets: Sequence[Sequence[tuple[float, Sample]]],
) -> Sequence[Sequence[tuple[float, Sample]]]:
    """Restrict the terms to the draws that all samples of more than one draw share.

    They stay as they are where these are fewer than two.
    """
    several = [sample.named for terms in sets for _, sample in terms if len(sample.named) > 1]
    if len(set(several)) < 2:
        return sets
    shared = set(several[0]).intersection(*several[1:])
    if len(shared) < 2:
        return sets
    return [
        [
            (weight, sample.of(shared) if len(sample.named) > 1 else sample)
            for weight, sample in terms
        ]
        for terms in sets
    ]


#: A source of chance and which seeds it has.
_Seeds = tuple[str, tuple[int, ...]]


def _by_seeds(
    terms: Sequence[tuple[float, Sample]],
) -> tuple[int, dict[_Seeds, tuple[np.ndarray, np.ndarray]]]:
    """How many groups the terms' one test set has.

    Also returns, for each source of chance and its seeds, the weighted sums, plain and on
    resamples.
    """
    shapes = {(sample.resamples.shape[1], sample.groups) for _, sample in terms}
    if len(shapes) != 1:
        raise ValueError(f"not the same resamples: {sorted(shapes)}")
    found: dict[_Seeds, tuple[np.ndarray, np.ndarray]] = {}
    for weight, sample in terms:
        for source, own_plain, own_resamples in sample.seeds():
            key = source, sample.named if source == "draw" else tuple(range(len(own_plain)))
            plain, resamples = found.get(key, (0.0, 0.0))
            found[key] = (plain + weight * own_plain, resamples + weight * own_resamples)
    return terms[0][1].groups, found


def mean_over_seeds(
    sample: Sample,
    level: float = 0.95,
    within: tuple[float, float] = ANYWHERE,
    *,
    grows_by_chance: bool = False,
) -> Summary:
    """Return the mean over seeds, its sd over them, and its interval.

    Over test groups and seeds (`intervals.mean_interval`), cut at the two ends of `within`.
    grows_by_chance: as `Metric` has it.

    Undefined for one group, of which all resamples are the same, and for a faultless sample without
    a `reference`.
    """
    sd = float(np.std(sample.plain, ddof=1)) if len(sample.plain) > 1 else None
    if sample.faultless and sample.reference:
        return Summary(sample.mean, sd, sample.reference.perfect(level), 1.0)
    estimate = linear_contrast([(1.0, sample)])
    if not np.isfinite(estimate.error):
        return Summary(sample.mean, sd, np.nan, np.nan)
    parts = [(np.array([variance]), df) for variance, df in estimate.parts]
    means, value = sample.resamples.mean(0)[None], np.array([sample.mean])
    low, high = mean_interval(
        means, value, sample.groups, parts, level, sample.reference, grows_by_chance=grows_by_chance
    )
    return Summary(sample.mean, sd, cut(float(low[0]), within), cut(float(high[0]), within))


def paired_difference(a: Sample, b: Sample) -> Estimate:
    """Return first minus second, on the same resamples of the test set.

    Draw for draw on the draws that both have (`on_shared_draws`).
    """
    return across(on_shared_draws([[(1.0, a), (-1.0, b)]]))


def _variance(values: np.ndarray) -> float:
    """Over the resamples (last axis) where it is defined; the mean over what is before it."""
    # the first takes three times as long
    variance = np.nanvar if np.isnan(values).any() else np.var
    return float(np.mean(variance(values, axis=-1, ddof=1)))
