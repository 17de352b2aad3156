"""A network of two convolutions, tinted noise to tell apart, and a fine-tuning of thirty steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medbench.models.finetune import MODERN, FineTuneRecipe
from medbench.protocols import finetune
from medbench.schema import Network, Scores, Train

SIZE = 32
SHORT = replace(MODERN, steps=30, epochs=1, evaluations=3, rates=(1e-3, 1e-2), batch=16)


class Tiny(nn.Module):
    """Two convolutions with batch norm and dropout.

    Everything whose state a resumed run must bring back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(8, 12, 3, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layers(images)
        return features


def build() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Tiny().eval()


def vit() -> nn.Module:
    """A ViT of four blocks, of which adapters are at most 2 %."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return timm.create_model(
            "vit_tiny_patch16_224", num_classes=0, img_size=SIZE, depth=4
        ).eval()


NETWORK = Network(build, None, SIZE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "", "fp32")


def pictures(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Noise on a tint of the label: (N, S, S, 3) uint8."""
    rng = np.random.default_rng(seed)
    tint = np.eye(4)[labels][:, :3] * 60 if labels.ndim == 1 else np.nan_to_num(labels)[:, :3] * 60
    return (rng.integers(0, 180, (len(labels), SIZE, SIZE, 3)) + tint[:, None, None]).astype(
        np.uint8
    )


def job(
    labels: np.ndarray, kind: Any, n_classes: int, folder: Path, seed: int = 0, **changes: Any
) -> Train:
    groups = np.array([f"p{i // 2}" for i in range(len(labels))])
    train = Train(
        pictures(labels),
        labels,
        groups,
        kind,
        n_classes,
        seeds=[seed],
        folders=[folder],
        network=NETWORK,
    )
    return replace(train, **changes)


def scored(train: Train, pixels: np.ndarray, recipe: FineTuneRecipe = SHORT) -> Scores:
    (answer,) = finetune.evaluate(
        train, {"test": pixels}, [np.arange(len(train.labels))], recipe=recipe
    )
    return answer["test"]


LABELS = {
    "binary": (np.arange(120) % 2, 2),
    "multiclass": (np.arange(120) % 3, 3),
    "ordinal": (np.arange(120) % 3, 3),
    "multilabel": (
        np.column_stack(
            [np.arange(120) % 2, np.arange(120) // 2 % 2, np.where(np.arange(120) % 5, 1.0, np.nan)]
        ).astype(float),
        3,
    ),
}
