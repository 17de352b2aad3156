"""What an image is: the SHA-256 of its bytes, remembered, so that a second plan of 300,000 files reads none of them."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from medbench.images import decoding
from medbench.schema import Drawn, Image, UserError
from medbench.system.progress_listener import heard_in_threads, report_megabytes, report_progress

if TYPE_CHECKING:
    from hashlib import _Hash

_ERRAND = 16  # files a thread is sent for: sending costs ten times what asking for a remembered file's state does
_BLOCK = 500  # files a query and a transaction: what a killed run can lose
_LARGE = 64 << 20  # bytes of a file whose reading is worth a progress line of its own
#: A file changed again within a file system's clock tick keeps its time. Younger ones are not remembered (as git's index does).
_SETTLED_NS = 2_000_000_000


class ContentHash(str):
    """64 hex digits: the SHA-256 of an image's content, which knows the format of its file: a key of DECODERS, "" for what is no file."""

    file_format: str

    def __new__(cls, sha256: str, file_format: str = "") -> ContentHash:
        found = super().__new__(cls, sha256)
        found.file_format = file_format
        return found


def content_hashes(images: Sequence[Image], cache_dir: Path, stage: str = "reading files") -> list[str]:
    """A `ContentHash` for each of N images: SHA-256 of the file's bytes, or of a drawing's key.

    stage: as which it reports its progress. The reading of a large file, which may be a whole data set, is a stage of its own.

    Hashes and formats are kept in `cache_dir/hashes.sqlite` by path, size and modification time; several processes may use it at once.
    Raises UserError naming the files that cannot be read (ten of them, and how many).
    """
    places = [None if isinstance(image, Drawn) else os.path.abspath(image) for image in images]
    paths = list(dict.fromkeys(place for place in places if place is not None))
    check_names(paths)
    known: dict[str, ContentHash] = {}
    bad: list[str] = []
    if paths:
        with _database(cache_dir) as db, ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as threads:
            for start in range(0, len(paths), _BLOCK):
                _hash_block(db, threads, paths[start : start + _BLOCK], known, bad)
                report_progress(stage, min(start + _BLOCK, len(paths)), len(paths), "files")
    if bad:
        raise UserError(f"{len(bad)} of {len(paths)} image files cannot be read: {'; '.join(bad[:10])}{' ...' if len(bad) > 10 else ''}")
    drawn = (ContentHash(hashlib.sha256(image.key.encode()).hexdigest()) for image in images if isinstance(image, Drawn))
    return [next(drawn) if place is None else known[place] for place in places]


def check_names(names: Iterable[str]) -> None:
    """Raises UserError for a file name that is not UTF-8: it can neither be hashed nor written into a table."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise UserError(
                f"The file name {shown} is not UTF-8.", then="rename it (convmv -r --notest -f latin1 -t utf8 FOLDER)"
            ) from None


def _hash_block(
    db: sqlite3.Connection, threads: ThreadPoolExecutor, paths: list[str], known: dict[str, ContentHash], bad: list[str]
) -> None:
    """Fill `known` for these paths, and `bad` with 'path: why' of those that cannot be read."""
    marks = ",".join("?" * len(paths))
    stored = {
        row[0]: row[1:] for row in db.execute(f"SELECT path, size, mtime_ns, sha256, format FROM files WHERE path IN ({marks})", paths)
    }
    new = []
    some = [paths[start : start + _ERRAND] for start in range(0, len(paths), _ERRAND)]
    errand = heard_in_threads(lambda one: [_hash_file(path, stored.get(path)) for path in one])
    for path, found in zip(paths, chain.from_iterable(threads.map(errand, some)), strict=True):
        if isinstance(found, OSError):
            bad.append(f"{path}: {found.strerror}")
            continue
        _, mtime_ns, sha256, kind = found
        known[path] = ContentHash(sha256, kind)
        if found != stored.get(path) and time.time_ns() - mtime_ns > _SETTLED_NS:
            new.append((path, *found))
    if new:
        with db:
            db.executemany("INSERT OR REPLACE INTO files (path, size, mtime_ns, sha256, format) VALUES (?, ?, ?, ?, ?)", new)


def _hash_file(path: str, stored: tuple[int, int, str, str | None] | None) -> tuple[int, int, str, str] | OSError:
    """(size, modification time, SHA-256, format); the stored ones where the first two still hold. An older medbench stored no format."""
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            return OSError(0, "not a file")
        same = stored if stored and stored[:2] == (state.st_size, state.st_mtime_ns) else None
        if same and same[3] is not None:
            return (*same[:3], same[3])
        with open(path, "rb") as stream:
            kind = decoding.format_of(stream.read(decoding.HEAD))
            if same:
                return (*same[:3], kind)
            stream.seek(0)
            read = hashlib.file_digest(stream, "sha256") if state.st_size < _LARGE else _watched_digest(stream, path, state.st_size)
            return state.st_size, state.st_mtime_ns, read.hexdigest(), kind
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
    file = cache_dir / "hashes.sqlite"
    try:
        with closing(sqlite3.connect(file, timeout=60)) as db:
            db.execute("CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT, format TEXT)")
            if "format" not in {column[1] for column in db.execute("PRAGMA table_info(files)")}:
                with suppress(sqlite3.OperationalError):  # another process added it meanwhile
                    db.execute("ALTER TABLE files ADD COLUMN format TEXT")
            yield db
    except sqlite3.Error as error:
        raise UserError(
            f"The memory of content hashes {file} cannot be used ({error}).", then="free some space, or delete it: it is made anew"
        ) from error
