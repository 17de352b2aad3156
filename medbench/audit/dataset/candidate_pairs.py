"""Which pairs of N images are worth a closer look, without an N x N matrix: by perceptual hash.

The hash is the sign of the 63 lowest cosine frequencies of the grey image against their median (pHash: Zauner 2010, Implementation and
benchmarking of perceptual image hash functions). Own code, because mirrored and turned images only flip signs of frequencies and swap their
axes: all eight hashes of an image come from one transform, which a library that hashes one image at a time cannot give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from medbench.system.progress_listener import report_progress

if TYPE_CHECKING:
    import torch

    from medbench.audit.dataset.pack_rows import Rows

BITS = 63
NEIGHBOURS = 4
_BLOCK_CELLS = 20_000_000  # float32 of one block of similarities: 80 MB


def hashes(pack: np.ndarray | Rows) -> np.ndarray:
    """(8, N, 63) bool: perceptual hashes of the images (N, S, S, 3) uint8 as they are, and mirrored and turned in the other seven ways."""
    import torch
    from scipy import fft
    from torch.nn import functional

    found = np.empty((8, len(pack), BITS), bool)
    sign = (-1.0) ** np.arange(8)
    for start in range(0, len(pack), 512):
        grey = torch.from_numpy(np.array(pack[start : start + 512])).float().mean(-1)[:, None]
        small = functional.interpolate(grey, size=(32, 32), mode="area")[:, 0].numpy()
        low = fft.dctn(small, axes=(1, 2), norm="ortho")[:, :8, :8]
        ways = [way * rows * columns for way in (low, low.transpose(0, 2, 1)) for rows in (1, sign[:, None]) for columns in (1, sign)]
        for way, values in zip(found, ways, strict=True):
            flat = values.reshape(len(values), 64)[:, 1:]
            way[start : start + 512] = flat > np.median(flat, axis=1, keepdims=True)
    return found


def by_hash(codes: np.ndarray, groups: np.ndarray, far: int) -> list[tuple[int, int, int]]:
    """(i, j, bits) with i < j, nearest first: pairs of different groups (N,) int whose hashes differ in at most `far` bits, `NEIGHBOURS` an
    image. Hashes of unrelated images differ in about 32."""
    import torch

    signs = [torch.from_numpy(way).float() * 2 - 1 for way in codes]

    def similarity(rows: slice) -> torch.Tensor:
        best = signs[0][rows] @ signs[0].T
        for way in signs[1:]:
            torch.maximum(best, way[rows] @ signs[0].T, out=best)
        return best

    near = _nearest(similarity, groups, "comparing hashes")
    return sorted(
        ((i, j, round((BITS - value) / 2)) for (i, j), value in near.items() if value >= BITS - 2 * far), key=lambda x: (x[2], x[0], x[1])
    )


def _nearest(similarity: Callable[[slice], torch.Tensor], groups: np.ndarray, stage: str) -> dict[tuple[int, int], float]:
    import torch

    n = len(groups)
    of = torch.from_numpy(groups)
    k = min(NEIGHBOURS, n - 1)
    step = max(1, min(1024, _BLOCK_CELLS // n))
    near: dict[tuple[int, int], float] = {}
    for start in range(0, n if k > 0 else 0, step):
        rows = slice(start, min(start + step, n))
        values = similarity(rows)
        values[of[rows, None] == of[None]] = -torch.inf
        top, at = values.topk(k, 1)
        for i, (row, columns) in enumerate(zip(top.tolist(), at.tolist(), strict=True), start):
            near.update({(min(i, j), max(i, j)): value for value, j in zip(row, columns, strict=True) if value > -np.inf})
        report_progress(stage, rows.stop, n, "images")
    return near
