"""Several workers on this machine, one device each, that take the jobs of one run.

This process shows them, and computes nothing itself.
"""

from __future__ import annotations

import logging
import queue
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medbench.run import execution, run_log
from medbench.run.engines.assignment import Assignment, cells_hash, packed, telling_warnings
from medbench.run.engines.sharding import Shard
from medbench.run.jobs import Job, jobs_of
from medbench.run.plans import Plan
from medbench.run.run_context import RunContext
from medbench.run.store import Store
from medbench.schema import DiskError, Grid, Progress, ProgressCallback, Row, UserError
from medbench.system import child_process, fork_server, locks
from medbench.system.child_process import ChildProcess
from medbench.system.devices import resolve
from medbench.system.fork_server import ForkServer
from medbench.system.progress_listener import (
    calling,
    listening,
    report_progress,
    speaking_for,
    user_callback,
)

log = logging.getLogger("medbench")


@dataclass(frozen=True)
class Begun:
    """A worker has begun a job."""

    name: str
    words: str


@dataclass(frozen=True)
class Told:
    """A line for the screen; the worker has written the whole story into the log."""

    line: str


@dataclass(frozen=True)
class Finished:
    """A row is on disk."""

    fingerprint: str


@dataclass(frozen=True)
class Ended:
    """A worker has nothing left to do, or cannot go on, and nobody else could."""

    error: Exception | None = None


