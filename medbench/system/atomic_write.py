"""A file that is there whole or not at all, after a power cut too.

A rename alone may reach the disk before what was renamed.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from medbench.schema import with_checksum
from medbench.system import archive_checksum

#: NAME.MACHINE.PROCESS.RANDOM.partial: of processes with one number, as in two containers, each
#: writes its own.
_PARTIAL = re.compile(r".+\.([\w-]+)\.(\d+)\.[0-9a-f]{16}\.partial")
# seconds without a change, after which a partial file of a process that cannot be asked has no
# writer
_ABANDONED = 86_400.0


def write(file: Path, make: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: `make` writes one beside it, which then takes its place.

    make(path) is called once. The content is on the disk before the place is taken; what a failed
    `make` left is removed, and `file` stays as it was. A device or a pipe is written to: renamed
    over, it would be gone for everybody. Raises OSError that names `file`, and what `make` raises.
    """
    if file.exists() and not file.is_file() and not file.is_dir():
        make(file)
        return
    with written(file, make) as put:
        put()


@contextmanager
def written(file: Path, make: Callable[[Path], object]) -> Iterator[Callable[[], None]]:
    """Write as `write` does, in two steps; give the second one, to be called inside.

    The content is on the disk, and what is given puts it in the file's place; else it is removed.
    For whoever must hold a lock for the second step alone.
    """
    partial = file.with_name(
        f"{file.name}.{machine()}.{os.getpid()}.{secrets.token_hex(8)}.partial"
    )

    def put() -> None:
        with naming(file):
            partial.replace(file)

    try:
        with naming(file):
            make(partial)
            sync(partial)
        yield put
    finally:
        partial.unlink(missing_ok=True)


def record(
    file: Path,
    content: Mapping[str, Any],
    *,
    indent: int | None = None,
    default: Callable[[Any], Any] | None = None,
) -> None:
    """Write a JSON object with its checksum, which `schema.parsed` looks at, whole or not at all.

    indent, default: as of json.dumps. Raises OSError that names `file`; ValueError for NaN.
    """
    write(
        file,
        lambda partial: partial.write_bytes(
            with_checksum(content, indent=indent, default=default) + b"\n"
        ),
    )


def archive(file: Path, dump: Callable[[BinaryIO], object]) -> None:
    """Write a zip archive, as torch.save makes one, with its checksum, whole or not at all.

    dump(stream) writes it. torch's RuntimeError hides a full disk, whose OSError is raised in its
    place.
    """

    def make(partial: Path) -> None:
        with partial.open("wb") as opened:
            try:
                dump(opened)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        archive_checksum.add(partial)

    write(file, make)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Give an OSError of a full disk inside the name of this file, which the system leaves out."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # else it is words alone, which a name would take the place of
            named = str(error.filename or file)
            partial = named.startswith((f"{file}.", str(file.with_name(f".{file.name}."))))
            error.filename = str(file) if partial else named  # a user knows no partial file
        raise


def sync(file: Path) -> None:
    """Wait until a file's content is on the disk. Raises OSError."""
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())


def remove_abandoned(*folders: Path) -> None:
    """Remove what killed writes left in these folders.

    Those of a process of this machine go once it is gone; those of any other, after a day.
    """
    for folder in folders:
        for entry in os.scandir(folder) if folder.is_dir() else ():
            named = _PARTIAL.fullmatch(entry.name)
            if named and _abandoned(entry, named[1], int(named[2])):
                Path(entry).unlink(missing_ok=True)


def _abandoned(entry: os.DirEntry[str], where: str, process: int) -> bool:
    if where == machine() and not runs(process):
        return True
    try:
        return time.time() - entry.stat().st_mtime > _ABANDONED
    except FileNotFoundError:  # its writer was done meanwhile
        return False


def runs(process: int) -> bool:
    """Return whether a process of this machine is alive, as far as can be told."""
    # os.kill ends a process there, whatever the signal: nobody can be asked
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


@cache
def machine() -> str:
    """Return a word for what a process number is unique in.

    This machine since it was started, or a container on it.
    """
    import hashlib

    parts = [socket.gethostname()]
    for place in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(
                os.readlink(place) if place.endswith("pid") else Path(place).read_text().strip()
            )
        except OSError:  # not Linux: the name alone
            continue
    return f"{re.sub(r'[^a-zA-Z0-9-]+', '-', parts[0])[:24]}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:8]}"
