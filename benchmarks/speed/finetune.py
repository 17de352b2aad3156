"""Does anything beside the network cost time while fine-tuning? The loop against its own floor and against a plain loop, in one run.

    uv run python benchmarks/speed/finetune.py             # the default encoder at 112 px in fp32
    uv run python benchmarks/speed/finetune.py --quick     # fewer steps: a minute of one core
    uv run python benchmarks/speed/finetune.py --size 224 --encoder resnet50 --precision bf16 --device cuda

floor: forward, backward and optimiser step of the same network on one fixed batch. plain: timm, torchvision transforms for each image in a
DataLoader over the JPEGs. All three in turns, the median of the turns. On a GPU also the share of the measured matrix-product rate.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import options
import torch
from PIL import Image
from torch import nn
from training_steps import CLASSES, bare_fine_tuning, fine_tuning

from medbench.models.finetune import MODERN
from medbench.system.precision import autocast, products


def jpegs(folder: Path, n: int) -> list[Path]:
    """JPEGs of 600 x 450 pixels, HAM10000's own size."""
    rng = np.random.default_rng(0)
    files = []
    for i in range(n):
        file = folder / f"{i:05d}.jpg"
        Image.fromarray(rng.integers(0, 255, (15, 20, 3), np.uint8)).resize(
            (600, 450), Image.Resampling.BICUBIC
        ).save(file, quality=90)
        files.append(file)
    return files


def plain_loop(
    files: list[Path],
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: int,
    asked: argparse.Namespace,
) -> Callable[[], None]:
    """What most people write."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    class Files(Dataset):  # type: ignore[type-arg]
        views = transforms.Compose(
            [
                transforms.RandomResizedCrop(asked.size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

        def __len__(self) -> int:
            return asked.steps * batch

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return self.views(Image.open(files[i % len(files)]).convert("RGB")), i % CLASSES

    gpu = asked.device != "cpu"
    # on a CPU torch has all cores: workers beside it would take them from both
    workers = os.cpu_count() or 1 if gpu else 0
    loader = DataLoader(
        Files(), batch, num_workers=workers, persistent_workers=workers > 0, pin_memory=gpu
    )

    def turn() -> None:
        for images, labels in loader:
            with products(asked.precision), autocast(asked.device, asked.precision):
                loss = nn.functional.cross_entropy(
                    net(images.to(asked.device)).float(), labels.to(asked.device)
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return turn


def main() -> None:
    parser = options.parser(__doc__, 112)
    parser.add_argument("--batch", type=int, default=MODERN.batch)
    parser.add_argument("--turns", type=int, help="default: 5, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="2 steps a turn instead of 12")
    asked = parser.parse_args()
    asked.steps, turns = (2, 2) if asked.quick else (12, 5)
    asked.turns = asked.turns or turns
    device = asked.device
    encoder, build = options.encoder_of(asked)
    net, optimiser, step = fine_tuning(
        build, asked.size, asked.batch, device, asked.precision, max(512, 2 * asked.batch)
    )
    bare = bare_fine_tuning(net, optimiser, asked.size, asked.batch, device, asked.precision)
    with tempfile.TemporaryDirectory() as folder:
        works = {
            "ours": lambda: [step() for _ in range(asked.steps)],
            "floor": lambda: [bare() for _ in range(asked.steps)],
            "plain": plain_loop(jpegs(Path(folder), 256), net, optimiser, asked.batch, asked),
        }
        taken: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(asked.turns + 1):
            for name, work in works.items():
                spent = options.seconds(work, device)
                if turn:  # the first warms up
                    taken[name].append(spent)
    speed = {
        name: asked.steps * asked.batch / statistics.median(times) for name, times in taken.items()
    }
    print(
        f"{encoder.name} at {asked.size} px, {asked.precision}, batch {asked.batch}, {device}, {torch.get_num_threads()} threads"
    )
    for name, value in speed.items():
        print(f"{name:<6} {value:8.0f} images/s")
    print(
        f"ours / floor {speed['ours'] / speed['floor']:.2f}   ours / plain {speed['ours'] / speed['plain']:.2f}"
    )
    if device != "cpu":
        print(
            f"share of the bf16 matrix rate {matrix_share(net, asked.size, speed['ours'], device):.3f}"
        )


def matrix_share(net: nn.Module, size: int, images_per_second: float, device: str) -> float:
    """Floating-point operations of the training step (three forwards) over what a large bf16
    product reaches here."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.eval()(torch.zeros(1, 3, size, size, device=device))
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    product = options.seconds(lambda: [a @ a for _ in range(20)], device) / 20
    return 3 * counter.get_total_flops() * images_per_second / (2 * 8192**3 / product)


if __name__ == "__main__":
    main()
