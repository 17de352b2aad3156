"""Rows of a pack -> the views of a batch, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from medbench.images import augment
from medbench.images.augment import Crop, Parameters
from medbench.system.precision import products


@dataclass(frozen=True, eq=False)
class Data:
    """What is learnt from; see `models.pretrain.pretrain`."""

    pixels: np.ndarray
    index: np.ndarray
    bags: np.ndarray
    groups: np.ndarray
    labels: np.ndarray | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int

    def images(self, positions: np.ndarray, device: str) -> torch.Tensor:
        """(B, S, S, 3) uint8 of positions in `index`. The copy to a GPU does not wait for the steps before it."""
        block = torch.from_numpy(np.ascontiguousarray(self.pixels[self.index[positions]]))
        return block.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else block

    def plain(self, positions: np.ndarray, device: str) -> torch.Tensor:
        """(B, 3, S, S) float32, normalised, channels_last."""
        return augment.normalised_images(self.images(positions, device), self.mean, self.std)


def views_of(
    data: Data, crops: Sequence[Crop], pairs: np.ndarray, part: slice, device: str, generator: torch.Generator, *, paired: bool
) -> list[torch.Tensor]:
    """Return the views of the members `part` of a batch, in the order of `crops`.

    As `augment.views` gives them; of two images in turn if paired. pairs: (B, 2) positions in
    Data.index. Parameters are drawn for the whole batch, so that the processes that share it see
    together what one process would see.
    """
    sources = [data.images(pairs[part, side], device) for side in ((0, 1) if paired else (0,))]
    made = []
    for i, crop in enumerate([kind for kind in crops for _ in range(kind.count)]):
        drawn = augment.draw_parameters(crop, len(pairs), generator)
        mine = Parameters(**{one.name: getattr(drawn, one.name)[part] for one in fields(drawn)})
        with products("fp32"):  # the precision is the encoder's
            made.append(augment.finished(sources[i % len(sources)], mine, crop, data.size, data.mean, data.std))
    return made
