"""What an image is: the SHA-256 of its bytes, remembered.

So a second plan of 300,000 files reads none of them. What is trusted: that a file with the same
path, size, modification time, change time and inode holds the same bytes. The kernel sets the
change time at every write, rename and change of the other times, and no program can choose it:
copies that keep their times (cp -p, rsync -t, unzip, tar) are read again, and so are two files that
swap names. What it cannot show: a disk that loses bits, a clock that was set back, a file system
without change times. `rehashing` is for those.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from contextvars import ContextVar
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from medbench.images import decoding
from medbench.schema import Drawn, Image, UserError
from medbench.system.progress_listener import heard_in_threads, report_megabytes, report_progress

if TYPE_CHECKING:
    from hashlib import _Hash

log = logging.getLogger("medbench")
_FILE = "hashes.sqlite"
_SPOILT = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)  # what only making it anew helps against
# files a thread is sent for: sending costs ten times what asking for a remembered file's state does
_ERRAND = 16
_BLOCK = 500  # files a query and a transaction: what a killed run can lose
_LARGE = 64 << 20  # bytes of a file whose reading is worth a progress line of its own
_TRIES = 3  # readings of a file that is written meanwhile
#: A file changed again within a file system's clock tick keeps its times. One that was younger than
#: this when it was read is not remembered (git's "racily clean" entries): a second is ext3's and
#: HFS+'s tick, two are FAT's.
_SETTLED_NS = 2_000_000_000
#: `files`, the table of an older medbench, knew no deep colour from other PNG files, and no
#: checksum of a row.
_TABLE = "contents"
_TYPES = "path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER, sha256 TEXT, format TEXT, crc32 INTEGER"
_COLUMNS = tuple(part.split()[0] for part in _TYPES.split(", "))
_read_again: ContextVar[set[str] | None] = ContextVar("read_again", default=None)


class _Spoilt(Exception):
    """The memory of content hashes is no database any more."""


class FileState(NamedTuple):
    """What of a file's state is compared with the remembered one."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @staticmethod
    def of(state: os.stat_result) -> FileState:
        """Take size, times (ns) and number of a file from what `os.stat` gives."""
        # SQLite's are signed
        return FileState(
            state.st_size,
            state.st_mtime_ns,
            state.st_ctime_ns,
            state.st_ino & 0x7FFF_FFFF_FFFF_FFFF,
        )

    def settled(self, now_ns: int) -> bool:
        """Return whether a write since `now_ns` shows in the state.

        A modification time far ahead was given, not written.
        """
        return now_ns - self.ctime_ns > _SETTLED_NS and abs(now_ns - self.mtime_ns) > _SETTLED_NS


class ReadFile(NamedTuple):
    """Hold a file's state and the hash of its content.

    settled: whether a write since it was read would show in its state.
    """

    state: FileState
    sha256: str
    file_format: str
    settled: bool


@contextmanager
def rehashing() -> Iterator[None]:
    """Read each file once inside, and remember its hash anew: no remembered hash is believed."""
    token = _read_again.set(set())
    try:
        yield
    finally:
        _read_again.reset(token)


class ContentHash(str):
    """The hash of an image's content, 64 hex digits (SHA-256), which knows the format of its file.

    The format is a key of DECODERS, "" for what is no file.
    """

    __slots__ = ("file_format",)
    file_format: str

    def __new__(cls, sha256: str, file_format: str = "") -> ContentHash:
        found = super().__new__(cls, sha256)
        found.file_format = file_format
        return found


def content_hashes(
    images: Iterable[Image], cache_dir: Path, stage: str = "reading files"
) -> list[str]:
    """Return a `ContentHash` for each of N images.

    The SHA-256 of the file's bytes, or of a drawing's key. stage: the name under which it reports
    its progress; reading a large file, which may be a whole data set, is a stage of its own. Hashes
    and formats are kept in `cache_dir/hashes.sqlite` by path and `FileState`, a row with its
    checksum; several processes may use it at once. Raises UserError naming the files that cannot be
    read (ten of them, and how many).
    """
    # of each the path of its file, or what a drawing is
    places = [
        ContentHash(hashlib.sha256(image.key.encode()).hexdigest())
        if isinstance(image, Drawn)
        else os.path.abspath(image)
        for image in images
    ]
    paths = list(dict.fromkeys(place for place in places if not isinstance(place, ContentHash)))
    check_names(paths)
    known: dict[str, ContentHash] = {}
    bad: list[str] = []
    try:
        _hash_all(paths, cache_dir, stage, known, bad)
    except _Spoilt as error:
        log.warning(
            "the memory of content hashes %s is damaged (%s): reading all files again",
            cache_dir / _FILE,
            error,
        )
        (cache_dir / _FILE).unlink(missing_ok=True)
        bad.clear()
        _hash_all(paths, cache_dir, stage, known, bad)
    if bad:
        raise UserError(
            f"{len(bad)} of {len(paths)} image files cannot be read: {'; '.join(bad[:10])}{' ...' if len(bad) > 10 else ''}"
        )
    return [place if isinstance(place, ContentHash) else known[place] for place in places]


