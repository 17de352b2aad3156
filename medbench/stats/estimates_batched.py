"""Many samples at once: the same numbers as `estimates` gives one at a time.

For tables of thousands of lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medbench.stats.estimates import (
    ANYWHERE,
    Estimate,
    Sample,
    Summary,
    beyond,
    cut,
    mean_over_seeds,
    paired_difference,
)
from medbench.stats.intervals import mean_interval
from medbench.stats.seed_variance import beyond_groups, from_groups, settled

_CHUNK = 500_000  # numbers that are worked on at once: 4 MB, that they stay in a core's cache


def means_over_seeds(
    samples: Sequence[Sample],
    level: float = 0.95,
    within: tuple[float, float] = ANYWHERE,
    *,
    grows_by_chance: bool = False,
) -> list[Summary]:
    """Compute `mean_over_seeds` of each sample, in their order.

    Arguments as there. Resamples may be float32, as they are saved: they are worked on as float64.
    """
    found: list[Summary | None] = [None] * len(samples)
    for places, plain, resamples in _alike(samples):
        first, seeds = samples[places[0]], plain.shape[1]
        values, parts = _variances(plain, resamples, first.groups, first.df)
        sds = np.std(plain, axis=1, ddof=1).tolist() if seeds > 1 else [None] * len(places)
        chances = [(variance, df) for variance, _, df in parts]
        ends = mean_interval(
            resamples.mean(1),
            values,
            first.groups,
            chances,
            level,
            first.reference,
            grows_by_chance=grows_by_chance,
        )
        for place, mean, sd, low, high in zip(
            places, values.tolist(), sds, *(end.tolist() for end in ends), strict=True
        ):
            found[place] = Summary(mean, sd, cut(low, within), cut(high, within))
    return [
        done
        or mean_over_seeds(
            replace(sample, resamples=sample.resamples.astype(float, copy=False)),
            level,
            within,
            grows_by_chance=grows_by_chance,
        )
        for done, sample in zip(found, samples, strict=True)
    ]


def differences_to(samples: Sequence[Sample], reference: Sample) -> list[Estimate]:
    """Compute `paired_difference(sample, reference)` of each sample, in their order."""
    found: list[Estimate | None] = [None] * len(samples)
    for places, plain, resamples in _alike(samples):
        paired = reference.pretrainings == 1 and samples[places[0]].named == reference.named
        if paired and not np.isnan(reference.resamples).any():
            df = min(samples[places[0]].df, reference.df)
            made = _estimates(
                plain - reference.plain, resamples - reference.resamples, reference.groups, df
            )
            for place, estimate in zip(places, made, strict=True):
                found[place] = estimate
    return [
        done or paired_difference(sample, reference)
        for done, sample in zip(found, samples, strict=True)
    ]


def p_values(estimates: Sequence[Estimate]) -> list[float]:
    """Compute the two-sided p of each estimate, `Estimate.p` of no difference.

    In their order; NaN where undefined.
    """
    return [
        2 * one for one in tails(estimates, 0.0, [estimate.value > 0 for estimate in estimates])
    ]


def tails(estimates: Sequence[Estimate], null: float, above: Sequence[bool]) -> list[float]:
    """Compute `Estimate.tail(null, above=...)` of each estimate, in their order.

    above: one for each. Those with chance of two sources are solved in one go.
    """
    two = [
        place
        for place, estimate in enumerate(estimates)
        if sum(variance > 0 for variance, _ in estimate.parts) == len(estimate.parts) == 2
    ]
    value = np.array([estimates[place].value for place in two])
    gap = np.where([above[place] for place in two], value - null, null - value)
    parts = np.array([estimates[place].parts for place in two]).reshape(-1, 2, 2)
    known = np.isfinite(parts).all((1, 2)) & np.isfinite(gap)
    p = np.full(len(two), np.nan)
    p[known] = beyond(np.abs(gap[known]), parts[known, :, 0].T, parts[known, :, 1].T)
    found = (
        dict(
            zip(
                np.array(two)[known].tolist(),
                np.where(gap >= 0, p, 1 - p)[known].tolist(),
                strict=True,
            )
        )
        if two
        else {}
    )
    return [
        found[place] if place in found else estimate.tail(null, above=on)
        for place, (estimate, on) in enumerate(zip(estimates, above, strict=True))
    ]


def _alike(samples: Sequence[Sample]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield (places, plain (L, S), resamples (L, S, R)) of samples that can be computed together.

    They have one shape, one pretraining and one number of groups, are two at least, without NaN,
    and not faultless.
    """
    by_shape: dict[tuple[Any, ...], list[int]] = {}
    for place, sample in enumerate(samples):
        known = not np.isnan(sample.plain).any() and not np.isnan(sample.resamples).any()
        if known and sample.groups > 1 and sample.pretrainings == 1 and not sample.faultless:
            by_shape.setdefault(
                (sample.groups, sample.named, sample.reference, *sample.resamples.shape), []
            ).append(place)
    for (*_, seeds, count), places in by_shape.items():
        step = max(1, _CHUNK // (seeds * count))
        for start in range(0, len(places), step):
            part = places[start : start + step]
            plain = np.stack([samples[place].plain for place in part])
            yield part, plain, np.stack([samples[place].resamples for place in part], dtype=float)


def _estimates(
    plain: np.ndarray, resamples: np.ndarray, groups: int, of_groups: float
) -> list[Estimate]:
    """`linear_contrast` of each of (L, S), (L, S, R), all defined, more than one group."""
    values, parts = _variances(plain, resamples, groups, of_groups)
    lists = [(variance.tolist(), there.tolist(), df) for variance, there, df in parts]
    return [
        Estimate(value, tuple((variance[i], df) for variance, there, df in lists if there[i]))
        for i, value in enumerate(values.tolist())
    ]


def _variances(
    plain: np.ndarray, resamples: np.ndarray, groups: int, of_groups: float
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, float]]]:
    """Return the values (L,) of `_estimates` and the variance of each source of chance.

    For each source: variances (L,), where it is a part at all (0 elsewhere), degrees of freedom.
    of_groups: degrees of freedom of the test groups.
    """
    seeds, values = plain.shape[1], plain.mean(1)
    cases = from_groups(resamples.mean(1).var(axis=1, ddof=1), groups)
    parts = [(settled(cases, values), np.ones(len(plain), bool), of_groups)]
    if seeds > 1:
        each = from_groups(resamples.var(axis=2, ddof=1).mean(1), groups)
        own = beyond_groups(plain.var(axis=1, ddof=1), each, cases, seeds)
        parts.append((settled(own, values), own > 0, float(seeds - 1)))
    return values, parts
