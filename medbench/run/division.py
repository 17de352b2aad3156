"""Which draws are divided otherwise than each would be by itself. Every draw once decided alone; what was computed then is older for exactly these."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medbench.run.units import Unit
from medbench.schema import Budget, Protocol, Split
from medbench.stats import splits

_MOST = 5  # folds; any number of at least two gives the same answer where a class has one group


class Division:
    """The draws of one task: whether a budget is cross-validated, and the ingredient of the draws that this changes."""

    def __init__(self, pool: Split, subsets: Mapping[tuple[Budget, int], tuple[np.ndarray, int]]):
        """pool: what is drawn from. subsets: (budget, seed) -> index (n,) into it, and the images that the budget asks for."""
        self.pool, self.subsets = pool, subsets
        self.divided = {budget: splits.divides(pool.labels, pool.groups, budget) for budget, _ in subsets}
        self._known: dict[tuple[object, ...], bool] = {}

    def touched(self, unit: Unit, protocol: Protocol, budget: Budget, seed: int) -> dict[str, int]:
        """The ingredient `division` of one draw, where it is not divided as by itself."""
        if not protocol.divides:
            return {}
        if unit.method.fusion is not None and unit.method.fusion.evaluate is not None and protocol.needs == "features":
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
        """key, share: of a validation part, "" for none. folds: whether what is trained on is cross-validated."""
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
        alone, now = (splits.n_folds(labels[inside], groups[inside], _MOST, divided) for divided in (None, self.divided[budget]))
        return alone != now
