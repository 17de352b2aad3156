"""CPU seconds until medbench answers, with compiled bytecode.

    uv run python benchmarks/speed/startup.py            # about a minute
    uv run python benchmarks/speed/startup.py --quick    # one run of each instead of five

Expected: --help, list and a wrong name under 0.5 s of CPU, `table` of finished rows under 1.5 s,
`compare --all` of results/derm and a run that has nothing to do under 1 s. Each command runs once
to compile, then five times; the median of user + system time is shown, beside an empty
interpreter's and their ratio, which is what to compare across machines; what it should be under;
and which of torch, timm, scikit-learn, scipy and pandas it has imported. An encoder's name that is
none is one that timm could have, so that it is checked without timm.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parents[2] / "results"
HEAVY = ("torch", "timm", "sklearn", "scipy", "pandas")
NOTHING = (
    "run --task derm --data phantom --size 32 --methods random,supervised "
    "--labels 5/class --seeds 2 --protocols knn --no-audit --out"
)
# what `python -m medbench` does, and then which of these it has imported
CODE = f"""import sys
from medbench.cli import main
try: main()
finally: print("\\nIMPORTED", *[name for name in {HEAVY!r} if name in sys.modules])"""


class Took(NamedTuple):
    """CPU seconds of each run; what was imported; the exit code."""

    seconds: list[float]
    imported: str
    code: int


def run(arguments: list[str], environment: Mapping[str, str], times: int) -> Took:
    """Run once to compile, and `times` times."""
    seconds = []
    for _ in range(times + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    *_, imported = ["", *done.stdout.split("\nIMPORTED")]
    return Took(seconds[1:], " ".join(imported.split()), done.returncode)


def commands(folder: Path) -> dict[str, tuple[list[str], float, int]]:
    """Name -> arguments, the seconds that it should stay under, its exit code."""
    rows = {
        name: len((RESULTS / name / "rows.jsonl").read_text().splitlines())
        for name in ("derm", "derm-standard")
    }
    return {
        "--help": (["--help"], 0.5, 0),
        "run --help": (["run", "--help"], 0.5, 0),
        "list tasks": (["list", "tasks"], 0.5, 0),
        "list methods": (["list", "methods"], 0.5, 0),
        "list encoders": (["list", "encoders"], 0.5, 0),
        "run --task drem": (["run", "--task", "drem"], 0.5, 2),
        "run --encoder resnet51": (["run", "--encoder", "resnet51"], 0.5, 2),
        "run with nothing to do": ([*NOTHING.split(), str(folder)], 1.0, 0),
        **{
            f"table results/{name} ({n} rows)": (["table", str(RESULTS / name)], 1.5, 0)
            for name, n in rows.items()
        },
        **{
            f"compare results/{name} --all": (["compare", str(RESULTS / name), "--all"], 1.0, 0)
            for name in rows
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    times = 1 if parser.parse_args().quick else 5
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "MEDBENCH_CACHE": str(Path(scratch, "cache"))}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        empty = statistics.median(run(["-c", ""], environment, times).seconds)
        print(f"{'an empty interpreter':<38} {empty:6.2f} s")
        for name, (arguments, under, code) in commands(Path(scratch, "out")).items():
            took = run(["-c", CODE, *arguments], environment, times)
            if took.code != code:
                raise SystemExit(f"medbench {name} ended with {took.code} instead of {code}")
            seconds = statistics.median(took.seconds)
            verdict = "" if seconds < under else f", not under {under}"
            heavy = f"   {took.imported}" if took.imported else ""
            print(
                f"{name:<38} {seconds:6.2f} s   {seconds / empty:5.1f} x{verdict}{heavy}",
                flush=True,
            )


if __name__ == "__main__":
    main()
