"""Recipes, pixels and an encoder so small that a pretraining takes a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medbench.images.augment import Crop
from medbench.methods.barlow import barlow
from medbench.methods.byol import byol
from medbench.methods.dino import dino
from medbench.methods.lejepa import lejepa
from medbench.methods.mae import mae
from medbench.methods.mocov3 import mocov3
from medbench.methods.simclr import simclr
from medbench.methods.swav import swav
from medbench.methods.vicreg import vicreg
from medbench.models import pretrain
from medbench.models.pretrain import Recipe
from medbench.models.pretrain.objective import Objective

HALF = (0.5, 0.5, 0.5)
SWAV_HYPER = {
    "temperature": 0.1,
    "epsilon": 0.05,
    "sinkhorn_iterations": 3,
    "hidden": 16,
    "width": 8,
    "prototypes": 12,
}
DINO_HYPER = {
    "hidden": 16,
    "width": 8,
    "prototypes": 20,
    "student_temperature": 0.1,
    "centre_momentum": 0.9,
    "momentum": 0.9,
}
SWAV_HYPER |= {"queue": 16, "queue_from": 0.5, "frozen_until": 0.2}
DINO_HYPER |= {"teacher_temperature": (0.02, 0.04), "temperature_until": 0.5, "frozen_until": 0.3}
MULTI = (Crop(2, scale=(0.4, 1)), Crop(3, size=0.5, scale=(0.1, 0.4)))
PAIR = (Crop(scale=(0.4, 1)), Crop(scale=(0.4, 1), solarise_p=0.2))
EXPANDER = {"hidden": 16, "width": 8}
SMALL = {
    "simclr": Recipe(
        simclr, (Crop(2),), 160, 8, hyper={"temperature": 0.1, "width": 8, "head_norm": True}
    ),
    "swav": Recipe(swav, MULTI, 1, 8, hyper=SWAV_HYPER),
    "dino": Recipe(dino, MULTI, 1, 8, hyper=DINO_HYPER),
    "vicreg": Recipe(
        vicreg,
        PAIR,
        1,
        8,
        hyper={**EXPANDER, "invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    ),
    "barlow": Recipe(barlow, PAIR, 1, 8, hyper={**EXPANDER, "redundancy": 0.0051}),
    "byol": Recipe(byol, PAIR, 1, 8, hyper={**EXPANDER, "momentum": 0.9}),
    "mocov3": Recipe(mocov3, PAIR, 1, 8, hyper={**EXPANDER, "momentum": 0.9, "temperature": 0.2}),
    "lejepa": Recipe(lejepa, MULTI, 1, 8, hyper={**EXPANDER, "normality": 0.05, "directions": 32}),
    "mae": Recipe(
        mae,
        (Crop(scale=(0.4, 1)),),
        1,
        8,
        hyper={"masked": 0.75, "width": 16, "depth": 1, "heads": 2},
    ),
}
#: Those that stand by name alone, each in a file of its own.
NAMED = ("lejepa", "vicreg", "barlow", "byol", "mocov3", "mae")
N = 60
# row 0 to 4: not in the training split
PIXELS = np.random.default_rng(0).integers(0, 255, (N + 5, 16, 16, 3), np.uint8)
INDEX = np.arange(5, N + 5)
BAGS = np.array([f"lesion{i // 2}" for i in range(N)])
GROUPS = np.array([f"patient{i // 4}" for i in range(N)])


def plain_encoder() -> nn.Module:
    """(B, 3, S, S) -> (B, 8) without batch norm, with dropout, which uses torch's own generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, 3),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 8),
            nn.Dropout(0.1),
        )


def plain_vit() -> nn.Module:
    """(B, 3, 16, 16) -> (B, 16): 16 patches of 4 pixels.

    Without biases of keys, whose gradient is rounding alone, which AdamW would follow.
    """
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VisionTransformer(
            img_size=16,
            patch_size=4,
            embed_dim=16,
            depth=2,
            num_heads=2,
            qkv_bias=False,
            num_classes=0,
        )


def without_norm(name: str) -> Callable[[nn.Module, int, Recipe], Objective]:
    """The objective of `SMALL[name]` without batch norm in its heads.

    With it each process on CPUs normalises by its own share.
    """

    def quiet(backbone: nn.Module, dim: int, recipe: Recipe) -> Objective:
        made: Objective = SMALL[name].objective(backbone, dim, recipe)  # type: ignore[misc]
        for part in made.modules():
            for child, module in list(part.named_children()):
                if isinstance(module, nn.BatchNorm1d):
                    setattr(part, child, nn.Identity())
        return made

    return quiet


def train(
    folder: Path,
    recipes: Sequence[Recipe],
    build: Callable[[], nn.Module] = plain_encoder,
    pixels: np.ndarray = PIXELS,
    **more: Any,
) -> dict[str, torch.Tensor]:
    args = {"seed": 0, "folder": folder, "device": "cpu", **more}
    file = pretrain.pretrain(
        pixels, INDEX, BAGS, GROUPS, None, build, HALF, HALF, 16, recipes, **args
    )
    assert file == folder / "weights.pth"
    found: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
    return found


def small(name: str, steps: int = 6, **changes: Any) -> Recipe:
    """A recipe of so many steps at 16 px, where a small crop has 32 px."""
    recipe = replace(SMALL[name], lr=0.02, **changes)
    if name == "simclr":
        recipe = recipe.having(hyper={**recipe.hyper, "head_norm": False})
    return recipe.having(views=round(recipe.views_an_image(16) * recipe.batch * steps))
