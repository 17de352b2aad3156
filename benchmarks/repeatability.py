"""How far do equal runs of a study lie apart? Other threads, Pythons and vector units; the spread becomes the tolerance of `medbench check`.

    python benchmarks/repeatability.py benchmarks/smoke.py results/smoke
    python benchmarks/repeatability.py benchmarks/smoke.py results/smoke --python PATH/OF/ANOTHER/python --python ...

Each environment runs the whole study with a cache of its own (smoke: about a minute each on two cores, smoke_pretraining three). The first,
with one thread on this Python, becomes the reference. Vector units are switched off one after the other, as an older or other processor
lacks them: torch's kernels (ATEN_CPU_CAPABILITY), MKL's (MKL_ENABLE_INSTRUCTIONS), oneDNN's (ONEDNN_MAX_CPU_ISA), numpy's own
(NPY_DISABLE_CPU_FEATURES) and OpenBLAS' (OPENBLAS_CORETYPE). At the end each run is checked with a tolerance from the other runs alone;
exit code 1 where one is red. Rows of real other machines are added with
`medbench check --measure --rows A --rows B ... --against results/smoke/rows.jsonl`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F",
    "OPENBLAS_CORETYPE": "Haswell",
}
SSE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
}
UNITS: dict[str, dict[str, str]] = {"native": {}, "AVX2": AVX2, "SSE4": SSE}


def environments(pythons: list[str]) -> list[tuple[str, int, str]]:
    """(Python, threads, vector units).

    All threads and units on this Python, one and two threads on the others.
    """
    here = [(sys.executable, threads, units) for units in UNITS for threads in (1, 2)]
    return here + [(python, threads, "native") for python in pythons for threads in (1, 2)]


def medbench(
    python: str,
    threads: int,
    units: str,
    cache: Path,
    *arguments: str,
    allowed: tuple[int, ...] = (0,),
) -> int:
    """The command's exit code. Raises CalledProcessError for one that is not allowed."""
    count = str(threads)
    own = {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    source = str(Path(__file__).resolve().parents[1])  # every Python runs this checkout
    environment = {
        **os.environ,
        **own,
        **UNITS[units],
        "MEDBENCH_CACHE": str(cache),
        "PYTHONPATH": source,
    }
    table = subprocess.DEVNULL if arguments[0] == "run" else None
    done = subprocess.run(
        [python, "-m", "medbench", *arguments],
        env=environment,
        stdout=table,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode not in allowed:
        done.check_returncode()
    return done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("reference", type=Path, help="folder of the committed reference")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        help="another interpreter that has the package's dependencies",
    )
    parser.add_argument(
        "--keep", type=Path, help="keep the runs here, and go on with those that are there"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.keep or Path(temporary)
        folders = []
        for i, (python, threads, units) in enumerate(environments(arguments.python)):
            folder, start = place / f"run{i}", time.perf_counter()
            medbench(
                python,
                threads,
                units,
                place / f"cache{i}",
                "run",
                arguments.study,
                "--device",
                "cpu",
                "--out",
                str(folder),
            )
            print(
                f"{python}, {threads} threads, {units}: {time.perf_counter() - start:.0f} s",
                flush=True,
            )
            folders.append(folder)
        rows = arguments.reference / "rows.jsonl"
        all_rows = [part for folder in folders for part in ("--rows", str(folder))]
        here = (sys.executable, 1, "native", place / "cache0")
        medbench(*here, "check", "--measure", *all_rows, "--against", str(rows))
        medbench(*here, "check", "--rows", str(folders[0]), "--against", str(rows), "--update")
        red = []
        for folder in folders:  # none may be judged by a spread that it is part of
            others = [other for other in folders if other != folder]
            own = place / "others" / "rows.jsonl"
            medbench(
                *here,
                "check",
                "--measure",
                *(part for other in others for part in ("--rows", str(other))),
                "--against",
                str(own),
            )
            medbench(*here, "check", "--rows", str(others[0]), "--against", str(own), "--update")
            if medbench(
                *here, "check", "--rows", str(folder), "--against", str(own), allowed=(0, 1)
            ):
                red.append(folder.name)
    if red:
        sys.exit(
            f"{', '.join(red)}: red by the spread of the others. A new machine may be too: measure more, or say so beside the study."
        )


if __name__ == "__main__":
    main()
