"""How the search for copies grows with the number of images.

Seconds of each stage, and the exponent between the smallest and the largest set.

    python benchmarks/speed/audit_growth.py [--images 1000,2000,5000,10000] [--size 32]

Images are noise of one spectrum, one in a hundred a mirrored copy: what is timed is
`duplicates.near`, all but decoding. CPU seconds.

Found with --images 1000,3000,10000 on one thread of a busy x86-64 server with two cores: 5.3, 13.9
and 51.0 s in all, n^0.98 (comparing points n^1.23, 32 s; describing them n^1.14, 15 s; comparing
hashes n^0.52, 1 s), and all 10, 30 and 100 copies.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from itertools import pairwise

import numpy as np
from scipy import ndimage

from medbench.audit.dataset import duplicates
from medbench.system.progress_listener import calling


def pack(n: int, size: int) -> np.ndarray:
    """(n, size, size, 3) uint8."""
    rng = np.random.default_rng(0)
    found = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        parts = [
            ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), width) * width
            for width in (0.8, 2, 5)
        ]
        found[i] = np.clip(128 + 40 * sum(parts), 0, 255)[..., None]
    copies = n // 100
    found[n - copies :] = found[:copies, :, ::-1]
    return found


def timed(images: np.ndarray) -> dict[str, float]:
    """Stage -> seconds from the first report of it to the first one of the next; "total"."""
    marks: list[tuple[str, float]] = [("hashing", time.process_time())]

    def heard(stage: str, *_: object) -> None:
        if stage != marks[-1][0]:
            marks.append((stage, time.process_time()))

    with calling(heard):
        found = duplicates.near(images, np.arange(len(images)), duplicates.Effort())
    marks.append(("", time.process_time()))
    seconds: dict[str, float] = defaultdict(float)
    for (stage, began), (_, ended) in pairwise(marks):
        seconds[stage] += ended - began
    seconds["total"] = marks[-1][1] - marks[0][1]
    print(
        f"{len(images):6d} images: {sum(pair.kind == 'near' for pair in found.pairs)} of {len(images) // 100} copies, {found.aligned} pairs aligned"
    )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", default="1000,2000,5000,10000")
    parser.add_argument("--size", type=int, default=32)
    options = parser.parse_args()
    counts = [int(n) for n in options.images.split(",")]
    whole = pack(max(counts), options.size)
    # imports and first calls
    duplicates.near(whole[:64], np.arange(64), duplicates.Effort(random=16))
    rows = {
        n: timed(np.concatenate([whole[: n - n // 100], whole[: n // 100, :, ::-1]]))
        for n in counts
    }
    for stage in rows[counts[0]]:
        seconds = [rows[n][stage] for n in counts]
        exponent = np.log(max(seconds[-1], 1e-9) / max(seconds[0], 1e-9)) / np.log(
            counts[-1] / counts[0]
        )
        print(f"{stage:24s}", " ".join(f"{value:8.1f}" for value in seconds), f"  n^{exponent:.2f}")


if __name__ == "__main__":
    main()
