"""How a picture of any shape becomes a square: squashed, cut out of its middle, or filled up.

The words are timm's, `crop_mode` and `crop_pct`. squash: both sides are resized, whatever their
ratio. center: the shorter side is resized. border: the longer side is resized, and the rest is
filled. `crop_pct` is the share of that side that is kept, in the middle.

A crop is a text, which stands in an encoder's identity and in a pack's key: "squash", else the mode
and the side in pixels that is resized to: "center 256".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from medbench.images.grey_levels import MAX_PIXELS
from medbench.schema import UserError

if TYPE_CHECKING:
    import PIL.Image

SQUASH = "squash"
MODES = (SQUASH, "center", "border")
LEAST = 0.1  # of `crop_pct`
Colour = tuple[int, int, int]
_DOWN = "floor"


@dataclass(frozen=True)
class CropRule:
    """A crop for images of any size, as a config says it.

    mode: one of MODES. pct: `crop_pct` in [LEAST, 1], the share of the resized side that is kept; a
    fraction where a config says two sides in pixels. down: the first pixel of the middle is rounded
    down, as transformers does it, not to the nearest even one, as torchvision does. fill: the
    colour beside a picture, R, G, B of 0 to 255.
    """

    mode: str = SQUASH
    pct: float | Fraction = 1
    down: bool = False
    fill: Colour = (0, 0, 0)

    def at(self, size: int) -> str:
        """Return the crop that gives squares of `size` pixels, as text."""
        return str(Crop(self.mode, math.floor(size / self.pct), self.down, self.fill).of(size))


WHOLE = CropRule()


class Crop(NamedTuple):
    """A crop for one size.

    side: in pixels, that is resized to; 0: the size itself. The rest is `CropRule`'s.
    """

    mode: str = SQUASH
    side: int = 0
    down: bool = False
    fill: Colour = (0, 0, 0)

    def of(self, size: int) -> Crop:
        """Return the crop without what changes no pixel at this size (px)."""
        if self.mode == SQUASH and self.side in (0, size):
            return Crop()
        return self if self.mode == "border" else self._replace(fill=(0, 0, 0))

    def __str__(self) -> str:
        if not self.side:
            return self.mode
        fill = ",".join(map(str, self.fill)) if self.mode == "border" else ""
        return " ".join(filter(None, (self.mode, str(self.side), _DOWN if self.down else "", fill)))

    def words(self, size: int) -> str:
        """Say what is done to a picture, as a verb with its object."""
        if self.mode == "border":
            filled = "fills up the square" if self.side == size else f"takes the middle {size}"
            return f"resizes the longer side to {self.side} and {filled}"
        if self.mode == "center":
            return f"resizes the shorter side to {self.side} and crops the middle {size}"
        side = self.side or size
        return f"squashes to {side}" + (f" and crops the middle {size}" if side != size else "")

    @property
    def name(self) -> str:
        """The crop in words, as `center crop of 256 px`; "" of an image that is seen whole."""
        return f"{self.mode} crop of {self.side} px" if self.side else ""

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that a picture is resized to.

        As torchvision, timm and transformers round them.
        """
        if self.mode == SQUASH:
            return self.side, self.side
        if self.mode == "center":
            shorter = min(width, height)
            return self.side * width // shorter, self.side * height // shorter
        ratio = max(width, height) / self.side
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def first(self, found: int, size: int) -> int:
        """Return where the middle `size` pixels of `found` begin, in pixels along one side.

        Below 0 where an image of fewer pixels is moved in by so many; with one pixel less (found =
        size - 1) it is 0, and the last row is filled. Rounded down where `down` says so, else to
        the nearest even number.
        """
        if found < size:
            return -((size - found) // 2)
        return (found - size) // 2 if self.down else round((found - size) / 2)


@cache
def crop_of(text: str) -> Crop:
    """Read the crop that a text says, as `str` of a crop gives it: "squash", "center 256".

    Raises ValueError for any other text.
    """
    form = r"(squash|center|border)(?: (\d{1,5})( floor)?(?: (\d+),(\d+),(\d+))?)?"
    found = re.fullmatch(form, text, re.ASCII)
    if found:
        mode, side, down, *fill = found.groups()
        r, g, b = (int(value or 0) for value in fill)
        crop = Crop(mode, int(side or 0), bool(down), (r, g, b))
        right = bool(crop.side) or mode == SQUASH
        if right and max(crop.fill) <= 255 and str(crop) == text:
            return crop
    raise ValueError(f"{text!r:.60} is not a crop")


def crop_in(provenance: Mapping[str, Any]) -> Crop:
    """Return the crop that a row's provenance says, of a fusion that of its own encoder."""
    return crop_of(provenance.get("identity", {}).get("encoder", {}).get("crop", SQUASH))


def needed(size: int, crop: str) -> int:
    """Return the pixels that a picture's shorter side should have for nothing of it to be lost."""
    return crop_of(crop).side or size


def square(picture: PIL.Image.Image, size: int, interpolation: str, crop: str) -> PIL.Image.Image:
    """Return the picture at (size, size), antialiased.

    Raises UserError for a picture that is too long to have a middle.
    """
    from PIL import Image

    how, asked = Image.Resampling[interpolation.upper()], crop_of(crop)
    if not asked.side:
        return picture if picture.size == (size, size) else picture.resize((size, size), how)
    wanted = asked.resized(*picture.size)
    if wanted[0] * wanted[1] > MAX_PIXELS:
        raise UserError(
            f"it has {picture.size[0]} x {picture.size[1]} pixels, too long for a crop of its middle.",
            then="leave it out, or medbench run --crop squash",
        )
    found = picture if picture.size == wanted else picture.resize(wanted, how)
    left, top = asked.first(wanted[0], size), asked.first(wanted[1], size)
    if min(left, top) < 0 or min(wanted) < size:
        filled = Image.new("RGB", (size, size), asked.fill)
        filled.paste(found.convert("RGB"), (-left, -top))
        return filled
    return found.crop((left, top, left + size, top + size))


def rule_of(text: str) -> tuple[str, float | None]:
    """Return mode and `crop_pct` of a crop rule: "squash", "center" or "center:0.875".

    None: the text says no `crop_pct`. Raises UserError for an unknown mode, and a share outside of
    its range.
    """
    mode, colon, share = text.partition(":")
    if mode not in MODES:
        raise UserError(
            f"Unknown crop '{text}'.",
            allowed=[*MODES, "center:0.875"],
            given=mode,
            then="medbench run --crop center:0.875",
        )
    if not colon:
        return mode, None
    try:
        pct = float(share)
    except ValueError:
        pct = math.nan
    if not LEAST <= pct <= 1:
        raise UserError(
            f"--crop {text}: '{share}' is not the share of a side that is kept.",
            allowed=[f"{LEAST} to 1"],
            then=f"medbench run --crop {mode}:0.875",
        )
    return mode, pct


def share_of(crop: str, size: int) -> tuple[str, float]:
    """Return the `crop_mode` and `crop_pct` of which timm makes this crop.

    Raises ValueError for a crop that is smaller than `size` (px).
    """
    found = crop_of(crop)
    side = found.side or size
    if side < size:
        raise ValueError(f"{crop!r:.60} gives no {size} pixels")
    pct = size / side
    while math.floor(size / pct) < side:  # timm rounds down
        pct = math.nextafter(pct, 0)
    return found.mode, pct


def fill_of(mean: Any) -> Colour:
    """Return the colour that timm fills with: the mean in [0, 1] as R, G, B of 0 to 255."""
    r, g, b = (min(255, max(0, round(255 * value))) for value in mean)
    return r, g, b


def refilled(fill: Colour, mean: Any, other: Any) -> Colour:
    """Return the colour that is filled with once another mean replaces `mean`.

    A colour that was not the mean's stays.
    """
    return fill_of(other) if fill == fill_of(mean) else fill
