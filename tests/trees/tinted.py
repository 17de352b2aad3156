"""A user's own images and encoder, so small that a run takes a moment."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("akiec", "mel", "nv")


@cache
def _drawn() -> dict[str, bytes]:
    """Path below the folder -> PNG."""
    rng = np.random.default_rng(0)
    found = {}
    for part, n in (("train", 12), ("test", 6)):
        for c, name in enumerate(CLASSES):
            for i in range(n):
                pixels = rng.integers(0, 200, (40, 40, 3)) + np.eye(3, dtype=int)[c] * 25
                stream = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
                found[f"{part}/{name}/{part}{i}.png"] = stream.getvalue()
    return found


def tinted(place: Path) -> Path:
    """36 training and 18 test images of three kinds that can be told apart, grey noise on another
    tint each."""
    for name, content in _drawn().items():
        file = place / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return place / "mine"


def quarters(place: Path) -> str:
    """An encoder that takes no time: the mean colours of the four quarters."""
    (place / "mine.py").write_text(
        "import torch\n"
        "def quarters(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())\n"
    )
    return f"{place / 'mine.py'}:quarters"
