"""How many labels differ between two versions of a data set.

From a few bytes that each of them keeps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

BLOCKS = 128


def label_marks(ids: Sequence[str], labels: Sequence[Any]) -> str:
    """Return `BLOCKS` bytes in hex that mark the labels of the images.

    The ids of the images fall into blocks. A byte joins, by XOR, a byte of the hash of each image
    of a block with its label. labels: JSON values. The order of images does not matter.
    """
    marks = bytearray(BLOCKS)
    for name, label in zip(ids, labels, strict=True):
        block = blake2b(name.encode(), digest_size=2).digest()
        (mark,) = blake2b(json.dumps([name, label]).encode(), digest_size=1).digest()
        marks[int.from_bytes(block) % BLOCKS] ^= mark
    return marks.hex()


def changed_labels(then: str, now: str) -> int:
    """Estimate how many labels differ between two texts of `label_marks` of the same ids.

    The count that is expected to change as many blocks (linear counting, Whang et al. 1990,
    doi:10.1145/78922.78925), rounded. Exact for one; where all blocks changed, what is expected to
    leave one unchanged.
    """
    changed = sum(a != b for a, b in zip(bytes.fromhex(then), bytes.fromhex(now), strict=True))
    return round(-BLOCKS * math.log(max(1 - changed / BLOCKS, 1 / BLOCKS)))
