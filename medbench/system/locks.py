"""A lock between processes, by a file, on file systems that have locks.

On others one line that says so.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from medbench.schema import DiskError

#: What file systems without locks answer: NFS without its lock daemon, some FUSE and overlay file
#: systems, and the kernel itself.
_NONE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def locked(file: Path | str, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of `file`, which is made where it is missing.

    timeout: seconds to wait for it; -1: as long as it takes.

    Raises filelock.Timeout, and DiskError on a file system that has no locks: without them two runs
    would write into one file.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=timeout)
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
def attempted(*files: Path | str) -> Iterator[bool]:
    """Hold the locks of all these files inside, and give True.

    False, and none of them, where another process holds one.
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
