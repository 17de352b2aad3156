"""What a plan will still cost, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from medbench.models import features
from medbench.run.execution import missing, sets_of
from medbench.run.planning import Plan
from medbench.run.prepare import features_key, have_features, pretrained_folder, unit_encoder
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import Cell, PlannedCell, Row
from medbench.system import devices


@dataclass(frozen=True)
class Cost:
    """What a unit still has to do. to_train: views of a pretraining. seconds: of both, at the speed of an earlier run here, else of a trial batch.
    solving: of each missing cell, as long as like cells in this folder took; None where there are none yet."""

    unit: Unit
    cells: int
    missing: int
    to_train: int
    to_embed: int
    seconds: float
    solving: Mapping[PlannedCell, float | None]

    @property
    def solve_seconds(self) -> float | None:
        """Of all missing cells; None where one is not known."""
        known = [seconds for seconds in self.solving.values() if seconds is not None]
        return sum(known) if len(known) == len(self.solving) else None


def costs(plan: Plan, store: Store, device: str = "auto") -> list[Cost]:
    """The work left in each unit, without doing any of it but a trial batch where the encoder's speed is not known."""
    device = devices.resolve(device)
    rows = store.rows()
    past = _past(rows.values())
    found = []
    counted: set[str] = set()  # a fusion's members are often units of their own
    for unit in plan.units:
        todo = missing(plan, store, unit, rows)
        views = embedded = 0
        seconds = 0.0
        for part in unit.members or (unit,) if todo else ():
            images = 0
            for target in sets_of(plan, unit, todo):
                if not have_features(plan, part, device, target) and features_key(part, device, target) not in counted:
                    counted.add(features_key(part, device, target))
                    images += len(target.split) if target else len(part.data.hashes)
            if not images:
                continue
            there = (pretrained_folder(plan, part, device) / "weights.pth").exists()
            to_train = 0 if there else sum(recipe.views for recipe in part.recipes)
            speed = features.measured_speed(plan.cache_dir, part.encoder, device)
            if speed is None:
                build = partial(unit_encoder, part, part.encoder, part.weights)
                speed = features.trial_speed(build, part.encoder, device, part.precision)
            views, embedded = views + to_train, embedded + images
            seconds += (3 * to_train + images) / speed  # backward costs two forwards
        solving = {planned: next((past[key] for key in _like(planned.cell, bool(unit.members)) if key in past), None) for planned in todo}
        found.append(Cost(unit, len(unit.cells), len(todo), views, embedded, seconds, solving))
    return found


def _like(cell: Cell, fused: bool) -> tuple[tuple[str | bool, ...], ...]:
    """What cells have in common that take as long: the method, too, else whether it joins several encoders."""
    common = (cell.protocol, cell.labels, cell.target)
    return (cell.method, *common), (fused, *common)


def _past(rows: Iterable[Row]) -> dict[tuple[str | bool, ...], float]:
    """Seconds of a cell, the mean over those that were made: the first of several draws carries what all of them share."""
    found: dict[tuple[str | bool, ...], list[float]] = {}
    for row in rows:
        for key in _like(row.cell, bool(row.provenance.get("members"))):
            found.setdefault(key, []).append(row.cost["seconds"])
    return {key: float(np.mean(seconds)) for key, seconds in found.items()}
