"""Archives damaged at every byte are read, or said to be broken.

No reader's own error comes through.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from medbench.system import archive_errors, fast_npz

CONTENT = b"hello " * 20


class Said(Exception):
    """What `archive_errors.reading` is asked to raise."""


def an_npz(save: Callable[..., None]) -> bytes:
    out = io.BytesIO()
    save(out, metrics=np.array(["auc"]), resamples=np.zeros((1, 5), np.float32))
    return out.getvalue()


def a_zip(compression: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("a/b.txt", CONTENT)
    return out.getvalue()


def a_tar(compression: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w|{compression}") as archive:
        member = tarfile.TarInfo("a")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    return out.getvalue()[:1024]  # its end is all zeros


def member(file: Path) -> None:
    opened = os.open(file, os.O_RDONLY)
    try:
        fast_npz.array(fast_npz.member(opened, b"resamples.npy"))
    finally:
        os.close(opened)


def unzip(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            archive.read(name)


def untar(file: Path) -> None:
    with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
        for one in archive:
            if (source := archive.extractfile(one)) is not None:
                source.read()


def gunzip(file: Path) -> None:
    with gzip.open(file) as stream:
        stream.read()


READERS: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "npz": (an_npz(np.savez), fast_npz.arrays),
    "npz, one member": (an_npz(np.savez), member),
    "npz, compressed": (an_npz(np.savez_compressed), fast_npz.whole),
    **{
        f"zip {kind}": (a_zip(kind), unzip)
        for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    },
    **{f"tar {kind}": (a_tar(kind), untar) for kind in ("", "gz", "bz2", "xz")},
    "gzip": (gzip.compress(CONTENT), gunzip),
}


def damaged(whole: bytes) -> Iterator[bytes]:
    for i in range(len(whole)):
        yield whole[:i]
        yield whole[:i] + whole[i + 1 :]
        yield whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]


@pytest.mark.filterwarnings("ignore")  # of a header that is not what it should be
@pytest.mark.parametrize("name", READERS)
def test_whatever_a_reader_raises_is_said(name: str, tmp_path: Path) -> None:
    whole, read = READERS[name]
    file, said = tmp_path / "archive", 0
    for content in damaged(whole):
        file.write_bytes(content)
        try:
            with archive_errors.reading(Said):
                read(file)
        except Said:
            said += 1
    assert said
