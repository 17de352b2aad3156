"""Rows of a pack, damaged as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medbench import images
from medbench.images.corruptions.catalogue import Corruption
from medbench.schema import fingerprint
from medbench.system.row_checksums import CheckedRows


@dataclass(frozen=True, eq=False)
class CorruptedPack:
    """Rows of a pack, damaged as they are read.

    rows: of the pack; ids: (M,) str of their images.
    """

    pack: images.Pack
    rows: slice
    ids: np.ndarray
    corruption: Corruption
    level: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def array(self) -> Any:
        """The pixels, (M, S, S, 3) uint8, computed for the rows that are asked for.

        Opened anew at each call.
        """
        return _Damaged(self.pack.array.part(self.rows), self.ids, self.corruption, self.level)


class _Damaged:
    """What a memory-mapped array is to those who read it.

    Length, shape, and rows by slice or index.
    """

    computed = True  # milliseconds an image, which a GPU would wait for: see `batching`

    def __init__(self, pixels: CheckedRows, ids: np.ndarray, corruption: Corruption, level: int):
        self.pixels, self.ids, self.corruption, self.level = pixels, ids, corruption, level
        self.shape, self.dtype, self.ndim = pixels.shape, pixels.dtype, pixels.ndim

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> np.ndarray:
        from medbench.images.corruptions.transforms import corrupt

        return corrupt(self.pixels[index], self.ids[index], self.corruption, self.level)


def corrupted_pack_key(
    pack_key: str, ids: Sequence[str], corruption: Corruption, level: int
) -> str:
    """Return 64 hex digits: the images' content in order, their ids, and what is done to them."""
    return fingerprint("corrupted", pack_key, list(ids), corruption.identity(level))
