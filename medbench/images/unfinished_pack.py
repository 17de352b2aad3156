"""A pack that is being made: what is on disk of it, and how it is gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medbench.images.squeezing import PackForm, PackPlace
from medbench.system import atomic_write
from medbench.system.cache_folder import check_space, reserve
from medbench.system.row_checksums import DamagedArray, RowChecksums

CHUNK = 32  # images a job, and a checksum


class UnfinishedPack:
    """A pack that is being made, under its lock.

    images.partial.npy, and in done.npy the checksums of its chunks.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], form: PackForm):
        self.folder, self.shape, self.form = folder, shape, form
        self.file, self.done_file = folder / "images.partial.npy", folder / "done.npy"
        self.done = _resume(shape, self.file, self.done_file)
        self.place = PackPlace(str(self.file), *form)
        # chunk -> checksum, of what was written since the last sync
        self.written: dict[int, int] = {}

    def settle(self) -> None:
        """Sync what was written to the disk; only then it counts as done."""
        if self.written:
            atomic_write.sync(self.file)
            for chunk, found in self.written.items():
                self.done[chunk] = _DONE | found
            self.done.flush()
            self.written.clear()

    def remove(self) -> None:
        """Delete the pack's rows and the record of which are written."""
        self.file.unlink()
        self.done_file.unlink()

    def publish(self) -> RowChecksums:
        """Give the finished file its name, beside its checksums, which are returned."""
        sums = RowChecksums(
            self.shape, "|u1", CHUNK, tuple((np.asarray(self.done) & 0xFFFFFFFF).tolist())
        )
        del self.done
        atomic_write.record(self.folder / "about.json", {"checksums": sums.to_json()})
        self.file.replace(self.folder / "images.npy")
        self.done_file.unlink()
        return sums


_DONE = 1 << 32  # beside a chunk's checksum, which may be 0


def _resume(shape: tuple[int, ...], partial_file: Path, done_file: Path) -> np.memmap:
    """(chunks,) uint64, 0 = not on disk, else `_DONE` and the checksum, memory-mapped.

    Fresh files where none can be gone on with.
    """
    chunks = -(-shape[0] // CHUNK)
    try:
        RowChecksums(shape, "|u1", CHUNK, ()).open(partial_file)
        return RowChecksums((chunks,), "<u8", chunks, ()).open(done_file, "r+")
    except (FileNotFoundError, DamagedArray):
        pass
    done_file.unlink(missing_ok=True)
    partial_file.unlink(missing_ok=True)
    check_space(partial_file.parent, size_in_bytes(shape))
    np.lib.format.open_memmap(partial_file, "w+", np.uint8, shape)
    reserve(partial_file)
    fresh = done_file.with_name("done.partial.npy")
    np.save(fresh, np.zeros(chunks, "<u8"))
    fresh.replace(done_file)
    return np.lib.format.open_memmap(done_file, "r+")


def size_in_bytes(shape: Sequence[int]) -> int:
    """Return the bytes of a uint8 array of this shape."""
    return int(np.prod(shape, dtype=np.int64))
