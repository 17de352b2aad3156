"""Colour of 16 bits a sample.

Pillow keeps the high byte of each, which is nearly black where a camera of 12 bits wrote it.

Pillow reads the low bytes, too, where it is told that the words are of the other byte order.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from medbench.images.grey_levels import BRIGHT, colour_bits, full_range, ramp
from medbench.schema import UserError

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageFile

_PLANES = 284  # TIFF's PlanarConfiguration: 2 where each colour is a plane of its own
_LOW = {"B": "L", "L": "B", "N": "L" if sys.byteorder == "big" else "B"}


def raw_name(im: PIL.ImageFile.ImageFile) -> str:
    """Return how Pillow unpacks colour, or grey and alpha, of 16 bits a sample; "" for others.

    To be asked before the image is loaded.
    """
    args = im.tile[0][3] if im.tile else ""
    name = str(args[0] if isinstance(args, tuple) else args)
    return name if im.mode in ("RGB", "RGBA", "LA") and name[:-1].endswith(";16") else ""


def restored(im: PIL.ImageFile.ImageFile, raw: str, again: PIL.ImageFile.ImageFile) -> None:
    """Give a loaded image its samples by the rule in `decoding.decode`.

    raw: of `raw_name`; again: the same file, not loaded. Raises UserError for samples that use few
    of their 16 bits and are multiplied by alpha, or stored in planes.
    """
    from PIL import Image

    high = np.asarray(im)
    if float(np.quantile(high[..., :3], BRIGHT, method="lower")) >= 128:  # all 16 bits are used
        return
    # of planes Pillow gives the high bytes alone
    if raw.startswith("RGBa") or getattr(im, "tag_v2", {}).get(_PLANES, 1) == 2:
        how = "multiplied by its alpha" if raw.startswith("RGBa") else "stored in planes"
        raise UserError(
            f"colour of 16 bits {how}, which uses few of them, is not read: save it as plain RGB, its pixels interleaved."
        )
    deep = (high.astype(np.uint16) << 8) | _low_bytes(again, raw)
    bits = colour_bits(deep[..., :3])
    if bits < 16:
        shown = ramp(deep, 0, (1 << bits) - 1)
        if shown.shape[-1] == 4:
            shown[..., 3] = ramp(deep[..., 3], *full_range(deep[..., 3]))
        im.paste(Image.fromarray(shown))


def _low_bytes(im: PIL.ImageFile.ImageFile, raw: str) -> np.ndarray:
    """(H, W, S) uint8. Four bytes of grey and alpha are read as four planes."""
    grey = raw.startswith("LA")
    name = "RGBA" if grey else raw[:-1] + _LOW[raw[-1]]
    im.tile = [
        tile._replace(args=(name, *tile.args[1:]) if isinstance(tile.args, tuple) else name)
        for tile in im.tile
    ]
    im.load()
    read = np.asarray(im)
    return read[..., [1, 1, 1, 3]] if grey else read
