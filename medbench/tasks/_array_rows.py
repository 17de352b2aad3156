"""Images that are rows of one large file: an array in an .npz, a data set in an .h5.

Each becomes a `Drawn` whose drawing reads its row.

A row's content identity is the SHA-256 of the file with the member's name and the row's number:
known without decoding anything. Two rows with the same pixels therefore have two identities;
comparing pixels is the audit's work.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from medbench import images
from medbench.schema import Drawn, UserError, fingerprint
from medbench.system import archive_errors, download, locks, progress_listener
from medbench.system.cache_folder import disk_errors


def from_npz(file: Path, members: Sequence[str], md5: str, again: str) -> list[list[Drawn]]:
    """Return the rows of each member, an (N, H, W) or (N, H, W, 3) uint8 array.

    An .npz is compressed, so no single row of it can be read. Its members are unpacked once, into
    the cache beside the packs, and memory-mapped from there. Before that the file's MD5 is compared
    with the published one. again: what to do where it differs. Raises UserError for another MD5, a
    broken archive, a missing member, and a full disk.
    """
    content = identity(file)
    folders = [
        images.cache_folder() / "packs" / fingerprint("npz", content, member) for member in members
    ]
    if not all((folder / "images.npy").exists() for folder in folders):
        _check_md5(file, md5, again)
        with archive_errors.reading(
            lambda why: UserError(
                f"{file} is not an archive of MedMNIST's kind ({why}).", then=again
            )
        ):
            for folder, member in zip(folders, members, strict=True):
                _unpack(file, member, folder)
    places = [folder / "images.npy" for folder in folders]
    return [
        _drawn(partial(npy_row, str(place)), len(_npy(str(place))), f"{content}:{member}")
        for place, member in zip(places, members, strict=True)
    ]


def from_h5(file: Path, member: str) -> list[Drawn]:
    """Return the rows of an (N, H, W, 3) uint8 data set.

    Raises UserError for a file that is no HDF5, or holds no such data set.
    """
    content = identity(file)
    return _drawn(
        partial(h5_row, str(file), member), len(h5_values(file, member)), f"{content}:{member}"
    )


def _drawn(draw: Callable[[int], np.ndarray], n: int, content: str) -> list[Drawn]:
    """n rows that share one `draw`: PCam has 327,680."""
    return [Drawn(draw, i, f"{content}:{i}") for i in range(n)]


def h5_values(file: Path, member: str) -> Any:
    """Open the data set `member` of an HDF5 file without reading it: `[...]` reads it.

    Raises UserError for a file that is no HDF5, or holds no such data set.
    """
    try:
        return _h5(str(file), member)
    except (OSError, KeyError) as error:
        raise UserError(
            f"{file} is not an HDF5 file with a data set '{member}' ({error}).",
            then="download and unpack it again",
        ) from error


def identity(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits, remembered as for every image file."""
    return images.content_hashes([file], images.cache_folder())[0]


def npy_row(file: str, i: int) -> np.ndarray:
    """Return row i of an unpacked array as (H, W, 3) uint8; grey is repeated."""
    return _colour(np.asarray(_npy(file)[i]))


def h5_row(file: str, member: str, i: int) -> np.ndarray:
    """Return row i of a data set of an HDF5 file as (H, W, 3) uint8; grey is repeated."""
    return _colour(h5_values(Path(file), member)[i])


def _colour(x: np.ndarray) -> np.ndarray:
    return x if x.ndim == 3 else np.repeat(x[..., None], 3, axis=2)


@lru_cache(maxsize=8)
def _npy(file: str) -> np.ndarray:
    array: np.ndarray = np.load(file, mmap_mode="r")
    return array


@lru_cache(maxsize=8)
def _h5(file: str, member: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            "Images in an .h5 file need the package h5py.", then="pip install 'medbench[h5]'"
        ) from error
    # The cache of decompressed chunks belongs to the open data set, so that is what is kept. Rows
    # are read in order.
    return h5py.File(file, "r", rdcc_nbytes=64 << 20)[member]


def _check_md5(file: Path, md5: str, again: str) -> None:
    found = download.file_digest(file, "md5", f"comparing {file.name} with its MD5")
    if found != md5:
        raise UserError(
            f"{file} is not the official file: its MD5 is {found}, the published one {md5}.",
            then=again,
        )


def _unpack(file: Path, member: str, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(f"{member}.npy")
        with disk_errors(folder, info.file_size):
            folder.mkdir(parents=True, exist_ok=True)
            with locks.locked(folder / "lock"):
                if (folder / "images.npy").exists():
                    return
                images.check_space(folder, info.file_size)
                partial_file = folder / "images.partial.npy"
                told = progress_listener.report_megabytes(f"unpacking {member} of {file.name}")
                with archive.open(info) as source, partial_file.open("wb") as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)
                        told(sink.tell(), info.file_size)
                partial_file.replace(folder / "images.npy")
