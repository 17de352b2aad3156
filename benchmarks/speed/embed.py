"""Does anything beside the encoder cost time or memory? Packing and embedding, each against its own
floor, in one run.

    uv run python benchmarks/speed/embed.py            # 10,000 drawn JPEGs, the default encoder at 112 px
    uv run python benchmarks/speed/embed.py --quick    # 2,000
    uv run python benchmarks/speed/embed.py --bare --encoder resnet50 --size 224 --precision bf16 --images 20000    # embedding alone, of random pixels

Expected: embedding from the pack at 0.9 of the bare forward pass or more (same encoder, batch and
threads, measured in turns); packing, with its syncs, at about 0.75 of a loop over Pillow, on all
cores; anonymous memory the same for four times as many images.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import options
import torch
from PIL import Image

from medbench import images
from medbench.models import features
from medbench.system.precision import autocast, products

SIZE = 112


def make_jpegs(folder: Path, n: int) -> list[Path]:
    """JPEGs of 600 x 450 pixels, HAM10000's own size: 50 different ones, the others copies with
    another first comment."""
    rng = np.random.default_rng(0)
    originals = []
    for i in range(50):
        coarse = rng.integers(0, 255, (15, 20, 3), np.uint8)
        file = folder / f"original{i}.jpg"
        Image.fromarray(coarse).resize((600, 450), Image.Resampling.BICUBIC).save(file, quality=90)
        originals.append(file.read_bytes())
    files = []
    for i in range(n):
        file = folder / f"{i:05d}.jpg"
        # bytes behind the end mark: another file, the same pixels
        file.write_bytes(originals[i % 50] + str(i).encode())
        files.append(file)
    return files


def anonymous_mb() -> float:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no RssAnon: this benchmark needs Linux")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare_forward(
    net: torch.nn.Module, batch: torch.Tensor, times: int, device: str, precision: str
) -> None:
    with torch.inference_mode(), products(precision), autocast(device, precision):
        for _ in range(times):
            out = net(batch).float()
        out.cpu()


def embedding_ratio(pack: images.Pixels, n: int, asked: argparse.Namespace) -> tuple[float, float]:
    """Images a second from the pack, and over images a second of the bare forward pass in the same
    precision: medians of five turns of each."""
    device, precision = asked.device, asked.precision
    encoder, build = options.encoder_of(asked)
    net = build()
    index = np.arange(n // features.BATCH * features.BATCH)
    batch = next(images.batches(pack, index, features.BATCH, device, encoder.mean, encoder.std))
    run = lambda: [
        len(values) for values in features.forward(net, pack, index, encoder, device, precision)
    ]
    run()
    ratios, rates = [], []
    for _ in range(5):
        bare = options.seconds(
            lambda: bare_forward(net, batch, len(index) // features.BATCH, device, precision),
            device,
        )
        ours = options.seconds(run, device)
        ratios.append(bare / ours)
        rates.append(len(index) / ours)
    middle, rate = statistics.median(ratios), statistics.median(rates)
    about = f"embedding, {asked.encoder}@{asked.size} {precision}, {device}: {rate:.0f} images/s"
    print(
        f"{about}; over the bare forward pass {middle:.3f} (from {min(ratios):.3f} to {max(ratios):.3f})",
        flush=True,
    )
    return rate, middle


@dataclass(frozen=True, eq=False)
class RandomPixels:
    """n images on the disk, in the machine's page cache, which are read as a pack is."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)


def random_pixels(folder: Path, n: int, size: int) -> RandomPixels:
    out = np.lib.format.open_memmap(folder / f"{size}.npy", "w+", np.uint8, (n, size, size, 3))
    block = np.random.default_rng(0).integers(0, 255, (256, size, size, 3), np.uint8)
    for start in range(0, n, 256):
        out[start : start + 256] = block[: len(out[start : start + 256])]
    return RandomPixels(out)


def squeezed(file: Path) -> np.ndarray:
    """What a plain loop makes of a file."""
    with Image.open(file) as opened:
        return np.asarray(opened.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def packing_ratio(files: list[Path], cache: Path) -> images.Pack:
    """Seconds with one worker over seconds with all cores: the number of cores at best."""
    hashes = images.content_hashes(files, cache)
    few = len(files) // 4
    one = (
        seconds(
            lambda: images.pack(
                files[:few], hashes[:few], SIZE, "bicubic", cache / "one", workers=1
            )
        )
        * 4
    )
    cores = (
        os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    )
    plain = seconds(lambda: [squeezed(file) for file in files[:few]]) * 4
    print(f"packing on one core: {plain / one:.2f} of a loop over Pillow that keeps nothing")
    start = time.perf_counter()
    pack = images.pack(files, hashes, SIZE, "bicubic", cache)
    every = time.perf_counter() - start
    print(
        f"packing: {len(files) / every:.0f} images/s on {cores} cores, {one / every:.2f} times one worker (a quarter, extrapolated)"
    )
    return pack


def _memory(arguments: tuple[list[Path], Path, int]) -> float:
    """Anonymous memory after packing and reading through n images, in a process of its own."""
    files, cache, n = arguments
    pack = images.pack(files[:n], images.content_hashes(files[:n], cache), SIZE, "bicubic", cache)
    for batch in images.batches(pack, np.arange(n), features.BATCH, "cpu", (0.5,) * 3, (0.5,) * 3):
        batch.mean()
    return anonymous_mb()


def main() -> None:
    parser = options.parser(__doc__, SIZE)
    parser.add_argument("--quick", action="store_true", help="2,000 images instead of 10,000")
    parser.add_argument("--bare", action="store_true", help="embedding alone, of random pixels")
    parser.add_argument("--images", type=int, default=2_000, help="with --bare")
    asked = parser.parse_args()
    n = 2_000 if asked.quick else 10_000
    with tempfile.TemporaryDirectory() as scratch:
        if asked.bare:
            embedding_ratio(
                random_pixels(Path(scratch), asked.images, asked.size), asked.images, asked
            )
            return
        folder, cache = Path(scratch, "images"), Path(scratch, "cache")
        for place in (folder, cache, cache / "one"):
            place.mkdir()
        files = make_jpegs(folder, 4 * n)
        pack = packing_ratio(files[:n], cache)
        embedding_ratio(pack, min(n, 2_000), argparse.Namespace(**{**vars(asked), "size": SIZE}))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
            small, large = pool.map(_memory, [(files, cache, n), (files, cache, 4 * n)])
        print(f"anonymous memory: {small:.0f} MB with {n} images, {large:.0f} MB with {4 * n}")


if __name__ == "__main__":
    main()
