"""One DICOM image -> 8-bit pixels as a viewer first shows them.

PS3.3 C.11.1 modality LUT, C.11.2 VOI LUT, C.7.6.3.1.2 photometric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.images.dicom_file import is_native, read
from medbench.images.dicom_tables import apply_palette, colour8, look_up
from medbench.images.grey_levels import grey8, ramp
from medbench.schema import UserError

if TYPE_CHECKING:
    import pydicom


def pixels(data: bytes, frame: int | None = None) -> np.ndarray:
    """Decode a DICOM file's bytes to (H, W) or (H, W, 3) uint8.

    Grey: rescale slope and intercept, or the modality LUT; then the first VOI LUT, else the first
    window (linear, linear exact, sigmoid); without either, or with a width that is not positive,
    the rule for deep grey in `decoding.decode`, or the full range of up to 8 stored bits, whatever
    the slope. MONOCHROME1 is inverted. Pixel padding is black and takes no part. A rescale slope of
    0 is left out, as DCMTK does. Colour: YBR and palettes become RGB, more than 8 stored bits keep
    the upper 8. Overlays and presentation states are not drawn.

    frame: of a file of several; None: it must hold one. Raises UserError for what `dicom_file.read`
    refuses, and for values that are not finite.
    """
    from pydicom.pixels.utils import pixel_array

    ds = read(data, frame)
    words = pixel_array(
        ds, index=frame, correct_unused_bits=not is_native(ds), allow_excess_frames=False
    )
    x = _stored(words, ds)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return apply_palette(x, ds)
    if ds.SamplesPerPixel > 1:
        return colour8(x, ds.BitsStored)
    padding = _padding(words, x, ds)
    shown = x if padding is None else x[~padding]
    grey = _windowed(shown, ds) if shown.size else shown.astype(np.uint8)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    if padding is None:
        return grey
    whole = np.zeros(x.shape, np.uint8)
    whole[~padding] = grey
    return whole


def _stored(words: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """Return the stored bits of each word, with their sign.

    Bits above the high bit may hold overlays, bits below the stored ones nothing.
    """
    if words.dtype.kind == "f" or not is_native(ds):
        return words
    size = 8 * words.dtype.itemsize if ds.BitsAllocated > 1 else 1
    high = ds.BitsStored - 1 if ds.get("HighBit") is None else ds.HighBit
    if not ds.BitsStored - 1 <= high < size:
        raise UserError(f"its {ds.BitsStored} stored bits cannot end at bit {high} of {size}.")
    if ds.BitsStored == size:
        return words
    stored: np.ndarray = (words << (size - 1 - high)) >> (size - ds.BitsStored)
    return stored


def _padding(words: np.ndarray, x: np.ndarray, ds: pydicom.Dataset) -> np.ndarray | None:
    """(H, W) bool: what fills the frame around the picture (PS3.3 C.7.5.1.1.2).

    None where the file knows none.
    """
    names = (
        ("FloatPixelPadding", "DoubleFloatPixelPadding")
        if words.dtype.kind == "f"
        else ("PixelPadding",)
    )
    name = next((name for name in names if ds.get(f"{name}Value") is not None), None)
    if name is None:
        return None
    limit = ds.get(f"{name}RangeLimit")
    ends = [ds[f"{name}Value"].value, ds[f"{name}Value"].value if limit is None else limit]
    if words.dtype.kind != "f":
        ends, compared = _integer_ends(words, x, ds, ends)
    else:
        compared = x
    inside: np.ndarray = (compared >= min(ends)) & (compared <= max(ends))
    return inside


def _integer_ends(
    words: np.ndarray, x: np.ndarray, ds: pydicom.Dataset, ends: list[int]
) -> tuple[list[int], np.ndarray]:
    """Return the padding's ends with the pixels' sign, and where to look for them.

    They may have been written or read without the sign.
    """
    bits, signed = ds.BitsAllocated, words.dtype.kind == "i"
    below = 1 << bits - 1 if signed else 0
    ends = [(end + below) % (1 << bits) - below for end in ends]
    low = -(1 << ds.BitsStored - 1) if signed else 0
    fit = all(low <= end < low + (1 << ds.BitsStored) for end in ends)
    return ends, x if fit else words  # a value beyond the stored bits is in the whole words alone


def _windowed(stored: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """uint8 of the stored values of a picture, of any shape."""
    x = _modality(stored, ds)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise UserError("it holds pixels that are not finite numbers.")
    table = _first(ds.get("VOILUTSequence"))
    if table and table.get("LUTDescriptor") and table.get("LUTData"):
        values, bits = look_up(x, ds, table)
        return ramp(values, 0, (1 << bits) - 1)
    centre, width = (_number(ds.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None and width > 0:
        return _window(
            x, centre, width, str(_first(ds.get("VOILUTFunction")) or "LINEAR").strip().upper()
        )
    if stored.dtype.kind != "f" and ds.BitsStored <= 8 and not ds.get("ModalityLUTSequence"):
        low = -(1 << ds.BitsStored - 1) if stored.dtype.kind == "i" else 0
        ends = np.array([low, low + (1 << ds.BitsStored) - 1])
        # a codec may give more bits than the header says
        if ends[0] <= stored.min() and stored.max() <= ends[1]:
            ends = _modality(ends, ds)
            return ramp(x, float(ends.min()), float(ends.max()))
    if x.dtype.kind == "f" and np.abs(x).max() < 1 << 53 and np.array_equal(x, whole := np.rint(x)):
        x = whole.astype(np.int64)
    return grey8(x)


def _modality(x: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    item = _first(ds.get("ModalityLUTSequence"))
    if item:
        return look_up(x, ds, item)[0]
    slope, intercept = (_number(ds.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope == 0 or (slope in (None, 1) and not intercept):
        return x
    return x.astype(np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)


def _window(x: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    if function == "SIGMOID":
        return ramp(1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -700, 700))), 0, 1)
    if function == "LINEAR_EXACT":
        return ramp(x, centre - width / 2, centre + width / 2)
    if function != "LINEAR":
        raise UserError(
            f"its VOI LUT function '{function}' is not known.",
            allowed=("LINEAR", "LINEAR_EXACT", "SIGMOID"),
        )
    # C.11.2.1.2: LINEAR counts the width in steps between whole numbers, so 1 is a threshold at
    # centre - 0.5
    if width > 1:
        return ramp(x, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
    return ((x > centre - 0.5) * 255).astype(np.uint8)


def _first(value: object) -> Any:
    """Of several (windows, tables), the one that a viewer shows first."""
    from pydicom.multival import MultiValue
    from pydicom.sequence import Sequence

    return (
        (value[0] if len(value) else None) if isinstance(value, (MultiValue, Sequence)) else value
    )


def _number(value: object) -> float | None:
    number = _first(value)
    return None if number is None or number == "" else float(number)
