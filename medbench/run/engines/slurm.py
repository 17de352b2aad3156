"""The workers of a run as tasks of a SLURM array, submitted through submitit.

Each takes jobs until none is left; the folder holds all that they know of each other, so that a
task that is preempted or requeued goes on like any other.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medbench.run import missing_cells
from medbench.run.command_line import asking
from medbench.run.engines import local
from medbench.run.engines.assignment import Assignment, cells_hash
from medbench.run.engines.sharding import Shard
from medbench.run.plans import Plan
from medbench.run.store import Store
from medbench.schema import OPTIONS, Grid, Row, UserError, checked, parsed
from medbench.system import atomic_write
from medbench.system.progress_listener import report_progress

#: Of a results folder: the arrays that were submitted for it, and what their tasks print.
FILE, LOGS = "slurm.json", ".slurm"
#: Seconds between two looks at the rows, and at the queue.
LOOK, ASK = 2.0, 15.0
_ALIVE = (
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "RESIZING",
    "SUSPENDED",
    "SIGNALING",
    "STAGE_OUT",
)
log = logging.getLogger("medbench")


@dataclass(frozen=True)
class Request:
    """What is asked of SLURM.

    jobs: tasks of the array. gpus: of each. minutes: of each, after which it is requeued.
    """

    jobs: int = 1
    gpus: int = 0
    minutes: int = 240
    partition: str | None = None
    account: str | None = None

    def words(self) -> dict[str, str]:
        """Return the options of sbatch."""
        named = {
            "partition": self.partition,
            "account": self.account,
            "gpus-per-node": self.gpus or None,
        }
        return {name: str(value) for name, value in named.items() if value is not None}


def minutes_of(text: str) -> int:
    """Parse a time as sbatch takes it to minutes, rounded up.

    30, 30:00, 4:00:00, 2-0, 2-12:00:00. Raises UserError for any other text.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if not found:
        raise UserError(
            f"--time '{text}' is not a time that SLURM knows.",
            allowed=["30 (minutes)", "4:00:00", "2-12:00:00 (days-hours)"],
        )
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found[1]:
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    elif found[4]:
        seconds = (first * 60 + second) * 60 + third
    else:
        seconds = first * 60 + second
    if seconds < 60:
        raise UserError(
            f"--time '{text}' is less than a minute.", allowed=["30 (minutes)", "4:00:00"]
        )
    return -(-seconds // 60)


class Task:
    """What a task of the array does.

    submitit calls `checkpoint` when the task is preempted or its time is over, and has it requeued.
    """

    def __call__(self, assignment: Assignment) -> None:
        """In children of its own, so that SLURM's signals meet a process that only waits."""
        made = assignment.planned()
        local.execute(
            assignment.grid,
            made,
            Store(assignment.folder),
            local.devices_of("auto", "auto", ""),
            given=assignment,
        )

    def checkpoint(self, assignment: Assignment) -> Any:
        """Return what submitit submits in place of a task that ends early: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, assignment)


def submit(
    grid: Grid, plan: Plan, store: Store, request: Request, shard: Shard | None = None
) -> str:
    """Submit an array for a plan's missing cells, and return its number.

    The folder is made, with the plan. Raises UserError where there is no SLURM, or it refuses.
    """
    submitit = _submitit()
    if shutil.which("sbatch") is None:
        raise UserError(
            "There is no SLURM on this machine (no sbatch).",
            then="log in to the cluster, or --engine slurm --print",
        )
    store.check_crossed(plan.file)
    store.create()
    local.check_locks(store.folder)
    store.add_plan(plan.file)
    assignment = Assignment(
        grid, store.folder.absolute(), cells_hash(plan), store.failures_mark(), shard
    )
    executor = submitit.AutoExecutor(
        store.folder.absolute() / LOGS, cluster="slurm", slurm_max_num_timeout=10_000
    )
    extra = {
        name: value
        for name, value in request.words().items()
        if name not in ("partition", "gpus-per-node")
    }
    executor.update_parameters(
        name="medbench",
        timeout_min=request.minutes,
        stderr_to_stdout=True,
        slurm_array_parallelism=request.jobs,
        slurm_additional_parameters={"requeue": True, **extra},
        **({"gpus_per_node": request.gpus} if request.gpus else {}),
        **({"slurm_partition": request.partition} if request.partition else {}),
    )
    try:
        jobs = executor.map_array(Task(), [assignment] * request.jobs)
    except Exception as error:  # submitit's own, and what sbatch printed
        raise UserError(
            f"SLURM refused the array: {error}",
            then="medbench run --engine slurm --print, and edit the script",
        ) from error
    number = str(jobs[0].job_id).partition("_")[0]
    atomic_write.record(store.folder / FILE, {"arrays": [*arrays(store.folder), number]})
    return number


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--engine slurm needs submitit.",
            then="pip install 'medbench[slurm]', or --engine slurm --print",
        ) from None
    return submitit


def script(grid: Grid, folder: Path, request: Request, shard: Shard | None = None) -> str:
    """Write a script for sbatch that runs the same array.

    It holds copies of one command, which share its work. folder: of the results.
    """
    default = Grid()
    given = {
        name: getattr(grid, name)
        for name in OPTIONS
        if getattr(grid, name) != getattr(default, name)
    }
    words = [
        *shlex.split(asking(**given))[1:],
        "--out",
        str(folder.absolute()),
        "--devices",
        "auto",
    ]
    words += ["--shard", f"{shard.number}/{shard.count}"] if shard else []
    options = {
        "job-name": "medbench",
        "array": f"0-{request.jobs - 1}",
        "time": str(request.minutes),
        **request.words(),
    }
    options |= {"output": f"{folder.absolute()}-%A_%a.log", "open-mode": "append"}
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{name}={shlex.quote(value)}" for name, value in options.items()),
        "#SBATCH --requeue",
    ]
    return "\n".join(
        [
            *lines,
            f"cd {shlex.quote(str(Path.cwd()))}",
            shlex.join([sys.executable, "-m", "medbench", *words]),
            "",
        ]
    )


def arrays(folder: Path) -> list[str]:
    """Return the numbers of the arrays that were submitted for a results folder.

    Raises UserError for a damaged record of them.
    """
    file = folder / FILE
    if not file.exists():
        return []
    try:
        record = parsed(file.read_bytes())
        checked(record, {"arrays": list})
        return [str(number) for number in record["arrays"]]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{file} is damaged ({error}).", then=f"squeue --me, and delete {file}"
        ) from error


def states(folder: Path) -> dict[str, str]:
    """Return the tasks that SLURM has not ended: task -> its state and, where it waits, why.

    Asks squeue, which needs no accounting. Raises UserError where squeue fails.
    """
    found: dict[str, str] = {}
    for number in arrays(folder):
        asked = subprocess.run(
            ["squeue", "-h", "-r", "-j", number, "-o", "%i|%T|%r"], capture_output=True, text=True
        )
        # it was forgotten: its tasks have ended
        if asked.returncode and "Invalid job id" not in asked.stderr:
            raise UserError(f"squeue failed: {asked.stderr.strip()}", then="ask again in a while")
        for line in asked.stdout.splitlines():
            task, state, why = line.strip().split("|", 2)
            if state in _ALIVE:
                found[task] = state + (f" ({why})" if state == "PENDING" else "")
    return found


def cancel(folder: Path) -> list[str]:
    """End the tasks of a results folder, and return those that were alive.

    Raises UserError where squeue or scancel fails.
    """
    alive = list(states(folder))
    if alive:
        done = subprocess.run(["scancel", *arrays(folder)], capture_output=True, text=True)
        if done.returncode:
            raise UserError(
                f"scancel failed: {done.stderr.strip()}",
                then=shlex.join(["scancel", *arrays(folder)]),
            )
    return alive


def watch(plan: Plan, store: Store, on_row: Callable[[Row], None]) -> None:
    """Call `on_row` with each new row until all cells are done, or no task is left.

    Prints what fails, and how many tasks wait or run.
    """
    seen, mark = set(store.rows()), store.failures_mark()
    asked, tasks = 0.0, states(store.folder)
    most = max(len(tasks), 1)
    while True:
        ended = not tasks
        for key, row in store.rows().items():
            if key not in seen:
                seen.add(key)
                on_row(row)
        mark = _tell_failures(plan, store, mark)
        if ended or not missing_cells.missing(plan, store):
            return
        if time.monotonic() - asked > ASK:
            tasks, asked = states(store.folder), time.monotonic()
            most = max(most, len(tasks))
            said = ", ".join(
                f"{n} {state.lower()}"
                for state, n in sorted(Counter(map(_word, tasks.values())).items())
            )
            report_progress(
                f"SLURM {', '.join(arrays(store.folder)[-1:])}",
                most - len(tasks),
                most,
                "tasks ended",
                said,
            )
        time.sleep(LOOK)


def _word(state: str) -> str:
    return state.partition(" ")[0]


def _tell_failures(plan: Plan, store: Store, mark: int) -> int:
    """Tell of failures since the mark. The mark of now."""
    now, failed = store.failures_mark(), store.failed_since(mark)
    reasons = store.failures() if failed else {}
    for planned in plan.cells if failed else ():
        if planned.fingerprint in failed:
            log.warning("%s failed: %s", planned.cell, reasons[planned.fingerprint])
    return now
