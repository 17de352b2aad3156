"""A task of drawn images that can be told apart in part, and a small encoder.

A run of it takes a second, so that errors can be planted in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medbench.schema import PARTS, Drawn, Split, Task
from medbench.stats import splits

LESIONS, VIEWS, CLASSES = 99, 2, ("mel", "nv", "vasc")
ENCODER = """
import torch

class Small(torch.nn.Module):
    '''Twelve filters of five pixels and their means, at scales from 0.01 to 100: a probe that does not standardise sees the largest alone.'''

    def __init__(self):
        super().__init__()
        self.filters = torch.nn.Conv2d(3, 12, 5, stride=2)
        self.register_buffer("scales", torch.logspace(-2, 2, 12)[torch.tensor([5, 0, 9, 2, 7, 11, 4, 1, 10, 3, 8, 6])])
        self.readout = "mean"

    def forward(self, x):
        x = self.filters(x).relu()
        return self.scales * (x.mean((2, 3)) if self.readout == "mean" else x.amax((2, 3)))

def small(size=32, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3)):
    return Small()
"""


def draw(seed: int) -> np.ndarray:
    """(40, 40, 3) uint8.

    The class shows in a colour, weakly beside the lesion's own, and in how coarse the grain is.
    """
    lesion = seed // VIEWS
    of_lesion, of_view = np.random.default_rng(lesion), np.random.default_rng([seed, 1])
    c = lesion % 3
    colour = 120 + 14 * np.eye(3)[c] + of_lesion.normal(0, 14, 3)
    grain = of_view.normal(0, 1, (20, 20, 3)).repeat(2, 0).repeat(2, 1) * (
        14 + 3 * c
    ) + of_view.normal(0, 8, (40, 40, 3))
    return np.clip(colour + grain, 0, 255).astype(np.uint8)


def parts(*, groups_are_images: bool = False, shuffled: bool = False) -> dict[str, Split]:
    """Two views a lesion, split by lesion, 60:40.

    groups_are_images: split by image. shuffled: the training labels of another image each.
    """
    seeds = np.arange(LESIONS * VIEWS)
    lesions = np.array([f"lesion{s // VIEWS:03d}" for s in seeds])
    ids = np.array([f"image{s:03d}" for s in seeds])
    labels = seeds // VIEWS % 3
    whole = Split(
        [Drawn(draw, int(s), f"planted 1 {s}") for s in seeds],
        ids,
        labels,
        ids if groups_are_images else lesions,
        lesions,
    )
    place = splits.partition(labels, whole.groups, (0.6, 0, 0.4), key="planted")
    found = {
        name: whole.take(np.flatnonzero(place == p))
        for p, name in enumerate(PARTS)
        if name != "val"
    }
    if shuffled:
        train = found["train"]
        mixed = np.random.default_rng(0).permutation(train.labels)
        found["train"] = Split(train.images, train.ids, mixed, train.groups, train.bags)
    return found


def task(load: object = parts) -> Task:
    nowhere = lambda root: None
    return Task(
        "planted",
        1,
        "Planted",
        "multiclass",
        CLASSES,
        "Planted",
        lambda root: {},
        nowhere,
        "lesion",
        phantom=load,
    )  # type: ignore[arg-type]


def encoder(folder: Path) -> str:
    """The encoder's file, written, as the command line names it."""
    (folder / "small.py").write_text(ENCODER)
    return f"{folder / 'small.py'}:small"
