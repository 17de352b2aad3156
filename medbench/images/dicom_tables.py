"""DICOM's lookup tables: modality, VOI and palettes, as entries of whole numbers.

pydicom's own `apply_voi` and `apply_color_lut` index with the type of a table's entries: 300 is
entry 44 of a table of 8-bit entries; and they fail where 8-bit entries share 16-bit words, or are
kept one a word (PS3.3 C.11.1.1, C.7.6.3.1.6 allow both).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medbench.images.grey_levels import colour_bits
from medbench.schema import UserError

if TYPE_CHECKING:
    import pydicom

_COLOURS = ("Red", "Green", "Blue")


def look_up(x: np.ndarray, ds: pydicom.Dataset, item: pydicom.Dataset) -> tuple[np.ndarray, int]:
    """Send values through a lookup table: (H, W) int64, and the bits of a full entry.

    x: (H, W) numbers, rounded to integers; what lies outside the table takes its first or last
    entry. item: one of a Modality or VOI LUT Sequence of `ds` (DICOM PS3.3 C.11.1 and C.11.2).
    Bits: as the descriptor says where that is less than 16 and the entries fit, else those of the
    largest entry, 8 at least. Raises UserError for a table that holds fewer entries than it
    declares.
    """
    count, first, bits = _described(item.LUTDescriptor)
    entries = _entries(item.LUTData, count, _little(ds))
    used = int(entries.max()).bit_length()
    # 16 is the size of a word, which many writers state whatever the entries hold; other sizes are
    # meant, where the entries fit
    shown: np.ndarray = entries[_index(x, first, count)]
    return shown, bits if used <= bits < 16 else max(8, used)


def apply_palette(x: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """Look stored values (H, W) up in the data set's palette: (H, W, 3) uint8.

    Plain and segmented palettes (DICOM PS3.3 C.7.6.3 and C.7.9); values outside take the first or
    last entry. Raises UserError for one that is too short, or of a form that is not read.
    """
    count, first, bits = _described(ds.RedPaletteColorLookupTableDescriptor)
    if "RedPaletteColorLookupTableData" in ds:
        table = np.stack(
            [
                _entries(ds[f"{c}PaletteColorLookupTableData"].value, count, _little(ds))
                for c in _COLOURS
            ],
            1,
        )
    else:
        table = _segmented(ds, count, first, bits)
    shown: np.ndarray = colour8(table, bits, 1.0)[_index(x, first, count)]
    return shown


def colour8(x: np.ndarray, bits: int, share: float = 0.999) -> np.ndarray:
    """Convert colour values of so many bits to uint8: the upper 8 bits, or all of fewer.

    Values below 256 alone are 8 bits, whatever the header says, and 16 is the size of a word, which
    many writers state whatever it holds: see `colour_bits`, and there for share.

    x: (H, W, 3) integer; returns the same shape.
    """
    used = int(x.max()).bit_length()
    bits = colour_bits(x, share) if bits == 16 else 8 if used <= 8 < bits else max(bits, used)
    if bits < 8:
        return (x.astype(np.uint32) * 255 / ((1 << bits) - 1) + 0.5).astype(np.uint8)
    upper: np.ndarray = np.minimum(x >> (bits - 8), 255).astype(np.uint8)
    return upper


def _described(descriptor: list[int]) -> tuple[int, int, int]:
    """Return number of entries, the value that the first one stands for, and bits per entry."""
    return int(descriptor[0]) or 1 << 16, int(descriptor[1]), int(descriptor[2])


def _entries(value: bytes | int | list[int], count: int, little: bool) -> np.ndarray:
    """(count,) int64.

    value: bytes or words, an entry a word or two entries a word, the first in its low byte.
    """
    if isinstance(value, bytes):
        value += b"\0" * (len(value) % 2)
        words = np.frombuffer(value, "<u2" if little else ">u2")
    else:
        words = np.atleast_1d(np.asarray(value)).astype(np.uint16)
    if len(words) < count:
        words = words.astype("<u2").view(np.uint8)
    if len(words) < count:
        raise UserError(f"a lookup table declares {count} entries and holds {len(words)}.")
    return words[:count].astype(np.int64)


def _segmented(ds: pydicom.Dataset, count: int, first: int, bits: int) -> np.ndarray:
    """(count, 3) entries of palettes that are stored as segments (PS3.3 C.7.9.2)."""
    from pydicom.pixels.processing import apply_color_lut

    if bits == 8 and count > 256:
        raise UserError(
            f"its segmented palette of {count} entries of 8 bits is not read: save it as RGB."
        )
    table: np.ndarray = apply_color_lut(np.arange(first, first + count), ds)[:, :3].astype(np.int64)
    return table


def _index(x: np.ndarray, first: int, count: int) -> np.ndarray:
    """Of each value, its entry.

    A first value of 32768 or more is a negative one that was read without its sign, where values
    have one.
    """
    if first >= 1 << 15 and x.min() < 0:
        first -= 1 << 16
    index: np.ndarray = np.clip(np.rint(x).astype(np.int64) - first, 0, count - 1)
    return index


def _little(ds: pydicom.Dataset) -> bool:
    return bool(ds.file_meta.TransferSyntaxUID.is_little_endian)
