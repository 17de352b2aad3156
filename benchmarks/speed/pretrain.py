"""Does the pretraining loop cost more than its network? Views a second against the bare network,
and against lightly's own transforms.

    uv run python benchmarks/speed/pretrain.py            # SimCLR, SwAV and DINO, the default encoder at 64 px
    uv run python benchmarks/speed/pretrain.py --quick    # SimCLR alone
    uv run python benchmarks/speed/pretrain.py --device cuda --encoder resnet50 --size 224 --precision bf16 --alone    # without lightly

First ratio: views a second of the loop over views a second of the bare forward and backward pass of
the same network on one fixed batch (aim: 0.7 on two cores, 0.8 on a GPU). Second and third: the
loop's over those of the same steps on lightly's PIL transforms through a DataLoader (aim: 2 on a
CPU, without workers, as torch has all its cores; 5 on a GPU, a worker a core), from JPEGs of 600 x
450 pixels as a data set has them, and from images that somebody has decoded and shrunk before.
Measured in turns, medians of ROUNDS; about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import options
import torch
from PIL import Image
from training_steps import bare_pretraining, pixels_of, pretraining

from medbench.methods.dino import DINO
from medbench.methods.simclr import SIMCLR
from medbench.methods.swav import SWAV
from medbench.models.pretrain import Position, Recipe
from medbench.system.precision import autocast, products

BATCH, STEPS, ROUNDS = 64, 6, 3
METHODS = {"simclr": SIMCLR, "swav": SWAV, "dino": DINO}


def lightlys(name: str, recipe: Recipe, size: int) -> Any:
    """lightly's own transform of a method."""
    from lightly.transforms import DINOTransform, SimCLRTransform, SwaVTransform

    if name == "simclr":
        return SimCLRTransform(input_size=size)
    small = recipe.crops[-1].pixels(size)
    if name == "swav":
        return SwaVTransform(crop_sizes=(size, small))
    return DINOTransform(global_crop_size=size, local_crop_size=small, n_local_views=8)


class Pictures(torch.utils.data.Dataset):
    """The images as lightly gets them.

    Encoded as JPEG at HAM10000's own 600 x 450 pixels, or decoded and small already.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        transform: Callable[[Image.Image], list[torch.Tensor]],
        *,
        encoded: bool,
    ):
        self.pictures = [jpeg(one) if encoded else Image.fromarray(one) for one in pixels]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> list[torch.Tensor]:
        picture = self.pictures[i]
        return self.transform(
            Image.open(io.BytesIO(picture)).convert("RGB")
            if isinstance(picture, bytes)
            else picture
        )


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((600, 450), Image.Resampling.BICUBIC).save(
        stream, "jpeg", quality=90
    )
    return stream.getvalue()


def with_lightly(
    pixels: np.ndarray,
    build: Callable[[], torch.nn.Module],
    recipe: Recipe,
    name: str,
    asked: argparse.Namespace,
    *,
    encoded: bool,
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same objective and optimiser, fed by lightly's transforms.

    Returns (work, close): its workers stay alive between rounds.
    """
    assert recipe.objective is not None
    device = asked.device
    backbone = build().to(device).to(memory_format=torch.channels_last)
    dim = backbone(torch.zeros(2, 3, asked.size, asked.size, device=device)).shape[1]
    objective = recipe.objective(backbone, dim, recipe).to(device).train()
    optimiser = torch.optim.AdamW(
        [p for p in objective.parameters() if p.requires_grad], lr=recipe.lr
    )
    workers = os.cpu_count() or 1 if device != "cpu" else 0  # on a CPU torch has all cores
    data = Pictures(pixels, lightlys(name, recipe, asked.size), encoded=encoded)
    loader = torch.utils.data.DataLoader(
        data,
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def endless() -> Iterator[list[torch.Tensor]]:
        while True:
            yield from loader

    batches = endless()

    def work() -> None:
        for step in range(STEPS):
            views = [view.to(device) for view in next(batches)]
            with products(asked.precision), autocast(device, asked.precision):
                loss = objective(views, Position(step, STEPS))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            objective.after_step(Position(step, STEPS))

    return work, batches.close


def measure(name: str, asked: argparse.Namespace) -> None:
    _, build = options.encoder_of(asked)
    recipe, training, step = pretraining(
        METHODS[name], build, asked.size, asked.batch, asked.device, asked.precision
    )
    bare = bare_pretraining(training, recipe, asked.size, asked.batch)
    views = STEPS * asked.batch * recipe.views_an_image(asked.size)
    words = () if asked.alone else ("files", "decoded")
    peers = {
        word: with_lightly(
            pixels_of(512, asked.size), build, recipe, name, asked, encoded=word == "files"
        )
        for word in words
    }
    works: dict[str, Callable[[], object]] = {
        "bare": lambda: [bare() for _ in range(STEPS)],
        "ours": lambda: [step() for _ in range(STEPS)],
    }
    works |= {word: peer[0] for word, peer in peers.items()}
    for work in works.values():
        work()
    times = [
        {key: options.seconds(work, asked.device) for key, work in works.items()}
        for _ in range(ROUNDS)
    ]
    for _, close in peers.values():
        close()
    rates = {key: views / statistics.median(t[key] for t in times) for key in works}
    told = {
        "bare": "over the bare network",
        "files": "over lightly's transforms of JPEGs",
        "decoded": "of small decoded images",
    }
    for other in [key for key in works if key != "ours"]:
        ratios = [t[other] / t["ours"] for t in times]
        print(f"{name}, {asked.encoder}@{asked.size} {asked.precision}, {asked.device}: {rates['ours']:.0f} views/s, {rates[other]:.0f} {other}; {told[other]} "
              f"{statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})", flush=True)  # fmt: skip


def main() -> None:
    parser = options.parser(__doc__, 64)
    parser.add_argument("--quick", action="store_true", help="SimCLR alone")
    parser.add_argument("--alone", action="store_true", help="without lightly's transforms")
    parser.add_argument("--batch", type=int, default=BATCH)
    asked = parser.parse_args()
    for name in ["simclr"] if asked.quick else METHODS:
        measure(name, asked)


if __name__ == "__main__":
    main()
