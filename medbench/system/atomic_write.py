"""A file that is there whole or not at all, after a power cut too: a rename alone may reach the disk before what was renamed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write(file: Path, make: Callable[[Path], object]) -> None:
    """`make` writes a file beside it, which takes its place once it is on the disk, or is removed. Raises OSError."""
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        with naming(file):
            make(partial)
            sync(partial)
            partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """An OSError of a full disk names no file: it names this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # else it is words alone, which a name would take the place of
            error.filename = error.filename or str(file)
        raise


def stream(file: Path, dump: Callable[[BinaryIO], object]) -> None:
    """`write` for what writes to an open file, as torch.save: its RuntimeError hides a full disk, which is raised in its place."""

    def make(partial: Path) -> None:
        with partial.open("wb") as opened:
            try:
                dump(opened)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    write(file, make)


def sync(file: Path) -> None:
    """Wait until a file's content is on the disk. Raises OSError."""
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())
