"""Tiny images and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def picture(file: Path, number: int) -> Path:
    """A 6 x 6 image that is another for another number; PNG whatever the suffix says, since
    medbench finds the type by content."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(stream.getvalue())
    return file


def write_csv(
    file: Path, header: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ","
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return file


def with_bit(archive: bytes, central: int, local: int, value: int) -> bytes:
    """A zip with `value` set at these places of each record of its directory, and of each member's
    own header."""
    content = bytearray(archive)
    for mark, place in ((b"PK\1\2", central), (b"PK\3\4", local)):
        at = content.find(mark)
        while at >= 0 and place:
            content[at + place] |= value
            at = content.find(mark, at + 4)
    return bytes(content)
