"""Images -> 8-bit pixels: JPEG, PNG, TIFF, BMP, WebP by Pillow, DICOM by pydicom.

Drawings by their own function.

The file's bytes alone decide the pixels: its type is found by content, never by name. So the hash
of the bytes is the image's identity.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medbench.images.grey_levels import MAX_PIXELS, check_pixels, check_scans, grey8
from medbench.schema import Drawn, Image, UserError, told
from medbench.system import file_kinds

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageFile

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom")
#: Format of a file -> the version of its decoder, an ingredient of all that is made of such files
#: (`schema.ingredients`). Raise it with every change of a pixel. "other": no magic number is known,
#: so that Pillow looks closer or refuses it.
DECODERS = {
    "jpeg": 1,
    "png": 1,
    "png of deep colour": 2,
    "tiff": 3,
    "bmp": 1,
    "webp": 1,
    "dicom": 3,
    "other": 1,
}
BYTES = "the given bytes"  # what is said of an image that came without a file
HEAD = 132  # bytes that tell the format
_MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "bmp": b"BM"}
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")  # MPO is found as JPEG
#: JPEGs much larger than asked for are decoded at 1/2, 1/4 or 1/8 by the inverse DCT itself, never
#: below this multiple of the wanted size: Pillow documents `reducing_gap` 3.0 as close to
#: indistinguishable from the full decode.
DRAFT_GAP = 3


def decode(image: Image) -> np.ndarray:
    """Decode an image file, or a drawing, to (H, W, 3) uint8 RGB.

    Pillow's formats: EXIF orientation is applied; palettes, CMYK and 1-bit become RGB; what is
    transparent is laid over black, the background of radiographs, endoscopy and fundus images.
    Transparent everywhere is refused; a fourth plane of a TIFF that its tags do not call alpha is
    left out, where it is 0 everywhere. Embedded colour profiles are not applied. A file of several
    frames is refused, but for the previews that cameras append to a JPEG (MPO).

    Grey deeper than 8 bits is scaled by this image alone. Whole numbers >= 0 are divided by the
    full range of the bits they use, 255, 511, ..., 65535, ...: the smallest that the brightest 0.1
    % of pixels do not exceed (what does is white), so that 12-bit data in a 16-bit file, or a
    burned-in mark, does not turn the picture black. Floats within [0, 1] are multiplied by 255.
    Anything else is stretched from its minimum to its maximum, but for signed bytes, where -128 is
    black and 127 white. Colour of 16 bits a sample is divided as whole numbers are, by the bits
    that all its samples use together, unless these are 8-bit values that were made wider
    (`colour_bits`).

    DICOM: see `dicom.pixels`. Raises UserError that names the file, for one that is missing, empty,
    corrupt, truncated, or no image.
    """
    return np.asarray(picture(image).convert("RGB"))


def picture(image: Image, wanted: int | None = None) -> PIL.Image.Image:
    """Return an image as Pillow's, mode L or RGB.

    As `decode`, errors too; but where `wanted` (pixels) is far below a JPEG's size, a smaller copy
    of it.
    """
    return pictures(image, [wanted])[0]


def pictures(image: Image | bytes, wanted: Sequence[int | None]) -> list[PIL.Image.Image]:
    """Return `picture` for each of these sizes (px; None: the full size).

    image: a file, what a file holds, or a drawing. It is read once, and decoded once for those that
    take the same copy of it. Raises UserError that names the file, where it cannot be read.
    """
    if isinstance(image, Drawn):
        from PIL import Image as pillow

        return [pillow.fromarray(image.draw(image.seed))] * len(wanted)
    data, name = (image, BYTES) if isinstance(image, bytes) else (_read(image), image)
    found: dict[object, PIL.Image.Image] = {}
    try:
        with warnings.catch_warnings():
            # odd but readable headers: 300,000 files would print 300,000 lines
            warnings.simplefilter("ignore")
            copies = [_copy(data, size) if len(wanted) > 1 else None for size in wanted]
            for copy, size in zip(copies, wanted, strict=True):
                if copy not in found:
                    found[copy] = (
                        _decode_dicom(data) if is_dicom(data) else _decode_pillow(data, size)
                    )
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # decoders meet corrupt bytes with errors of every type
        raise UserError(f"{name} is corrupt or truncated ({told(error)}).") from error
    return [found[copy] for copy in copies]


def frame(path: Path, number: int) -> PIL.Image.Image:
    """Return one of the frames of a DICOM file, or pages of a TIFF, mode L or RGB.

    number: from 0. Raises UserError that names file and frame, where it cannot be read.
    """
    data = _read(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (
                _decode_dicom(data, number)
                if is_dicom(data)
                else _decode_pillow(data, None, number)
            )
    except UserError as error:
        raise UserError(f"{path}, frame {number}: {error}") from error
    except Exception as error:
        raise UserError(
            f"{path}, frame {number}, is corrupt or truncated ({told(error)})."
        ) from error


def _copy(data: bytes, wanted: int | None) -> tuple[int, int] | None:
    """Return the size at which a JPEG's decoder gives the image where so many pixels are wanted.

    None for any other format, which has one size.
    """
    from PIL import Image

    if wanted is None or format_of(data[:HEAD]) != "jpeg":
        return None
    with Image.open(io.BytesIO(data), formats=FORMATS) as im:
        im.draft(im.mode, (wanted * DRAFT_GAP, wanted * DRAFT_GAP))
        return im.size


def _read(path: Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or os.strerror(error.errno or 0)}."
        ) from error
    if not data:
        raise UserError(f"{path} is empty (0 bytes).")
    return data


def format_of(head: bytes) -> str:
    """Return the format of a file by its first HEAD bytes: a key of DECODERS.

    "other" where none matches.
    """
    if is_dicom(head):
        return "dicom"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(_MAGIC["png"]):  # bit depth and colour type, which stand at one place
        return (
            "png of deep colour"
            if head[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")
            else "png"
        )
    return next((name for name, magic in _MAGIC.items() if head.startswith(magic)), "other")


def is_dicom(data: bytes) -> bool:
    """Return whether a file is DICOM, by the DICM mark behind the preamble.

    Older files without it start with an element of group 2 or 8.
    """
    return data[128:132] == b"DICM" or data[:2] in (b"\x02\x00", b"\x08\x00")


def _decode_dicom(data: bytes, frame: int | None = None) -> PIL.Image.Image:
    from PIL import Image

    from medbench.images import dicom

    return Image.fromarray(dicom.pixels(data, frame))


def _decode_pillow(data: bytes, wanted: int | None, page: int | None = None) -> PIL.Image.Image:
    from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
    from PIL.TiffImagePlugin import TiffImageFile

    from medbench.images import deep_colour, tiff

    # A colour profile or a report in a PNG may be larger than 1 MB; all of its texts together stay
    # within 64 MB.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    try:
        im = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise UserError(
            f"it has more than {2 * MAX_PIXELS:,} pixels; at most {MAX_PIXELS:,} are read: cut it into tiles first."
        ) from None
    except UnidentifiedImageError:
        if format_of(data[:HEAD]) == "tiff":
            raise UserError(
                "its form of TIFF is not read: save it as plain grey or RGB of 8 or 16 bits."
            ) from None
        kind = file_kinds.kind_of(data[: file_kinds.HEAD])
        if kind and format_of(data[:HEAD]) == "other":
            raise UserError(
                f"it is {kind}, whatever its name says; JPEG, PNG, TIFF, BMP, WebP and DICOM are read."
            ) from None
        raise UserError(
            "it is not an image, or its header is corrupt (JPEG, PNG, TIFF, BMP, WebP and DICOM are read)."
        ) from None
    with im:
        check_pixels(*im.size)
        frames = getattr(im, "n_frames", 1)
        if frames > 1 and im.format != "MPO" and page is None:
            raise UserError(
                f"it holds {frames} frames: save the one that is meant as a file of its own, or run a folder with --frames."
            )
        if page:
            im.seek(page)
            check_pixels(*im.size)
        if wanted and im.format in ("JPEG", "MPO"):
            im.draft(im.mode, (wanted * DRAFT_GAP, wanted * DRAFT_GAP))
        _refuse_misread(im)
        if im.info.get("progressive"):
            check_scans(data)
        form = tiff.form(im) if isinstance(im, TiffImageFile) else None
        deep = deep_colour.raw_name(im)
        im.load()
        if deep:
            again = Image.open(io.BytesIO(data), formats=FORMATS)
            again.seek(page or 0)
            deep_colour.restored(im, deep, again)
        upright = ImageOps.exif_transpose(im)
        return _to_8_bit(tiff.mended(upright, form) if form else upright)


def _refuse_misread(im: PIL.ImageFile.ImageFile) -> None:
    """Raise UserError for a file that Pillow would show otherwise than it means."""
    if im.format == "JPEG" and im.mode == "CMYK" and "adobe" not in im.info:
        raise UserError(
            "CMYK without Adobe's mark does not say which end is white: save it as RGB."
        )
    if (
        im.format == "PNG"
        and isinstance(im.info.get("transparency"), int)
        and im.tile[0][3] != "L"
        and im.mode != "P"
    ):
        raise UserError(
            "a transparent level of grey that is not 8 bits deep is not read: save it as 8-bit grey, or with an alpha plane."
        )


def _to_8_bit(im: PIL.Image.Image | np.ndarray) -> PIL.Image.Image:
    from PIL import Image

    if isinstance(im, np.ndarray) or im.mode.startswith(("I", "F")):
        return Image.fromarray(grey8(np.asarray(im)))
    if im.has_transparency_data:
        im = im.convert("RGBA")
        if im.getchannel("A").getextrema()[1] == 0:
            raise UserError(
                "every pixel is transparent (alpha 0), so nothing of it would be seen: save it without its alpha plane."
            )
        return Image.alpha_composite(Image.new("RGBA", im.size, (0, 0, 0, 255)), im).convert("RGB")
    return im.convert("L" if im.mode in ("1", "L") else "RGB")
