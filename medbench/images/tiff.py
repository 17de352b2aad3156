"""TIFF forms that Pillow opens but reads otherwise than their tags say.

Mended by the tags, or refused by name.

Pillow leaves deep grey that counts from white as it is, takes signed bytes and unsigned 32 bits for
the other kind, palettes of 8-bit and 12-bit values for 16-bit ones, and any fourth plane for
transparency. Grey is mended only where Pillow's own name of the raw samples shows that it did
nothing about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medbench.images.grey_levels import colour_bits, full_range
from medbench.schema import UserError

if TYPE_CHECKING:
    import PIL.Image
    from PIL.TiffImagePlugin import TiffImageFile

_BITS, _PHOTOMETRIC, _ORDER, _PLANES, _PALETTE, _EXTRA_SAMPLES, _SAMPLE_FORMAT = (
    258,
    262,
    266,
    284,
    320,
    338,
    339,
)
_WHITE_IS_ZERO, _LAB = 0, 8
_SIGNED = 2


class Form(NamedTuple):
    """What a file's tags say of its samples.

    raw: Pillow's name of how it unpacks them. palette: red, green, blue, one after another.
    """

    raw: str
    photometric: int
    sample_format: int
    alpha: bool
    palette: tuple[int, ...]


def form(im: TiffImageFile) -> Form:
    """Return the form of a TIFF before it is loaded.

    Raises UserError for a form that is not read.
    """
    tags = im.tag_v2
    codec, args = im.tile[0][0], im.tile[0][3]
    raw = str(args[0] if isinstance(args, tuple) else args)
    found = Form(
        raw,
        tags.get(_PHOTOMETRIC, 0),
        max(tags.get(_SAMPLE_FORMAT, (1,))),
        _EXTRA_SAMPLES in tags,
        tuple(tags.get(_PALETTE, ())),
    )
    deep = max(tags.get(_BITS, (1,))) > 8 and codec != "libtiff"
    if tags.get(_PLANES, 1) == 2 and (
        found.photometric == _LAB or deep or (im.mode == "RGBA" and not found.alpha)
    ):
        raise UserError(
            "its planes (CIELAB, or more than 8 bits without compression, or a fourth one without a name) are not read: save its pixels"
            " interleaved."
        )
    if deep and tags.get(_ORDER, 1) == 2:
        raise UserError(
            "samples of more than 8 bits in reversed order (FillOrder 2) are not read: save it without."
        )
    # libtiff has swapped the bytes already, and Pillow does so again
    if codec == "libtiff" and raw.endswith(("BS", "BF")):
        raise UserError(
            "compressed big-endian samples that are signed or floats are not read: save it little-endian or uncompressed."
        )
    return found


def mended(im: PIL.Image.Image, found: Form) -> PIL.Image.Image | np.ndarray:
    """Return a loaded image as its tags mean it: the image, or deep grey values (H, W)."""
    if im.mode.startswith(("I", "F")):
        return _deep_grey(np.asarray(im), found)
    if im.mode == "L" and found.raw == "L" and found.sample_format == _SIGNED:
        return im.point([(level + 128) % 256 for level in range(256)])  # -128 is black, 127 white
    if (
        im.mode in ("P", "PA")
        and (bits := colour_bits(table := np.reshape(found.palette, (3, -1)).T, 1.0)) < 16
    ):
        im.putpalette((table >> (bits - 8)).astype(np.uint8).tobytes())
    if im.mode == "RGBA" and not found.alpha and im.getchannel("A").getextrema()[1] == 0:
        return im.convert("RGB")  # a fourth plane that nobody calls transparency
    return im


def _deep_grey(x: np.ndarray, found: Form) -> np.ndarray:
    if found.raw == "I;32N":
        x = x.view(np.uint32)
    if found.photometric != _WHITE_IS_ZERO or found.raw not in ("I;16", "I;16N", "F;32F", "F;32BF"):
        return x
    low, high = full_range(x)
    inverted: np.ndarray = (low + high - np.clip(x, low, high)).astype(x.dtype)
    return inverted
