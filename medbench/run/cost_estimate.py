"""What a plan will still cost, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from medbench.models import features
from medbench.run.execution import missing, sets_of
from medbench.run.planning import Plan
from medbench.run.prepare import features_key, have_features, pretrained_folder, unit_encoder
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.system import devices


@dataclass(frozen=True)
class Cost:
    """What a unit still has to do. to_train: views of a pretraining. seconds: of both, at the speed of an earlier run here, else of a trial batch.
    solve_seconds: as long as like cells in this folder took; None where there are none yet."""

    unit: Unit
    cells: int
    missing: int
    to_train: int
    to_embed: int
    seconds: float
    solve_seconds: float | None


def costs(plan: Plan, store: Store, device: str = "auto") -> list[Cost]:
    """The work left in each unit, without doing any of it but a trial batch where the encoder's speed is not known."""
    device = devices.resolve(device)
    past: dict[tuple[str, str, str], list[float]] = {}
    rows = store.rows()
    for row in rows.values():
        past.setdefault((row.cell.protocol, row.cell.labels, row.cell.target), []).append(row.cost["seconds"])
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
        solving = [past.get((planned.cell.protocol, planned.cell.labels, planned.cell.target)) for planned in todo]
        solve = sum(float(np.median(s)) for s in solving if s) if all(solving) else None
        found.append(Cost(unit, len(unit.cells), len(todo), views, embedded, seconds, solve))
    return found
