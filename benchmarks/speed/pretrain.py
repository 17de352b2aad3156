"""Does the pretraining loop cost more than its network? Views a second against the bare network, and against lightly's own transforms.

    uv run python benchmarks/speed/pretrain.py            # SimCLR, SwAV and DINO, the default encoder at 64 px
    uv run python benchmarks/speed/pretrain.py --quick    # SimCLR alone

First ratio: views a second of the loop over views a second of the bare forward and backward pass of the same network on one fixed batch
(aim: 0.7 on two cores, 0.8 on a GPU). Second and third: the loop's over those of the same steps on lightly's PIL transforms through a
DataLoader (aim: 2 on a CPU, without workers, as torch has all its cores; 5 on a GPU, a worker a core), from JPEGs of 600 x 450 pixels as a
data set has them, and from images that somebody has decoded and shrunk before. Measured in turns, medians of ROUNDS; about five minutes
on two cores.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightly.transforms import DINOTransform, SimCLRTransform, SwaVTransform
from PIL import Image

from medbench.methods.dino import DINO
from medbench.methods.simclr import SIMCLR
from medbench.methods.swav import SWAV
from medbench.models import encoders, pretrain, weights
from medbench.models.pretrain import Position, Recipe, loop

SIZE, SMALL, BATCH, STEPS, ROUNDS = 64, 32, 64, 6, 3
METHODS = {"simclr": SIMCLR, "swav": SWAV, "dino": DINO}
LIGHTLY: dict[str, Any] = {
    "simclr": lambda: SimCLRTransform(input_size=SIZE),
    "swav": lambda: SwaVTransform(crop_sizes=(SIZE, SMALL)),
    "dino": lambda: DINOTransform(global_crop_size=SIZE, local_crop_size=SMALL, n_local_views=8),
}


class Pictures(torch.utils.data.Dataset):
    """The images as lightly gets them: encoded as JPEG at HAM10000's own 600 x 450 pixels, or decoded and small already."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], list[torch.Tensor]], *, encoded: bool):
        self.pictures = [jpeg(one) if encoded else Image.fromarray(one) for one in pixels]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> list[torch.Tensor]:
        picture = self.pictures[i]
        return self.transform(Image.open(io.BytesIO(picture)).convert("RGB") if isinstance(picture, bytes) else picture)


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((600, 450), Image.Resampling.BICUBIC).save(stream, "jpeg", quality=90)
    return stream.getvalue()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bare(build: Callable[[], torch.nn.Module], recipe: Recipe, device: str) -> Callable[[], None]:
    """Forward and backward of the network alone on fixed batches of the recipe's sizes, STEPS times."""
    net = build().to(device).to(memory_format=torch.channels_last).train()
    groups: dict[int, int] = {}
    for crop in recipe.crops:
        groups[crop.pixels(SIZE)] = groups.get(crop.pixels(SIZE), 0) + crop.count * BATCH
    fixed = [torch.randn(n, 3, s, s, device=device).contiguous(memory_format=torch.channels_last) for s, n in groups.items()]

    def work() -> None:
        for _ in range(STEPS):
            sum(net(batch).square().mean() for batch in fixed).backward()
            net.zero_grad()

    return work


def ours(pixels: np.ndarray, build: Callable[[], torch.nn.Module], recipe: Recipe, device: str) -> Callable[[], None]:
    """STEPS steps of the loop as it is, the looks at its progress left out: they are counted in views of the whole run, not of six steps."""
    names = np.arange(len(pixels)).astype(str)
    recipe = recipe.having(views=round(STEPS * BATCH * recipe.views_an_image(SIZE)))

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            args = (pixels, np.arange(len(pixels)), names, names, None, build, (0.5,) * 3, (0.5,) * 3, SIZE, [recipe])
            pretrain.pretrain(*args, seed=0, folder=Path(folder), device=device)

    return work


def with_lightly(
    pixels: np.ndarray, build: Callable[[], torch.nn.Module], recipe: Recipe, name: str, device: str, *, encoded: bool
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same objective and optimiser, fed by lightly's transforms. Returns (work, close): its workers stay alive between rounds."""
    assert recipe.objective is not None
    backbone = build().to(device).to(memory_format=torch.channels_last)
    objective = recipe.objective(backbone, backbone(torch.zeros(2, 3, SIZE, SIZE, device=device)).shape[1], recipe).to(device).train()
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=recipe.lr)
    workers = os.cpu_count() or 1 if device == "cuda" else 0  # on a CPU torch has all cores
    data = Pictures(pixels, LIGHTLY[name](), encoded=encoded)
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)

    def endless() -> Iterator[list[torch.Tensor]]:
        while True:
            yield from loader

    batches = endless()

    def work() -> None:
        for step in range(STEPS):
            views = [view.to(device) for view in next(batches)]
            objective(views, Position(step, STEPS)).backward()
            optimiser.step()
            optimiser.zero_grad()
            objective.after_step(Position(step, STEPS))

    return work, batches.close


def measure(name: str, pixels: np.ndarray, device: str) -> None:
    encoder = encoders.encoder(encoders.EMBEDDED, SIZE)
    start = weights.supervised(encoder, Path(tempfile.gettempdir()))
    build = lambda: weights.build_encoder(encoder, start, 0)
    recipe = METHODS[name].recipes("", "quick", len(pixels), "imagenet+task")[0].having(freeze_norm=False, frozen=0.0)
    views = STEPS * BATCH * recipe.views_an_image(SIZE)
    peers = {word: with_lightly(pixels, build, recipe, name, device, encoded=word == "files") for word in ("files", "decoded")}
    works = {"bare": bare(build, recipe, device), "ours": ours(pixels, build, recipe, device), **{w: peer[0] for w, peer in peers.items()}}
    for work in works.values():
        work()
    times = [{key: seconds(work) for key, work in works.items()} for _ in range(ROUNDS)]
    for _, close in peers.values():
        close()
    rates = {key: views / statistics.median(t[key] for t in times) for key in works}
    words = {"bare": "over the bare network", "files": "over lightly's transforms of JPEGs", "decoded": "of small decoded images"}
    for other, word in words.items():
        ratios = [t[other] / t["ours"] for t in times]
        print(f"{name}, {device}: {rates['ours']:.0f} views/s, {rates[other]:.0f} {other}; {word} "
              f"{statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="SimCLR alone")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loop._look = lambda training, step: None
    pixels = np.random.default_rng(0).integers(0, 255, (512, 8, 8, 3), np.uint8).repeat(SIZE // 8, 1).repeat(SIZE // 8, 2)
    for name in ["simclr"] if parser.parse_args().quick else METHODS:
        measure(name, pixels, device)


if __name__ == "__main__":
    main()
