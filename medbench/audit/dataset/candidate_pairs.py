"""Which pairs of N images are worth a closer look, without an N x N matrix: by perceptual hash.

The hash is the sign of the 63 lowest cosine frequencies of the grey image against their median
(pHash: Zauner 2010, Implementation and benchmarking of perceptual image hash functions). Own code,
because mirrored and turned images only flip signs of frequencies and swap their axes: all eight
hashes of an image come from one transform, which a library that hashes one image at a time cannot
give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    for start in range(0, len(pack), 512):
        grey = torch.from_numpy(np.array(pack[start : start + 512])).float().mean(-1)[:, None]
        small = functional.interpolate(grey, size=(32, 32), mode="area")[:, 0].numpy()
        low = fft.dctn(small, axes=(1, 2), norm="ortho")[:, :8, :8]
        found[:, start : start + 512] = codes(low)
    return found


def codes(low: np.ndarray) -> np.ndarray:
    """Return (8, N, 63) bool, of the lowest cosine frequencies (N, 8, 8) of N images."""
    sign = (-1.0) ** np.arange(8)
    ways = (
        way * rows * columns
        for way in (low, low.transpose(0, 2, 1))
        for rows in (1, sign[:, None])
        for columns in (1, sign)
    )
    flat = [values.reshape(len(values), 64)[:, 1:] for values in ways]
    return np.stack([values > np.median(values, axis=1, keepdims=True) for values in flat])


class NearHashes:
    """Pairs (i, j), i < j, of near hashes, nearest first.

    They are looked for no further than they are taken.
    """

    def __init__(self, codes: np.ndarray, groups: np.ndarray, far: int):
        self._search = hamming_search.Search(codes, groups, NEIGHBOURS, far)
        self._bits: dict[tuple[int, int], int] = {}
        self._groups = groups

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for found in self._search.of(np.arange(len(self._groups))):
            near = {
                pair: bits for pair, bits in _undirected(found).items() if pair not in self._bits
            }
            self._bits |= near
            yield from sorted(near, key=lambda pair: (near[pair], pair))

    def end(self) -> None:
        """End the search: no more pairs are taken."""
        self._search.end()

    def bits(self, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
        """Return in how many bits the near ones of these differ.

        As the one sees the other that sees it nearer: an image that is turned may have another
        hash.
        """
        rest = [pair for pair in pairs if pair not in self._bits]
        found = dict(self._bits)
        if rest:
            every = self._search.of(np.unique(rest))
            found |= _undirected(np.concatenate(list(every)))
        return {pair: found[pair] for pair in pairs if pair in found}


def _undirected(found: np.ndarray) -> dict[tuple[int, int], int]:
    """(i, j), i < j -> bits, of (P, 3) of image, bits, other."""
    near: dict[tuple[int, int], int] = {}
    for i, bits, j in found.tolist():
        pair = (min(i, j), max(i, j))
        near[pair] = min(bits, near.get(pair, bits))
    return near
