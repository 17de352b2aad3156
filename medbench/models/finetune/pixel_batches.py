"""A labelled pool's pixels on the device that trains."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from medbench.images import augment
from medbench.schema import Network

BATCH = 256  # images scored at a time


class TrainingPixels:
    """(N, S, S, 3) uint8 of the images that are trained on, which stay on a GPU where they take less than a quarter of its free memory."""

    def __init__(self, pool: np.ndarray, rows: np.ndarray, device: torch.device):
        self.pool, self.rows, self.device = pool, rows, device
        self.resident: torch.Tensor | None = None
        if device.type == "cuda" and len(rows) * math.prod(pool.shape[1:]) <= torch.cuda.mem_get_info(device)[0] / 4:
            self.resident = torch.from_numpy(pool[rows]).to(device)

    def take(self, index: np.ndarray) -> torch.Tensor:
        """(B, S, S, 3) uint8 of the images at `index` (B,) into `rows`."""
        if self.resident is not None:
            return self.resident[torch.as_tensor(index, device=self.device)]
        return torch.from_numpy(self.pool[self.rows[index]]).to(self.device)


def normalised(pixels: np.ndarray, network: Network, device: torch.device) -> Iterator[torch.Tensor]:
    """(M, S, S, 3) uint8 in batches (B, 3, S, S) float32, as the network takes them."""
    for start in range(0, len(pixels), BATCH):
        yield augment.normalised_images(torch.from_numpy(np.array(pixels[start : start + BATCH])).to(device), network.mean, network.std)
