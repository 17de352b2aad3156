"""Images that show nothing: one colour all over."""

from __future__ import annotations

import numpy as np

from medbench.system.row_checksums import CheckedRows

_LEVELS = 2  # of 255: what a JPEG or a resampling leaves of one colour
_STRAY = 0.001  # share of pixels that may be of another: a dead pixel, a rounded corner
_BLOCK = 256  # images
_SAMPLE = 64  # pixels of each that are looked at first


def blank(pack: CheckedRows | np.ndarray) -> np.ndarray:
    """Return which rows of a pack are images of a single colour: (n,) int64, ascending.

    pack: (N, S, S, 3) uint8. A few stray pixels do not count.
    """
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(pack), _BLOCK):
        pixels = np.asarray(pack[start : start + _BLOCK]).reshape(
            -1, pack.shape[1] * pack.shape[2], 3
        )
        some = pixels[:, :: max(1, pixels.shape[1] // _SAMPLE)]
        colour = np.median(some, axis=1, keepdims=True)
        likely = np.flatnonzero(_same(some, colour) > 0.9)  # few of a usual set
        found.append(start + likely[_same(pixels[likely], colour[likely]) >= 1 - _STRAY])
    return np.concatenate(found)


def _same(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """(N,) share of pixels (N, P, 3) that have that colour (N, 1, 3)."""
    share: np.ndarray = (np.abs(pixels - colour) <= _LEVELS).all(-1).mean(1)
    return share
