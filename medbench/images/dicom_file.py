"""A DICOM file's bytes -> the data set of one image.

It is bounded before anything is inflated or decoded.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from medbench.images.grey_levels import check_pixels, check_scans
from medbench.schema import UserError

if TYPE_CHECKING:
    import pydicom

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_HEADER = 16 << 20  # bytes: more than all but the pixels of one image takes
#: Samples a pixel of what is read. Of YBR_PARTIAL_*, HSV, ARGB and CMYK, which are retired or
#: films, no viewer and no library agree.
_SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}


def read(data: bytes, frame: int | None = None) -> pydicom.Dataset:
    """Return one image's data set.

    What its functional groups say of window, slope and tables stands at the top level. Raises
    UserError for several frames, no pixels, more pixels than the header declares, an interpretation
    or a compression that is not read.
    """
    ds = _parse(data)
    if not any(name in ds for name in _PIXELS):
        raise UserError("this DICOM file holds no image.")
    frames = int(ds.get("NumberOfFrames") or 1)
    if frames > 1 and frame is None:
        what = f"this DICOM file holds {frames} frames: export the one that is meant as a file of its own, or run a folder with --frames."
        raise UserError(what)
    check_pixels(ds.Columns, ds.Rows)
    _check_compression(ds)
    _check_interpretation(ds)
    _check_size(ds, frame or 0, frames)
    _lift_functional_groups(ds, frame or 0)
    return ds


def is_native(ds: pydicom.Dataset) -> bool:
    """Return whether a DICOM file stores its samples as they are, or run-length encoded.

    Any other transfer syntax is a codec's.
    """
    from pydicom.uid import RLELossless

    syntax = ds.file_meta.TransferSyntaxUID
    return syntax == RLELossless or not syntax.is_encapsulated


def _parse(data: bytes) -> pydicom.Dataset:
    """As pydicom reads it, which would inflate a deflated file whatever its size."""
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    stream = io.BytesIO(data)
    stream.seek(132 if data[128:132] == b"DICM" else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return dcmread(io.BytesIO(data), force=True)
    ds = read_dataset(io.BytesIO(_inflated(stream.read())), False, True)
    ds.file_meta = FileMetaDataset(meta)
    return ds


def _inflated(packed: bytes) -> bytes:
    """Decompress a file; raise UserError for more than the header within declares."""
    from pydicom.filereader import read_dataset
    from pydicom.pixels.utils import get_expected_length

    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    start = stream.decompress(packed, _HEADER)
    ds = read_dataset(
        io.BytesIO(start), False, True, stop_when=lambda tag, vr, length: tag.group >= 0x7FE0
    )
    check_pixels(ds.Columns, ds.Rows)
    limit = get_expected_length(ds) + 1
    rest = stream.decompress(stream.unconsumed_tail, limit)
    if not stream.eof and len(rest) == limit:
        raise UserError(
            f"it inflates to more than the {ds.Columns} x {ds.Rows} pixels that its header declares."
        )
    if not stream.eof:
        raise UserError("it ends before its deflated data do.")
    return start + rest


def _check_compression(ds: pydicom.Dataset) -> None:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    syntax = ds.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise UserError(
            "this DICOM file does not say how its pixels are stored (no TransferSyntaxUID)."
        )
    if not syntax.is_encapsulated:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UserError(
            f"its compression ({syntax.name}) is not supported: save it uncompressed."
        ) from None
    deep = syntax == JPEGExtended12Bit and ds.BitsStored > 8  # which Pillow does not read
    if not decoder.is_available or (deep and set(decoder.available_plugins) <= {"pillow"}):
        raise UserError(
            f"its compression ({syntax.name}) needs a plugin that is not installed.",
            then=_plugins(decoder.missing_dependencies),
        )


def _plugins(missing: Sequence[str]) -> str:
    """How to install what pydicom misses: of several, the pure one that needs no compiler.

    >>> _plugins(["gdcm - requires gdcm>=3.0.10", "pylibjpeg - requires pylibjpeg>=2.0 and pylibjpeg-openjpeg>=2.0"])
    'pip install pylibjpeg pylibjpeg-openjpeg'
    """
    line = next((line for line in missing if line.startswith("pylibjpeg ")), missing[0])
    return " ".join(["pip install", *re.findall(r"([\w-]+)>=", line)])


def _check_interpretation(ds: pydicom.Dataset) -> None:
    from pydicom.uid import JPEG2000TransferSyntaxes

    ds.PhotometricInterpretation = kind = str(ds.PhotometricInterpretation).strip().upper()
    samples = ds.SamplesPerPixel
    undone = (
        kind in ("YBR_ICT", "YBR_RCT")
        and ds.file_meta.TransferSyntaxUID not in JPEG2000TransferSyntaxes
    )  # only that codec undoes them
    if _SAMPLES.get(kind) != samples or undone or (samples > 1 and ds.get("PixelRepresentation")):
        raise UserError(
            f"its pixels ({kind}, {samples} samples each) are not read: save it as RGB or MONOCHROME2."
        )


def _check_size(ds: pydicom.Dataset, frame: int, frames: int) -> None:
    """Compare what the header declares with what is there.

    Also compares it with what the codec's own header says.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import get_expected_length

    declared = get_expected_length(ds)
    held = next(ds[name].value for name in _PIXELS if name in ds)
    size = (ds.Columns, ds.Rows)
    if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        if len(held) >= 2 * declared > 0 and len(held) > declared + 1:
            raise UserError(
                f"it holds pixels for {len(held) // declared} images of the {size[0]} x {size[1]} that its header declares."
            )
        return
    stream = get_frame(held, frame, number_of_frames=frames)
    found = _codec_header(stream)
    if len(stream) > 2 * declared // frames + (1 << 16) or (found and found.size != size):
        raise UserError(
            f"it holds more or other pixels than the {size[0]} x {size[1]} that its header declares."
        )
    if found and found.bits > ds.BitsAllocated:
        raise UserError(
            f"its pixels have {found.bits} bits, and its header has room for {ds.BitsAllocated}: save it uncompressed."
        )
    if found and found.halved and ds.PhotometricInterpretation == "RGB":
        ds.PhotometricInterpretation = "YBR_FULL_422"


class _CodecHeader(NamedTuple):
    """Hold what a JPEG or JPEG 2000 stream says of itself.

    bits: of a sample. halved: two of its colours have fewer samples than the third, which is
    brightness then, whatever the DICOM header calls it.
    """

    size: tuple[int, int]
    bits: int
    halved: bool


def _codec_header(frame: bytes) -> _CodecHeader | None:
    """None for what Pillow does not know."""
    from PIL import Image, JpegImagePlugin, UnidentifiedImageError
    from pydicom.pixels.utils import get_j2k_parameters

    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as stream:
            if stream.info.get("progressive"):
                check_scans(frame)
            if isinstance(stream, JpegImagePlugin.JpegImageFile):
                return _CodecHeader(stream.size, 8, len({layer[1:3] for layer in stream.layer}) > 1)
            return _CodecHeader(stream.size, get_j2k_parameters(frame).get("precision", 0), False)
    except UnidentifiedImageError:
        return None


def _lift_functional_groups(ds: pydicom.Dataset, frame: int) -> None:
    """Enhanced files keep window and slope a frame.

    The frame's own groups go before those that all frames share.
    """
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        there = ds.get(groups) or ()
        for group in there if groups.startswith("Shared") else there[frame : frame + 1]:
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in group.get(name) or ():
                    ds.update(item)
