"""How much memory and time a plan takes, by the number of images.

    PYTHONPATH=. python benchmarks/speed/plan_scale.py [--images 100000,1000000] [--places]

A CSV file of so many images in five classes, three images a patient, one column of numbers and one
of words, and `medbench run --task folder:FILE.csv --labels 1,10,100 --plan` of it, in a process of
its own. The table is a real file. The images alone are made up: whether a file is there, and what
its bytes hash to, is answered from its name, so that a million files need not be written. All else
is the plan's own, the memory of content hashes on the disk included; `--again` plans a second time
with it.

--places: which line of medbench was at work when the memory grew.

Aim: a million images in less than 2 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from pathlib import Path
from stat import S_IFREG
from typing import Any


def table(file: Path, n: int) -> None:
    """path, label, group, age, site."""
    chance = random.Random(0)
    with file.open("w") as out:
        out.write("path,label,group,age,site\n")
        for i in range(n):
            patient = i // 3
            label = "abcde"[min(4, int(chance.expovariate(1)))]
            out.write(
                f"images/{i % 256:02x}/image_{i:07d}.png,{label},patient{patient:07d},"
                f"{20 + patient % 70},{'north south east west'.split()[patient % 4]}\n"
            )


def child(file: Path, places: bool) -> None:
    from medbench.cli import main
    from medbench.images import hashing

    def made_up(path: str, stored: Any) -> hashing.ReadFile:
        digest = hashlib.sha256(path.encode()).hexdigest()
        state = hashing.FileState(len(path), 1, 1, int(digest[:12], 16))
        return stored or hashing.ReadFile(state, digest, "png", True)

    def stat(self: Path, **given: Any) -> os.stat_result:
        if self.suffix != ".png":
            return there(self, **given)
        size = 20_000 + zlib.crc32(bytes(self)) % 40_000
        return os.stat_result((S_IFREG, 0, 0, 1, 0, 0, size, 0, 0, 0))

    there = Path.stat
    hashing._hash_file = made_up
    Path.stat = stat  # type: ignore[method-assign]
    grown: Counter[str] = Counter()
    if places:
        threading.Thread(
            target=watch, args=(threading.main_thread().ident, grown), daemon=True
        ).start()
    began, clock = time.process_time(), time.perf_counter()
    asked = ["--labels", "1,10,100", "--seeds", "3", "--plan"]
    sys.argv = ["medbench", "run", "--task", f"folder:{file}", *asked]
    with contextlib.suppress(SystemExit):
        main()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    cpu, wall = time.process_time() - began, time.perf_counter() - clock
    print(f"PEAK {most:.2f} GB, {cpu:.0f} s of CPU, {wall:.0f} s", flush=True)
    for place, megabytes in grown.most_common(12):
        print(f"  + {megabytes:5d} MB {place}")


def watch(thread: int | None, grown: Counter[str]) -> None:
    """Whose work the growth of the highest memory so far falls into."""
    most = 0
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        now = int(Path("/proc/self/statm").read_text().split()[1]) * page
        if now > most:
            frame = sys._current_frames().get(thread or 0)
            while frame is not None and "/medbench/" not in frame.f_code.co_filename:
                frame = frame.f_back
            if frame is not None:
                name = frame.f_code.co_filename.partition("/medbench/")[2]
                grown[f"{name}:{frame.f_lineno}"] += (now - most) >> 20
            most = now
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="100000,1000000")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--places", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        child(asked.one, asked.places)
        return
    for n in map(int, asked.images.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "listed.csv"
            table(file, n)
            for turn in range(1 + asked.again):
                command = [sys.executable, __file__, "--one", str(file)]
                command += ["--places"] if asked.places else []
                places = {"MEDBENCH_CACHE": f"{scratch}/cache", "OMP_NUM_THREADS": "1"}
                done = subprocess.run(
                    command,
                    cwd=scratch,
                    env={**os.environ, **places},
                    capture_output=True,
                    text=True,
                )
                told = done.stdout.partition("PEAK ")[2].rstrip()
                print(f"{n:,} images{', again' * turn}: {told or done.stderr[-1500:]}", flush=True)


if __name__ == "__main__":
    main()
