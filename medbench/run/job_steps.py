"""A job's cells -> rows: its weights and features made, then fit after fit, scored and saved.

What fails is recorded with its reason, and the rest goes on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from medbench.models.features import Features
from medbench.protocols.finetune import recipe_of
from medbench.run.fitting import PendingFit, Saved, fit_and_score, pending_fits, scratch
from medbench.run.jobs import Job, sets_of
from medbench.run.kept_weights import keep
from medbench.run.missing_cells import missing
from medbench.run.prepare import have_features, trained, unit_features
from medbench.run.run_context import RunContext
from medbench.run.scored_sets import save_target
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import DiskError, PlannedCell, Protocol, Row, UserError, registry, told
from medbench.system.contained_exit import exits_are_errors
from medbench.system.precision import products

log = logging.getLogger("medbench")


def compute(
    context: RunContext, job: Job, todo: Sequence[PlannedCell], on_row: Callable[[Row], None]
) -> None:
    """Compute cells of a job that no other process is at. Imports torch.

    todo: those without a row. on_row: is called with each finished row. A cell that fails is
    recorded in the store, and the others go on.
    """
    with products("fp32"):
        prepared = prepare(context, job, todo)
        if prepared:
            solve(context, *prepared, on_row)


def solve(
    context: RunContext,
    unit: Unit,
    features: Sequence[Features],
    todo: Sequence[PlannedCell],
    on_row: Callable[[Row], None],
) -> None:
    """Fit, score and save these cells of a unit that is ready for them."""
    fits = pending_fits(unit, todo)
    for name in dict.fromkeys(planned.cell.protocol for planned in todo):
        _run_fits(
            context,
            unit,
            context.plan.protocols[name],
            [fit for fit in fits if fit.first.cell.protocol == name],
            features,
            on_row,
        )


def prepare(
    context: RunContext, job: Job, todo: Sequence[PlannedCell]
) -> tuple[Unit, Sequence[Features], Sequence[PlannedCell]] | None:
    """Return the unit with weights on disk, what it is solved on, and the cells that can be.

    None where all of them failed.
    """
    plan, unit, device = context.plan, job.unit, context.device
    for target in plan.targets_of(unit.data):
        save_target(unit.data, target, context.store)
    with _surviving() as caught:
        if job.pixels or not all(
            have_features(plan, unit, device, target) for target in sets_of(plan, unit, todo)
        ):
            unit = trained(plan, unit, device)
    for error in caught:  # nobody begins that training again for another of the unit's cells
        _record(context.store, unit.name, missing(plan, context.store, unit), error)
    if caught or job.pixels:
        return None if caught else (unit, (), todo)
    features: Sequence[Features] = ()
    with _surviving() as caught:
        features = unit_features(plan, unit, device)
    for error in caught:
        _record(context.store, unit.name, todo, error)
    return None if caught else (unit, features, _embed_apart(context, unit, todo))


def _embed_apart(context: RunContext, unit: Unit, todo: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Make the features of sets that lie apart: each fit that found them lacking would try again.

    Returns the cells that can still be computed.
    """
    left = list(todo)
    for apart in sets_of(context.plan, unit, todo)[1:]:
        assert apart is not None, "the task's own set comes first"
        with _surviving() as caught:
            unit_features(context.plan, unit, context.device, apart)
        for error in caught:
            cells = [planned for planned in todo if planned.cell.target == apart.name]
            _record(context.store, f"{unit.name} on {apart.name}", cells, error)
            left = [planned for planned in left if planned not in cells]
    return left


def _run_fits(
    context: RunContext,
    unit: Unit,
    protocol: Protocol,
    fits: list[PendingFit],
    features: Sequence[Features],
    on_row: Callable[[Row], None],
) -> None:
    """Fit, score and save, fit after fit.

    One that fails is recorded, and the protocol is asked for the rest again.
    """
    while fits:
        left = list(fits)
        with _surviving() as caught:
            for fit, rows in fit_and_score(context, unit, protocol, fits, features):
                _save_rows(context, fit, rows, on_row)
                del left[0]
        for error in caught:
            # of the features, which all fits share, or of one fit
            failing = left if isinstance(error, UserError) else left[:1]
            cells = [
                planned
                for fit in failing
                for planned in fit.missing
                if not context.store.has(planned.fingerprint)
            ]
            _record(
                context.store,
                str(failing[0].first.cell) if failing else f"{unit.name} {protocol.name}",
                cells,
                error,
            )
            left = left[len(failing) :]
        fits = left


def _save_rows(
    context: RunContext, fit: PendingFit, rows: Iterator[Saved], on_row: Callable[[Row], None]
) -> None:
    folder = scratch(context, fit)
    protocol = context.plan.protocols[fit.first.cell.protocol]
    keeps = context.plan.keep_weights and recipe_of(protocol) is not None
    for row, arrays in rows:
        if keeps:  # before the row is there: a run that is killed between them makes it again
            keep(context.plan.cache_dir, fit.first.fingerprint, row, folder, context.device)
            keeps = False
        if context.store.add(row, arrays):
            log.info("row %s", row.cell)
            on_row(row)
        else:
            log.info("another process made the row meanwhile: %s", row.cell)
    # its rows are on disk: nothing to go on from
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _surviving() -> Iterator[list[Exception]]:
    """Put a failure inside, whatever it is, into the list: others may still work.

    Out of memory, a size the encoder cannot take, somebody else's module. A full disk or a lost
    mount ends the run: nothing else would work either.
    """
    caught: list[Exception] = []
    try:
        with exits_are_errors():
            yield caught
    except (OSError, DiskError):
        raise
    except Exception as error:
        caught.append(error)


def _record(store: Store, name: str, cells: Collection[PlannedCell], error: Exception) -> None:
    """Log the whole story of a failure, and keep its reason for each of the cells."""
    log.error("%s failed", name, exc_info=error)
    own = registry.own_line(error)
    reason = " ".join(told(error).split())[:500] + (f" ({own})" if own else "")
    for planned in cells:
        store.fail(planned, reason)
