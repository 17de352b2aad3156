"""Does anything beside the encoder cost time or memory? Packing and embedding, each against its own
floor, in one run.

    uv run python benchmarks/speed/embed.py            # 10,000 drawn JPEGs, the default encoder at 112 px
    uv run python benchmarks/speed/embed.py --quick    # 2,000: a minute of one core
    uv run python benchmarks/speed/embed.py --bare --encoder resnet50 --size 224 --precision bf16 --images 20000    # embedding alone, of random pixels

Files are of the sizes that data sets have: dermoscopic JPEGs of 600 x 450 pixels (HAM10000), chest
films of 1,024 x 1,024 in grey PNGs (NIH). Expected: embedding from the pack at 0.9 of the bare
forward pass or more (same encoder, batch and threads); packing with one worker, its checksums and
syncs among it, at 0.9 of a loop over Pillow that keeps nothing, or faster where the decoder reads a
large JPEG at a half; packing with all cores, as many times as fast as there are; anonymous memory
the same for four times as many images. What is divided was measured in turns.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import options
import torch
from PIL import Image

from medbench import images
from medbench.models import features
from medbench.system.precision import autocast, products

SIZE = 112


class Kind(NamedTuple):
    """How the files of a data set are."""

    size: tuple[int, int]
    mode: str
    file_format: str


KINDS = {
    "JPEGs of 600 x 450": Kind((600, 450), "RGB", "jpeg"),
    "grey PNGs of 1,024 x 1,024": Kind((1024, 1024), "L", "png"),
}


def make_files(folder: Path, n: int, kind: Kind, different: int = 50) -> list[Path]:
    """n files, so many of them with pixels of their own, the others with bytes behind the end mark:
    another file, the same pixels."""
    rng = np.random.default_rng(0)
    originals = []
    for _ in range(different):
        coarse = Image.fromarray(rng.integers(0, 255, (15, 20, 3), np.uint8)).convert(kind.mode)
        smooth = np.asarray(coarse.resize(kind.size, Image.Resampling.BICUBIC)).astype(float)
        grain = rng.normal(0, 4, smooth.shape)  # without which a PNG would hardly be one to decode
        stream = io.BytesIO()
        picture = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
        picture.save(stream, kind.file_format, quality=90)
        originals.append(stream.getvalue())
    files = []
    for i in range(n):
        file = folder / f"{i:05d}.{kind.file_format}"
        file.write_bytes(originals[i % different] + str(i).encode())
        files.append(file)
    return files


def anonymous_mb() -> float:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no RssAnon: this benchmark needs Linux")


class Took(NamedTuple):
    """Seconds on the clock, and of this process's CPU time."""

    wall: float
    cpu: float


def took(work: Callable[[], object]) -> Took:
    start, busy = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - start, time.process_time() - busy)


def bare_forward(
    net: torch.nn.Module, batch: torch.Tensor, times: int, device: str, precision: str
) -> None:
    with torch.inference_mode(), products(precision), autocast(device, precision):
        for _ in range(times):
            out = net(batch).float()
        out.cpu()


def affordable(n: int, seconds: float, asked: argparse.Namespace) -> tuple[int, int]:
    """Images, of n, and turns of `embedding_ratio` that fit into so many seconds: five, or one of a
    slow encoder. Three batches at least."""
    encoder, build = options.encoder_of(asked)
    net = build().to(asked.device).to(memory_format=torch.channels_last)
    batch = torch.zeros(features.BATCH, 3, encoder.size, encoder.size, device=asked.device)
    each = options.seconds(
        lambda: bare_forward(net, batch, 1, asked.device, asked.precision), asked.device, 1, 1
    )
    for turns in (5, 1):
        batches = int(seconds / each / (2 * turns + 1))
        if batches >= 8:
            break
    return min(n, max(3, batches) * features.BATCH), turns


def embedding_ratio(
    pack: images.Pixels, n: int, asked: argparse.Namespace, turns: int = 5
) -> tuple[float, float]:
    """Images a second from the pack, and over images a second of the bare forward pass in the same
    precision: medians of turns of each."""
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
    for _ in range(turns):
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


def packing_ratio(files: list[Path], scratch: Path, name: str, turns: int) -> None:
    """One worker and all cores against a loop over Pillow, in turns; each packs into a new cache."""
    hashes = images.content_hashes(files, scratch)

    def packed(workers: int | None) -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            images.pack(files, hashes, SIZE, "bicubic", Path(cache), workers=workers)

    works: dict[str, Callable[[], object]] = {
        "plain": lambda: [squeezed(file) for file in files],
        "one": lambda: packed(1),
        "all": lambda: packed(None),
    }
    times = [{key: took(work) for key, work in works.items()} for _ in range(turns)]
    plain, busy, every = (
        sorted(ratios)
        for ratios in (
            [time["plain"].wall / time["one"].wall for time in times],
            [time["plain"].cpu / time["one"].cpu for time in times],
            [time["one"].wall / time["all"].wall for time in times],
        )
    )
    rate = len(files) / statistics.median(time["one"].wall for time in times)
    print(
        f"packing {len(files)} {name}: {rate:.0f} images/s with one worker, "
        f"{statistics.median(plain):.2f} of a loop over Pillow that keeps nothing "
        f"(from {plain[0]:.2f} to {plain[-1]:.2f}; by CPU time {statistics.median(busy):.2f}); "
        f"on all {cores()} cores {statistics.median(every):.2f} times that "
        f"(from {every[0]:.2f} to {every[-1]:.2f})",
        flush=True,
    )


def cores() -> int:
    return (
        os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    ) or 1


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
    n, turns = (2_000, 2) if asked.quick else (10_000, 5)
    with tempfile.TemporaryDirectory() as scratch:
        if asked.bare:
            pixels = random_pixels(Path(scratch), asked.images, asked.size)
            embedding_ratio(pixels, asked.images, asked, turns)
            return
        folder, cache = Path(scratch, "images"), Path(scratch, "cache")
        cache.mkdir()
        made = {}
        for i, (name, kind) in enumerate(KINDS.items()):
            place = folder / str(i)
            place.mkdir(parents=True)
            jpeg = kind.file_format == "jpeg"
            made[name] = make_files(place, 4 * n if jpeg else n // 20, kind)
            packing_ratio(made[name][: n // 4 if jpeg else n // 20], cache, name, turns)
        files = next(iter(made.values()))
        few = min(n // 4, 2_000)
        pack = images.pack(
            files[:few], images.content_hashes(files[:few], cache), SIZE, "bicubic", cache
        )
        at = argparse.Namespace(**{**vars(asked), "size": SIZE})
        embedding_ratio(pack, few, at, turns)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
            small, large = pool.map(_memory, [(files, cache, n), (files, cache, 4 * n)])
        print(f"anonymous memory: {small:.0f} MB with {n} images, {large:.0f} MB with {4 * n}")


if __name__ == "__main__":
    main()
