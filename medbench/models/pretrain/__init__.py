"""The one self-supervised training loop: recipes in, an encoder's weights out.

Importing it is light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.models.pretrain.position import Position
from medbench.models.pretrain.recipe import Recipe, fitted, of_views

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["VERSION", "Position", "Recipe", "fitted", "of_views", "pretrain"]

VERSION = 2  # raise it with every change of what a recipe makes


def pretrain(
    pixels: np.ndarray,
    index: np.ndarray,
    bags: np.ndarray,
    groups: np.ndarray,
    labels: np.ndarray | None,
    build: Callable[[], torch.nn.Module],
    mean: Sequence[float],
    std: Sequence[float],
    size: int,
    recipes: Sequence[Recipe],
    *,
    seed: int,
    folder: Path,
    device: str,
    precision: str = "fp32",
    stage: str = "pretraining",
) -> Path:
    """Train what `build()` gives by the stages of `recipes`, and return folder/weights.pth.

    Each stage starts from the one before. pixels: (N, S, S, 3) uint8, memory-mapped or not; index:
    (n,) its rows that may be learnt from; bags, groups: (n,) str of those rows. labels: (n,) int or
    (n, C) float or None, for the kNN watch alone. mean, std: of the pixels in [0, 1]. size: of a
    full view, pixels. device: "cpu", "cuda", "cuda:1". precision: "fp32" or "bf16". stage: as which
    it reports its progress.

    weights.pth: a state dict in the encoder's own names; history.json: loss, learning rate, rank of
    the embedding and more by step. If weights.pth is there it is returned at once. A killed run
    goes on from folder/checkpoint.pth, with the same trajectory. Under torchrun (an initialised
    process group of torch.distributed) each process takes its share of every batch; the first one
    writes. Raises `monitor.Collapsed`, and UserError for an encoder or a number of images that a
    recipe cannot use.
    """
    from medbench.models.pretrain import loop
    from medbench.models.pretrain.batches import Data
    from medbench.models.pretrain.checkpointing import DistributedContext

    file = folder / "weights.pth"
    if DistributedContext.here().size > 1 or not file.exists():  # several ask the first one
        data = Data(pixels, index, bags, groups, labels, tuple(mean), tuple(std), size)
        loop.train_stages(
            data,
            build,
            tuple(recipes),
            seed=seed,
            folder=folder,
            device=device,
            precision=precision,
            stage=stage,
        )
    return file
