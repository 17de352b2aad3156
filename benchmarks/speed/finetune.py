"""Does anything beside the network cost time while fine-tuning? The loop against its own floor and against a plain loop, in one run.

    uv run python benchmarks/speed/finetune.py             # the default encoder at 112 px; on a GPU in bf16 where there is one
    uv run python benchmarks/speed/finetune.py --size 64

floor: forward, backward and optimiser step of the same network on one fixed batch. plain: timm, torchvision transforms for each image in a
DataLoader over the JPEGs. All three in turns, the median of the turns. On a GPU also the share of the measured matrix-product rate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from medbench.models import encoders, weights
from medbench.models.finetune import MODERN, loop
from medbench.models.finetune.network import optimiser_of
from medbench.protocols.finetune import linear_layer
from medbench.schema import Network, Train

CLASSES = 7
STEPS = 12  # of a turn


def jpegs(folder: Path, n: int) -> list[Path]:
    """JPEGs of 600 x 450 pixels, HAM10000's own size."""
    rng = np.random.default_rng(0)
    files = []
    for i in range(n):
        file = folder / f"{i:05d}.jpg"
        Image.fromarray(rng.integers(0, 255, (15, 20, 3), np.uint8)).resize((600, 450), Image.Resampling.BICUBIC).save(file, quality=90)
        files.append(file)
    return files


def plain_loop(
    files: list[Path], net: nn.Module, optimiser: torch.optim.Optimizer, size: int, batch: int, device: str, bf16: bool
) -> Callable[[], None]:
    """What most people write."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    class Files(Dataset):  # type: ignore[type-arg]
        views = transforms.Compose(
            [
                transforms.RandomResizedCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

        def __len__(self) -> int:
            return STEPS * batch

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return self.views(Image.open(files[i % len(files)]).convert("RGB")), i % CLASSES

    workers = 16 if device == "cuda" else 0  # on a CPU torch has all cores: workers beside it would take them from both
    loader = DataLoader(Files(), batch, num_workers=workers, persistent_workers=workers > 0, pin_memory=device == "cuda")

    def turn() -> None:
        for images, labels in loader:
            step(net, optimiser, images.to(device), labels.to(device), bf16)

    return turn


def step(net: nn.Module, optimiser: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, bf16: bool) -> None:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        loss = nn.functional.cross_entropy(net(images).float(), labels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def seconds(work: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch", type=int, default=MODERN.batch)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = device == "cuda"
    encoder = encoders.encoder(encoders.EMBEDDED, args.size)
    drawn = weights.Weights("random", "", (), None)
    build = lambda: weights.build_encoder(encoder, drawn, 0)
    n = max(512, 2 * args.batch)
    rng = np.random.default_rng(0)
    labels = np.arange(n) % CLASSES
    network = Network(build, None, args.size, encoder.mean, encoder.std, "", "bf16" if bf16 else "fp32")
    pixels = rng.integers(0, 255, (n, args.size, args.size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        train = Train(pixels, labels, np.arange(n).astype(str), "multiclass", CLASSES, device, network=network)
        recipe = replace(MODERN, batch=args.batch, probe=False)
        job = loop.FineTuning(train, network, recipe, np.arange(n), np.array([], np.int64), 0, place, linear_layer)
        net = job.start()
        optimiser = optimiser_of(net, recipe, 1e-4)
        state = loop.State()
        fixed = torch.randn(args.batch, 3, args.size, args.size, device=device).contiguous(memory_format=torch.channels_last)
        fixed_labels = torch.arange(args.batch, device=device) % CLASSES

        def ours() -> None:
            for _ in range(STEPS):
                job._step(net, optimiser, state, 1e-4, 1000)
                state.step += 1

        def floor() -> None:
            net.train()
            for _ in range(STEPS):
                step(net, optimiser, fixed, fixed_labels, bf16)

        plain = plain_loop(jpegs(place, 256), net, optimiser, args.size, args.batch, device, bf16)
        works = {"ours": ours, "floor": floor, "plain": plain}
        taken: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(args.turns + 1):
            for name, work in works.items():
                spent = seconds(work, device)
                if turn:  # the first warms up
                    taken[name].append(spent)
    speed = {name: STEPS * args.batch / statistics.median(times) for name, times in taken.items()}
    print(f"{encoder.name} at {args.size} px, batch {args.batch}, {device}, {torch.get_num_threads()} threads")
    for name, value in speed.items():
        print(f"{name:<6} {value:8.0f} images/s")
    print(f"ours / floor {speed['ours'] / speed['floor']:.2f}   ours / plain {speed['ours'] / speed['plain']:.2f}")
    if device == "cuda":
        print(f"share of the bf16 matrix rate {matrix_share(net, args.size, speed['ours']):.3f}")


def matrix_share(net: nn.Module, size: int, images_per_second: float) -> float:
    """Floating-point operations of the training step (three forwards) over what a large bf16 product reaches here."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.eval()(torch.zeros(1, 3, size, size, device="cuda"))
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    product = seconds(lambda: [a @ a for _ in range(20)] and None, "cuda") / 20
    return 3 * counter.get_total_flops() * images_per_second / (2 * 8192**3 / product)


if __name__ == "__main__":
    main()
