"""Does the pretraining loop cost more than its network? Views a second against the bare network,
and against lightly's own transforms.

    uv run python benchmarks/speed/pretrain.py            # SimCLR, SwAV and DINO, the default encoder at 64 px
    uv run python benchmarks/speed/pretrain.py --quick    # SimCLR alone, fewer steps: a minute of one core
    uv run python benchmarks/speed/pretrain.py --device cuda --encoder resnet50 --size 224 --precision bf16 --alone    # without lightly

First ratio: seconds of the bare forward and backward pass of the same network, in the same mode, on
one fixed batch, over those of the whole pretraining as it is shipped: the quick recipe with its
networks built, its looks at held-out images, its history and its weights written. Second: the same
of single steps (aim: 0.7 on two cores, 0.8 on a GPU). Third and fourth: the loop's steps over the
same on lightly's PIL transforms through a DataLoader (aim: 2 on a CPU, without workers, as torch
has all its cores; 5 on a GPU, a worker a core), from JPEGs of 600 x 450 pixels as a data set has
them, and from images that somebody has decoded and shrunk before. Measured in turns, medians.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import options
import torch
from PIL import Image
from training_steps import CLASSES, HALF, bare_pretraining, pixels_of, pretraining

from medbench.methods.dino import DINO
from medbench.methods.simclr import SIMCLR
from medbench.methods.swav import SWAV
from medbench.models.pretrain import Position, Recipe, pretrain
from medbench.models.pretrain.optimizer import freeze, train_mode
from medbench.schema.methods import QUICK_VIEWS
from medbench.system.precision import autocast, products

BATCH, ROUNDS = 64, 3
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
    objective = recipe.objective(backbone, dim, recipe).to(device)
    freeze(objective, recipe)
    train_mode(objective, recipe)
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
        for step in range(asked.steps):
            views = [view.to(device) for view in next(batches)]
            with products(asked.precision), autocast(device, asked.precision):
                loss = objective(views, Position(step, asked.steps))
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            objective.after_step(Position(step, asked.steps))

    return work, batches.close


def shipped(name: str, build: Callable[[], torch.nn.Module], asked: argparse.Namespace) -> None:
    """One whole pretraining as a run makes it."""
    n = len(asked.pixels)
    labels, names = np.arange(n) % CLASSES, np.arange(n).astype(str)
    recipes = METHODS[name].recipes("dermoscopy", "quick", n, "imagenet+task")
    recipes = [recipe.having(views=asked.views, batch=asked.batch) for recipe in recipes]
    with tempfile.TemporaryDirectory() as folder:
        pretrain(
            asked.pixels,
            np.arange(n),
            names,
            names,
            labels,
            build,
            HALF,
            HALF,
            asked.size,
            recipes,
            seed=0,
            folder=Path(folder),
            device=asked.device,
            precision=asked.precision,
        )


def in_turns(
    works: dict[str, Callable[[], object]], asked: argparse.Namespace
) -> list[dict[str, float]]:
    """Seconds of each, round after round."""
    return [
        {key: options.seconds(work, asked.device) for key, work in works.items()}
        for _ in range(asked.rounds)
    ]


def tell(what: str, times: list[dict[str, float]], ours: str, other: str, views: float) -> None:
    rates = {key: views / statistics.median(t[key] for t in times) for key in (ours, other)}
    ratios = [t[other] / t[ours] for t in times]
    print(
        f"{what}: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}); "
        f"{rates[ours]:.0f} views/s, {rates[other]:.0f}",
        flush=True,
    )


def measure(name: str, asked: argparse.Namespace) -> None:
    _, build = options.encoder_of(asked)
    recipe, training, step = pretraining(
        METHODS[name], build, asked.size, asked.batch, asked.device, asked.precision
    )
    bare = bare_pretraining(training, recipe, asked.size, asked.batch)
    cost = asked.batch * recipe.views_an_image(asked.size)
    words = () if asked.alone else ("files", "decoded")
    peers = {
        word: with_lightly(asked.pixels, build, recipe, name, asked, encoded=word == "files")
        for word in words
    }
    works: dict[str, Callable[[], object]] = {
        "bare": lambda: [bare() for _ in range(asked.steps)],
        "ours": lambda: [step() for _ in range(asked.steps)],
    }
    works |= {word: peer[0] for word, peer in peers.items()}
    for work in works.values():
        work()
    steps = int(asked.views / cost)
    whole = in_turns(
        {
            "bare": lambda: [bare() for _ in range(steps)],
            "shipped": lambda: shipped(name, build, asked),
        },
        asked,
    )
    what = f"{name}, {asked.encoder}@{asked.size} {asked.precision}, {asked.device}"
    tell(f"{what}, as shipped over the bare network", whole, "shipped", "bare", steps * cost)
    times = in_turns(works, asked)
    for _, close in peers.values():
        close()
    told = {
        "bare": "the bare network",
        "files": "lightly's transforms of JPEGs",
        "decoded": "lightly's transforms of small decoded images",
    }
    for other in [key for key in works if key != "ours"]:
        tell(f"  its steps over {told[other]}", times, "ours", other, asked.steps * cost)


def main() -> None:
    parser = options.parser(__doc__, 64)
    parser.add_argument("--quick", action="store_true", help="SimCLR alone, fewer steps")
    parser.add_argument("--alone", action="store_true", help="without lightly's transforms")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--views", type=int, help="of a whole pretraining; default: as shipped")
    asked = parser.parse_args()
    asked.steps, asked.rounds = (2, 2) if asked.quick else (6, ROUNDS)
    asked.views = asked.views or (1_280 if asked.quick else QUICK_VIEWS)
    asked.pixels = pixels_of(512, asked.size)
    for name in ["simclr"] if asked.quick else METHODS:
        measure(name, asked)


if __name__ == "__main__":
    main()
