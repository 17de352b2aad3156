"""What a process that takes part in a run is given.

The grid, which it plans anew, and the folder that all of them write into.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medbench.run import execution, presence
from medbench.run.engines.sharding import Shard
from medbench.run.jobs import Job
from medbench.run.planning import plan
from medbench.run.plans import Plan
from medbench.run.run_context import RunContext
from medbench.run.store import Store
from medbench.schema import Grid, Row, UserError, fingerprint, told
from medbench.system import devices

log = logging.getLogger("medbench")


@dataclass(frozen=True)
class Assignment:
    """Hold what a worker needs to take part in a run.

    cells: `cells_hash` of the plan that whoever began the run has made. since: see
    `Store.failures_mark`. packed: that plan, where it can be sent to another process; else it is
    made again there, which examines a user's own encoders again.
    """

    grid: Grid
    folder: Path
    cells: str
    since: int
    shard: Shard | None = None
    packed: bytes = b""

    def planned(self) -> Plan:
        """Return the plan.

        Raises UserError where it is another one here.
        """
        made = _unpacked(self.packed)
        if made is None:
            made = plan(self.grid)
            made = self.shard.of(made) if self.shard else made
        if cells_hash(made) != self.cells:
            raise UserError(
                "A worker plans other cells than the run that it is part of: it sees other data, weights or another medbench.",
                then="run again, once nothing is changed any more",
            )
        return made

    def work(
        self, device: str, at_work: Callable[[Job], None], on_row: Callable[[Row], None]
    ) -> None:
        """Compute jobs of the run on `device` until none is left.

        at_work: called with each job that begins; on_row: with each finished row. Raises UserError
        for a device that is missing.
        """
        made = self.planned()
        devices.check_device(device)
        with presence.present(self.folder, device) as begins:

            def begun(job: Job) -> None:
                begins(str(job))
                at_work(job)

            execution.work(
                RunContext(made, Store(self.folder), devices.resolve(device), self.since, begun),
                on_row,
                several=True,
            )


def packed(made: Plan) -> bytes:
    """Pack a plan for another process on this machine, as pickle.

    b"" where it holds what only this process knows, as a task that was defined in a script.
    """
    try:
        found = pickle.dumps(made)
    except Exception:  # a user's own object fails in its own way
        return b""
    return b"" if b"__main__" in found else found


def _unpacked(found: bytes) -> Plan | None:
    try:
        return pickle.loads(found) if found else None  # of the process that started this one
    except Exception as error:  # what it needs cannot be imported here
        log.info("the plan is made again: it cannot be read here (%s)", error)
        return None


def cells_hash(made: Plan) -> str:
    """Return 64 hex digits that name the cells of a plan, in their order."""
    return fingerprint([planned.fingerprint for planned in made.cells])


@contextmanager
def telling_warnings(tell: Callable[[str], None]) -> Iterator[None]:
    """Also call `tell` with a line for whatever is logged inside as a warning or a failure."""
    handler = _Told(tell)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Told(logging.Handler):
    def __init__(self, tell: Callable[[str], None]):
        super().__init__(logging.WARNING)
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.tell(f"{record.getMessage()}{f': {told(error)}' if error else ''}")
