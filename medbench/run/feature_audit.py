"""What the encoders of a grid know of a task's metadata.

The features of a plan, handed to `audit.features`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medbench.audit.features.metadata_survey import chosen_columns, survey
from medbench.audit.features.report import Examined
from medbench.data.asked_task import as_asked
from medbench.protocols._features import check_finite
from medbench.run import planning, prepare
from medbench.schema import Grid, Note, UserError
from medbench.system import devices


def audit_features(
    grid: Grid, columns: Sequence[str], part: str, k: int, device: str
) -> tuple[list[Examined], list[Note]]:
    """Measure what each encoder of the grid (one task) knows of columns of its metadata.

    part: whose images are looked at. k: as `audit.features.survey` takes it. Returns what was found
    for each encoder, and the plan's notes. Features come from the cache or are made now. Raises
    UserError for everything that `run.plan` refuses, for a task without metadata, an unknown column
    or part, and a fusion.
    """
    devices.check_device(device, grid.precision)
    plan = planning.plan(grid)
    data = plan.tasks[0]
    if part not in data.parts:
        raise UserError(
            f"Task '{data.task.name}' has no {part} part.",
            allowed=list(data.parts),
            then=f"medbench shortcuts {as_asked(data.task.name, grid.tasks)} --on train",
        )
    split = data.parts[part]
    named = chosen_columns(split, columns, data.task.name)
    fused = [unit.method.name for unit in plan.units if unit.members]
    if fused:
        raise UserError(
            f"'{fused[0]}' fuses several encoders: there is no one set of features.",
            then="medbench shortcuts with its members as --methods",
        )
    device = devices.resolve(device)
    examined = []
    for unit in plan.units:
        if not prepare.have_features(plan, unit, device):
            unit = prepare.trained(plan, unit, device)
        (features,) = prepare.unit_features(plan, unit, device)
        here = np.asarray(features.array[data.where(part)])
        check_finite({part: here})
        found = survey(here, split, data.task.kind, data.task.classes, named, k=k, device=device)
        encoder = unit.encoder
        about = (
            data.task.name,
            data.data,
            unit.method.name,
            unit.source,
            unit.weights.name,
            encoder.name,
            encoder.readout,
            encoder.size,
        )
        examined.append(Examined(*about, len(split), tuple(found)))
    return examined, list(plan.notes)
