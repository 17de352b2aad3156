"""Where a stage of a pretraining is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """Where a stage is: `step` of `steps`, counted from 0.

    Every schedule is a function of it, so that a resumed run needs no other state.
    """

    step: int
    steps: int

    @property
    def share(self) -> float:
        """The share of the stage that is done, in [0, 1)."""
        return self.step / self.steps
