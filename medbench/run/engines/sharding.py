"""A part of a plan for a machine of its own.

`medbench merge` joins its rows with those of the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from medbench.run.missing_cells import reading_order
from medbench.run.plans import Plan
from medbench.run.units import Unit
from medbench.schema import UserError


@dataclass(frozen=True)
class Shard:
    """One part of a plan: number `number` of `count`, from 1."""

    number: int
    count: int

    @staticmethod
    def parse(text: str) -> Shard:
        """Parse `2/4`. Raises UserError for what is no part of a whole."""
        found = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(
                f"--shard '{text}' is not a part of a whole.",
                allowed=["1/2, 2/2, 3/8: the part's number, and of how many"],
            )
        return Shard(int(found[1]), int(found[2]))

    def of(self, plan: Plan) -> Plan:
        """Return the plan of this part alone: its units, in the plan's order.

        Whole units, so that nothing is trained or embedded twice; dealt out in turn from the
        longest training on, and a fusion behind its members. Raises UserError where there are fewer
        units than parts.
        """
        if len(plan.units) < self.count:
            raise UserError(
                f"--shard {self.number}/{self.count}: the grid has {len(plan.units)} units (task, method, encoder, pretraining seed) to deal out.",
                then=f"--shard 1/{len(plan.units)}"
                if len(plan.units) > 1
                else "leave --shard out, or --workers 2",
            )
        dealt: list[Unit] = sorted(
            plan.units, key=lambda unit: reading_order(plan, unit), reverse=True
        )
        mine = {id(unit) for unit in dealt[self.number - 1 :: self.count]}
        return replace(plan, units=tuple(unit for unit in plan.units if id(unit) in mine))
