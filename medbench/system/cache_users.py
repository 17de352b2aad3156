"""Which processes work with a cache folder, so that nobody prunes it under them.

A process finds something there, and reads it seconds or hours later. So each has a file, which it
holds from its first look on until it ends.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from medbench.schema import DiskError, UserError
from medbench.system import atomic_write, locks

FOLDER = ".users"
_OTHERS = 0o022  # the mode of what other users may write
_entered: dict[Path, ExitStack] = {}
log = logging.getLogger("medbench")


def enter(cache_dir: Path) -> None:
    """Take this process for a user of the cache, until it ends or enters another one.

    Waits for a prune that is at work. Raises OSError where its file cannot be written.
    """
    place = cache_dir / FOLDER
    if cache_dir in _entered:
        return
    try:
        place.mkdir(exist_ok=True)
        _share(place, cache_dir)
        prune = place / "prune.lock"
        prune.touch()
        _share(prune, cache_dir)
        with locks.locked(prune), ExitStack() as held:
            if cache_dir in _entered:  # by another thread meanwhile
                return
            _leave(os.getpid())
            _remove_dead(place)
            file = place / f"{atomic_write.machine()}.{os.getpid()}.lock"
            file.touch()
            _share(file, cache_dir)
            held.callback(file.unlink, missing_ok=True)
            held.enter_context(locks.locked(file))
            _entered[cache_dir] = held.pop_all()
    except PermissionError as error:
        _entered[cache_dir] = ExitStack()
        log.warning(
            "%s: nothing keeps other users from pruning the cache meanwhile. Let whoever owns it chmod -R a+rwX %s",
            *(error, place),
        )
    except DiskError:
        return  # without locks: what is made there needs them, and tells
    atexit.unregister(_leave)
    atexit.register(_leave, os.getpid())


def _share(path: Path, cache_dir: Path) -> None:
    """Let other users write a file or folder of this one, where they may write into the cache."""
    if cache_dir.stat().st_mode & _OTHERS:
        with suppress(OSError):  # somebody else's, who has done so, or a disk without modes
            path.chmod(0o777 if path.is_dir() else 0o666)


def _leave(process: int) -> None:
    """Leave the cache, but for a forked process, whose lock is its parent's."""
    while _entered and os.getpid() == process:
        _entered.popitem()[1].close()


@contextmanager
def alone(cache_dir: Path) -> Iterator[None]:
    """Keep other processes from the cache while inside.

    Raises UserError where one works with it, or that cannot be told.
    """
    enter(cache_dir)
    place = cache_dir / FOLDER
    if not os.access(place / "prune.lock", os.W_OK):
        raise UserError(
            f"{place} belongs to another user, so who works with the cache cannot be told: nothing was deleted.",
            then=f"let its owner prune it, or chmod -R a+rwX {place}",
        )
    with locks.locked(place / "prune.lock"):
        for file in sorted(place.glob("*.*.lock")):
            machine, number, _ = file.name.rsplit(".", 2)
            if (machine, number) == (atomic_write.machine(), str(os.getpid())):
                continue
            if _held(file):
                raise UserError(
                    f"Process {number} on {machine} works with the cache {cache_dir}: nothing was deleted.",
                    then="wait until it has ended, or end it",
                )
            file.unlink(missing_ok=True)
        yield


def _held(file: Path) -> bool:
    try:
        return locks.held(file)
    except PermissionError:  # another user's
        return True


def _remove_dead(place: Path) -> None:
    """Remove what killed processes of this machine left."""
    for file in place.glob(f"{atomic_write.machine()}.*.lock"):
        if not atomic_write.runs(int(file.name.rsplit(".", 2)[1])):
            file.unlink(missing_ok=True)
