"""Several processes beside one: wall times, CPU seconds, kills.

Each part prints its ratio and what it should be at most.

    uv run python benchmarks/speed/workers.py tuning       # 8 equal fine-tunings, 1 and 2 processes: at most .75
    uv run python benchmarks/speed/workers.py sleeping     # 16 encoders that only wait, 1 and 4 processes: at most .3
    uv run python benchmarks/speed/workers.py kills        # 20 times SIGKILL of a worker by chance: the same rows

`tuning` needs two idle cores: beside other work the CPU seconds say what the wall time cannot.
`sleeping` waits and computes little. `idle.py` measures what many workers ask of the disk, and
`forecast.py` what `--plan --workers N` says against what is taken. What they printed is in
workers.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from medbench import Store
from medbench.run import presence
from medbench.schema import Row

MEDBENCH = [sys.executable, "-m", "medbench"]
WORDS = {"wall": "whole command", "work": "work alone", "cpu": "CPU seconds"}
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


@dataclass(frozen=True)
class Taken:
    """Seconds of a command.

    work: from the first job that is begun to the last row. cpu: of all its processes.
    """

    wall: float
    work: float
    cpu: float


def timed(words: Sequence[str], out: Path, workers: int) -> Taken:
    """The command with a cache of its own."""
    environment = {**os.environ, "MEDBENCH_CACHE": str(out.with_suffix(".cache"))}
    command = [*MEDBENCH, "run", *words, "--out", str(out), "--workers", str(workers)]
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    told = [moment(line) for line in (out / "run.log").read_text().splitlines() if " INFO " in line]
    return Taken(wall, told[-1] - told[0], cpu)


def moment(line: str) -> float:
    """When a line of the log was written."""
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def compared(title: str, words: Sequence[str], place: Path, workers: int, most: float) -> None:
    """One process beside several, in turn."""
    alone, several = (timed(words, place / f"out{n}", n) for n in (1, workers))
    for what in ("wall", "work", "cpu"):
        a, b = getattr(alone, what), getattr(several, what)
        limit = f" (at most {most})" if what != "cpu" else ""
        print(
            f"{title}, {WORDS[what]}: {a:.1f} s in one process, {b:.1f} s in {workers}: {b / a:.2f}{limit}"
        )
    share = [taken.cpu / taken.wall for taken in (alone, several)]
    print(f"cores that they had on average: {share[0]:.2f} and {share[1]:.2f}")
    made = [place / f"out{n}" for n in (1, workers)]
    print(f"fields that differ: {differences(*made) or 'none'}; {lines(made[1])}")


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same in the rows and scores of two folders, but for seconds and memory."""
    rows = [Store(folder).rows() for folder in (one, other)]
    found = [f"row {key}" for key in rows[0].keys() ^ rows[1].keys()]
    for key in rows[0].keys() & rows[1].keys():
        a, b = (without_cost(found[key]) for found in rows)
        found += [f"{key[:8]} {name}" for name in a if a[name] != b.get(name)]
        arrays = [Store(folder).arrays(rows[0][key]) for folder in (one, other)]
        found += [
            f"{key[:8]} {name}"
            for name in arrays[0]
            if arrays[0][name].tobytes() != arrays[1][name].tobytes()
        ]
    return sorted(found)


def without_cost(row: Row) -> dict[str, object]:
    """Its fields, and those of its provenance."""
    fields = json.loads(json.dumps(asdict(row)))
    fields.pop("cost")
    about = fields.pop("provenance")
    return {**fields, **{f"provenance {name}": value for name, value in about.items()}}


def lines(folder: Path) -> str:
    """How often each row was computed to its end, and saved."""
    text = (folder / "run.log").read_text()
    saved = (folder / "rows.jsonl").read_text().splitlines()
    computed = text.count(" INFO row ") + text.count("made the row meanwhile")
    return (
        f"{len(saved)} lines for {len(Store(folder).plan().cells)} cells, "
        f"{computed} of them computed to the end and told"
    )


def tuning(place: Path, args: argparse.Namespace) -> None:
    """Of a small ResNet at 32 px, from random weights."""
    words = ["--task", f"folder:{images(place, 16)}", "--no-audit", "--methods", "random"]
    words += ["--encoder", "test_resnet.r160_in1k", "--size", "32", "--protocols", "finetune"]
    compared("8 fine-tunings", [*words, "--labels", "10/class", "--seeds", "8"], place, 2, 0.75)


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


def kills(place: Path, args: argparse.Namespace) -> None:
    """Four workers at drawn images; each kill falls on one of them by chance, at a moment by chance.

    Until all rows are there, and all kills have fallen, the command is given again: by another
    number of pretraining seeds it has always more to do.
    """
    words = ["run", "--task", "derm", "--data", "phantom", "--size", "32", "--no-audit"]
    words += ["--encoder", "test_resnet.r160_in1k", "--methods", "random", "--seeds", "2"]
    words += ["--protocols", "linear,knn", "--labels", "1,5/class"]
    rng, killed, told, runs, units = random.Random(args.seed), 0, "", 0, 0
    environment = {**os.environ, "MEDBENCH_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    while killed < args.kills or not complete(place / "out"):
        runs += 1
        units += 4 * (killed < args.kills and complete(place / "out"))
        command = [*MEDBENCH, *words, "--pretrain-seeds", str(units), "--workers", "4"]
        with subprocess.Popen(
            [*command, "--out", str(place / "out")],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process:
            while process.poll() is None:
                time.sleep(rng.uniform(0.2, 2 * args.between))
                victims = working(place / "out")
                if victims and killed < args.kills:
                    os.kill(rng.choice(victims), signal.SIGKILL)
                    killed += 1
            assert process.stderr is not None
            told += process.stderr.read()
    alone = [*MEDBENCH, *words, "--pretrain-seeds", str(units), "--out", str(place / "alone")]
    fresh = {**environment, "MEDBENCH_CACHE": str(place / "fresh")}
    subprocess.run(alone, env=fresh, check=True, capture_output=True)
    said = len(re.findall(r"worker \d+ \(\w+\) was killed", told))
    text = (place / "out" / "run.log").read_text()
    begun = sum(int(n) for n in re.findall(r"solving \w+ for (\d+) draws", text))
    rows = len(Store(place / "out").rows())
    print(
        f"{killed} kills in {runs} runs of the command, {said} of them told; {units} units, {rows} rows"
    )
    print(f"fields that differ: {differences(place / 'alone', place / 'out') or 'none'}")
    print(f"{lines(place / 'out')}; begun again, as they were in hand at a kill: {begun - rows}")


def complete(folder: Path) -> bool:
    store = Store(folder)
    return all(store.has(entry.fingerprint) for entry in store.plan().cells)


def working(folder: Path) -> list[int]:
    """The processes of the workers that take jobs, as `medbench status` tells them."""
    return [one.process for one in presence.working(folder)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["tuning", "sleeping", "kills"])
    parser.add_argument("--seconds", type=float, default=15.0, help="that an encoder waits, twice")
    parser.add_argument(
        "--between", type=float, default=4.0, help="seconds from a kill to the next, about"
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        globals()[args.part](Path(place), args)


if __name__ == "__main__":
    main()
