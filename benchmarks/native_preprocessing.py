"""How far an encoder's vector of an image file lies from that of its publisher's own processor.

    python benchmarks/native_preprocessing.py FOLDER ...     # folders of images, each as it is found; 64 images of each are taken

Networks: the default encoder with its genuine weights at 224 px, and a ViT of two layers with
weights that are drawn, to see what a transformer does. Processors: those of transformers (`pip
install 'medbench[hf]'`), timm and open_clip (`medbench[open-clip]`) themselves, as a config asks for
them; medbench reads the same config. Printed for each: 1 - cosine of the two vectors, each less the
mean over all images, as a probe reads them: median and 95th percentile over the images of a folder;
squashed, whatever the processor does (`--crop squash`), and cropped as the config says. Beside them,
for scale, two different images. What is left is Pillow's rounding beside torchvision's, and that a
large JPEG is decoded at a half, a quarter or an eighth. Three minutes on two cores.

Default encoder, median (95th percentile), squashed -> cropped, on HAM10000 at 200 x 150 px; those of
HyperKvasir and Kermany were square, so that only a smaller middle shows: a processor that squashes
.0001 (.0002); 256 and the middle 224 .30 (.64) -> .0001 (.0002), .25 and .36 -> .0000 on the square
ones; timm's center .875 .30 (.64) -> .0000, border .17 (.30) -> .0000; open_clip's shortest .15
(.35) -> .0000.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from open_clip.transform import image_transform
from PIL import Image
from timm.data.transforms_factory import create_transform
from transformers import CLIPImageProcessor, ViTImageProcessor

from medbench import images
from medbench.images.decoding import SUFFIXES
from medbench.images.squeezing import squeeze
from medbench.models import encoders, weights
from medbench.models.hub import preprocessing

SIZE, TAKEN = 224, 64
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
SHARED: dict[str, Any] = {
    "image_mean": MEAN,
    "image_std": STD,
    "resample": Image.Resampling.BICUBIC,
}
Native = Callable[[Image.Image], torch.Tensor]


def processors() -> dict[str, tuple[Native, str]]:
    """Name -> the publisher's own, and the crop that medbench reads from the same config."""
    squashing = ViTImageProcessor(size={"height": SIZE, "width": SIZE}, **SHARED)
    cropping = CLIPImageProcessor(size={"shortest_edge": 256}, crop_size=SIZE, **SHARED)
    found = {
        name: (
            lambda picture, one=one: one(picture, return_tensors="pt")["pixel_values"][0],
            preprocessing.of_transformers(one.to_dict()),
        )
        for name, one in (("squashes", squashing), ("256, middle 224", cropping))
    }
    about = {"mean": MEAN, "std": STD, "interpolation": "bicubic"}
    for mode, pct in (("center", 0.875), ("border", 1.0)):
        asked = {**about, "crop_mode": mode, "crop_pct": pct}
        native = create_transform((3, SIZE, SIZE), is_training=False, **asked)
        found[f"timm, {mode} {pct:g}"] = (native, preprocessing.of_timm(asked))
    shortest = {**about, "resize_mode": "shortest"}
    found["open_clip, shortest"] = (
        image_transform(SIZE, is_train=False, **shortest),
        preprocessing.of_open_clip({"preprocess_cfg": {**shortest, "size": SIZE}}),
    )
    return {name: (native, seen.crop.at(SIZE)) for name, (native, seen) in found.items()}


def networks() -> dict[str, torch.nn.Module]:
    own = encoders.encoder(encoders.EMBEDDED, SIZE)
    lite = weights.build_encoder(own, weights.supervised(own, images.cache_folder()), 0)
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0).eval()
    return {"default encoder": lite, "drawn ViT": vit}


def ours(file: Path, crop: str) -> torch.Tensor:
    pixels = torch.from_numpy(squeeze(file, SIZE, "bicubic", crop).copy())
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (pixels.permute(2, 0, 1).float() / 255 - mean) / std


def apart(one: np.ndarray, other: np.ndarray) -> str:
    one, other = (x - one.mean(0) for x in (one, other))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return f"{np.median(1 - cosine):.4f} ({np.quantile(1 - cosine, 0.95):.4f})"


def vectors(net: torch.nn.Module, batch: list[torch.Tensor]) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = net(torch.stack(batch)).numpy()
    return found


def main() -> None:
    print("folder, network, processor: squashed | cropped as it says | another image")
    for folder in map(Path, sys.argv[1:]):
        every = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        files = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:TAKEN]]
        pictures = [Image.open(file).convert("RGB") for file in files]
        squashed = [ours(file, "squash") for file in files]
        for name, (native, crop) in processors().items():
            wanted = [native(picture) for picture in pictures]
            cropped = [ours(file, crop) for file in files]
            for called, net in networks().items():
                theirs, before = vectors(net, wanted), vectors(net, squashed)
                now, other = vectors(net, cropped), np.roll(before, 1, axis=0)
                print(
                    f"{folder.name}, {called}, {name}: {apart(before, theirs)} | {apart(now, theirs)} | {apart(before, other)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
