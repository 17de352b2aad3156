"""A lock between processes, by a file, on file systems that have locks.

On others one line that says so.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.schema import DiskError

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: What file systems without locks answer: NFS without its lock daemon, some FUSE and overlay file
#: systems, and the kernel itself.
_NONE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


#: Seconds after which a lock file that this machine cannot judge is told of.
_OLD = 60.0
_told: set[Path] = set()
log = logging.getLogger("medbench")


@contextmanager
def locked(file: Path | str, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of `file`, which is made where it is missing.

    timeout: seconds to wait for it; -1: as long as it takes.

    Raises filelock.Timeout, and DiskError on a file system that has no locks: without them two runs
    would write into one file.

    A Python without `fcntl` holds a lock by the mere file FILE.held, which a process that is killed
    leaves behind: filelock removes it where that process ran on this machine, and one of another
    machine is told of, as nobody here knows whether it still runs.
    """
    from filelock import Timeout

    lock = _lock(Path(file), timeout)
    try:
        lock.acquire()
    except Timeout:  # an OSError, too
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NONE:
            raise
        raise DiskError(
            f"{Path(file).absolute().parent} lies on a file system without file locks ({getattr(error, 'strerror', None) or error}).",
            then="name a folder on another disk (--out, MEDBENCH_CACHE), or mount this one with locks (NFS: its lock daemon, or local_lock=flock)",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def passing(file: Path) -> Iterator[None]:
    """Hold the lock of `file` as `locked` does, and remove the file at the end.

    Whoever waited for a file that is removed meanwhile waits for the lock of the next one.
    """
    while True:
        _make(file)
        with ExitStack() as held:
            with file.open("ab") as first:
                held.enter_context(locked(file))
                # open all the while, its number is nobody else's: it was there when the lock was
                # had, too
                try:
                    gone = not os.path.samestat(os.fstat(first.fileno()), file.stat())
                except FileNotFoundError:
                    gone = True
            if gone:
                continue
            try:
                yield
            finally:
                with suppress(PermissionError):  # Windows: open in a process that waits
                    file.unlink(missing_ok=True)
            return


def _lock(file: Path, timeout: float) -> BaseFileLock:
    from filelock import FileLock, SoftFileLock

    if issubclass(FileLock, SoftFileLock):
        # not `file`: a Python with `fcntl` leaves its lock files, empty, and holds none of them
        marker = file.with_name(f"{file.name}.held")
        _tell_if_old(marker)
        return FileLock(marker, timeout=timeout)
    _make(file)
    # a newer filelock would take such mere files where a file system has no locks
    choice: Any = {"fallback_to_soft": False} if hasattr(FileLock, "fallback_to_soft") else {}
    return FileLock(file, timeout=timeout, **choice)


def _tell_if_old(marker: Path) -> None:
    """Say what to do about a lock of another machine, once."""
    try:
        age = time.time() - marker.stat().st_mtime
        number, host, *_ = [*marker.read_text(errors="replace").split("\n"), "", ""]
    except FileNotFoundError:
        return
    if age > _OLD and host != socket.gethostname() and marker not in _told:
        _told.add(marker)
        holder = f"process {number} on {host}" if host else "a process that left no name"
        log.warning(
            "%s has been held for %.0f minutes by %s. Where that has ended, delete the file",
            *(marker, age / 60, holder),
        )


def _make(file: Path) -> None:
    """Make a lock's file where it is missing: filelock tries for ever where none can be made.

    Raises DiskError for a folder that takes no files, as /proc.
    """
    if file.exists() or not file.parent.is_dir():
        return
    try:
        file.touch()
    except FileNotFoundError as error:
        raise DiskError(
            f"{file.parent.absolute()} takes no new file ({error.strerror}).",
            then="name another folder",
        ) from error


@contextmanager
def attempted(*files: Path | str) -> Iterator[bool]:
    """Hold the locks of all these files while inside; give whether they are held.

    False, and none of them, where another process holds one. Raises DiskError as `locked`.
    """
    from filelock import Timeout

    with ExitStack() as held:
        free = True
        try:
            for file in files:
                held.enter_context(locked(file, timeout=0))
        except Timeout:
            held.close()
            free = False
        yield free


def held(file: Path | str) -> bool:
    """Return whether another process holds the lock of `file`."""
    with attempted(file) as free:
        return not free


def exclude(folder: Path) -> bool:
    """Return whether a lock in `folder` keeps a second handle out, as some network disks pretend.

    Raises DiskError on a disk without locks.
    """
    file = folder / "lock-test"
    with locked(file), attempted(file) as second:
        return not second
