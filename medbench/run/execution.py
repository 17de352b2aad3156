"""Cells without a row -> rows.

The only file that knows the order of the stages; `fitting` does one protocol on one unit.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np

from medbench.data.evaluation_sets import EvaluationSet
from medbench.data.task_data import TaskData
from medbench.models.features import Features
from medbench.run import run_log
from medbench.run.fitting import PendingFit, RunContext, Saved, fit_and_score, pending_fits, scratch
from medbench.run.jobs import (
    LONGEST,
    Job,
    jobs_of,
    lacking,
    longest_first,
    preparing,
    sets_of,
    take,
)
from medbench.run.kept_weights import keep
from medbench.run.planning import plan as plan_grid
from medbench.run.plans import Plan
from medbench.run.prepare import have_features, task_pack, trained, unit_features
from medbench.run.run_log import log_file
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import (
    DiskError,
    Grid,
    PlannedCell,
    ProgressCallback,
    Protocol,
    Row,
    UserError,
    told,
)
from medbench.system import devices, memory
from medbench.system.contained_exit import exits_are_errors
from medbench.system.precision import products
from medbench.system.progress_listener import calling, user_callback

Work = list[tuple[Unit, list[PlannedCell]]]
log = logging.getLogger("medbench")


def run(
    grid: Grid,
    out: Path | str,
    *,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Plan a grid, compute the cells that have no row in `out` yet, and return the store.

    Parameters
    ----------
    grid : Grid
    out : path
        Results folder. It is made if missing; rows that are there stay.
    device : str
        "auto", "cpu", "cuda" or "cuda:1".
    progress : callable, optional
        progress(stage, done, total), called while it works. What it raises ends the run.
    on_row : callable
        on_row(row), called for each finished row. What it raises ends the run.

    Returns
    -------
    Store

    Raises
    ------
    UserError
        For wrong input, before any work.
    OSError, DiskError
        For a full or lost disk. The same call goes on where it stopped.

    Notes
    -----
    A cell that fails is recorded with its reason; the others go on.
    """
    store = Store(out)
    store.check()
    with calling(progress):
        return execute(plan_grid(grid), store, device=device, on_row=on_row)


