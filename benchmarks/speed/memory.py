"""How much memory the work on very many images takes, and what of it takes long.

    PYTHONPATH=. python benchmarks/speed/memory.py [--parts plan,probe,...] [--images 100000]

Each part is a process of its own, whose peak is told.

plan: `medbench run --task folder:FILE.csv --labels 1,10,100 --plan`. The table is a real file: five
classes, three images a patient, a column of numbers and one of words. The images alone are made up:
whether a file is there, its size, and what its bytes hash to, is answered from its name, so that a
million files need not be written. All else is the plan's own, the memory of content hashes on the
disk included. Aim: a million images in less than 2 GB.

probe: the linear protocol on so many feature vectors of 256 float32, with all labels. Iterations are
cut short: they take no memory. Told in bytes a value of the features, which themselves are left out.
probe-in-blocks: the same, as of more than 2^28 values.

fine-tune: MODERN on a pack of so many images of 32 px, which lies on the disk. What is told leaves
out the pages of that file, which the system takes back when it wants to.

--places: which line of medbench was at work when the memory grew, and where the time went.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from stat import S_IFREG
from typing import Any

COLUMNS, SIZE = 256, 32


# -- the work, each in a process of its own
# --------------------------------------------------------------------------------------------------


def table(file: Path, n: int) -> None:
    """path, label, group, age, site."""
    chance, sites = random.Random(0), ("north", "south", "east", "west")
    with file.open("w") as out:
        out.write("path,label,group,age,site\n")
        for i in range(n):
            patient = i // 3
            label = "abcde"[min(4, int(chance.expovariate(1)))]
            out.write(
                f"images/{i % 256:02x}/image_{i:07d}.png,{label},patient{patient:07d},"
                f"{20 + patient % 70},{sites[patient % 4]}\n"
            )


def plan(n: int, folder: Path) -> None:
    from medbench.cli import main
    from medbench.images import hashing

    def read(path: str, stored: Any) -> hashing.ReadFile:
        digest = hashlib.sha256(path.encode()).hexdigest()
        state = hashing.FileState(len(path), 1, 1, int(digest[:12], 16))
        return stored or hashing.ReadFile(state, digest, "png", True)

    def stat(self: Path, **given: Any) -> os.stat_result:
        if self.suffix != ".png":
            return there(self, **given)
        size = 20_000 + zlib.crc32(bytes(self)) % 40_000
        return os.stat_result((S_IFREG, 0, 0, 1, 0, 0, size, 0, 0, 0))

    there = Path.stat
    hashing._hash_file = read
    Path.stat = stat  # type: ignore[method-assign]
    asked = ["--labels", "1,10,100", "--seeds", "3", "--plan"]
    sys.argv = ["medbench", "run", "--task", f"folder:{folder}/listed.csv", *asked]
    with contextlib.suppress(SystemExit):
        main()


def probe(n: int, folder: Path) -> None:
    import numpy as np
    import torch

    from medbench.protocols import linear
    from medbench.schema import Train

    torch.set_num_threads(1)
    linear.MAX_ITERATIONS = 3
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, COLUMNS), np.float32)
    labels, names = rng.integers(0, 5, n), np.arange(n).astype(str)
    given = Train(x, labels, names, "multiclass", 5, "cpu", divided=[True])
    began()
    list(linear.evaluate(given, {"t": x[:1000]}, [np.arange(n)]))


def probe_in_blocks(n: int, folder: Path) -> None:
    """As of more than 2^28 values, however few there are."""
    from medbench.models.logistic import spaces

    spaces.LARGE = 0
    probe(n, folder)


def fine_tune(n: int, folder: Path) -> None:
    import numpy as np
    import timm
    import torch

    from medbench.models.finetune import MODERN
    from medbench.protocols import finetune, linear
    from medbench.schema import Network, Train

    torch.set_num_threads(1)
    linear.MAX_ITERATIONS = 3
    half = (0.5, 0.5, 0.5)
    pixels = np.lib.format.open_memmap(folder / "pack.npy", "w+", np.uint8, (n, SIZE, SIZE, 3))
    build = lambda: timm.create_model("test_resnet", num_classes=0).eval()
    network = Network(build, None, SIZE, half, half, "dermoscopy", "fp32")
    recipe = replace(MODERN, steps=20, epochs=0.0, rates=(1e-4,), evaluations=1, probe=False)
    labels, names = np.arange(n) % 5, np.arange(n).astype(str)
    more = {"seeds": [0], "folders": [folder], "network": network}
    given = Train(pixels, labels, names, "multiclass", 5, "cpu", **more)
    began()
    list(finetune.evaluate(given, {"t": pixels[:1000]}, [np.arange(n)], recipe=recipe))


PARTS = {
    "plan": plan,
    "probe": probe,
    "probe-in-blocks": probe_in_blocks,
    "fine-tune": fine_tune,
}
#: Bytes an image of the data beside which the peak is told.
BYTES = {"probe": 4 * COLUMNS, "probe-in-blocks": 4 * COLUMNS, "fine-tune": 3 * SIZE**2}


# -- how much it takes
# --------------------------------------------------------------------------------------------------

start = [0]


def began() -> None:
    """What is there by now is no part of it."""
    start[0] = taken()


def taken() -> int:
    """Bytes of memory of this process, without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10


