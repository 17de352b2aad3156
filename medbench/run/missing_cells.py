"""Which cells of a plan have no row yet, and the order in which they are computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from medbench.run.plans import Plan
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import PlannedCell

Work = list[tuple[Unit, list[PlannedCell]]]


def lacking_work(plan: Plan, store: Store) -> Work:
    """Return the units with cells that have no row, in the order in which they are computed.

    (unit, those of its cells) each.
    """
    asked = set(missing(plan, store, done=store.rows()))
    order = sorted(plan.units, key=lambda unit: reading_order(plan, unit))
    return [
        (unit, todo)
        for unit in order
        if (todo := [planned for planned in unit.cells if planned in asked])
    ]


def reading_order(plan: Plan, unit: Unit) -> tuple[object, ...]:
    """Return a key by which units are sorted to the order of work.

    Task after task; first the control, then what need not be trained, then by the views of a
    training and how many an image has, fusions last. A reader has the rows to compare with at once.
    No row depends on it.
    """
    task = [data.task.name for data in plan.tasks].index(unit.data.task.name)
    views = sum(recipe.views for recipe in unit.recipes)
    an_image = max((sum(crop.count for crop in recipe.crops) for recipe in unit.recipes), default=0)
    return task, bool(unit.members), views, an_image, unit.source != "none"


def missing(
    plan: Plan, store: Store, unit: Unit | None = None, done: Collection[str] | None = None
) -> list[PlannedCell]:
    """Return the planned cells (of a unit, or of all) without a row of their fingerprint.

    done: the fingerprints of the store's rows, where they are at hand.
    """
    cells = (unit or plan).cells
    if done is None:
        return [planned for planned in cells if not store.has(planned.fingerprint)]
    return [planned for planned in cells if planned.fingerprint not in done]


def needs_images(plan: Plan, todo: Sequence[PlannedCell]) -> bool:
    """Return whether one of the cells trains on pixels."""
    return any(plan.protocols[planned.cell.protocol].needs == "images" for planned in todo)
