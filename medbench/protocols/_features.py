"""What the protocols on frozen features share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medbench.schema import UserError
from medbench.stats.splits import MAX_FOLDS

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["BLOCK_VALUES", "MAX_FOLDS", "blocks", "check_finite", "on_device", "sent"]

# float64 values held at a time: 64 MiB, or 1 GiB, a few times over
BLOCK_VALUES = {"cpu": 2**23, "cuda": 2**27}


def check_finite(features: Mapping[str, np.ndarray]) -> None:
    """Check that features are finite. Raises UserError.

    features: "training" or a target's name -> (N, D) float.
    """
    import numpy as np

    for name, given in features.items():
        bad = [
            row
            for rows in blocks(len(given), max(1, given.shape[1]))
            for row in rows.start + np.flatnonzero(~np.isfinite(given[rows]).all(1))
        ]
        if bad:
            raise UserError(f"The {name} features of {len(bad)} of {len(given)} images are not finite (first: image {bad[0]}): "
                            "the encoder's weights do not fit the images or the precision.", then="run it with --precision fp32")  # fmt: skip


def blocks(rows: int, columns: int, device: str = "cpu") -> list[slice]:
    """Return slices that cover `rows` rows of `columns` values.

    Of at most `BLOCK_VALUES` values of the device each.
    """
    step = max(1, BLOCK_VALUES[device.partition(":")[0]] // columns)
    return [slice(i, i + step) for i in range(0, rows, step)]


def on_device(images: np.ndarray, device: str) -> np.ndarray | torch.Tensor:
    """Return images (M, D) on a GPU where they take less than a quarter of its free memory.

    Else, and on a CPU, as they are.
    """
    import torch

    place = torch.device(device)
    if place.type != "cuda" or images.nbytes > torch.cuda.mem_get_info(place)[0] / 4:
        return images
    return torch.as_tensor(images, device=place)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a small tensor, of any shape, to the device; a training step does not wait for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
