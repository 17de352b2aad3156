"""The checksum of a zip archive (.npz, .pth) as its comment.

It travels with the file, and every reader of zip files passes over it.

A zip's own checksums are of its members alone, and torch's reader looks at none of them.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from medbench.system import archive_errors

_MARK = b"medbench CRC-32 "
_COMMENT = len(_MARK) + 8  # bytes: the mark and eight hex digits
# bytes of a zip's last record without a comment, whose length is its last two (PKWARE's APPNOTE
# 6.3, section 4.3.16)
_DIRECTORY_END = 22
_BLOCK = 1 << 22


class DamagedArchive(ValueError):
    """An archive is not as it was written."""


def with_checksum(raw: bytes) -> bytes:
    """Return a zip archive with a comment that holds its checksum.

    raw: an archive without a comment. The CRC-32 is that of all before its own digits. Raises
    ValueError for other bytes.
    """
    if not _bare(raw[-_DIRECTORY_END:]):
        raise ValueError("no zip archive without a comment")
    body = raw[:-2] + _COMMENT.to_bytes(2, "little") + _MARK
    return body + b"%08x" % zlib.crc32(body)


def add(file: Path) -> None:
    """Add a checksum, as `with_checksum` does, to the archive `file`, which nobody reads yet.

    Raises ValueError for a file that is no zip archive without a comment.
    """
    with file.open("r+b") as stream:
        stream.seek(-_DIRECTORY_END, 2)
        if not _bare(stream.read()):
            raise ValueError(f"{file} is not a zip archive without a comment")
        stream.seek(-2, 2)
        stream.write(_COMMENT.to_bytes(2, "little") + _MARK)
        stream.flush()
        stream.seek(0)
        digits = b"%08x" % _crc32(stream, stream.seek(0, 2))
        stream.write(digits)


def is_marked(end: bytes) -> bool:
    """Return whether the last bytes of an archive say that it has a checksum.

    Raises DamagedArchive where they are no archive's.
    """
    if end[-_COMMENT:][: len(_MARK)] == _MARK:
        return True
    if not _bare(end[-_DIRECTORY_END:]):
        raise DamagedArchive("it does not end as an archive")
    return False


def check(raw: bytes) -> bool:
    """Check the checksum of an archive's bytes, and return whether it has one.

    An archive of an older medbench has none. Raises DamagedArchive where the checksum is not that
    of the bytes, or the bytes are no archive's.
    """
    end = raw[-_COMMENT:]
    if is_marked(end):
        if zlib.crc32(memoryview(raw)[:-8]) != _digits(end):
            raise DamagedArchive("its checksum is another")
        return True
    return False


def check_file(file: Path) -> bool:
    """Check an archive as `check` does, without reading all of it into memory.

    An archive of an older medbench is read for its members' own checksums. Raises DamagedArchive.
    """
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _COMMENT))
        end = stream.read()
        if is_marked(end):
            if _crc32(stream, size - 8) != _digits(end):
                raise DamagedArchive("its checksum is another")
            return True
        with archive_errors.reading(DamagedArchive):
            wrong = zipfile.ZipFile(stream).testzip()
        if wrong is not None:
            raise DamagedArchive(f"the checksum of {wrong} is another")
        return False


def _bare(end: bytes) -> bool:
    return len(end) == _DIRECTORY_END and end[:4] == b"PK\5\6" and end[-2:] == b"\0\0"


def _digits(end: bytes) -> int:
    try:
        return int(end[-8:], 16)
    except ValueError:
        return -1


def _crc32(stream: BinaryIO, count: int) -> int:
    """Of the first `count` bytes."""
    stream.seek(0)
    found = 0
    while count > 0 and (block := stream.read(min(_BLOCK, count))):
        found, count = zlib.crc32(block, found), count - len(block)
    return found
