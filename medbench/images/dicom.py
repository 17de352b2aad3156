"""One DICOM image -> 8-bit pixels as a viewer first shows them (PS3.3 C.11.1 modality LUT, C.11.2 VOI LUT, C.7.6.3.1.2 photometric)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from medbench.images.grey_levels import check_pixels, grey8, ramp
from medbench.schema import UserError

if TYPE_CHECKING:
    import pydicom


def pixels(data: bytes) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 of a DICOM file's bytes.

    Grey: rescale slope and intercept, or the modality LUT; then the first VOI LUT, else the first window (linear, linear exact, sigmoid);
    without either, or with a width that is not positive, the rule for deep grey in `decoding.decode`. MONOCHROME1 is inverted.
    Colour: YBR and palettes become RGB, more than 8 stored bits keep the upper 8. Overlays and presentation states are not drawn.

    Raises UserError for several frames, no pixels, and a compression whose plugin is not installed.
    """
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    ds = dcmread(io.BytesIO(data), force=True)
    _check(ds)
    x = pixel_array(ds)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        x = apply_color_lut(x, ds)
        return x if x.dtype == np.uint8 else (x >> 8).astype(np.uint8)
    if ds.SamplesPerPixel > 1:
        return x if x.dtype == np.uint8 else (x >> (ds.BitsStored - 8)).astype(np.uint8)
    grey = _windowed(x, ds)
    return 255 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey


def _check(ds: pydicom.Dataset) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    if "PixelData" not in ds:
        raise UserError("this DICOM file holds no image.")
    frames = int(ds.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(f"this DICOM file holds {frames} frames: export the one that is meant as a file of its own.")
    check_pixels(ds.Columns, ds.Rows)
    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise UserError("this DICOM file does not say how its pixels are stored (no TransferSyntaxUID).")
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UserError(f"its compression ({syntax.name}) is not supported: save it uncompressed.") from None
    if not decoder.is_available:
        raise UserError(
            f"its compression ({syntax.name}) needs a plugin that is not installed.", then="pip install pylibjpeg pylibjpeg-libjpeg"
        )


def _windowed(x: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    """(H, W) uint8 of stored values (H, W)."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    x = apply_modality_lut(x, ds)
    if ds.get("VOILUTSequence"):
        bits = int(ds.VOILUTSequence[0].LUTDescriptor[2])
        return ramp(apply_voi(np.rint(x).astype(np.int64), ds), 0, (1 << bits) - 1)
    centre, width = _first(ds.get("WindowCenter")), _first(ds.get("WindowWidth"))
    function = ds.get("VOILUTFunction") or "LINEAR"
    # C.11.2.1.2: LINEAR counts the width in steps between whole numbers, so 1 is a threshold at centre - 0.5
    if centre is not None and width is not None and width > 0:
        if function == "SIGMOID":
            return ramp(1 / (1 + np.exp(-4 * (x - centre) / width)), 0, 1)
        if function == "LINEAR_EXACT":
            return ramp(x, centre - width / 2, centre + width / 2)
        if width > 1:
            return ramp(x, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
        return ((x > centre - 0.5) * 255).astype(np.uint8)
    return grey8(np.rint(x).astype(np.int64) if np.array_equal(x, np.rint(x)) else x)


def _first(value: object) -> float | None:
    from pydicom.multival import MultiValue

    value = value[0] if isinstance(value, MultiValue) and len(value) else value
    return None if value is None or value == "" else float(value)  # type: ignore[arg-type]
