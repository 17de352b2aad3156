"""Cells without a row -> rows.

The only file that knows the order of the stages; `fitting` does one protocol on one unit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from medbench.run import job_steps, run_log
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
from medbench.run.missing_cells import Work, lacking_work, needs_images
from medbench.run.planning import plan as plan_grid
from medbench.run.plans import Plan
from medbench.run.prepare import have_features, task_pack
from medbench.run.run_context import RunContext
from medbench.run.run_log import log_file
from medbench.run.scored_sets import restore_targets
from medbench.run.store import Store
from medbench.schema import (
    Grid,
    ProgressCallback,
    Row,
)
from medbench.system import devices, memory
from medbench.system.precision import products
from medbench.system.progress_listener import calling, user_callback

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
        plan = plan_grid(grid)
        store.give_up_failed(plan.file)
        return execute(plan, store, device=device, on_row=on_row)


def execute(
    plan: Plan,
    out: Path | Store,
    *,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Compute a plan's missing cells, and return the store.

    out: a folder, or a store; one that was read before is not read again. device, progress, on_row
    and errors: as of `run`.
    """
    store = out if isinstance(out, Store) else Store(out)
    with calling(progress):
        context = begin(plan, store, device)
        work(context, user_callback(on_row))
    return store


def begin(plan: Plan, store: Store, device: str) -> RunContext:
    """Check, decode and write what comes before all cells.

    Devices are checked, images packed and the plan is added to the folder, which is made. The same
    for every process of a run. Raises UserError as `run` does.
    """
    for precision in dict.fromkeys(unit.precision for unit in plan.units):
        devices.check_device(device, precision)
    todo = lacking_work(plan, store)
    store.check_crossed(plan.file)
    context = RunContext(
        plan, store, devices.resolve(device) if todo else device, store.failures_mark()
    )
    _decode_images(context, todo)
    store.create()
    store.add_plan(plan.file)
    restore_targets(plan, store)
    return context


def work(context: RunContext, on_row: Callable[[Row], None], *, several: bool = False) -> None:
    """Take jobs until all of the plan's are done by somebody.

    several: so do other processes of this run. on_row: is called with each row that is finished
    here. Imports torch, where there is a job.
    """
    jobs = [
        job
        for unit, _ in lacking_work(context.plan, context.store)
        for job in jobs_of(context.plan, unit)
    ]
    if jobs:
        _take_jobs(context, longest_first(jobs) if several else jobs, on_row)


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
                    prepared = job_steps.prepare(context, job, todo) if free else None
                if not free:
                    self.held.update(dict.fromkeys(names, time.monotonic() + LONGEST))
                    return False
                if prepared:
                    job_steps.solve(context, *prepared, self.on_row)
                # for the next unit's blocks of other sizes, and for others who use this GPU
                memory.release()
                self.looked = 0.0
        if not mine:
            self.held[job.name] = now + LONGEST
        return mine
