"""Rows of a pack -> the views of a batch, on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medbench.images import augment, batching
from medbench.images.augment import Crop
from medbench.images.augment.prepared import taken
from medbench.system.precision import products


@dataclass(frozen=True, eq=False)
class Data:
    """The images that are learnt from, and how they are normalised.

    Fields as the arguments of `models.pretrain.pretrain`.
    """

    pixels: np.ndarray
    index: np.ndarray
    bags: np.ndarray
    groups: np.ndarray
    labels: np.ndarray | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int

    def ahead(self, positions: Iterable[np.ndarray], device: str) -> Iterator[torch.Tensor]:
        """Yield (B, S, S, 3) uint8 of each of these positions (B,) in `index`.

        Read while the device works on those before.
        """
        return batching.parts_ahead(
            self.pixels, (self.index[one] for one in positions), torch.device(device)
        )

    def plain(self, positions: Iterable[np.ndarray], device: str) -> Iterator[torch.Tensor]:
        """Yield the images at each of these positions as the encoder gets them.

        (B, 3, S, S) float32, normalised, channels_last; positions: (B,) int in `index`.
        """
        return (
            augment.normalised_images(images, self.mean, self.std)
            for images in self.ahead(positions, device)
        )


def positions_of(pairs: np.ndarray, part: slice, paired: bool) -> list[np.ndarray]:
    """Return the positions in Data.index of the images of some members of a batch, (n,) int each.

    pairs: (B, 2). part: which members. paired: both sides of them, in two arrays; else the first.
    """
    return [pairs[part, side] for side in ((0, 1) if paired else (0,))]


def views_of(
    data: Data,
    crops: Sequence[Crop],
    pairs: np.ndarray,
    part: slice,
    device: str,
    generator: torch.Generator,
    *,
    paired: bool,
    fuse: bool = False,
    sources: Sequence[torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    """Return the views of the members `part` of a batch, in the order of `crops`.

    As `augment.views` gives them; of two images in turn if paired. pairs: (B, 2) positions in
    Data.index. Parameters are drawn for the whole batch, so that the processes that share it see
    together what one process would see. sources: the pixels at `positions_of`, where they are on
    the device already. fuse: see `augment.finished`.
    """
    if sources is None:
        sources = list(data.ahead(positions_of(pairs, part, paired), device))
    drawn = [
        taken(augment.draw_parameters(crop, len(pairs), generator), part)
        for crop in crops
        for _ in range(crop.count)
    ]
    with products("fp32"):  # the precision is the encoder's
        return augment.finished(sources, drawn, crops, data.size, data.mean, data.std, fuse=fuse)
