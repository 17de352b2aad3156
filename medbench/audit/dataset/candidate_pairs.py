"""Which pairs of N images are worth a closer look, without an N x N matrix: by perceptual hash.

The hash is the sign of the 63 lowest cosine frequencies of the grey image against their median
(pHash: Zauner 2010, Implementation and benchmarking of perceptual image hash functions). Own code,
because mirrored and turned images only flip signs of frequencies and swap their axes: all eight
hashes of an image come from one transform, which a library that hashes one image at a time cannot
give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medbench.audit.dataset import hamming_search

if TYPE_CHECKING:
    from medbench.audit.dataset.pack_rows import Rows

BITS = 63
NEIGHBOURS = 4


def hashes(pack: np.ndarray | Rows) -> np.ndarray:
    """Return perceptual hashes of the images as they are, mirrored and turned: (8, N, 63) bool.

    The images are (N, S, S, 3) uint8; the first of the eight ways is the image as it is.
    """
    import torch
    from scipy import fft
    from torch.nn import functional

    found = np.empty((8, len(pack), BITS), bool)
    sign = (-1.0) ** np.arange(8)
    for start in range(0, len(pack), 512):
        grey = torch.from_numpy(np.array(pack[start : start + 512])).float().mean(-1)[:, None]
        small = functional.interpolate(grey, size=(32, 32), mode="area")[:, 0].numpy()
        low = fft.dctn(small, axes=(1, 2), norm="ortho")[:, :8, :8]
        ways = [
            way * rows * columns
            for way in (low, low.transpose(0, 2, 1))
            for rows in (1, sign[:, None])
            for columns in (1, sign)
        ]
        for way, values in zip(found, ways, strict=True):
            flat = values.reshape(len(values), 64)[:, 1:]
            way[start : start + 512] = flat > np.median(flat, axis=1, keepdims=True)
    return found


def by_hash(codes: np.ndarray, groups: np.ndarray, far: int) -> list[tuple[int, int, int]]:
    """Return (i, j, bits) with i < j of near hashes, nearest first.

    Pairs of different groups (N,) int whose hashes differ in at most `far` bits, `NEIGHBOURS` per
    image. bits: as the one sees the other that sees it nearer, for an image that is turned may have
    another hash. Hashes of unrelated images differ in about 32.
    """
    near: dict[tuple[int, int], int] = {}
    for i, bits, j in hamming_search.nearest(codes, groups, NEIGHBOURS, far).tolist():
        pair = (min(i, j), max(i, j))
        near[pair] = min(bits, near.get(pair, bits))
    return sorted(((i, j, bits) for (i, j), bits in near.items()), key=lambda x: (x[2], x[0], x[1]))
