"""Rows of several packs that are read as if they were those of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medbench.system.row_checksums import rows_into


class JoinedRows:
    """Some rows of each of several packs (N, S, S, 3) uint8, one pack after another.

    They stay mapped, and are read where they are asked for, by slice or by index.
    """

    def __init__(self, parts: Sequence[tuple[Any, np.ndarray]]):
        self.packs = [pack for pack, _ in parts]
        self.rows = np.concatenate([index for _, index in parts])
        self.whose = np.repeat(np.arange(len(parts)), [len(index) for _, index in parts])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as of one array."""
        return (len(self), *self.packs[0].shape[1:])

    def into(self, index: np.ndarray, out: np.ndarray) -> None:
        """Copy the rows at `index` (n,) int into `out` (n, S, S, 3).

        Once, where all of them lie in one pack.
        """
        rows, whose = self.rows[index], self.whose[index]
        if len(whose) and (whose == whose[0]).all():
            rows_into(self.packs[whose[0]], rows, out)
        else:
            out[:] = self[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        rows, whose = self.rows[index], self.whose[index]
        found = np.empty((len(rows), *self.packs[0].shape[1:]), np.uint8)
        for i, pack in enumerate(self.packs):
            if len(mine := np.flatnonzero(whose == i)):
                found[mine] = pack[rows[mine]]
        return found
