"""What test groups and seeds each add to the variance of a mean over seeds.

The one formula (Obuchowski & Rockette 1995). `estimates` asks it for one weighted sum,
`estimates_batched` for many samples, `label_curves` for many weighted sums of the same few samples.
They differ in how they find the variances that go in, not in what is made of them. Numbers or
arrays (L,) throughout.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Numbers = TypeVar("Numbers", float, np.ndarray)


def from_groups(variance: Numbers, groups: int) -> Numbers:
    """Return the variance that test groups make, from that over resamples of them.

    A bootstrap of G groups sees (G - 1) / G of it. NaN for one group.
    """
    return (groups / (groups - 1) if groups > 1 else np.nan) * variance


def beyond_groups(
    spread: Numbers, each: Numbers, joint: Numbers, seeds: int | np.ndarray
) -> Numbers:
    """Return the part of the variance of a mean over S > 1 seeds that test groups do not explain.

    It is negative or 0 where they explain all. spread: variance of the plain numbers over seeds.
    each, joint (`from_groups`): what groups make of one seed, on average, and of the seeds' mean.
    What they make of the difference of two seeds shows in the spread too: (each - joint) S / (S -
    1) of it, and is taken off.

    Each is a number, or they are arrays (L,) of one shape.
    """
    own = (each - joint) * seeds / (seeds - 1)
    part: Numbers = (spread - np.maximum(own, 0.0)) / seeds  # type: ignore[assignment]  # numbers give numbers
    return part


def settled(variance: Numbers, value: Numbers) -> Numbers:
    """Replace by 0 what is negative, or rounding alone beside a value of that size; NaN stays."""
    kept: Numbers = np.where(variance <= 1e-16 * np.maximum(1.0, value * value), 0.0, variance)[()]  # type: ignore[assignment]  # numbers give numbers
    return kept
