"""PNG files of 16 bits a sample.

The same picture is the same picture, however many of the bits are used, and dark pictures stay
dark.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from medbench import images
from medbench.images import ContentHash, decoding, pixel_ingredients
from medbench.schema.ingredients import raised

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (24, 36, 3)).astype(np.uint16)
TWELVE = (COLOUR * 257) >> 4
RGB, GREY_ALPHA, RGBA = 2, 4, 6


def write_png(file, x, colour_type):
    """x: (H, W, S) uint16. Pillow cannot write these."""
    chunk = lambda name, data: (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    )
    header = struct.pack(">IIBBBBB", x.shape[1], x.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in x)
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return file


def opaque(x, level=65535):
    return np.concatenate([x, np.full((*x.shape[:2], 1), level, np.uint16)], 2)


GREY = COLOUR[..., :1]
FORMS = {
    "16 bits": (COLOUR * 257, RGB, COLOUR),
    "12 bits": (TWELVE, RGB, COLOUR),
    "10 bits": (TWELVE >> 2, RGB, COLOUR),
    "8 bits": (COLOUR, RGB, COLOUR),
    "the upper 12 bits": (TWELVE << 4, RGB, COLOUR),
    "12 bits, opaque": (opaque(TWELVE), RGBA, COLOUR),
    "12 bits, alpha of 12 bits": (opaque(TWELVE, 4095), RGBA, COLOUR),
    "grey of 12 bits, opaque": (opaque((GREY * 257) >> 4), GREY_ALPHA, np.repeat(GREY, 3, 2)),
    "a dark picture of 8 bits, widened": ((COLOUR >> 4) * 257, RGB, COLOUR >> 4),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_bits_that_are_used_do_not_show(tmp_path, name):
    x, colour_type, shown = FORMS[name]
    assert (
        np.abs(
            images.decode(write_png(tmp_path / "a.png", x, colour_type)).astype(int) - shown
        ).max()
        <= 1
    )


def test_their_decoder_is_an_ingredient_of_its_own(tmp_path):
    deep = images.content_hashes([write_png(tmp_path / "a.png", TWELVE, RGB)], tmp_path)
    assert raised(pixel_ingredients(deep)) == raised({"decoder png of deep colour": 2})
    assert (
        not raised(pixel_ingredients([ContentHash("0" * 64, "png")]))
        and decoding.DECODERS["png"] == 1
    )
