"""What a process that takes part in a run is given: the grid, which it plans anew, and the folder that all of them write into."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medbench.run import execution, presence
from medbench.run.engines.sharding import Shard
from medbench.run.fitting import RunContext
from medbench.run.jobs import Job
from medbench.run.planning import Plan, plan
from medbench.run.store import Store
from medbench.schema import Grid, Row, UserError, fingerprint, told
from medbench.system import devices

log = logging.getLogger("medbench")


@dataclass(frozen=True)
class Assignment:
    """cells: `cells_hash` of the plan that whoever began the run has made. since: see `Store.failures_mark`."""

    grid: Grid
    folder: Path
    cells: str
    since: int
    shard: Shard | None = None

    def planned(self) -> Plan:
        """The plan, made in this process. Raises UserError where it is another one here."""
        made = plan(self.grid)
        made = self.shard.of(made) if self.shard else made
        if cells_hash(made) != self.cells:
            raise UserError(
                "A worker plans other cells than the run that it is part of: it sees other data, weights or another medbench.",
                then="run again, once nothing is changed any more",
            )
        return made

    def work(self, device: str, at_work: Callable[[Job], None], on_row: Callable[[Row], None]) -> None:
        """Take jobs until none is left."""
        made = self.planned()
        devices.check_device(device)
        with presence.present(self.folder, device) as begins:

            def begun(job: Job) -> None:
                begins(str(job))
                at_work(job)

            execution.work(RunContext(made, Store(self.folder), devices.resolve(device), self.since, begun), on_row)


def cells_hash(made: Plan) -> str:
    return fingerprint([planned.fingerprint for planned in made.cells])


@contextmanager
def telling_warnings(tell: Callable[[str], None]) -> Iterator[None]:
    """Inside, what is logged as a warning or a failure is told in a line, too."""
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
