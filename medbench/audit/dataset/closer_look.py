"""A closer look at pairs whose likeness leaves open whether they are copies.

Both images are read again, finer, and laid over each other anew.

Aligned anatomy agrees in what is coarse, copies in what is fine too, and an image made small has
lost most of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from medbench.audit.dataset.likeness import likeness
from medbench.audit.dataset.registration import refined
from medbench.images import squeezing
from medbench.schema import Image
from medbench.system.progress_listener import report_progress

SIZE = 160  # px
# px: of images whose shorter side is less, SIZE shows no more than the search has seen
_SHOWS_MORE = 130
_STEP = 64  # images

Read = Callable[[np.ndarray], np.ndarray]  #: rows (n,) -> (n, SIZE, SIZE, 3) uint8


def reader_for(images: Sequence[Image], typical: float) -> Read | None:
    """Make the function that reads these images again.

    None where they are so small (typical: px of the shorter side) that it would show no more.
    """

    def read(rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), SIZE, SIZE, 3), np.uint8)
        with ThreadPoolExecutor() as pool:  # decoders leave Python's lock
            for start in range(0, len(rows), _STEP):
                block = rows[start : start + _STEP]
                found[start : start + _STEP] = list(
                    pool.map(
                        lambda row: squeezing.squeeze(images[int(row)], SIZE, "bicubic"), block
                    )
                )
                report_progress("reading pairs again", start + len(block), len(rows), "images")
        return found

    return read if typical >= _SHOWS_MORE else None


def likeness_of(read: Read, pairs: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return how alike pairs are at a finer size, as `likeness` does: (P,) in [-1, 1].

    pairs: (P, 2). maps: (P, 2, 3), which fit already at a smaller size. read: of `reader_for`.
    """
    each, index = np.unique(pairs, return_inverse=True)
    pixels, pairs = read(each), index.reshape(-1, 2)
    return likeness(pixels, pairs, refined(pixels, pairs, maps))