def execute(
    grid: Grid,
    plan: Plan,
    store: Store,
    devices: Sequence[str],
    *,
    shard: Shard | None = None,
    given: Assignment | None = None,
    progress: ProgressCallback | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Run `execution.execute` in several workers, one for each of `devices`; return the store.

    plan: of the grid, or of its shard. given: where this run is a part of another one's. progress,
    on_row: as of `execution.run`.

    A worker that dies is told and started again; not where it had finished nothing since it was
    started again before. A job at which two workers died has failed. Raises UserError where locks
    in the folder keep nobody out, or no worker is left.
    """
    with calling(progress):
        context = execution.begin(plan, store, devices[0])
        context = replace(context, since=given.since) if given else context
        check_locks(store.folder)
        todo = {
            job.name: job for unit in plan.units for job in jobs_of(plan, unit) if context.todo(job)
        }
        if todo:
            assignment = given or Assignment(
                grid, store.folder.absolute(), cells_hash(plan), context.since, shard
            )
            assignment = replace(assignment, packed=packed(plan))
            with run_log.log_file(store.folder / run_log.FILE):
                Crew(context, assignment, devices, todo, user_callback(on_row)).run()
    return store


def check_locks(folder: Path) -> None:
    """Raise DiskError where two processes could write into a folder at once."""
    if not locks.exclude(folder):
        raise DiskError(
            f"{folder} lies on a disk whose file locks keep nobody out: two processes would write into one file.",
            then="name a folder on another disk (--out), or give each process a part and a folder of its own (--shard 1/2 --out A, --shard 2/2 "
            "--out B) and join them (medbench merge A B --out C)",
        )


def serve(given: tuple[Assignment, str], tell: Callable[[Any], None]) -> None:
    """Do what a worker does; called in its process.

    given: the assignment and the device. tell: is called with `Begun`, `Told`, `Finished` and at
    last `Ended`.
    """
    assignment, device = given
    try:
        with listening(tell), telling_warnings(lambda line: tell(Told(line))):
            assignment.work(
                device,
                lambda job: tell(Begun(job.name, str(job))),
                lambda row: tell(Finished(row.fingerprint)),
            )
    except (UserError, OSError) as error:
        plain = (
            OSError(error.errno, error.strerror, error.filename)
            if isinstance(error, OSError)
            else error
        )
        tell(Ended(plain))
    else:
        tell(Ended())


class _Worker:
    """A place at work. fruitless: deaths since its last row."""

    def __init__(self, number: int, device: str):
        self.number, self.device = number, device
        self.child: ChildProcess | None = None
        self.job: Begun | None = None
        self.fruitless = 0

    def __str__(self) -> str:
        return f"worker {self.number + 1} ({self.device})"


class Crew:
    """The workers of one run."""

    def __init__(
        self,
        context: RunContext,
        assignment: Assignment,
        devices: Sequence[str],
        jobs: dict[str, Job],
        on_row: Callable[[Row], None],
    ):
        self.context, self.assignment, self.jobs, self.on_row = context, assignment, jobs, on_row
        self.heard: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self.workers = [
            _Worker(number, device) for number, device in enumerate(devices[: len(jobs)])
        ]
        # of those asked for, however few jobs are left: a row's last digits follow the threads, and
        # must not depend on how often the run was interrupted
        self.threads = child_process.threads_each(len(devices))
        self.said = context.store.folder / run_log.FILE
        self.server: ForkServer | None = None
        self.deaths: Counter[str] = Counter()
        self.last = ""

    def run(self) -> None:
        """Run the jobs until every worker has ended.

        Raises UserError where work is left, as all have died.
        """
        with ExitStack() as ending:
            ending.callback(self._end_all)
            if fork_server.possible([resolve(one.device) for one in self.workers]):
                self.server = ending.enter_context(
                    ForkServer(_imports(self.context.plan), self.said, self.threads)
                )
            for worker in self.workers:
                self._start(worker)
            while any(worker.child for worker in self.workers):
                number, message = self.heard.get()
                with speaking_for(number):
                    self._take(self.workers[number], message)
        left = [job for job in self.jobs.values() if self.context.todo(job)]
        if left:
            raise UserError(
                f"Every worker died, and {len(left)} pieces of work are left. The last worker {self.last}.",
                then=f"see {self.said}; run again with fewer workers, or without --workers",
            )

    def _end_all(self) -> None:
        for worker in self.workers:
            if worker.child:
                worker.child.end()

    def _start(self, worker: _Worker) -> None:
        alive = self.server is not None and self.server.alive()
        process = (
            self.server.copy()
            if self.server and alive
            else child_process.interpreter(self.said, self.threads)
        )
        given = (self.assignment, worker.device)
        worker.child = ChildProcess(worker.number, process, serve, given, self.heard)
        worker.job = None

    def _take(self, worker: _Worker, message: Any) -> None:
        if isinstance(message, Progress):
            report_progress(
                message.stage, message.done, message.total, message.unit, message.detail
            )
        elif isinstance(message, Begun):
            worker.job = message
        elif isinstance(message, Finished):
            worker.fruitless = 0
            self.on_row(self.context.store.row(message.fingerprint))
        elif isinstance(message, Told):
            log.warning("%s", message.line, extra={"told": True})
        elif isinstance(message, Ended):
            self._end(worker)
            if message.error:
                raise message.error
        elif worker.child:  # it ended without a word
            self._mourn(worker)

    def _end(self, worker: _Worker) -> int:
        assert worker.child is not None
        worker.child.end()
        code, worker.child = worker.child.process.wait(), None
        return code

    def _mourn(self, worker: _Worker) -> None:
        """Tell what died at what.

        Give the job up that two workers died at, and the worker that dies again and again.
        """
        assert worker.child is not None
        how, job = child_process.how_it_ended(worker.child.process.wait()), worker.job
        self._end(worker)
        self.last = f"{how} at {job.words if job else 'its start'}"
        worker.fruitless += 1
        known = False
        if job:
            self.deaths[job.name] += 1
            known = self.deaths[job.name] == 2
        if known and job:
            for planned in self.context.todo(self.jobs[job.name]):
                self.context.store.fail(
                    planned, f"a worker process {how}, for the second time at this work"
                )
        again = worker.fruitless < 2 or known
        log.warning(
            "%s %s%s",
            worker,
            self.last,
            ": it is started again" if again else ", again: it is not started a third time",
        )
        if again:
            self._start(worker)


def _imports(plan: Plan) -> list[str]:
    """Return what workers on this plan import, as soon as they compute."""
    parts = [part for unit in plan.units for part in unit.members or (unit,)]
    own = all(part.encoder.kind in ("function", "features") for part in parts)
    return [__name__, "torch", *([] if own else ["timm"])]


def devices_of(device: str, devices: str, workers: str) -> list[str]:
    """Return the device of each worker, from the texts of --device, --devices and --workers.

    One where neither of the last two is given. Raises UserError for a device or number that is
    none, and for options that do not go together.
    """
    if device != "auto" and devices:
        raise UserError(
            "--device and --devices both say where to compute.",
            then="--devices cuda:0,cuda:1, a worker each",
        )
    named = (
        []
        if not devices
        else _gpus() or ["cpu"]
        if devices.strip() == "auto"
        else [name.strip() for name in devices.split(",")]
    )
    if not named and not workers:
        return [device]
    places = named or ([device] if device != "auto" else _gpus() or ["cpu"])
    count = len(places) if workers.strip() in ("", "auto") else _count(workers.strip())
    return [places[i % len(places)] for i in range(count)]


def _count(workers: str) -> int:
    if not workers.isdigit() or not 1 <= int(workers) <= 1024:
        raise UserError(
            f"--workers '{workers}' is not a number of processes.",
            allowed=["auto", "1 to 1024"],
            given=workers,
        )
    return int(workers)


def _gpus() -> list[str]:
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
