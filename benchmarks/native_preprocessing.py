"""How far an encoder's vector of an image file lies from that of its publisher's own processor:
8-bit packs, squash or crop.

    python benchmarks/native_preprocessing.py FOLDER ...     # folders of images, each as it is found; 64 images of each are taken

Networks: the default encoder with its genuine weights at 224 px, and a ViT of two layers with
weights that are drawn, to see what a transformer does. The processors are transformers' own (`pip
install 'medbench[hf]'`): one that squashes as medbench does, and CLIP's, which resizes the shorter
side to 256 and crops the middle 224. Printed: 1 - cosine of the two vectors, each less the mean
over all images, as a probe reads them: median and 95th percentile over the images of a folder.
Beside them, for scale, two different images. Two minutes on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from transformers import CLIPImageProcessor, ViTImageProcessor

from medbench import images
from medbench.images.decoding import SUFFIXES
from medbench.images.packing import squeeze
from medbench.models import encoders, weights

SIZE, TAKEN = 224, 64
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
SHARED = {"image_mean": MEAN, "image_std": STD, "resample": Image.Resampling.BICUBIC}


def networks() -> dict[str, torch.nn.Module]:
    own = encoders.encoder(encoders.EMBEDDED, SIZE)
    lite = weights.build_encoder(own, weights.supervised(own, images.cache_folder()), 0)
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0).eval()
    return {"default encoder": lite, "drawn ViT": vit}


def ours(file: Path) -> torch.Tensor:
    pixels = torch.from_numpy(squeeze(file, SIZE, "bicubic").copy()).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def native(file: Path, processor: ViTImageProcessor | CLIPImageProcessor) -> torch.Tensor:
    found: torch.Tensor = processor(Image.open(file).convert("RGB"), return_tensors="pt")[
        "pixel_values"
    ][0]
    return found


def apart(one: np.ndarray, other: np.ndarray) -> str:
    one, other = (x - one.mean(0) for x in (one, other))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return f"{np.median(1 - cosine):.4f} ({np.quantile(1 - cosine, 0.95):.4f})"


def main() -> None:
    squashing = ViTImageProcessor(size={"height": SIZE, "width": SIZE}, **SHARED)
    cropping = CLIPImageProcessor(size={"shortest_edge": 256}, crop_size=SIZE, **SHARED)
    print(
        "folder, network: processor that squashes | that crops | another image; median (95th percentile)"
    )
    for folder in map(Path, sys.argv[1:]):
        every = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        files = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:TAKEN]]
        batches = {
            "ours": torch.stack([ours(file) for file in files]),
            "squash": torch.stack([native(file, squashing) for file in files]),
            "crop": torch.stack([native(file, cropping) for file in files]),
        }
        for name, net in networks().items():
            with torch.inference_mode():
                vectors = {how: net(batch).numpy() for how, batch in batches.items()}
            own = vectors["ours"]
            print(
                f"{folder.name}, {name}: {apart(own, vectors['squash'])} | {apart(own, vectors['crop'])} | {apart(own, np.roll(own, 1, axis=0))}"
            )


if __name__ == "__main__":
    main()
