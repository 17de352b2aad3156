"""A file of one JSON record a line, each with its checksum, that several processes append to.

Each line is parsed once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from medbench.schema import ChecksumError, UserError, parsed, with_checksum
from medbench.system import atomic_write, gc_pause

T = TypeVar("T")
_CHECKSUM = 32  # bytes at a line's end that hold its checksum


class RecordLog(Generic[T]):
    """Read and append the records of one file.

    make(record) -> (key, value); it raises TypeError or ValueError for what is none. then: what a
    user does about a broken line. A later reading parses what was appended since. A file that was
    replaced, cut or rewritten is read anew: it has another number, is no longer than it was, or the
    last line that was parsed stands elsewhere.
    """

    def __init__(
        self,
        file: Path,
        make: Callable[[Any], tuple[str, T]],
        then: str = "remove that line; its cell is computed again",
    ):
        self.file, self.make, self.then = file, make, then
        self._forget()

    def _forget(self) -> None:
        self._found: dict[str, T] = {}
        self._ends: dict[str, int] = {}  # key -> where its last record ends
        # number, time and size of the file as it was read last
        self._state: tuple[int, int, int] | None = None
        self._end = self._count = 0  # bytes and lines that were parsed
        # the last of these lines: where it stands no longer, the file was rewritten
        self._last = b""

    def read(self) -> Mapping[str, T]:
        """Return key -> value of its last record, in the order of the first.

        A line without an end, which a killed run was writing, is none.

        Raises UserError for a line that is no record.
        """
        try:
            now = os.stat(self.file)
        except FileNotFoundError:
            self._forget()
            return self._found
        state = (now.st_ino, now.st_mtime_ns, now.st_size)
        if state != self._state:
            grown = (
                self._state is not None
                and self._state[0] == now.st_ino
                and self._state[2] < now.st_size
            )
            self._state = None  # where a line is broken, the next reading says so too
            with self.file.open("rb") as stream:
                if not grown or not self._stands(stream):
                    self._forget()
                stream.seek(self._end)
                with gc_pause.kept():  # of thousands of rows
                    self._parse(stream.read())
            self._state = state
        return self._found

    def beyond(self, size: int) -> set[str]:
        """Return the keys of the records that were appended since the file had this size."""
        self.read()
        return {key for key in self._ends if self.known_beyond(key, size)}

    def known_beyond(self, key: str, size: int) -> bool:
        """Return whether a record of that key is known to be younger than the file at this size.

        Reads nothing.
        """
        return self._ends.get(key, 0) > size

    @property
    def size(self) -> int:
        """The bytes of the file; 0 where there is none."""
        return self.file.stat().st_size if self.file.exists() else 0

    def _stands(self, stream: BinaryIO) -> bool:
        """Whether the last line that was parsed is where it was."""
        stream.seek(self._end - len(self._last))
        return stream.read(len(self._last)) == self._last

    def _parse(self, content: bytes) -> None:
        for line in content[: content.rfind(b"\n") + 1].splitlines(keepends=True):
            key, value = self._record(line, self._count + 1)
            self._found[key] = value
            self._count += 1
            self._end += len(line)
            self._ends[key] = self._end
            self._last = line

    def _record(self, line: bytes, number: int) -> tuple[str, T]:
        try:
            record = parsed(line)
        except ValueError as error:
            what = "is damaged" if isinstance(error, ChecksumError) else "is not JSON"
            raise UserError(
                f"{self.file}, line {number}, {what} ({error}).", then=self.then
            ) from error
        try:
            return self.make(record)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self.file}, line {number}, is not a record of medbench ({error}).",
                then=self.then,
            ) from error

    def append(self, *records: Mapping[str, Any], synced: bool = True) -> None:
        """Append a line for each record, whole or not at all.

        A torn tail that a killed run left is cut first. synced: wait until they are on the disk.
        Raises OSError that names the file.
        """
        lines = b"".join(with_checksum(record) + b"\n" for record in records)
        with atomic_write.naming(self.file), self.file.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(lines)
            file.flush()
            if synced:
                os.fsync(file.fileno())

    def give_checksums(self) -> None:
        """Write the lines of an older medbench with their checksums.

        To be called where nobody else appends. Raises UserError as `read` does.
        """
        self.read()
        lines = self.file.read_bytes().splitlines(keepends=True) if self.file.exists() else []
        bare = [b'"checksum": "' not in line[-_CHECKSUM:] for line in lines]
        if any(bare):
            whole = [
                with_checksum(parsed(line)) + b"\n" if is_bare else line
                for line, is_bare in zip(lines, bare, strict=True)
                if line.endswith(b"\n")
            ]
            atomic_write.write(self.file, lambda partial: partial.write_bytes(b"".join(whole)))
