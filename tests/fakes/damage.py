"""What disks, copies and people do to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np


def _flipped(content: bytes) -> bytes:
    """One bit, of the byte in the middle."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _zeros(content: bytes) -> bytes:
    """The second half, as after a power cut."""
    return content[: len(content) // 2].ljust(len(content), b"\0")


#: Content as it was -> as it is found.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "end cut": lambda content: content[:-3],
    "empty": lambda content: b"",
    "flipped": _flipped,
    "zeros": _zeros,
    "junk": lambda content: np.random.default_rng(0).bytes(len(content)),
}
ALL = (*DAMAGES, "gone")


def damage(file: Path, kind: str) -> None:
    """kind: of `DAMAGES`, or "gone"."""
    if kind == "gone":
        file.unlink()
    else:
        before = file.read_bytes()
        file.write_bytes(DAMAGES[kind](before))
        assert file.read_bytes() != before
