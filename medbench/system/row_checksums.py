"""A .npy file of rows with a checksum a block of rows.

What is read of gigabytes is checked, and no more.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from medbench.schema import checked


class DamagedArray(ValueError):
    """A .npy file is not as it was written."""


@dataclass(frozen=True)
class RowChecksums:
    """The file of a C-ordered array.

    rows: of a block; crc32: of each block's bytes, the last of which may hold fewer rows.
    """

    shape: tuple[int, ...]
    dtype: str
    rows: int
    crc32: tuple[int, ...]

    @staticmethod
    def of(array: np.ndarray, rows: int = 0) -> RowChecksums:
        """Read all of an array and compute its checksums.

        rows: 0: as many as make a megabyte.
        """
        rows = rows or max(1, (1 << 20) // max(1, array[:1].nbytes))
        starts = range(0, len(array), rows)
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:  # zlib works without Python's lock
            return RowChecksums(
                array.shape,
                array.dtype.str,
                rows,
                tuple(threads.map(lambda i: crc32(array[i : i + rows]), starts)),
            )

    @staticmethod
    def from_json(record: Any) -> RowChecksums:
        """Read checksums. Raises TypeError or ValueError for a record that has none."""
        checked(record, {"shape": list, "dtype": str, "rows": int, "crc32": list})
        return RowChecksums(
            tuple(record["shape"]), record["dtype"], record["rows"], tuple(record["crc32"])
        )

    def to_json(self) -> dict[str, Any]:
        """Return its fields as JSON values."""
        return {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "rows": self.rows,
            "crc32": list(self.crc32),
        }

    def open(self, file: Path, mode: str = "r") -> np.memmap[Any, Any]:
        """Map the array from its file.

        mode: as of np.memmap. Raises DamagedArray where size or header are others; its rows are not
        looked at.
        """
        header = _header(self.shape, self.dtype)
        with file.open("rb") as stream:
            if stream.read(len(header)) != header:
                raise DamagedArray("its header is another")
            size = os.fstat(stream.fileno()).st_size
        if size != (whole := len(header) + prod(self.shape) * np.dtype(self.dtype).itemsize):
            raise DamagedArray(f"it has {size:,} of {whole:,} bytes")
        return np.memmap(file, np.dtype(self.dtype), mode, len(header), self.shape)  # type: ignore[call-overload,no-any-return]

    def check(self, array: np.ndarray) -> None:
        """Raise DamagedArray where a block of an array (N, ...) has another checksum.

        array: of the shape that was recorded. All of it is read.
        """
        found = self.of(array, self.rows).crc32
        wrong = [i for i, (a, b) in enumerate(zip(found, self.crc32, strict=True)) if a != b]
        if wrong:
            raise DamagedArray(f"{len(wrong)} of {len(found)} blocks have another checksum")


def crc32(rows: np.ndarray, before: int = 0) -> int:
    """Return the CRC-32 of the bytes of rows (n, ...), after that of the rows before (`before`)."""
    return zlib.crc32(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data, before)


class CheckedRows:
    """Rows of a mapped array, a block of which is checked when one of its rows is first read.

    In this process and of this file. It is read as an array is, by slice and index; `part` gives
    rows without reading them. repair(block): is called with the number of a block that is damaged,
    and returns once the file holds what it should.
    """

    def __init__(
        self,
        array: np.ndarray,
        sums: RowChecksums,
        seen: np.ndarray,
        repair: Callable[[int], None],
        where: range | None = None,
    ):
        self.array, self.sums, self.seen, self.repair = array, sums, seen, repair
        self.where = range(len(array)) if where is None else where
        self.shape, self.dtype, self.ndim = (
            (len(self.where), *array.shape[1:]),
            array.dtype,
            array.ndim,
        )
        self.nbytes = prod(self.shape) * array.dtype.itemsize

    def __len__(self) -> int:
        return len(self.where)

    def __getitem__(self, index: Any) -> Any:
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        rows = self._rows(first)
        self._checked(rows)
        if isinstance(first, slice) and (where := self.where[first]).step > 0:  # mapped, not copied
            return self.array[(slice(where.start, where.stop, where.step), *rest)]
        return self.array[(rows, *rest)]

    def part(self, rows: slice) -> CheckedRows:
        """Return some of the rows, none of which is read yet."""
        return CheckedRows(self.array, self.sums, self.seen, self.repair, self.where[rows])

    def _rows(self, index: Any) -> Any:
        """Of the whole array: an int or an array of them."""
        if isinstance(index, slice):
            return np.asarray(self.where[index], np.int64)
        chosen = np.asarray(index)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if chosen.size and not (-len(self) <= chosen.min() and chosen.max() < len(self)):
            raise IndexError(f"index out of {len(self)} rows")
        return self.where.start + self.where.step * np.where(chosen < 0, chosen + len(self), chosen)

    def into(self, index: np.ndarray, out: np.ndarray) -> None:
        """Copy the rows at `index` (n,) int into `out`, once."""
        rows = self._rows(index)
        self._checked(rows)
        # "raise", the default, would copy twice; `_rows` has raised
        np.take(self.array, rows, axis=0, out=out, mode="clip")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = np.asarray(self[:], dtype)
        return found.copy() if copy else found

    def _checked(self, rows: Any) -> None:
        blocks = np.unique(np.atleast_1d(rows) // self.sums.rows)
        for block in blocks[~self.seen[blocks]].tolist():
            self._check(block)

    def _check(self, block: int) -> None:
        rows = self.array[block * self.sums.rows : (block + 1) * self.sums.rows]
        if crc32(rows) != self.sums.crc32[block]:
            self.repair(block)
        self.seen[block] = True


def rows_into(array: Any, index: np.ndarray, out: np.ndarray) -> None:
    """Copy the rows of `array` at `index` (n,) int into `out`: once, where they are mapped."""
    if hasattr(array, "into"):
        array.into(index, out)
    else:
        np.copyto(out, array[index])


def seen_blocks(file: Path, sums: RowChecksums) -> np.ndarray:
    """Return (blocks,) bool, shared by all readers of this file in this process.

    The blocks that were checked since it was last written.
    """
    state = file.stat()
    key = (state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size, sums)
    known = _SEEN.get(str(file))
    if known is None or known[0] != key:
        known = _SEEN[str(file)] = (key, np.zeros(len(sums.crc32), bool))
    return known[1]


_SEEN: dict[str, tuple[tuple[object, ...], np.ndarray]] = {}


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    """As numpy writes it before an array of that kind."""
    buffer, record = io.BytesIO(), {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, record)
    return buffer.getvalue()


def record_of(content: Mapping[str, Any]) -> RowChecksums | None:
    """Return the checksums that an about.json holds of the array beside it.

    None where it is of an older medbench. Raises TypeError or ValueError for a damaged one.
    """
    return RowChecksums.from_json(content["checksums"]) if "checksums" in content else None
