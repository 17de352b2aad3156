"""Which draws are divided otherwise than the first rows were.

What was computed then is older for exactly these.

Once every draw decided by itself whether anything was held out, and its smallest class in how many
folds (`_first_folds`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medbench.run.units import Unit
from medbench.schema import Budget, Protocol, Split
from medbench.stats import splits


class Division:
    """The draws of one task.

    Whether a budget is cross-validated, and the ingredient of the draws that this changes.
    """

    def __init__(self, pool: Split, subsets: Mapping[tuple[Budget, int], tuple[np.ndarray, int]]):
        """pool: what is drawn from.

        subsets: (budget, seed) -> index (n,) into it, and the images that the budget asks for.
        """
        self.pool, self.subsets = pool, subsets
        self.divided = {
            budget: splits.divides(pool.labels, pool.groups, budget) for budget, _ in subsets
        }
        self._known: dict[tuple[object, ...], bool] = {}

    def touched(self, unit: Unit, protocol: Protocol, budget: Budget, seed: int) -> dict[str, int]:
        """Return the ingredient `division` of one draw.

        Where it is not divided as the first rows were.
        """
        if not protocol.divides:
            return {}
        if unit.method.own_head and protocol.needs == "features":
            how = ("validation", unit.method.settings["validation"], False)
        elif protocol.needs == "images":
            how = ("finetune", protocol.settings["held_out"], bool(protocol.settings["probe"]))
        else:
            how = ("", 0.0, True)
        asked = (budget, seed, *how)
        if asked not in self._known:
            self._known[asked] = self._moved(*asked)
        return {"division": splits.DIVISION} if self._known[asked] else {}

    def _moved(self, budget: Budget, seed: int, key: str, share: float, folds: bool) -> bool:
        """key, share: of a validation part, "" for none.

        folds: whether what is trained on is cross-validated.
        """
        index, requested = self.subsets[budget, seed]
        labels, groups = self.pool.labels[index], self.pool.groups[index]
        inside = np.ones(len(index), bool)
        if key:
            held = splits.validation_part(labels, groups, share, key, requested)
            if not np.array_equal(held, splits.validation_part(labels, groups, share, key)):
                return True
            inside = ~held
        if not folds:
            return False
        first = _first_folds(labels[inside], groups[inside])
        return not np.array_equal(
            first,
            splits.held_out_fold(labels[inside], groups[inside], divided=self.divided[budget]),
        )


def _first_folds(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return folds as the first rows have them: (n,) int64.

    As many as the smallest class has groups; -1 where that is one.
    """
    if labels.ndim == 1:
        sizes = [len(np.unique(groups[labels == c])) for c in np.unique(labels)]
        k = min(sizes) if len(sizes) > 1 else 1
    else:
        pairs = [
            min(len(np.unique(groups[column == value])) for value in (0, 1)) for column in labels.T
        ]
        k = min((size for size in pairs if size > 1), default=1)
    return (
        splits.folds(labels, groups, min(k, splits.MAX_FOLDS))
        if k > 1
        else np.full(len(labels), -1)
    )
