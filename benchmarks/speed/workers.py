"""Several processes beside one: wall times, idle time, operations on the disk, kills.

Each part prints its ratio and what it should be at most.

    uv run python benchmarks/speed/workers.py tuning       # 8 equal fine-tunings, 1 and 2 processes: at most .75
    uv run python benchmarks/speed/workers.py sleeping     # 16 encoders that only wait, 1 and 4 processes: at most .3
    uv run python benchmarks/speed/workers.py stragglers   # 1,000 units that only wait, 8 workers, five of them killed: idle at most 5 %
    uv run python benchmarks/speed/workers.py kills        # 20 times SIGKILL of a worker by chance: the same rows

Everything but `tuning` waits and computes nothing, so that a busy machine does not change it much.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medbench import Grid, Store
from medbench.run import execution, fitting, jobs, planning
from medbench.schema import PlannedCell, Row

ENCODER = """
import time, torch
class Waiting(torch.nn.Module):
    def forward(self, x):
        time.sleep({seconds} if len(x) > 20 else 0)
        return x.mean((2, 3))
"""


def images(place: Path, count: int) -> Path:
    """A folder of so many training images of each of three classes, and half as many test images.

    Grey noise on another tint each.
    """
    rng = np.random.default_rng(0)
    for part, n in (("train", count), ("test", count // 2)):
        for c in range(3):
            folder = place / "mine" / part / str(c)
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 200, (32, 32, 3)) + np.eye(3, dtype=int)[c] * 25
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{part}{c}-{i}.png")
    return place / "mine"


def waiting(place: Path, count: int, seconds: float) -> str:
    """So many encoders that wait so long and then give the mean colour."""
    code = ENCODER.format(seconds=seconds)
    for i in range(count):
        code += f"\ndef e{i}(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n    return Waiting()\n"
    (place / "mine.py").write_text(code)
    return ",".join(f"{place / 'mine.py'}:e{i}" for i in range(count))


def timed(words: Sequence[str], out: Path, workers: int) -> tuple[float, float]:
    """Wall seconds of the command, and of its work alone.

    From the first job that is begun to the last row.
    """
    environment = {**os.environ, "MEDBENCH_CACHE": str(out.with_suffix(".cache"))}
    command = [
        sys.executable,
        "-m",
        "medbench",
        "run",
        *words,
        "--out",
        str(out),
        "--workers",
        str(workers),
    ]
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    times = [
        line.split(" INFO")[0].rsplit(" ", 1)[0]
        for line in (out / "run.log").read_text().splitlines()
        if " INFO " in line
    ]
    first, last = (
        time.mktime(time.strptime(text[:19], "%Y-%m-%d %H:%M:%S")) + int(text[20:]) / 1000
        for text in (times[0], times[-1])
    )
    return wall, last - first


def compared(title: str, words: Sequence[str], place: Path, workers: int, most: float) -> None:
    """One process beside several, in turn."""
    alone, several = (timed(words, place / f"out{n}", n) for n in (1, workers))
    made = [Store(place / f"out{n}") for n in (1, workers)]
    same = {key: row.metrics for key, row in made[0].rows().items()} == {
        key: row.metrics for key, row in made[1].rows().items()
    }
    once = len((made[1].folder / "rows.jsonl").read_text().splitlines()) == len(made[1].rows())
    for what, a, b in zip(("whole command", "work alone"), alone, several, strict=True):
        print(
            f"{title}, {what}: {a:.1f} s in one process, {b:.1f} s in {workers}: {b / a:.2f} (at most {most})"
        )
    print(f"rows equal: {same}; each once: {once}")


def tuning(place: Path, args: argparse.Namespace) -> None:
    """Of `resnet18` at 64 px, from random weights."""
    words = [
        "--task",
        f"folder:{images(place, 16)}",
        "--encoder",
        "resnet18.tv_in1k",
        "--methods",
        "random",
        "--size",
        "64",
        "--no-audit",
    ]
    words += [
        "--protocols",
        "last-layer-nielsen2023" if args.quick else "finetune",
        "--labels",
        "10/class",
        "--seeds",
        "8",
    ]
    compared("8 fine-tunings", words, place, 2, 0.75)


def sleeping(place: Path, args: argparse.Namespace) -> None:
    """Sixteen encoders, each of which waits twice: in a trial batch and for the images."""
    words = [
        "--task",
        f"folder:{images(place, 12)}",
        "--encoder",
        waiting(place, 16, args.seconds),
        "--protocols",
        "knn",
        "--no-audit",
    ]
    compared("16 encoders that wait", [*words, "--labels", "100"], place, 4, 0.3)


def stragglers(place: Path, args: argparse.Namespace) -> None:
    """Everything as in a run but preparing and solving, which wait.

    A tenth of the units takes ten times as long.
    """
    import torch  # noqa: F401  # once, for all copies of this process

    os.environ["MEDBENCH_CACHE"] = str(place / "cache")
    task = f"folder:{images(place, 12)}"
    grid = Grid(
        (task,),
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
    begun, events = time.time(), place / "events"
    children = [
        _fork(plan, store.folder, waits, events, args.latency / 1000) for _ in range(args.workers)
    ]
    for n in range(args.killed):
        time.sleep(sum(waits.values()) / args.workers / (args.killed + 2))
        victim = n % args.workers
        os.kill(children[victim], signal.SIGKILL)
        os.waitpid(children[victim], 0)
        with events.open("a") as told:
            told.write(
                json.dumps({"process": children[victim], "what": "killed", "time": time.time()})
                + "\n"
            )
        # as `engines.local` starts one again
        children[victim] = _fork(plan, store.folder, waits, events, args.latency / 1000)
    for child in children:
        os.waitpid(child, 0)
    _report(
        args,
        [json.loads(line) for line in events.read_text().splitlines()],
        waits,
        time.time() - begun,
        len(store.rows()),
    )


def _report(
    args: argparse.Namespace,
    told: Sequence[dict[str, Any]],
    waits: Mapping[str, float],
    wall: float,
    rows: int,
) -> None:
    at: dict[int, float] = {}  # process -> when it began what it is at
    done: Counter[str] = Counter()
    busy = 0.0
    for event in told:
        if event["what"] == "begun":
            at[event["process"]] = event["time"]
        elif event["what"] in ("solved", "killed") and event["process"] in at:
            busy += event["time"] - at.pop(event["process"])
        elif event["what"] == "done":
            done[event["job"]] += 1
    end = max(event["time"] for event in told)
    tail = sum(end - event["time"] for event in told if event["what"] == "over")
    counts = {
        name: sum(event["counts"][name] for event in told if event["what"] == "over")
        for name in ("locks", "looks", "syncs")
    }
    print(
        f"{len(waits)} units, {args.workers} workers, {args.killed} killed, {args.latency} ms an operation: {wall:.1f} s, {rows} rows, ",
        end="",
    )
    print(
        f"none twice: {set(done.values()) == {1}}; least possible {sum(waits.values()) / args.workers:.1f} s"
    )
    whole = wall * args.workers
    print(
        f"idle: {1 - busy / whole:.1%} of {args.workers} x {wall:.1f} s (at most 5 %); {tail / whole:.1%} wait for the last job of all"
    )
    print(
        "operations a unit: "
        + ", ".join(f"{n / len(waits):.1f} {name}" for name, n in counts.items()),
        end="; a second: ",
    )
    print(
        ", ".join(f"{n / wall:.0f} {name}" for name, n in counts.items())
        + " (of the workers that were not killed)"
    )


def _fork(
    plan: planning.Plan, folder: Path, waits: Mapping[str, float], events: Path, latency: float
) -> int:
    """A worker whose jobs wait in the place of work.

    Each look at a file, lock and sync takes `latency` seconds more. Its process number.
    """
    child = os.fork()
    if child:
        return child
    counts: Counter[str] = Counter()

    def slower(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            if latency:
                time.sleep(latency)
            return function(*args, **kwargs)

        return called

    fcntl.flock, os.stat, os.fsync = (
        slower(*one) for one in (("locks", fcntl.flock), ("looks", os.stat), ("syncs", os.fsync))
    )
    out = os.open(events, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(what: str, **more: Any) -> None:
        os.write(
            out,
            (
                json.dumps({"process": os.getpid(), "what": what, "time": time.time(), **more})
                + "\n"
            ).encode(),
        )

    def solve(
        context: fitting.RunContext,
        job: jobs.Job,
        todo: Sequence[PlannedCell],
        on_row: Callable[[Row], None],
    ) -> None:
        for planned in todo:
            tell("begun", job=planned.fingerprint)
            time.sleep(waits[planned.fingerprint])
            tell("solved")
            context.store.add(
                _row(planned),
                {"metrics": np.array(["auc"]), "resamples": np.zeros((1, 1000), np.float32)},
            )
            tell("done", job=planned.fingerprint)

    execution._prepare = lambda context, job, todo: (context, job, todo)  # type: ignore[assignment, return-value]
    execution._solve = lambda _, context, job, todo, on_row: solve(context, job, todo, on_row)  # type: ignore[assignment, misc]
    execution.work(fitting.RunContext(plan, Store(folder), "cpu"), lambda row: None)
    tell("over", counts={name: counts[name] for name in ("locks", "looks", "syncs")})
    os._exit(0)


def _row(planned: PlannedCell) -> Row:
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


def kills(place: Path, args: argparse.Namespace) -> None:
    """Four workers; each kill falls on one of them by chance, at a moment by chance.

    Until all rows are there the command is given again.
    """
    encoders = waiting(place, 12, 1.0)
    words = [
        "--task",
        f"folder:{images(place, 12)}",
        "--encoder",
        encoders,
        "--protocols",
        "linear,knn",
        "--labels",
        "5/class,100",
    ]
    command = [
        sys.executable,
        "-m",
        "medbench",
        "run",
        *words,
        "--seeds",
        "2",
        "--no-audit",
        "--out",
        str(place / "out"),
        "--workers",
        "4",
    ]
    environment = {**os.environ, "MEDBENCH_CACHE": str(place / "cache")}
    rng, killed, told, runs = random.Random(args.seed), 0, "", 0
    while not _complete(place / "out"):
        runs += 1
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as process:
            while process.poll() is None:
                time.sleep(rng.uniform(0.5, 2 * args.between))
                victims = list(_workers(process.pid))
                if victims and killed < args.kills:
                    os.kill(rng.choice(victims), signal.SIGKILL)
                    killed += 1
            assert process.stderr is not None
            told += process.stderr.read()
    plan = Store(place / "out").plan()
    subprocess.run(
        [*command[:-4], "--out", str(place / "alone")],
        env={**environment, "MEDBENCH_CACHE": str(place / "c2")},
        check=True,
        capture_output=True,
    )
    made = [
        {key: (row.chosen, row.metrics) for key, row in Store(place / name).rows().items()}
        for name in ("alone", "out")
    ]
    lines = (place / "out" / "rows.jsonl").read_text().splitlines()
    said = len(re.findall(r"worker \d+ \(cpu\) was killed", told))
    print(
        f"{killed} kills in {runs} runs of the command, {said} of them told: rows equal: {made[0] == made[1]}; {len(lines)} lines for {len(plan.cells)} cells"
    )


def _complete(folder: Path) -> bool:
    store = Store(folder)
    cells = store.plan().cells
    return bool(cells) and not [entry for entry in cells if not store.has(entry.fingerprint)]


def _workers(process: int) -> Iterator[int]:
    """The children of a run that take jobs, and not those that look at an encoder before."""
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        try:
            words = Path(f"/proc/{child}/cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if "child_process" in words:
            yield int(child)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["tuning", "sleeping", "stragglers", "kills"])
    parser.add_argument("--seconds", type=float, default=4.0, help="that an encoder waits, twice")
    parser.add_argument("--each", type=float, default=0.5, help="seconds of a unit without torch")
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument(
        "--between", type=float, default=1.5, help="seconds from a kill to the next, about"
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--killed", type=int, default=5)
    parser.add_argument(
        "--latency",
        type=float,
        default=0.0,
        help="ms that each lock, look at a file and sync takes more, as on a network disk",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="the last layer alone is tuned")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        globals()[args.part](Path(place), args)


if __name__ == "__main__":
    main()
