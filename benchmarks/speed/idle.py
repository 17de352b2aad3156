"""How much of several workers' time is not work, where it goes, and what they ask of the disk.

    uv run python benchmarks/speed/idle.py                               # two minutes
    uv run python benchmarks/speed/idle.py --latency 5                   # as on a network disk
    uv run python benchmarks/speed/idle.py --workers 64 --latency 5 --each 4 --killed 0

1,000 units that only wait, a tenth of them ten times as long, in an order by chance; 8 workers, five
of which are killed and started again. Everything else is what a run does: jobs, locks, rows and
their scores. Expected: idle at most 5 % of the workers' time, the wait for the last job of all
included. It computes little, so that a busy machine does not change it much; the CPU seconds are
told, as on a machine with few cores they are part of the idle time.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import resource
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from workers import images

from medbench import Grid, Store
from medbench.run import execution, job_steps, jobs, planning
from medbench.run.plans import Plan
from medbench.run.run_context import RunContext
from medbench.run.wall_time import Piece, makespan
from medbench.schema import PlannedCell, Row

#: What is told -> what the time since the worker's last word was spent on.
SPENT = {
    "here": "starting",
    "begun": "finding work",
    "solved": "work",
    "killed": "work",
    "done": "saving",
    "over": "waiting for the last jobs",
}
#: Functions that ask the disk, as on a network disk each is a question to a server.
ASKED = {
    "locks": (fcntl, "flock"),
    "looks": (os, "stat"),
    "opens": (os, "open"),
    "syncs": (os, "fsync"),
}
Event = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--each", type=float, default=0.5, help="seconds that most units wait")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--killed", type=int, default=5)
    parser.add_argument(
        "--latency",
        type=float,
        default=0.0,
        help="ms that each lock, look, opening and sync takes more",
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place), args)


def measure(place: Path, args: argparse.Namespace) -> None:
    """Everything as in a run but preparing and solving, which wait."""
    import torch  # noqa: F401  # once, for all copies of this process

    os.environ["MEDBENCH_CACHE"] = str(place / "cache")
    grid = Grid(
        (f"folder:{images(place, 12)}",),
        ("100",),
        ("random",),
        encoders=("resnet18.tv_in1k",),
        seeds=1,
        size=32,
        pretrain_seeds=args.units,
        audit=False,
    )
    plan, store = planning.plan(grid), Store(place / "out")
    store.create()
    store.add_plan(plan.file)
    slow = set(random.Random(args.seed).sample(range(args.units), args.units // 10))
    waits = {
        unit.cells[0].fingerprint: args.each * (10 if i in slow else 1)
        for i, unit in enumerate(plan.units)
    }
    worker = Worker(plan, store.folder, waits, place / "events", args.latency / 1000)
    begun = time.time()
    children = [worker.fork() for _ in range(args.workers)]
    for n in range(args.killed):
        time.sleep(sum(waits.values()) / args.workers / (args.killed + 2))
        victim = n % args.workers
        os.kill(children[victim], signal.SIGKILL)
        os.waitpid(children[victim], 0)
        worker.tell(children[victim], "killed")
        children[victim] = worker.fork()  # as `engines.local` starts one again
    for child in children:
        os.waitpid(child, 0)
    told = [json.loads(line) for line in (place / "events").read_text().splitlines()]
    report(args, told, waits, begun, len(store.rows()))


class Worker:
    """A process that takes jobs, which wait in the place of work."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        waits: Mapping[str, float],
        events: Path,
        latency: float,
    ):
        self.plan, self.folder, self.waits, self.latency = plan, folder, waits, latency
        self.out = os.open(events, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(self, process: int, what: str, **more: Any) -> None:
        event = {"process": process, "what": what, "time": time.time(), **more}
        os.write(self.out, (json.dumps(event) + "\n").encode())

    def fork(self) -> int:
        """Its process number."""
        born = time.time()
        child = os.fork()
        if child:
            return child
        counts = slowed(self.latency)
        me = os.getpid()

        def solve(
            context: RunContext,
            job: jobs.Job,
            todo: Sequence[PlannedCell],
            on_row: Callable[[Row], None],
        ) -> None:
            for planned in todo:
                self.tell(me, "begun", job=planned.fingerprint)
                time.sleep(self.waits[planned.fingerprint])
                self.tell(me, "solved")
                arrays = {
                    "metrics": np.array(["auc"]),
                    "resamples": np.zeros((1, 1000), np.float32),
                }
                new = context.store.add(row_of(planned), arrays)
                self.tell(me, "done", job=planned.fingerprint, new=new)

        job_steps.prepare = lambda context, job, todo: (context, job, todo)  # type: ignore[assignment, return-value]
        job_steps.solve = lambda _, context, job, todo, on_row: solve(context, job, todo, on_row)  # type: ignore[assignment, misc]
        self.tell(me, "here", born=born)
        execution.work(RunContext(self.plan, Store(self.folder), "cpu"), lambda row: None)
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.tell(me, "over", counts=counts, cpu=used.ru_utime + used.ru_stime)
        os._exit(0)


def slowed(latency: float) -> Counter[str]:
    """Count what this process asks the disk from now on, and make each of it take so much longer."""
    counts: Counter[str] = Counter()

    def slower(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            if latency:
                time.sleep(latency)
            return function(*args, **kwargs)

        return called

    for name, (module, function) in ASKED.items():
        setattr(module, function, slower(name, getattr(module, function)))
    return counts


def row_of(planned: PlannedCell) -> Row:
    half = {"value": 0.5, "low": 0.4, "high": 0.6}
    about = {"weights": "none", "trained_on": [], "precision": "fp32", "target": planned.target}
    return Row(
        planned.cell,
        planned.fingerprint,
        {"auc": half},
        36,
        planned.n_requested,
        {},
        {"seconds": 0.0},
        about,
    )


def spent(told: Iterable[Event], end: float) -> dict[str, float]:
    """Seconds of all workers, by what they were spent on."""
    found: dict[str, float] = defaultdict(float)
    last: dict[int, float] = {}
    for event in sorted(told, key=lambda event: event["time"]):
        since = last.get(event["process"], event.get("born"))
        found[SPENT[event["what"]]] += event["time"] - since
        last[event["process"]] = event["time"]
        if event["what"] == "over":
            found["waiting for the last jobs"] += end - event["time"]
    return found


def report(
    args: argparse.Namespace,
    told: Sequence[Event],
    waits: Mapping[str, float],
    begun: float,
    rows: int,
) -> None:
    end = max(event["time"] for event in told)
    wall, over = end - begun, [event for event in told if event["what"] == "over"]
    whole, parts = wall * args.workers, spent(told, end)
    made = Counter(event["job"] for event in told if event["what"] == "done")
    print(
        f"{len(waits)} units, {args.workers} workers, {args.killed} killed, {args.latency:g} ms an operation: "
        f"{wall:.1f} s, least possible {sum(waits.values()) / args.workers:.1f} s, "
        f"in this order {makespan([Piece((), 0.0, s) for s in waits.values()], args.workers):.1f} s; "
        f"{rows} rows, computed twice: {sum(n > 1 for n in made.values())}"
    )
    print(
        f"idle: {1 - parts.pop('work') / whole:.1%} of {args.workers} x {wall:.1f} s (at most 5 %): ",
        end="",
    )
    print(", ".join(f"{seconds / whole:.1%} {what}" for what, seconds in parts.items()))
    counts = {name: sum(event["counts"].get(name, 0) for event in over) for name in ASKED}
    units = sum(
        event["process"] in {one["process"] for one in over}
        for event in told
        if event["what"] == "done"
    )
    print(
        "of the workers that were not killed, a unit: "
        + ", ".join(f"{n / units:.1f} {name}" for name, n in counts.items())
        + f", {1000 * sum(event['cpu'] for event in over) / units:.1f} ms of CPU; all together, a second: "
        + ", ".join(f"{n / units * len(waits) / wall:.0f} {name}" for name, n in counts.items())
    )


if __name__ == "__main__":
    main()