def execute(
    plan: Plan,
    out: Path | Store,
    *,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Compute a plan's missing cells.

    See `run`. out: a store that was read before is not read again.
    """
    store = out if isinstance(out, Store) else Store(out)
    with calling(progress):
        context = begin(plan, store, device)
        work(context, user_callback(on_row))
    return store


def begin(plan: Plan, store: Store, device: str) -> RunContext:
    """Check, decode and write what comes before all cells.

    It is the same for every process of a run. Raises UserError.
    """
    for precision in dict.fromkeys(unit.precision for unit in plan.units):
        devices.check_device(device, precision)
    todo = _lacking(plan, store)
    store.check_crossed(plan.file)
    context = RunContext(
        plan, store, devices.resolve(device) if todo else device, store.failures_mark()
    )
    _decode_images(context, todo)
    store.create()
    store.add_plan(plan.file)
    _restore_targets(plan, store)
    return context


def work(context: RunContext, on_row: Callable[[Row], None], *, several: bool = False) -> None:
    """Take jobs until all of the plan's are done. Imports torch, where there are any.

    several: so do other processes of this run.
    """
    jobs = [
        job
        for unit, _ in _lacking(context.plan, context.store)
        for job in jobs_of(context.plan, unit)
    ]
    if jobs:
        _take_jobs(context, longest_first(jobs) if several else jobs, on_row)


def _lacking(plan: Plan, store: Store) -> Work:
    """Units with their cells that have no row, in the order in which they are computed."""
    asked = set(missing(plan, store, done=store.rows()))
    order = sorted(plan.units, key=lambda unit: reading_order(plan, unit))
    return [
        (unit, todo)
        for unit in order
        if (todo := [planned for planned in unit.cells if planned in asked])
    ]


def reading_order(plan: Plan, unit: Unit) -> tuple[object, ...]:
    """Return when a unit is computed.

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


def _decode_images(context: RunContext, work: Work) -> None:
    """Every image that will be needed, so that a bad one is named before anything is written."""
    plan = context.plan
    for unit, todo in work:
        for part, target in product(unit.members or (unit,), sets_of(plan, unit, todo)):
            if needs_images(plan, todo) or not have_features(plan, part, context.device, target):
                task_pack(part.data, part.encoder, plan.cache_dir, target)


def _take_jobs(context: RunContext, jobs: Sequence[Job], on_row: Callable[[Row], None]) -> None:
    """Job after job, each held while it is worked on, and left to whoever holds it already.

    Imports torch.
    """
    # an encoder that is to compute less exactly says so itself
    with log_file(context.store.folder / run_log.FILE), products("fp32"):
        take(jobs, _Attempts(context, jobs, on_row).attempt)


class _Attempts:
    """What one process knows of the jobs that several take.

    Asking a network disk of each would take longer than many a job.
    """

    def __init__(self, context: RunContext, jobs: Sequence[Job], on_row: Callable[[Row], None]):
        self.context, self.on_row = context, on_row
        self.mark = context.store.rows_mark()
        done = context.store.rows().keys() | context.store.failed_since(context.since)
        self.lacking = {
            job.name: [one.fingerprint for one in job.cells if one.fingerprint not in done]
            for job in jobs
        }
        # unit, and whether on pixels -> what it needs that others train or embed
        self.needs: dict[tuple[int, bool], list[str]] = {}
        self.held: dict[str, float] = {}  # of that, and of jobs -> when to look again
        self.looked = 0.0

    def attempt(self, job: Job) -> bool:
        """Whether the job is done, by this process or another.

        False where another one is at it, or at what it needs.
        """
        context, now, kind = self.context, time.monotonic(), (id(job.unit), job.pixels)
        if now - self.looked > LONGEST:
            context.store.look()
            self.looked = now
        if context.store.settled(self.lacking[job.name], self.mark, context.since):
            return True
        if any(self.held.get(name, 0.0) > now for name in (job.name, *self.needs.get(kind, ()))):
            return False
        with context.store.attempting(job.name) as mine:
            if mine and (todo := context.todo(job)):  # whoever held it before has finished some
                self.needs[kind] = names = lacking(context.plan, job, todo, context.device)
                with preparing(context.plan.cache_dir, names) as free:
                    if free:
                        context.at_work(job)
                    prepared = _prepare(context, job, todo) if free else None
                if not free:
                    self.held.update(dict.fromkeys(names, time.monotonic() + LONGEST))
                    return False
                if prepared:
                    _solve(context, *prepared, self.on_row)
                # for the next unit's blocks of other sizes, and for others who use this GPU
                memory.release()
                self.looked = 0.0
        if not mine:
            self.held[job.name] = now + LONGEST
        return mine


def compute(
    context: RunContext, job: Job, todo: Sequence[PlannedCell], on_row: Callable[[Row], None]
) -> None:
    """Compute these cells of a job, which nobody else is at. Imports torch."""
    with products("fp32"):
        prepared = _prepare(context, job, todo)
        if prepared:
            _solve(context, *prepared, on_row)


def _solve(
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


def _prepare(
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
    for row, arrays in rows:
        if context.store.add(row, arrays):
            log.info("row %s", row.cell)
            on_row(row)
        else:
            log.info("another process made the row meanwhile: %s", row.cell)
        if context.plan.keep_weights and row.fingerprint == fit.first.fingerprint:
            keep(context.plan.cache_dir, row, folder, context.device)
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
    for planned in cells:
        store.fail(planned, " ".join(told(error).split())[:500])


def needs_images(plan: Plan, todo: Sequence[PlannedCell]) -> bool:
    """Return whether one of the cells trains on pixels."""
    return any(plan.protocols[planned.cell.protocol].needs == "images" for planned in todo)


def _restore_targets(plan: Plan, store: Store) -> None:
    """Save scored sets of finished rows anew, where they were lost or damaged.

    Where the folder keeps predictions, which they belong to.
    """
    rows = {str(row.provenance["target"]): row for row in store.rows().values()}
    sets = {
        target.file: (unit.data, target)
        for unit in plan.units
        for target in plan.targets_of(unit.data)
    }
    for name, (data, target) in sets.items():
        if name in rows and "probabilities" in store.arrays(rows[name]):
            save_target(data, target, store)


def save_target(data: TaskData, target: EvaluationSet, store: Store) -> None:
    """Save what is known of the scored set, once for all rows that share it.

    Groups, which are patients' names often, become numbers in the order of their names: resamples,
    which go by that order, stay as they are. One numbering serves all scored sets of a task, and
    its other parts.
    """
    split = target.examples.split
    names = np.unique(
        np.concatenate([split.groups, *(part.groups for part in data.parts.values())])
    )
    groups = np.searchsorted(names, split.groups)
    store.add_target(target.file, split.ids, split.labels, groups, bags=split.bags, meta=split.meta)
