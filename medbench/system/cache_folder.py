"""The cache folder: where it is, whether there is room in it, what lies in it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medbench.schema import DiskError, UserError, user_path
from medbench.system import archive_checksum, atomic_write, cache_users, locks

log = logging.getLogger("medbench")
_MOVE = (
    "set MEDBENCH_CACHE to a folder on a larger disk, or free some space (medbench cache --prune)"
)
#: Their presence says that an entry of the cache is finished, or how far it is.
_MARKS = ("about.json", "done.json", "done.npy", "weights.pth")


def cache_folder(*, to_write: bool = True) -> Path:
    """Return the folder that all studies share: MEDBENCH_CACHE, else the user's cache folder.

    to_write: make it where it is missing (mode 0700: it holds patients' images), check that a file
    can be written there, and keep other processes from pruning it until this one ends. False: only
    its place is returned, whether or not it exists. Raises UserError where it cannot be written,
    and, for either, where MEDBENCH_CACHE or the home folder cannot be resolved.
    """
    named = os.environ.get("MEDBENCH_CACHE")
    if named:
        folder = user_path(named).absolute()
    else:
        import platformdirs

        # with ~ where there is no home
        folder = user_path(platformdirs.user_cache_dir("medbench", appauthor=False))
    if not to_write:
        return folder
    try:
        _make_private(folder, own=not named)
        with tempfile.TemporaryFile(dir=folder):
            pass
        cache_users.enter(folder)
    except OSError as error:
        whose = "MEDBENCH_CACHE" if named else "the default"
        raise UserError(
            f"The cache folder {folder} ({whose}) cannot be written: {error.strerror}.",
            then="set MEDBENCH_CACHE to a folder that can",
        ) from error
    return folder


def _make_private(folder: Path, *, own: bool) -> None:
    """Make the folder such that no other user can look into it.

    It holds images and the paths of patients' files.

    A folder that was there keeps its mode, as several users may share it; but for the default's
    own, of an older medbench, where others can only read it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        mode = folder.stat().st_mode & 0o777
        if own and folder.is_dir() and mode & 0o077 and not mode & 0o022:
            with suppress(PermissionError):  # somebody else's
                folder.chmod(mode & 0o700)


def check_space(folder: Path, needed: int) -> None:
    """Raise UserError where the disk of `folder` has less than `needed` bytes free.

    It is called before the work, not in the middle of it.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            f"{folder} needs {_size(needed)} of disk space and has {_size(free)}.", then=_MOVE
        )


def reserve(file: Path) -> None:
    """Take a file's disk space now.

    A disk that fills up is an OSError here, not a crash while the file is mapped.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with open(file, "r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
        except OSError as error:
            # a file system that cannot: writing rows will tell
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return
            file.unlink()  # or what was reserved would keep the disk full
            raise


@contextmanager
def disk_errors(folder: Path, needed: int) -> Iterator[None]:
    """Turn the OSError of a full, read-only or forbidden disk inside into a DiskError.

    It says how much is needed (bytes), where, and how to move the cache. Other errors pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"The disk is full: {folder} needs {_size(needed)} in all.", then=_MOVE
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DiskError(
                f"{folder} cannot be written: {error.strerror}.",
                then="set MEDBENCH_CACHE to a folder that can",
            ) from error
        raise


def archive_is_whole(file: Path, then: str, *, kept: bool = True) -> bool:
    """Return whether an archive of the cache is there as it was written.

    A damaged one is removed, with a line that says what happens `then`. kept: one of an older
    medbench gets a checksum. Each is read once a process, and again where it was written meanwhile.
    """
    try:
        state = file.stat()
        if _WHOLE.get(str(file)) == (state.st_ino, state.st_mtime_ns, state.st_ctime_ns):
            return True
        has_checksum = archive_checksum.check_file(file)
    except FileNotFoundError:
        return False
    except archive_checksum.DamagedArchive as error:
        log.warning("%s is damaged (%s): %s", file, error, then)
        file.unlink(missing_ok=True)
        return False
    if kept and not has_checksum:
        with suppress(OSError):  # a cache that cannot be written can be read
            atomic_write.archive(file, lambda opened: opened.write(file.read_bytes()))
            state = file.stat()
    _WHOLE[str(file)] = (state.st_ino, state.st_mtime_ns, state.st_ctime_ns)
    return True


_WHOLE: dict[str, tuple[int, int, int]] = {}


def cache_entries(cache_dir: Path, name: str) -> dict[str, int]:
    """List the entries of the cache `name` ("packs", "features"), finished or not -> bytes on disk.

    Entries without content are left out.
    """
    folder = cache_dir / name
    sizes = (
        {entry.name: _bytes(entry) for entry in sorted(folder.iterdir()) if entry.is_dir()}
        if folder.is_dir()
        else {}
    )
    return {key: size for key, size in sizes.items() if size}


def prune(cache_dir: Path, name: str) -> None:
    """Empty every entry of the cache `name` that no other process is filling.

    The empty lock files stay: removing a held one breaks it.
    """
    from filelock import Timeout

    for key in cache_entries(cache_dir, name):
        folder = cache_dir / name / key
        try:
            with locks.locked(folder / "lock", timeout=0):
                # what says that the rest is finished goes first: a killed prune leaves nothing that
                # looks whole
                for file in sorted(
                    folder.iterdir(), key=lambda file: (file.name not in _MARKS, file.name)
                ):
                    if file.name != "lock":
                        file.unlink()
        except Timeout:
            continue  # another run is filling it
    atomic_write.remove_abandoned(cache_dir / "audits", cache_dir / "weights")


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
