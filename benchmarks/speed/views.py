"""Views a second: medbench's against kornia's on the same batch with the same operations, and
against lightly's transforms of PIL images.

    uv run --with kornia --with lightly python benchmarks/speed/views.py
    uv run python benchmarks/speed/views.py --device cuda --size 224    # of one size, on a GPU; who is not installed is left out

SimCLR's views at 64 and 112 pixels, one thread and two, measured in turns in one run: the ratios
are the figures to compare between machines. kornia's `AugmentationSequential` has the same
operations and probabilities; it crops without antialiasing and jitters in one order a batch.
lightly's `SimCLRViewTransform` works image by image in this process, so it is measured with one
thread only. Besides, how far the crop alone is from Pillow's antialiased resize, of an image twice
as large.

Expected: 2.2 to 2.7 times kornia's speed with one thread, 1.2 to 1.7 times with two, 1.4 to 3.1
times lightly's; 0.3 grey levels from Pillow against kornia's 31 (two runs on a virtual x86-64
server with two cores that had other work, so the times in them spread).
"""

from __future__ import annotations

import importlib.util
import platform
import statistics
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import options
import torch
from PIL import Image

from medbench.images import augment as views
from medbench.images.augment import Crop

MEAN = STD = (0.5, 0.5, 0.5)
BILINEAR = replace(views.simclr_views()[0], count=1, interpolation="bilinear")
BICUBIC = replace(BILINEAR, interpolation="bicubic")


def by_kornia(crop: Crop, size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    import kornia.augmentation as K

    kernel = int(crop.blur_kernel * size) // 2 * 2 + 1
    augment = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), crop.scale, crop.ratio, cropping_mode="resample"),
        K.RandomHorizontalFlip(p=crop.flip),
        K.ColorJitter(*crop.jitter, p=crop.jitter_p),
        K.RandomGrayscale(p=crop.gray_p),
        K.RandomGaussianBlur((kernel, kernel), crop.blur_sigma, p=crop.blur_p),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )
    return lambda images: augment(images.permute(0, 3, 1, 2).float().div_(255)).contiguous(
        memory_format=torch.channels_last
    )


def by_medbench(crop: Crop, size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda images: views.views(images, [crop], size, MEAN, STD, generator)[0]


def by_lightly(crop: Crop, size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    from lightly.transforms.simclr_transform import SimCLRViewTransform

    transform = SimCLRViewTransform(size, normalize={"mean": list(MEAN), "std": list(STD)})
    return lambda images: torch.stack(
        [transform(Image.fromarray(image)) for image in images.numpy()]
    )


def in_turns(
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]], images: torch.Tensor, repeats: int
) -> dict[str, float]:
    """Views a second of each, the median over repeats in which all have their turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            spent = options.seconds(lambda way=way: way(images), str(images.device))
            if repeat:  # the first only warms up
                taken[name].append(spent)
    return {name: len(images) / statistics.median(times) for name, times in taken.items()}


def from_pillow(
    way: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, size: int
) -> float:
    """Mean absolute distance, in grey levels, of whole images at half size from Pillow's."""
    want = np.stack(
        [
            np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
            for image in images.numpy()
        ]
    )
    got = (
        (way(images) * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1))
        .mul(255)
        .permute(0, 2, 3, 1)
    )
    return float(np.abs(got.numpy() - want).mean())


def main() -> None:
    parser = options.parser("Compare views a second with kornia and lightly.", 0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    makers = {
        "medbench": by_medbench,
        **({"kornia": by_kornia} if importlib.util.find_spec("kornia") else {}),
    }
    print(
        f"{platform.machine()} {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, batch {asked.batch}"
    )
    print(
        f"{'pixels':>6} {'threads':>7} {'medbench':>9} {'bicubic':>9} {'kornia':>9} {'lightly':>9}  medbench / kornia, / lightly"
    )
    for size in (asked.size,) if asked.size else (64, 112):
        shape = (asked.batch, size, size, 3)
        images = torch.randint(
            0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        ).to(asked.device)
        for threads in (1, 2) if asked.device == "cpu" else (1,):
            torch.set_num_threads(threads)
            ways = {name: make(BILINEAR, size) for name, make in makers.items()} | {
                "bicubic": by_medbench(BICUBIC, size)
            }
            if threads == 1 and asked.device == "cpu" and importlib.util.find_spec("lightly"):
                ways["lightly"] = by_lightly(BILINEAR, size)
            speed = in_turns(ways, images, asked.repeats)
            shown = "".join(
                f"{speed[name]:10.0f}" if name in speed else f"{'-':>10}"
                for name in ("medbench", "bicubic", "kornia", "lightly")
            )
            ratios = ", ".join(
                f"{speed['medbench'] / speed[name]:.1f}"
                for name in ("kornia", "lightly")
                if name in speed
            )
            print(f"{size:6} {threads:7}{shown}  {ratios}")
    still = Crop(
        scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter_p=0.0, interpolation="bilinear"
    )
    for name, make in makers.items():
        far = from_pillow(make(still, size // 2), images.cpu(), size // 2)
        print(f"{name}: {far:.2f} grey levels from Pillow's resize to half the size, on noise")


if __name__ == "__main__":
    main()
