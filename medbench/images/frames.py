"""Files of several frames, pages or slices: how many a file holds, and each as pixels of its own.

A frame of a DICOM file and a page of a TIFF are decoded as a file of one would be, each with its
own window; without one each is scaled by itself. A NIfTI volume (nibabel, an extra) is cut across
its last axis, turned to the axes of the patient: its slices are scaled together, by the display
range of the header, else by all its values, so that a dark slice is dark. Patient left is image
left.
"""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from medbench.images import decoding
from medbench.images.grey_levels import full_range, ramp
from medbench.schema import Drawn, UserError, told

VERSION = 1  # of how a frame becomes pixels, beside the decoders' own
VOLUMES = (".nii", ".nii.gz")
_PAGED = ("tiff", "dicom")


def is_volume(name: str) -> bool:
    """Return whether a file is named as NIfTI."""
    return name.lower().endswith(VOLUMES)


def count(file: Path) -> int:
    """Return how many frames a file holds: 1 of every format that is no DICOM, TIFF or NIfTI.

    Raises UserError for one whose header cannot be read.
    """
    try:
        if is_volume(file.name):
            return int(_volume(str(file)).shape[2])
        with file.open("rb") as stream:
            kind = decoding.format_of(stream.read(decoding.HEAD))
        if kind not in _PAGED:
            return 1
        return _dicom_frames(file) if kind == "dicom" else _pages(file)
    except UserError:
        raise
    except (
        Exception
    ) as error:  # headers are broken in every way; the decoder names those that count as one frame
        raise UserError(f"{file} is corrupt or truncated ({told(error)}).") from error


def _dicom_frames(file: Path) -> int:
    from pydicom import dcmread

    return int(
        dcmread(file, force=True, stop_before_pixels=True, specific_tags=["NumberOfFrames"]).get(
            "NumberOfFrames"
        )
        or 1
    )


def _pages(file: Path) -> int:
    from PIL import Image

    with Image.open(file, formats=("TIFF",)) as im:
        return int(getattr(im, "n_frames", 1))


def evenly(n: int, wanted: int) -> list[int]:
    """Return the places of `wanted` of n frames, each the middle of an equal share.

    All, where there are no more.

    >>> evenly(10, 3), evenly(4, 1), evenly(2, 5)
    ([1, 5, 8], [2], [0, 1])
    """
    return [int((i + 0.5) * n / wanted) for i in range(wanted)] if n > wanted else list(range(n))


def frame_of(file: Path, number: int, sha256: str) -> Drawn:
    """Return one frame of a file as an image that is decoded when it is drawn.

    number: from 0. sha256: of the file's bytes, which with the number is its identity.
    """
    return Drawn(
        partial(_pixels, os.path.abspath(file)),
        number,
        f"frame {VERSION} {decoding.DECODERS['dicom']} {sha256} {number}",
    )


def _pixels(file: str, number: int) -> np.ndarray:
    """(H, W, 3) uint8. Raises UserError that names the file."""
    if not is_volume(file):
        return np.asarray(decoding.frame(Path(file), number).convert("RGB"))
    volume = _volume(file)
    grey = ramp(np.rot90(volume[:, :, number]), *_display_range(file))
    return np.repeat(grey[..., None], 3, 2)


@lru_cache(maxsize=2)
def _read_volume(file: str, _state: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """(X, Y, Z) float32 in the patient's axes, and what becomes black and white.

    The last two are kept: a worker meets slice after slice.
    """
    try:
        import nibabel
    except ImportError as error:
        raise UserError(
            f"{file} needs the package nibabel.", then="pip install 'medbench[nifti]'"
        ) from error
    try:
        image: Any = nibabel.as_closest_canonical(nibabel.load(file))
        volume = np.asarray(image.dataobj, np.float32)
    except Exception as error:
        raise UserError(
            f"{file} is not a NIfTI volume that can be read ({told(error)})."
        ) from error
    if volume.ndim != 3 or not volume.size:
        raise UserError(
            f"{file} holds an array of {volume.ndim} axes: a volume has three.",
            then="save each volume as a file of its own",
        )
    low, high = (float(image.header[name]) for name in ("cal_min", "cal_max"))
    if not np.isfinite(volume).all():
        raise UserError(f"{file} holds values that are not finite numbers.")
    whole = volume.astype(np.int64) if (volume == np.rint(volume)).all() else volume
    return volume, (low, high) if high > low else full_range(whole)


def _volume(file: str) -> np.ndarray:
    return _read_volume(file, _state(file))[0]


def _display_range(file: str) -> tuple[float, float]:
    return _read_volume(file, _state(file))[1]


def _state(file: str) -> tuple[int, int]:
    try:
        found = os.stat(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    return found.st_mtime_ns, found.st_size
