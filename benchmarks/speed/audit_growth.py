"""How the search for copies grows with the number of images.

CPU seconds, and the exponent between the smallest and the largest set.

    python benchmarks/speed/audit_growth.py                  # a minute and a half
    python benchmarks/speed/audit_growth.py --quick          # a quarter of all numbers
    MEDBENCH_DATA=... python benchmarks/speed/audit_growth.py --real     # images of a folder, too

First the near hashes alone: of unrelated images, and of films, whose bits mostly are those of one
anatomy (two agree in three of four, as in real chest films). The search for copies takes pairs,
nearest first, until `Effort.patience` are none, so that many are taken here; "all near" takes all
four of each image, which is what a search does that does not know when to stop. Then the votes of
points, drawn without any that are alike, 128 an image. Then every stage of `duplicates.near` but
decoding, on noise of one spectrum of which one image in a hundred is a mirrored copy.

Measured on 2026-12-01 (two cores shared with up to eight other processes): the votes of points took
25.5 s of 5,000 images and 62.2 of 10,000 (n^1.29) before points of one part lay side by side and
votes were ranked by one sort of integers; since then 11.8 and 25.5 (n^1.11).
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from medbench.audit.dataset import candidate_pairs, duplicates, local_points
from medbench.images.squeezing import squeeze
from medbench.system.progress_listener import calling

FILMS = 1.47  # spread of the mean picture's frequencies over that of one film's: see above
ASKED = {"a plan's": duplicates.QUICK, "an audit's": duplicates.Effort()}


def codes(kind: str, n: int) -> np.ndarray:
    """(8, n, 63) bool."""
    rng = np.random.default_rng(0)
    anatomy = FILMS * rng.normal(size=(8, 8)) if kind == "films" else 0.0
    return candidate_pairs.codes(anatomy + rng.normal(size=(n, 8, 8)).astype(np.float32))


def of_hashes(counts: Sequence[int], most: int) -> None:
    """Seconds until as many pairs were given as a search for copies takes that finds none; of all
    pairs for sets of `most` images at most."""
    for kind in ("unrelated", "films"):
        drawn = codes(kind, max(counts))
        for name, effort in ASKED.items():
            for pairs, sizes in (
                (effort.patience, counts),
                (None, [n for n in counts if n <= most]),
            ):
                seconds = {}
                for n in sizes:
                    near = candidate_pairs.NearHashes(drawn[:, :n], np.arange(n), effort.far)
                    began = time.process_time()
                    given = sum(1 for _ in islice(near, pairs))
                    seconds[n] = time.process_time() - began
                asked = f"the nearest {pairs}" if pairs else "all near"
                show(f"{kind}, {name}: {asked} ({given})", seconds)


def of_points(counts: Sequence[int]) -> None:
    """Seconds in which points vote, and which pairs they vote for is found."""
    seconds = {}
    for n in counts:
        random = torch.Generator().manual_seed(0)
        drawn = torch.randn(n * local_points.POINTS, 40, generator=random)
        points = torch.nn.functional.normalize(drawn, dim=1).half()
        owner = torch.arange(n).repeat_interleave(local_points.POINTS).int()
        began = time.process_time()
        local_points.voted_for(points, owner, torch.arange(n), neighbours=4)
        seconds[n] = time.process_time() - began
    show("points, drawn", seconds)


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
    return found


def with_copies(whole: np.ndarray, n: int) -> np.ndarray:
    """n images, the last one in a hundred of which are the first ones mirrored."""
    copies = n // 100
    return np.concatenate([whole[: n - copies], whole[:copies, :, ::-1]])


def stages(images: np.ndarray, effort: duplicates.Effort) -> dict[str, float]:
    """Stage -> CPU seconds from a report of it to the next one of another; "total"."""
    marks: list[tuple[str, float]] = [("hashing", time.process_time())]

    def heard(stage: str, *_: object) -> None:
        if stage != marks[-1][0]:
            marks.append((stage, time.process_time()))

    with calling(heard):
        found = duplicates.near(images, np.arange(len(images)), effort)
    marks.append(("", time.process_time()))
    seconds: dict[str, float] = defaultdict(float)
    for (stage, began), (_, ended) in pairwise(marks):
        seconds[stage] += ended - began
    seconds["total"] = marks[-1][1] - marks[0][1]
    copies = sum(pair.kind == "near" for pair in found.pairs)
    print(f"{len(images):6d} images: {copies} copies, {found.aligned} pairs aligned", flush=True)
    return seconds


def of_stages(sets: Mapping[int, np.ndarray], effort: duplicates.Effort) -> None:
    rows = {n: stages(images, effort) for n, images in sets.items()}
    for stage in next(iter(rows.values())):
        show(stage, {n: row.get(stage, 0.0) for n, row in rows.items()})


def show(name: str, seconds: Mapping[int, float]) -> None:
    if len(seconds) < 2:
        return
    (few, first), *_, (many, last) = seconds.items()
    exponent = np.log(max(last, 1e-9) / max(first, 1e-9)) / np.log(many / few)
    each = "  ".join(f"{n}: {value:.2f}" for n, value in seconds.items())
    print(f"{name:<48} {each}   n^{exponent:.2f}", flush=True)


def real(folder: Path, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each data set with a thousand images or more: all of them in one order."""
    for data in sorted(place for place in folder.iterdir() if place.is_dir()):
        files = sorted(file for file in data.rglob("*") if file.suffix in (".jpg", ".jpeg", ".png"))
        if len(files) >= 1000:
            yield data.name, np.stack([squeeze(file, size, "bicubic") for file in files])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hashes", default="5000,10000,20000,40000,80000")
    parser.add_argument("--points", default="2500,5000,10000", help="images that have points")
    parser.add_argument("--images", default="1000,2000,5000")
    parser.add_argument("--all", type=int, default=20_000, help="images whose near pairs all are")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="a quarter of all these numbers")
    parser.add_argument("--real", action="store_true", help="images where MEDBENCH_DATA points")
    options = parser.parse_args()
    hashes, points, images = (
        [int(n) // (4 if options.quick else 1) for n in given.split(",") if n]
        for given in (options.hashes, options.points, options.images)
    )
    torch.set_num_threads(1)
    if hashes:
        of_hashes(hashes, options.all // (4 if options.quick else 1))
    of_points(points)
    if not images:
        return
    whole = pack(max(images), options.size)
    # imports and first calls
    duplicates.near(whole[:64], np.arange(64), duplicates.Effort(random=16))
    of_stages({n: with_copies(whole, n) for n in images}, duplicates.Effort())
    if options.real:
        for name, all_of_it in real(Path(os.environ["MEDBENCH_DATA"]), 2 * options.size):
            print(f"{name}, as a plan looks")
            n = len(all_of_it)
            of_stages(
                {n // 4: all_of_it[::4], n // 2: all_of_it[::2], n: all_of_it}, ASKED["a plan's"]
            )


if __name__ == "__main__":
    main()
