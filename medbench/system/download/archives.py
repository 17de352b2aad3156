"""Archives -> files below one folder, or an error and nothing.

No member may leave the folder: an absolute path, a drive, `..` and every kind of link or device is
refused, whatever it points to. What is written is bounded by the archive's size, its number of
files and the disk, counted while it is written and not as the archive says.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from medbench.schema import UserError
from medbench.system import archive_errors
from medbench.system.progress_listener import report_megabytes

MOST_FILES = 1_000_000
#: An archive may hold so many times its own size, and so much beside. Images and PCam's patches
#: shrink hardly at all, its labels twelvefold.
MOST_TIMES, MOST_BESIDE = 100, 64 << 20
_BLOCK = 1 << 20
_KEPT = 32 << 20  # bytes left free on the disk
# bytes of a header beside a member, which tarfile reads whole: names and times
_LONGEST_NAME = 1 << 20
_JUNK = ("__MACOSX", ".DS_Store")  # of the system that packed it
KINDS = ("zip", "tar", "gzip")


class Readable(Protocol):
    """What a member is read from."""

    def read(self, n: int, /) -> bytes:
        """Return n bytes, fewer at the end."""


Member = tuple[str, Readable]


def unpack(archive: Path, kind: str, into: Path, stage: str = "", *, nested: bool = False) -> None:
    """Unpack `archive` below the folder `into`, which must not exist.

    With an error it does not exist afterwards either.

    kind: "zip"; "tar", compressed or not; "gzip": one file, named as the archive without `.gz`.
    nested: zips inside are unpacked where they lie, one level deep. stage: as which it reports its
    progress; "": it does not. Raises UserError for an archive that is broken, another kind,
    escapes, or holds too much; OSError (ENOSPC) before the disk is full.
    """
    into.mkdir(parents=True)
    then = (
        "download it again; where that says the same, by hand, and unpack it with another program"
    )
    try:
        with archive_errors.reading(
            lambda why: UserError(
                f"{archive.name} is not a {kind} archive, or a broken one ({why}).", then=then
            )
        ):
            _fill(archive, kind, into, report_megabytes(stage))
            if nested:
                for inner in sorted(into.rglob("*.zip")):
                    _fill(inner, "zip", inner.parent, report_megabytes(stage))
                    inner.unlink()
    except BaseException:
        shutil.rmtree(into)
        raise


def _fill(archive: Path, kind: str, into: Path, progress: Callable[[int, int], None]) -> None:
    """Unpack an archive.

    progress(done, total) in bytes of the archive, or of its content where that is known (zip).
    """
    left = MOST_TIMES * archive.stat().st_size + MOST_BESIDE
    room = shutil.disk_usage(into).free - _KEPT
    files = {"zip": _zip, "tar": _tar, "gzip": _gzip}[kind](archive, progress)
    for number, (name, source) in enumerate(files, start=1):
        if number > MOST_FILES:
            raise UserError(f"{archive.name} holds more than {MOST_FILES:,} files.")
        place = _place(archive, into, name)
        if place is None:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            raise UserError(f"{archive.name} holds '{name}' twice.")
        with place.open("xb") as sink:
            while block := source.read(_BLOCK):
                left -= len(block)
                room -= len(block)
                if room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(into.parent))
                if left < 0:
                    raise UserError(
                        f"{archive.name} holds more than its size explains: {MOST_TIMES} times as much. Nothing of it was kept."
                    )
                sink.write(block)


def _place(archive: Path, into: Path, name: str) -> Path | None:
    """Where a member goes; None for what a system left behind.

    Raises UserError for a name that leaves the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name or not path.parts:
        raise UserError(
            f"{archive.name} would write outside its folder: '{name[:80]}'. Nothing of it was kept."
        )
    return (
        None
        if any(part in _JUNK or part.startswith("._") for part in path.parts)
        else into.joinpath(*path.parts)
    )


def _zip(archive: Path, progress: Callable[[int, int], None]) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        total, done = sum(member.file_size for member in members), 0
        for member in members:  # all names before the first byte
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(
                    f"{archive.name} holds a link or a device: '{member.filename[:80]}'. Nothing of it was kept."
                )
            if member.flag_bits & 1:
                raise UserError(
                    f"{archive.name} is encrypted.",
                    then="unpack it by hand, with the password of its publisher",
                )
            if not member.is_dir():
                _place(archive, Path(), member.filename)
        for member in members:
            if not member.is_dir():
                with opened.open(member) as source:
                    yield member.filename, source
            done += member.file_size
            progress(done, total)


class _BoundedHeader(tarfile.TarInfo):
    """A header of a member; of one that is longer than any name it is refused before it is read."""

    def _proc_member(self, opened: tarfile.TarFile) -> tarfile.TarInfo:
        extended = (
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        )
        if self.type in extended and self.size > _LONGEST_NAME:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(opened)  # type: ignore[misc, no-any-return]  # its own comment: may be overridden by subclasses


def _tar(archive: Path, progress: Callable[[int, int], None]) -> Iterator[Member]:
    total = archive.stat().st_size
    with (
        archive.open("rb") as raw,
        tarfile.open(fileobj=raw, mode="r|*", tarinfo=_BoundedHeader) as opened,
    ):
        for member in opened:
            if member.isdir():
                continue
            source = opened.extractfile(member) if member.isreg() else None
            if source is None:
                raise UserError(
                    f"{archive.name} holds a link or a device: '{member.name[:80]}'. Nothing of it was kept."
                )
            yield member.name, source
            progress(raw.tell(), total)


def _gzip(archive: Path, progress: Callable[[int, int], None]) -> Iterator[Member]:
    total = archive.stat().st_size
    with archive.open("rb") as raw, gzip.GzipFile(fileobj=raw) as opened:
        yield archive.name.removesuffix(".gz"), _Told(opened, lambda: progress(raw.tell(), total))


class _Told:
    """A stream that says when it is read."""

    def __init__(self, stream: gzip.GzipFile, tell: Callable[[], None]):
        self.stream, self.tell = stream, tell

    def read(self, n: int) -> bytes:
        self.tell()
        return self.stream.read(n)