def watch(thread: int | None, most: list[int], grown: Counter[str], spent: Counter[str]) -> None:
    """Whose work the growth of the highest memory so far falls into, and the time."""
    while True:
        now = taken()
        frame = sys._current_frames().get(thread or 0)
        while frame is not None and "/medbench/" not in frame.f_code.co_filename:
            frame = frame.f_back
        if frame is not None:
            name = frame.f_code.co_filename.rpartition("/medbench/")[2]
            place = f"{name}:{frame.f_lineno}"
            spent[place] += 1
            grown[place] += max(0, now - most[0])
        most[0] = max(most[0], now)
        time.sleep(0.05)


def child(part: str, n: int, folder: Path, places: bool) -> None:
    most, grown, spent = [0], Counter[str](), Counter[str]()
    one = threading.main_thread().ident
    threading.Thread(target=watch, args=(one, most, grown, spent), daemon=True).start()
    clock = time.process_time()
    PARTS[part](n, folder)
    peak, seconds = most[0] - start[0], time.process_time() - clock
    beside = ""
    if part in BYTES:
        whole = BYTES[part] * n
        beside = (
            f" above the {start[0] / 1e9:.2f} GB that were there; the data are {whole / 1e9:.2f} GB"
        )
        beside += f", so {4 * peak / whole:.1f} bytes a value" * part.startswith("probe")
    print(f"PEAK {peak / 1e9:.2f} GB{beside}; {seconds:.0f} s of CPU", flush=True)
    for place, size in grown.most_common(14 if places else 0):
        print(f"  + {size >> 20:5d} MB {place}")
    for place, times in spent.most_common(10 if places else 0):
        print(f"  {times / sum(spent.values()):5.0%} of the time {place}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--places", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        child(asked.one, asked.images, asked.folder, asked.places)
        return
    for part in asked.parts.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            table(Path(scratch) / "listed.csv", asked.images if part == "plan" else 0)
            command = [sys.executable, __file__, "--one", part, "--folder", scratch]
            command += ["--images", str(asked.images), *["--places"] * asked.places]
            places = {"MEDBENCH_CACHE": f"{scratch}/cache", "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                command, cwd=scratch, env={**os.environ, **places}, capture_output=True, text=True
            )
            told = done.stdout.partition("PEAK ")[2].rstrip() or done.stderr[-1500:]
            print(f"{part}, {asked.images:,} images: {told}", flush=True)


if __name__ == "__main__":
    main()
