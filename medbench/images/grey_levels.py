"""From 16-bit and other grey levels to 8 bits.

It also states how many pixels, and passes over them, an image may have.
"""

from __future__ import annotations

import numpy as np

from medbench.schema import UserError

_WORDS = 1 << 16  # that two bytes can be
_MOST_SCANS = 100  # of a progressive JPEG: encoders make 6 to 14, the hardest optimiser about 80
# Pillow's own warning level: 256 MB of RGB; more is a bomb, or a slide that must be tiled
MAX_PIXELS = 89_478_485
#: Share of an image's values that its full range does not leave out; the few above are white.
BRIGHT = 0.999


def grey8(x: np.ndarray) -> np.ndarray:
    """Return (H, W) uint8 of grey values of any type, by the rule in `decode`.

    Raises UserError for values that are not finite.
    """
    return x if x.dtype == np.uint8 else ramp(x, *full_range(x))


def full_range(x: np.ndarray) -> tuple[float, float]:
    """Return the values that become black and white, by the rule in `decode`.

    Raises UserError for values that are not finite.

    x: (H, W), numbers of any type.
    """
    low, high = float(x.min()), float(x.max())
    if not np.isfinite([low, high]).all():
        raise UserError("it holds pixels that are not finite numbers.")
    if low >= 0 and np.issubdtype(x.dtype, np.integer):
        bright = float(np.quantile(x, BRIGHT, method="lower"))
        return 0.0, float((1 << max(8, int(bright).bit_length())) - 1)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def colour_bits(x: np.ndarray, share: float = BRIGHT) -> int:
    """Return how many bits the colour samples of 16-bit words use, at least 8.

    It goes by the smallest full range that so large a share of them does not exceed.

    16 where all are 8-bit values that were made wider, by 257 or 256: a dark picture of these is
    meant to be dark.

    x: (H, W, 3) uint16.
    """
    if not (x % 257).any() or not (x & 255).any():
        return 16
    return max(8, int(np.quantile(x, share, method="lower")).bit_length())


def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map values to uint8: 0 at `low` and below, 255 at `high` and above, linear between, rounded.

    x: (H, W), or any other shape, which is returned.
    """
    # each word once: a float a pixel takes 16 times the memory of what comes out
    if x.dtype in (np.uint16, np.int16) and x.size > _WORDS:
        words = np.arange(_WORDS, dtype=np.uint16).view(x.dtype)
        table: np.ndarray = ramp(words, low, high)
        return table[x.view(np.uint16)]
    span = high - low or 1.0
    return np.clip((x.astype(np.float64) - low) * (255 / span) + 0.5, 0, 255).astype(np.uint8)


def check_pixels(width: int, height: int) -> None:
    """Raise UserError for an image too large to be decoded whole."""
    if width * height > MAX_PIXELS:
        raise UserError(
            f"it has {width} x {height} pixels, more than {MAX_PIXELS:,}: cut it into tiles first."
        )


def check_scans(data: bytes) -> None:
    """Raise UserError for a progressive JPEG of too many passes over its pixels.

    A small file would take a minute. data: the file's bytes.
    """
    scans = data.count(b"\xff\xda")
    if scans > _MOST_SCANS:
        raise UserError(
            f"it is a progressive JPEG of {scans} scans, and at most {_MOST_SCANS} are read: save it as a plain JPEG."
        )
