"""What the protocols on frozen features share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from medbench.schema import UserError
from medbench.stats.splits import MAX_FOLDS

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BLOCK_VALUES", "MAX_FOLDS", "blocks", "check_finite"]

BLOCK_VALUES = 2**23  # float64 values held at a time: 64 MiB, a few times over


def check_finite(features: Mapping[str, np.ndarray]) -> None:
    """features: "training" or a target's name -> (N, D) float. Raises UserError."""
    import numpy as np

    for name, given in features.items():
        bad = np.flatnonzero(~np.isfinite(given).all(1))
        if len(bad):
            raise UserError(f"The {name} features of {len(bad)} of {len(given)} images are not finite (first: image {bad[0]}): "
                            "the encoder's weights do not fit the images or the precision.", then="run it with --precision fp32")  # fmt: skip


def blocks(rows: int, columns: int) -> list[slice]:
    """Slices of `rows` rows, of at most `BLOCK_VALUES` values each."""
    step = max(1, BLOCK_VALUES // columns)
    return [slice(i, i + step) for i in range(0, rows, step)]
