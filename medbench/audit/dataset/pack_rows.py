"""Rows of a pack that are read as if they were all."""

from __future__ import annotations

import numpy as np

from medbench.images.joined_rows import JoinedRows
from medbench.system.row_checksums import CheckedRows


class Rows:
    """Some rows of a pack (N, S, S, 3) uint8 as if they were all.

    The pack is mapped, and read where rows are asked for.
    """

    def __init__(self, pack: CheckedRows | JoinedRows, index: np.ndarray):
        self.pack, self.index = pack, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        chosen: np.ndarray = self.pack[self.index[rows]]
        return chosen
