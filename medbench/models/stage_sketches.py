"""What the stages before a feature gave: weights as they were loaded, pixels, what enters the network."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import images
from medbench.schema import Encoder
from medbench.stats.array_sketch import sketch, sketch_all

if TYPE_CHECKING:
    import torch


def stage_sketches(
    pack: images.Pixels, net: torch.nn.Module, encoder: Encoder, batch: int
) -> dict[str, Any]:
    """Return what the stages before the features gave, as JSON values.

    First 16 digits of the SHA-256 of the weights as they were loaded, and their sketch; sketches of
    the pixels of the first `batch` images and of what enters the network, with its mean per
    channel. Equal hashes of files do not prove these equal: code lies between.
    """
    import torch

    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(
            value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    first = np.arange(min(batch, len(pack)))
    (images_in,) = images.batches(pack, first, batch, "cpu", encoder.mean, encoder.std)
    entering = images_in.numpy()
    means = [float(f"{value:.6g}") for value in entering.mean((0, 2, 3), dtype=np.float64)]
    return {
        "weights": digest.hexdigest()[:16],
        "tensors": sketch_all(
            value.detach().cpu().float().numpy()
            for value in net.state_dict().values()
            if value.is_floating_point()
        ),
        "pixels": sketch(pack.array[first]),
        "input": sketch(entering),
        "channel_means": means,
    }
