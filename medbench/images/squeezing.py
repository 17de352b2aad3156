"""One image to the pixels of a pack: decoded, squeezed to size x size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from medbench.images import cropping
from medbench.images.cropping import SQUASH
from medbench.images.decoding import BYTES, DECODERS, pictures
from medbench.images.hashing import ContentHash
from medbench.schema import Image, UserError

# an ingredient, see `schema.ingredients`; raise it with every change of a pixel that the decoders
# do not make
RESIZE = 1
INTERPOLATIONS = ("bicubic", "bilinear")


class PackForm(NamedTuple):
    """What is done to an image for a pack.

    interpolation: "bicubic" or "bilinear", antialiased. crop: see `cropping`.
    """

    size: int
    interpolation: str
    crop: str = SQUASH


class PackPlace(NamedTuple):
    """A pack's file, finished or partial, and what its rows are. size: px of a side."""

    file: str
    size: int
    interpolation: str
    crop: str = SQUASH


def pixel_ingredients(hashes: Iterable[str]) -> dict[str, int]:
    """Return what makes the pixels of images with these content hashes: ingredient -> version.

    "decoder dicom" and the like for each of their file formats, and "resize". hashes: as
    `content_hashes` gives them; a plain text (of a drawing) has no format.
    """
    formats = {content.file_format for content in hashes if isinstance(content, ContentHash)} - {""}
    return {**{f"decoder {name}": DECODERS[name] for name in sorted(formats)}, "resize": RESIZE}


def squeeze(image: Image, size: int, interpolation: str, crop: str = SQUASH) -> np.ndarray:
    """Return a file or a drawing as (size, size, 3) uint8 RGB.

    interpolation: "bicubic" or "bilinear", antialiased. crop: see `cropping`. Raises UserError for
    a file that cannot be decoded.
    """
    return squeezed(image, [PackForm(size, interpolation, crop)])[0]


def squeezed(image: Image | bytes, forms: Sequence[PackForm | PackPlace]) -> list[np.ndarray]:
    """Return `squeeze` of an image to each of these forms; the file is read once.

    image: a file, what a file holds, or a drawing.

    Raises UserError that names the file, where it cannot be read.

    Each is (size, size, 3) uint8.
    """
    sources = pictures(image, [cropping.needed(form.size, form.crop) for form in forms])
    try:
        made = [
            cropping.square(source, form.size, form.interpolation, form.crop)
            for form, source in zip(forms, sources, strict=True)
        ]
    except UserError as error:
        raise UserError(f"{BYTES if isinstance(image, bytes) else image}: {error}") from error
    return [np.asarray(one.convert("RGB")) for one in made]
