"""What all units of one run share: plan, folder, device, and what was made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from medbench import stats
from medbench.run.jobs import Job
from medbench.run.plans import Plan
from medbench.run.store import Store
from medbench.schema import PlannedCell, fingerprint


@dataclass(frozen=True, eq=False)
class RunContext:
    """What all units of one run share.

    since: the failures of before are tried again, see `Store.failures_mark`. at_work: hears of each
    job that is begun. weights: the resamples of each grouping of scored images, made once.
    """

    plan: Plan
    store: Store
    device: str
    since: int = 0
    at_work: Callable[[Job], None] = lambda job: None
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def todo(self, job: Job) -> list[PlannedCell]:
        """Return the cells of a job without a row, at which no process of this run has failed."""
        left = [planned for planned in job.cells if not self.store.has(planned.fingerprint)]
        failed = self.store.failed_since(self.since) if left else ()
        return [planned for planned in left if planned.fingerprint not in failed]

    def weights_of(self, groups: np.ndarray) -> np.ndarray:
        """Return (N, R) uint8: `stats.group_weights` of a scored set.

        Levels of a corruption share them.
        """
        key = fingerprint(groups.tolist())
        if key not in self.weights:
            self.weights[key] = stats.group_weights(groups)
        return self.weights[key]
