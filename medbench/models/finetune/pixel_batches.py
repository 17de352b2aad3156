"""A labelled pool's pixels on the device that trains.

They are read by index, a batch at a time: a pool is larger than memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from medbench.images import augment, batching
from medbench.schema import Network
from medbench.system.transfer import array_sent

BATCH = 256  # images scored at a time


class TrainingPixels:
    """The pixels of the images that are trained on: (N, S, S, 3) uint8.

    They stay on a GPU where they take less than a quarter of its free memory.
    """

    def __init__(self, pool: np.ndarray, rows: np.ndarray, device: torch.device):
        self.pool, self.rows, self.device = pool, rows, device
        self.resident: torch.Tensor | None = None
        if (
            device.type == "cuda"
            and len(rows) * math.prod(pool.shape[1:]) <= torch.cuda.mem_get_info(device)[0] / 4
        ):
            self.resident = torch.empty(
                (len(rows), *pool.shape[1:]), dtype=torch.uint8, device=device
            )
            start = 0
            for block in batching.blocks(pool, rows, BATCH, device):
                self.resident[start : start + len(block)] = block
                start += len(block)

    def ahead(self, wanted: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield (B, S, S, 3) uint8 of the images at each of these indices (B,) into `rows`.

        Read while the device works on those before.
        """
        if self.resident is not None:
            return (self.resident[array_sent(index, self.device)] for index in wanted)
        return batching.parts_ahead(self.pool, (self.rows[index] for index in wanted), self.device)


def normalised(
    pixels: np.ndarray, network: Network, device: torch.device, rows: np.ndarray | None = None
) -> Iterator[torch.Tensor]:
    """Yield batches (B, 3, S, S) float32, as the network takes them.

    pixels: (M, S, S, 3) uint8; rows: which of them, or all.
    """
    rows = np.arange(len(pixels)) if rows is None else rows
    return (
        augment.normalised_images(block, network.mean, network.std)
        for block in batching.blocks(pixels, rows, BATCH, device)
    )