def _hash_all(
    paths: list[str], cache_dir: Path, stage: str, known: dict[str, ContentHash], bad: list[str]
) -> None:
    """`_hash_block` of all, a block at a time. Raises _Spoilt."""
    if not paths:
        return
    with _database(cache_dir) as db, ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as threads:
        for start in range(0, len(paths), _BLOCK):
            _hash_block(db, threads, paths[start : start + _BLOCK], known, bad)
            report_progress(stage, min(start + _BLOCK, len(paths)), len(paths), "files")


def check_names(names: Iterable[str]) -> None:
    """Raise UserError for a file name that is not UTF-8.

    It can neither be hashed nor written into a table.
    """
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise UserError(
                f"The file name {shown} is not UTF-8.",
                then="rename it (convmv -r --notest -f latin1 -t utf8 FOLDER)",
            ) from None


def _hash_block(
    db: sqlite3.Connection,
    threads: ThreadPoolExecutor,
    paths: list[str],
    known: dict[str, ContentHash],
    bad: list[str],
) -> None:
    """Fill `known` for these paths, and `bad` with 'path: why' of those that cannot be read."""
    again = _read_again.get()
    believed = [path for path in paths if again is None or path in again]
    marks = ",".join("?" * len(believed))
    rows = db.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM {_TABLE} WHERE path IN ({marks})", believed
    )
    stored = {
        row[0]: ReadFile(FileState(*row[1:5]), row[5], row[6], True)
        for row in rows
        if row[7] == _checksum(row[:7])
    }
    some = [paths[start : start + _ERRAND] for start in range(0, len(paths), _ERRAND)]
    errand = heard_in_threads(lambda one: [_hash_file(path, stored.get(path)) for path in one])
    new = []
    for path, found in zip(paths, chain.from_iterable(threads.map(errand, some)), strict=True):
        if isinstance(found, OSError):
            bad.append(f"{path}: {found.strerror}")
            continue
        known[path] = ContentHash(found.sha256, found.file_format)
        if found.settled and found is not stored.get(path):
            row = (path, *found.state, found.sha256, found.file_format)
            new.append((*row, _checksum(row)))
    if new:
        with db:
            db.executemany(
                f"INSERT OR REPLACE INTO {_TABLE} ({', '.join(_COLUMNS)}) VALUES ({','.join('?' * len(_COLUMNS))})",
                new,
            )
    if again is not None:
        again.update(path for path, *_ in new)


def _checksum(row: Iterable[object]) -> int:
    return zlib.crc32("\0".join(map(str, row)).encode())


def _hash_file(path: str, stored: ReadFile | None) -> ReadFile | OSError:
    """Return `stored` where the file's state is still the same, else what is read now."""
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            return OSError(0, "not a file")
        if stored and stored.state == FileState.of(state):
            return stored
        for _ in range(_TRIES):
            with open(path, "rb") as stream:
                before, now = FileState.of(os.fstat(stream.fileno())), time.time_ns()
                kind = decoding.format_of(stream.read(decoding.HEAD))
                stream.seek(0)
                read = (
                    hashlib.file_digest(stream, "sha256")
                    if before.size < _LARGE
                    else _watched_digest(stream, path, before.size)
                )
                if FileState.of(os.fstat(stream.fileno())) == before:
                    return ReadFile(before, read.hexdigest(), kind, before.settled(now))
        return OSError(0, "it is written while it is read")
    except OSError as error:
        return error


def _watched_digest(stream: BinaryIO, path: str, size: int) -> _Hash:
    digest, told = hashlib.sha256(), report_megabytes(f"reading {os.path.basename(path)}")
    while block := stream.read(1 << 23):
        digest.update(block)
        told(stream.tell(), size)
    return digest


@contextmanager
def _database(cache_dir: Path) -> Iterator[sqlite3.Connection]:
    file = cache_dir / _FILE
    try:
        with closing(sqlite3.connect(file, timeout=60)) as db:
            if _columns(db) != _COLUMNS:
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    if _columns(db) != _COLUMNS:
                        db.execute(f"DROP TABLE IF EXISTS {_TABLE}")
                        db.execute(f"CREATE TABLE {_TABLE} ({_TYPES})")
            yield db
    except sqlite3.Error as error:
        if error.sqlite_errorcode in _SPOILT:
            raise _Spoilt(str(error)) from error
        raise UserError(
            f"The memory of content hashes {file} cannot be used ({error}).",
            then="free some space, or delete it: it is made anew",
        ) from error


def _columns(db: sqlite3.Connection) -> tuple[str, ...]:
    return tuple(column[1] for column in db.execute(f"PRAGMA table_info({_TABLE})"))
