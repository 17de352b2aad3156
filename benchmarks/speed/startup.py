"""CPU seconds until medbench answers, with compiled bytecode.

    uv run python benchmarks/speed/startup.py

Expected: --help, list and a wrong name under 0.5 s of CPU; `table` of finished rows under 1.5 s.
Each command runs once to compile, then five times; the median of user + system time is shown,
beside an empty interpreter's and their ratio, which is what to compare across machines.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = {
    "medbench --help": ["--help"],
    "medbench list tasks": ["list", "tasks"],
    "medbench list encoders": ["list", "encoders"],
    "medbench run --task drem": ["run", "--task", "drem"],
    "medbench run --encoder resnet51": ["run", "--encoder", "resnet51"],
}


def cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """Median CPU time of five runs after one that compiles."""
    times = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], env=environment, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times[1:])


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "MEDBENCH_CACHE": scratch}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        empty = cpu_seconds(["-c", ""], environment)
        print(f"{'an empty interpreter':<34} {empty:6.2f} s")
        commands = {name: ["-m", "medbench", *arguments] for name, arguments in COMMANDS.items()}
        folders = sorted(Path().glob("runs/*/plan.json")) + sorted(
            Path().glob("results/*/plan.json")
        )
        for plan in folders[:1]:
            commands[f"medbench table {plan.parent}"] = [
                "-m",
                "medbench",
                "table",
                str(plan.parent),
            ]
        for name, arguments in commands.items():
            seconds = cpu_seconds(arguments, environment)
            print(f"{name:<34} {seconds:6.2f} s   {seconds / empty:5.1f} x")


if __name__ == "__main__":
    main()
