"""Which labelled images a step sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class BatchOrder:
    """An endless row of shuffled passes over a subset, cut into batches.

    Each depends on the seed and its number alone.

    images: in the subset. classes: positions (m,) of each class's images, where a pass shows all
    classes equally often: as often as the largest, each image of a class as often as any other, but
    for the rest; (): each image once.
    """

    images: int
    batch: int
    seed: int
    classes: Sequence[np.ndarray] = ()
    # the last two passes: a step would shuffle the whole subset
    _kept: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def length(self) -> int:
        """The number of images that a pass shows."""
        return len(self.classes) * max(map(len, self.classes)) if self.classes else self.images

    def rows(self, step: int) -> np.ndarray:
        """Return the positions (batch,) int64 into the subset of the images of a step, from 0."""
        n, first = self.length, step * self.batch
        passes = range(first // n, (first + self.batch - 1) // n + 1)
        order = (
            np.concatenate([self._pass(p) for p in passes])
            if len(passes) > 1
            else self._pass(passes[0])
        )
        return order[first - passes[0] * n :][: self.batch]

    def _pass(self, number: int) -> np.ndarray:
        if number not in self._kept:
            for old in [known for known in self._kept if known != number - 1]:
                del self._kept[old]
            self._kept[number] = self._shuffled(number)
        return self._kept[number]

    def _shuffled(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, number])
        if not self.classes:
            return rng.permutation(self.images)
        most = max(map(len, self.classes))
        return rng.permutation(
            np.concatenate([np.resize(rng.permutation(of), most) for of in self.classes])
        )


def by_class(labels: np.ndarray) -> list[np.ndarray]:
    """Return the positions of the images of each class that is there. labels: (n,) int."""
    return [np.flatnonzero(labels == c) for c in np.unique(labels)]
