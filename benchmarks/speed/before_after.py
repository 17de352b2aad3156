"""CPU seconds before a change and after it, by turns: parts of the work, and whole commands.

    uv run python benchmarks/speed/before_after.py --quick                   # four minutes
    uv run python benchmarks/speed/before_after.py --into FOLDER [--only 'probe wide;fusion'] [--minutes 9]
    uv run python benchmarks/speed/before_after.py --into FOLDER --table     # what is known so far

The commit `--base` is checked out as a git worktree; the code beside this script is what it is
compared with. One thread each. The two take turns, so that what else the machine does falls on both
alike; each runs commands once to compile and to make rows. Shown are medians of user + system time,
their ratio (before / after), the ratios of single rounds, and the clock's seconds for a CPU second
of the busier side: 1.0 is a quiet core, and on a busy one only the ratio says something. With
`--into` every measurement is kept, so that what is stopped goes on, and lines can be measured one
by one; `before_after.txt` has what was found so.

What is timed (`--only`: those whose name begins with one of these words):

- probe: the linear probe on wide (1,280) and narrow (512, binary) features, one draw of 1, 10 and
  100 % of the pool, once against scikit-learn's LogisticRegressionCV, warm; `many`: twenty draws of
  1 %, ten of 10 %. In both versions every draw is divided into folds, and has at least six images
  of each class.
- knn: the three budgets; fusion: two DVME heads (quick: one) on two halves of the wide features.
- pack: photographs of 600 x 450 to 64 px.
- a name that is none: `run --task drem`. nothing: a run of drawn images that finds all its rows
  (328; quick 28). compare: every pair of each version's own results/derm.
- audit: the whole command over a folder, and the exponent between a third of it and all of it.
- first: the whole first command of the README (quick: with two methods at 32 px), when its first
  board came, and the time left that it told.

Features are drawn, with a spectrum as a network's, where no --wide or --narrow names a file that
`probe.py --save FILE.npz` has made. Fusion heads and whole commands depend on no speed alone: a
version may train for longer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from before_after_work import HERE, PEER, Failed, Line, Version, Work
from probe import processor

Kept = dict[tuple[str, str, int], dict[str, Any]]  # line, side, round -> what was measured


class Measured:
    """Measurements, kept in a file as they come."""

    def __init__(self, file: Path):
        self.file = file
        self.kept: Kept = {}
        for line in file.read_text().splitlines() if file.exists() else ():
            one = json.loads(line)
            self.kept[one["line"], one["side"], one["round"]] = one

    def measure(self, line: Line, version: Version, side: str, turn: int) -> None:
        """Measure one side of one round, where it is not known."""
        key = line.name, side, turn
        if key in self.kept:
            return
        one = {"line": line.name, "side": side, "round": turn, "load": os.getloadavg()[0]}
        work = line.peer if side == PEER else line.measure
        assert work is not None, "asked for where there is one"
        try:
            if line.compiles and turn == 0:
                work(version)
            took = work(version)
            one |= {"seconds": took.seconds, "clock": took.clock, "more": dict(took.more)}
        except Failed as error:
            one["failed"] = str(error)
        self.kept[key] = one
        with self.file.open("a") as file:
            file.write(json.dumps(one) + "\n")

    def of(self, line: Line, side: str) -> list[dict[str, Any]]:
        """Return the rounds of one side, in order."""
        found = [one for (name, of, _), one in self.kept.items() if (name, of) == (line.name, side)]
        return sorted(found, key=lambda one: one["round"])


def show(line: Line, measured: Measured) -> None:
    """Print one line of the table; where a version cannot, why."""
    sides = {side: measured.of(line, side) for side in ("before", "after", PEER)}
    failed = [one["failed"] for rounds in sides.values() for one in rounds if "failed" in one]
    if failed:
        print(f"{line.name:36s}  {failed[0]}", flush=True)
        return
    turns = list(zip(sides["before"], sides["after"], strict=False))
    if not turns:
        print(f"{line.name:36s}  NOT RUN", flush=True)
        return
    before, after = (
        statistics.median(one["seconds"] for one in side) for side in zip(*turns, strict=True)
    )
    ratios = sorted(one["seconds"] / max(other["seconds"], 1e-9) for one, other in turns)
    busy = max(one["clock"] / max(one["seconds"], 1e-9) for turn in turns for one in turn)
    rounds = f"{len(turns)} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(turns) > 1 else "1"
    peer = ""
    if sides[PEER]:
        theirs = sides[PEER][0]["seconds"]
        peer = f"  {theirs:8.2f} s {theirs / before:6.1f} {theirs / after:6.1f}"
    print(
        f"{line.name:36s}  {before:8.2f} s  {after:8.2f} s  {before / max(after, 1e-9):6.2f}"
        f"  {rounds:20s} {busy:4.1f}{peer}",
        flush=True,
    )
    for name in turns[0][1]["more"]:
        values = [turn["more"].get(name) for turn in turns[0]]
        shown = [f"{'nothing' if v is None else f'{v:.2f}':>8s}  " for v in values]
        print(f"  {name:34s}  {'  '.join(shown)}", flush=True)


def growth(lines: Sequence[Line], measured: Measured) -> None:
    """Print the exponent of the audit between its two sizes."""
    audits = [line for line in lines if line.images]
    for side in ("before", "after"):
        took = [
            statistics.median(one["seconds"] for one in rounds)
            for line in audits
            if (rounds := measured.of(line, side)) and "failed" not in rounds[0]
        ]
        if len(took) == len(audits) == 2:
            exponent = math.log(took[1] / took[0]) / math.log(audits[1].images / audits[0].images)
            print(f"audit's growth, {side}: n^{exponent:.2f}")


@contextmanager
def checked_out(commit: str, folder: Path, kept: bool) -> Iterator[Path]:
    """Check the worktree of a commit out, where it is not there; remove it where it is not kept."""
    if not folder.exists():
        git("worktree", "add", "-q", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        if not kept:
            git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(HERE), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def header(asked: argparse.Namespace) -> None:
    names = [git("rev-parse", "--short", name).strip() for name in (asked.base, "HEAD")]
    given = [Path(file).name for file in (asked.wide, asked.narrow) if file]
    print(f"before: {names[0]}; after: the code at {names[1]} and what is changed since")
    print(f"{processor()}, {os.cpu_count()} cores, one thread, torch {torch.__version__}")
    print(f"features: {', '.join(given) or 'drawn'}{'; quick' if asked.quick else ''}")
    columns = f"{'before':>10s}  {'after':>10s}  {'ratio':>6s}  {'rounds':20s} busy"
    print(f"{'':36s}  {columns}  {PEER}, it / before, it / after")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="fe542a5", help="the commit before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="everything small")
    parser.add_argument("--only", default="", help="lines that begin so, separated by semicolons")
    parser.add_argument("--wide", help="features of `probe.py --save`")
    parser.add_argument("--narrow", help="features of `probe.py --save`, binary")
    parser.add_argument("--into", type=Path, help="a folder that keeps everything; go on from it")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing later than this")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    wanted = tuple(word.strip() for word in asked.only.split(";"))
    end = time.monotonic() + 60 * asked.minutes
    header(asked)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = asked.into.resolve() if asked.into else Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        measured = Measured(scratch / "measured.jsonl")
        lines = [
            line
            for line in Work(scratch, asked.quick, asked.wide, asked.narrow).lines()
            if line.name.startswith(wanted)
        ]
        with checked_out(asked.base, scratch / "code", kept=asked.into is not None) as code:
            versions = {"before": Version("before", code, scratch)}
            versions |= {"after": Version("after", HERE, scratch)}
            for line in lines:
                for turn in range(0 if asked.table else min(asked.rounds, line.rounds)):
                    sides = {**versions, **({PEER: versions["after"]} if line.peer else {})}
                    for side, version in sides.items():
                        if time.monotonic() < end and (side != PEER or turn == 0):
                            measured.measure(line, version, side, turn)
                show(line, measured)
    growth(lines, measured)


if __name__ == "__main__":
    sys.exit(main())
