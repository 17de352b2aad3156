"""Rows of several packs that are read as if they were those of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class JoinedRows:
    """Some rows of each of several packs (N, S, S, 3) uint8, one pack after another.

    They stay mapped, and are read where they are asked for, by slice or by index.
    """

    def __init__(self, parts: Sequence[tuple[Any, np.ndarray]]):
        self.packs = [pack for pack, _ in parts]
        self.rows = np.concatenate([index for _, index in parts])
        self.whose = np.repeat(np.arange(len(parts)), [len(index) for _, index in parts])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        rows, whose = self.rows[index], self.whose[index]
        found = np.empty((len(rows), *self.packs[0].shape[1:]), np.uint8)
        for i, pack in enumerate(self.packs):
            if len(mine := np.flatnonzero(whose == i)):
                found[mine] = pack[rows[mine]]
        return found
