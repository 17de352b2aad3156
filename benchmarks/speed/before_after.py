"""CPU seconds of whole commands, before a change and after it.

A run that has nothing to do, and every pair of a study compared.

    uv run python benchmarks/speed/before_after.py COMMIT [--rounds 7]

COMMIT is cloned into a temporary folder; the code beside this script is what it is compared with.
Both make their own rows once (drawn images: the `random` weights of eight seeds, two protocols, two
label budgets, ten draws: 328 rows of 9 units) and then run the same command again, which finds all
of them. `compare --all` reads results/derm, the same folder for both.

The two take turns, so that what else the machine does falls on both alike; each runs once to
compile. Shown are medians of user + system time, their ratio, the ratios of single rounds, and how
busy the cores were: on a busy machine only the ratio says something.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parents[2]
RUN = [
    *(
        "run",
        "--task",
        "derm",
        "--data",
        "phantom",
        "--size",
        "32",
        "--methods",
        "random,supervised",
        "--pretrain-seeds",
        "8",
    ),
    *("--protocols", "linear,knn", "--labels", "5/class,100", "--seeds", "10"),
]


class Version:
    """One version of the code with a cache, bytecode and results of its own."""

    def __init__(self, name: str, code: Path, scratch: Path):
        self.name, self.code = name, code
        self.out = scratch / name / "out"
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        folders = {
            "MEDBENCH_CACHE": scratch / name / "cache",
            "PYTHONPYCACHEPREFIX": scratch / name / "bytecode",
            "PYTHONPATH": code,
        }
        self.environment = {**kept, **{key: str(place) for key, place in folders.items()}}

    def cpu_seconds(self, arguments: list[str]) -> float:
        """User + system time of one command."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [
            sys.executable,
            "-m",
            "medbench",
            *(argument.replace("OUT", str(self.out)) for argument in arguments),
        ]
        done = subprocess.run(
            command, cwd=self.code, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(
                f"{self.name}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}"
            )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        subprocess.run(["git", "clone", "-q", HERE, scratch / "code"], check=True)
        subprocess.run(["git", "-C", scratch / "code", "checkout", "-q", asked.commit], check=True)
        versions = [Version("before", scratch / "code", scratch), Version("after", HERE, scratch)]
        folder = HERE / "results" / "derm"
        rows = {
            "run": [
                len(
                    (
                        v.cpu_seconds([*RUN, "--out", "OUT"]),
                        (v.out / "rows.jsonl").read_text().splitlines(),
                    )[1]
                )
                for v in versions
            ]
        }
        rows["compare"] = [len((folder / "rows.jsonl").read_text().splitlines())] * 2
        commands = {"run": [*RUN, "--out", "OUT"], "compare": ["compare", str(folder), "--all"]}
        busy = os.getloadavg()[0]
        print(
            f"{asked.rounds} rounds by turns, {os.cpu_count()} cores, {busy:.1f} processes wanted one when they began"
        )
        for name, arguments in commands.items():
            took = [[v.cpu_seconds(arguments) for v in versions] for _ in range(asked.rounds + 1)][
                1:
            ]
            before, after = (statistics.median(times) for times in zip(*took, strict=True))
            ratios = sorted(one / other for one, other in took)
            each = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            what = {"run": "run with nothing to do", "compare": "compare --all"}[name]
            print(
                f"{what}, {rows[name][1]} rows: {before:.2f} s before, {after:.2f} s after, ratio {before / after:.2f} (rounds {each})",
                flush=True,
            )


if __name__ == "__main__":
    main()
