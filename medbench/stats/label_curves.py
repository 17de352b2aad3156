"""Label curves: how many labels a method saves, and the area under its curve.

Both on the logarithm of the number of labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medbench.stats.estimates import Estimate, Sample, linear_contrast
from medbench.stats.intervals import half_width
from medbench.stats.seed_variance import beyond_groups, from_groups, settled

_POINTS = 200  # of a curve where the interval is looked for


@dataclass(frozen=True)
class LabelEfficiency:
    """At how many labels one method reaches another's score, in labelled images.

    value: inf: never in this range. low: the fewest where nothing shows that it is still behind;
    high: the most where nothing shows that it is ahead. first, last: the range that was looked at.
    Where value, low or high is `first`, it may be less.
    """

    value: float
    low: float
    high: float
    first: float
    last: float

    @property
    def told(self) -> bool:
        """Whether the interval leaves out anything at all."""
        return not (self.low == self.first and np.isinf(self.high))

    def shown(self, n: float, of: float) -> str:
        """Write a number of labels in percent of `of`, as `12 %`, `5 % or less`, `more than all`."""
        if np.isinf(n):
            return f"more than {_all(self.last / of)}"
        return f"{_percent(n / of)}{' or less' if n == self.first else ''}"

    def share(self, of: float, reference: str) -> str:
        """Write a sentence's end, in percent of `of` labels.

        `needs 12 % of the labels to equal B (95 % interval: 5 % to 31 %)`.
        """

        low, high = self.shown(self.low, of), self.shown(self.high, of)
        if np.isnan(self.low):
            return f"against {reference}: no interval, too few groups"
        if not self.told:
            most = _all(self.last / of)
            return f"may equal {reference} with {low} of the labels, or not even with {most}: more test images would decide"
        if np.isinf(self.low):
            return f"does not equal {reference} even with {_all(self.last / of)} of the labels"
        ends = (
            f"95 % interval: {low} to {high}" if self.low != self.high else f"95 % interval: {low}"
        )
        if np.isinf(self.value):
            return f"did not equal {reference} with {_all(self.last / of)} of the labels, which may be chance ({ends})"
        return f"needs {self.shown(self.value, of)} of the labels to equal {reference} ({ends})"


def label_efficiency(
    curve: Sequence[tuple[float, Sample]],
    reference: Sample,
    *,
    higher_is_better: bool = True,
    level: float = 0.95,
) -> LabelEfficiency:
    """Return where a curve first reaches the mean of `reference`.

    Between budgets on a straight line over log labels. curve: (labelled images, sample), at least
    two. The interval holds every number of labels at which the paired difference to the reference
    is not shown to be other than 0 (a test turned round, as Fieller 1954 does for a ratio), from
    the first to the last such number. Raises ValueError for one budget or fewer.
    """
    points = _ordered(curve)
    where = np.geomspace(points[0][0], points[-1][0], _POINTS)
    where = np.unique(np.concatenate([where, [n for n, _ in points]]))
    sign = 1.0 if higher_is_better else -1.0
    means = sign * np.interp(
        np.log(where), np.log([n for n, _ in points]), [sample.mean for _, sample in points]
    )
    value = _first_crossing(where, means, sign * reference.mean)
    samples = [*(sample for _, sample in points), reference]
    ends = _together(samples, _weights_between(points, where), level)
    if ends is None:
        ends = np.array(
            [
                linear_contrast([*_between(points, n), (-1.0, reference)]).interval(level)
                for n in where
            ]
        )
    first, last = float(where[0]), float(where[-1])
    if np.isnan(ends).any():
        return LabelEfficiency(value, float("nan"), float("nan"), first, last)
    behind = ends[:, 1] < 0 if higher_is_better else ends[:, 0] > 0
    ahead = ends[:, 0] > 0 if higher_is_better else ends[:, 1] < 0
    low = float(where[np.argmin(behind)]) if not behind.all() else float("inf")
    open_ = np.flatnonzero(~ahead)
    high = float(where[open_[-1]]) if len(open_) else first
    return LabelEfficiency(
        value,
        min(low, value),
        max(float("inf") if high == last else high, min(low, value)),
        first,
        last,
    )


def area(curve: Sequence[tuple[float, Sample]]) -> Estimate:
    """Return the mean of a curve over the logarithm of its labels.

    This is the area under the curve by trapezoids, divided by its width. Raises ValueError for
    fewer than two budgets, a budget twice, and one that is not positive.
    """
    return linear_contrast(
        [(weight, sample) for weight, (_, sample) in zip(*_weights(curve), strict=True)]
    )


def _weights_between(points: Sequence[tuple[float, Sample]], where: np.ndarray) -> np.ndarray:
    """Return the weight of each of B points in the curve's value at `where`: (L, B + 1).

    The last is -1, for a reference.
    """
    at = np.log([n for n, _ in points])
    return np.column_stack(
        [
            *(np.interp(np.log(where), at, unit) for unit in np.eye(len(at))),
            np.full(len(where), -1.0),
        ]
    )


def _together(samples: Sequence[Sample], weights: np.ndarray, level: float) -> np.ndarray | None:
    """Compute `linear_contrast(...).interval(level)`, (L, 2), of L weighted sums (L, K) at once.

    All of the same K samples, from their covariances. None where the samples were not scored on the
    same resamples, one is faultless, or a resample is undefined.
    """
    groups, shape = samples[0].groups, samples[0].resamples.shape[1]
    if groups < 2 or any(
        (sample.groups, sample.resamples.shape[1]) != (groups, shape) for sample in samples
    ):
        return None
    if any(
        sample.faultless or np.isnan(sample.plain).any() or np.isnan(sample.resamples).any()
        for sample in samples
    ):
        return None
    value = weights @ np.array([sample.mean for sample in samples])
    cases = from_groups(
        _variances(
            weights, np.stack([sample.resamples.mean(0, dtype=float) for sample in samples])
        ),
        groups,
    )
    parts = [(settled(cases, value), min(sample.df for sample in samples))]
    for places, plain, resamples in _by_source(samples):
        own, seeds = weights[:, places], plain.shape[1]
        each = np.mean([_variances(own, resamples[:, s]) for s in range(seeds)], axis=0)
        joint = _variances(own, resamples.mean(1))
        spread = beyond_groups(
            _variances(own, plain), from_groups(each, groups), from_groups(joint, groups), seeds
        )
        parts.append((settled(spread, value), float(seeds - 1)))
    half = half_width(parts, level)
    return np.column_stack([value - half, value + half])


def _by_source(samples: Sequence[Sample]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield samples that share a source of chance and its S > 1 seeds.

    (places, plain (K, S), resamples (K, S, R)).
    """
    found: dict[tuple[str, tuple[int, ...]], list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for place, sample in enumerate(samples):
        for source, plain, resamples in sample.seeds():
            if len(plain) > 1:
                which = sample.named if source == "draw" else tuple(range(len(plain)))
                found.setdefault((source, which), []).append((place, plain, resamples))
    for entries in found.values():
        places, plains, resampled = zip(*entries, strict=True)
        yield list(places), np.stack(plains).astype(float), np.stack(resampled).astype(float)


def _variances(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(L,): of the sums of values (K, n) with weights (L, K), over n."""
    spread: np.ndarray = ((weights @ np.atleast_2d(np.cov(values))) * weights).sum(1)
    return spread


def _ordered(curve: Sequence[tuple[float, Sample]]) -> list[tuple[float, Sample]]:
    points = sorted(curve, key=lambda point: point[0])
    if len(points) < 2 or points[0][0] <= 0 or any(a[0] == b[0] for a, b in pairwise(points)):
        raise ValueError(
            f"a curve has two budgets or more, all different; got {[n for n, _ in points]}"
        )
    return points


def _weights(
    curve: Sequence[tuple[float, Sample]],
) -> tuple[list[float], list[tuple[float, Sample]]]:
    points = _ordered(curve)
    x = np.log([n for n, _ in points])
    steps = np.diff(x) / (x[-1] - x[0])
    return ((np.append(steps, 0) + np.append(0, steps)) / 2).tolist(), points


def _between(points: Sequence[tuple[float, Sample]], n: float) -> list[tuple[float, Sample]]:
    """Interpolate the curve at n labels, as a weighted sum of its two neighbours."""
    i = min(
        max(int(np.searchsorted([m for m, _ in points], n, side="right")) - 1, 0), len(points) - 2
    )
    (left, a), (right, b) = points[i], points[i + 1]
    share = np.log(n / left) / np.log(right / left)
    return [
        (weight, sample)
        for weight, sample in ((float(1 - share), a), (float(share), b))
        if weight > 0
    ]


def _first_crossing(where: np.ndarray, values: np.ndarray, target: float) -> float:
    reached = np.flatnonzero(values >= target)
    if not len(reached):
        return float("inf")
    i = int(reached[0])
    if i == 0:
        return float(where[0])
    x = np.log(where)
    return float(
        np.exp(
            x[i - 1] + (x[i] - x[i - 1]) * (target - values[i - 1]) / (values[i] - values[i - 1])
        )
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _all(share: float) -> str:
    return "all" if 0.995 <= share < 1.005 else _percent(share)
