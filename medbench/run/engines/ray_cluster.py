"""A run on a Ray cluster: one remote task a job.

Rows come back to this process, which alone writes; nodes need share no disk with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medbench import images
from medbench.run import execution, job_steps, run_log, scored_sets
from medbench.run.engines.assignment import telling_warnings
from medbench.run.engines.contents import Desk, Elsewhere, files_of, made_of, packs_of
from medbench.run.engines.local import Begun, Told
from medbench.run.jobs import Job, jobs_of, lacking
from medbench.run.plans import Plan
from medbench.run.prepare import task_pack
from medbench.run.run_context import RunContext
from medbench.run.store import Store
from medbench.schema import PlannedCell, Progress, ProgressCallback, Row, UserError
from medbench.system.progress_listener import (
    calling,
    listening,
    report_progress,
    speaking_for,
    user_callback,
)

#: Times that Ray begins a task again whose node or process died.
TRIES = 5
#: Seconds between two looks at what tasks tell.
LOOK = 0.5
log = logging.getLogger("medbench")


class RowsAway(Store):
    """The results folder of a run elsewhere: what is written here is sent there."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.made: list[tuple[Row, Mapping[str, np.ndarray]]] = []
        self.failed: list[tuple[PlannedCell, str]] = []

    def has(self, fingerprint: str) -> bool:
        """Return whether a row of this fingerprint was made here."""
        return any(row.fingerprint == fingerprint for row, _ in self.made)

    def add(self, row: Row, arrays: Mapping[str, np.ndarray]) -> bool:
        """Hold a finished row and its arrays for the run's own process; always True."""
        self.made.append((row, arrays))
        return True

    def fail(self, planned: PlannedCell, reason: str) -> None:
        """Keep a failed cell and its reason for the run's own process."""
        self.failed.append((planned, reason))

    def keep_target(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Do nothing: the run's own process saves the scored sets."""


@dataclass(frozen=True)
class Answer:
    """What a task made of its job."""

    rows: Sequence[tuple[Row, Mapping[str, np.ndarray]]]
    failures: Sequence[tuple[PlannedCell, str]]


def compute(
    plan: Plan, number: int, todo: Sequence[str], folder: Path, device: str, desk: Any
) -> Answer:
    """Do a task's work, on its node.

    number: of the job among all of the plan. todo: fingerprints of its cells that have no row.
    folder: the results folder, on the machine of the run.
    """
    import ray

    elsewhere = Elsewhere(
        images.cache_folder(), lambda method, *args: ray.get(getattr(desk, method).remote(*args))
    )
    here = elsewhere.plan(plan)
    job = every_job(here)[number]
    cells = [planned for planned in job.cells if planned.fingerprint in set(todo)]
    tell = partial(desk.tell.remote, number)
    tell(Begun(job.name, str(job)))
    store = RowsAway(folder)
    with listening(tell), telling_warnings(lambda line: tell(Told(line))):
        made = made_of(here, job, cells, device)
        for one in made:
            elsewhere.fetch(one)
        if job.pixels or lacking(here, job, cells, device):
            for one in packs_of(here, job, cells):
                elsewhere.fetch(one)
        job_steps.compute(RunContext(here, store, device), job, cells, lambda row: None)
        for one in made:
            elsewhere.hand_back(one)
    return Answer(store.made, store.failed)


def every_job(plan: Plan) -> list[Job]:
    """Return all jobs of a plan, in an order that is the same wherever the plan is."""
    return [job for unit in plan.units for job in jobs_of(plan, unit)]


def execute(
    plan: Plan,
    store: Store,
    *,
    address: str | None = None,
    gpus: int = -1,
    progress: ProgressCallback | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Run `execution.execute` on a Ray cluster of which this machine is a node; return the store.

    address: of the cluster; None: "auto". gpus: of each job; -1: 1 where the cluster has any.
    progress, on_row: as of `execution.run`. A job whose node died is begun again on another one.
    Raises UserError where there is no cluster, or it has no GPU that is asked for.
    """
    ray = _connected(address)
    each = gpus if gpus >= 0 else int(ray.cluster_resources().get("GPU", 0) > 0)
    if each and not ray.cluster_resources().get("GPU", 0):
        raise UserError(
            f"The Ray cluster has no GPU, and --gpus {each} asks for {each} a job.", then="--gpus 0"
        )
    device = "cuda" if each else "cpu"
    with calling(progress):
        context = execution.begin(plan, store, "cpu")
        context = replace(context, device=device)
        jobs = [job for job in every_job(plan) if context.todo(job)]
        if jobs:
            for data in plan.tasks:
                for target in plan.targets_of(data):
                    scored_sets.save_target(data, target, store)
            with run_log.log_file(store.folder / run_log.FILE):
                _Driver(ray, context, each, user_callback(on_row)).run(jobs)
    return store


def _connected(address: str | None) -> Any:
    """Ray, joined to the cluster. Raises UserError."""
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs Ray.", then="pip install 'medbench[ray]'") from None
    if address and address.startswith("ray://"):
        raise UserError(
            f"--address {address} is that of a client, whose cache the nodes cannot ask.",
            then="run on a node of the cluster, without --address",
        )
    if not ray.is_initialized():
        try:
            ray.init(address=address or "auto", logging_level=logging.ERROR, log_to_driver=False)
        except ConnectionError as error:
            raise UserError(
                f"There is no Ray cluster at {address or 'this machine'} ({error}).",
                then="ray start --head, or --address HOST:PORT",
            ) from error
    return ray


@dataclass(eq=False)
class _Driver:
    """The one process that writes.

    running: task -> its job and what it trains or embeds for others, too.
    """

    ray: Any
    context: RunContext
    gpus: int
    on_row: Callable[[Row], None]
    running: dict[Any, tuple[Job, list[str]]] = field(default_factory=dict)

    def run(self, jobs: Sequence[Job]) -> None:
        ray, plan = self.ray, self.context.plan
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        desk = (
            ray.remote(Desk)
            .options(num_cpus=0, scheduling_strategy=here)
            .remote(plan.cache_dir, files_of(plan))
        )
        numbers = {job.name: number for number, job in enumerate(every_job(plan))}
        shared, left = ray.put(plan), list(jobs)
        task = ray.remote(compute).options(
            num_cpus=1, num_gpus=self.gpus, max_retries=TRIES, scheduling_strategy="SPREAD"
        )
        try:
            while left or self.running:
                for job in list(left):
                    todo = self.context.todo(job)
                    names = lacking(plan, job, todo, self.context.device) if todo else []
                    if todo and any(
                        name in busy for _, busy in self.running.values() for name in names
                    ):
                        continue  # it takes what another one is making
                    left.remove(job)
                    if todo:
                        if names or job.pixels:
                            self._pack(job, todo)
                        keys = [planned.fingerprint for planned in todo]
                        args = (
                            shared,
                            numbers[job.name],
                            keys,
                            self.context.store.folder.absolute(),
                            self.context.device,
                            desk,
                        )
                        self.running[task.remote(*args)] = (job, names)
                done, _ = ray.wait(list(self.running), num_returns=1, timeout=LOOK)
                for one in ray.get(desk.heard.remote()):
                    self._take(*one)
                for reference in done:
                    self._end(reference)
        finally:
            for reference in self.running:
                ray.cancel(reference, force=True)
            ray.kill(desk)

    def _pack(self, job: Job, todo: Sequence[PlannedCell]) -> None:
        """Images are decoded here, where they are."""
        for part in job.unit.members or (job.unit,):
            for target in (
                (None, *self.context.plan.targets_of(part.data))
                if part.encoder.kind != "features"
                else ()
            ):
                if target is None or (
                    target.apart and any(planned.cell.target == target.name for planned in todo)
                ):
                    task_pack(part.data, part.encoder, self.context.plan.cache_dir, target)

    def _take(self, number: int, message: Any) -> None:
        with speaking_for(number):
            if isinstance(message, Progress):
                report_progress(
                    message.stage, message.done, message.total, message.unit, message.detail
                )
            elif isinstance(message, Told):
                log.warning("%s", message.line)
            elif isinstance(message, Begun):
                log.info("begun: %s", message.words)

    def _end(self, reference: Any) -> None:
        """Write what a task made, or that it could not."""
        job, _ = self.running.pop(reference)
        store = self.context.store
        try:
            answer: Answer = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if isinstance(cause, UserError | OSError):  # of the run, not of the job
                raise cause from None
            raise
        except self.ray.exceptions.RayError as error:
            log.exception("%s was lost", job)
            for planned in self.context.todo(job):
                store.fail(
                    planned,
                    " ".join(
                        f"its process died {TRIES + 1} times: {type(error).__name__}: {error}".split()
                    )[:500],
                )
            return
        for row, arrays in answer.rows:
            if store.add(row, arrays):
                log.info("row %s", row.cell)
                self.on_row(row)
        for planned, reason in answer.failures:
            if not store.has(planned.fingerprint):
                store.fail(planned, reason)
