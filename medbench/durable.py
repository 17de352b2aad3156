"""A file that is there whole or not at all, after a power cut too: a rename alone may reach the disk before what was renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write(file: Path, make: Callable[[Path], object]) -> None:
    """`make` writes a file beside it, which takes its place once it is on the disk, or is removed. Raises OSError."""
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        make(partial)
        sync(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def sync(file: Path) -> None:
    """Wait until a file's content is on the disk. Raises OSError."""
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())
