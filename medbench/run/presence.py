"""Who works in a results folder, and at what.

A file for each worker, whose lock says that it is alive.

The same files tell whether locks hold between machines: where a worker can have the lock of another
that is still alive, nothing keeps the two apart.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medbench.schema import DiskError, checked, parsed
from medbench.system import atomic_write, locks

#: Seconds between two signs of life, and without one after which a worker is taken for dead.
BEAT, LONGEST = 10.0, 60.0


@dataclass(frozen=True)
class Working:
    """Say what one worker is at.

    at: what was begun, in words; since: when, in seconds since 1970. beat: counts while the worker
    is alive.
    """

    machine: str
    process: int
    device: str
    at: str
    since: float
    beat: int = 0

    @staticmethod
    def from_json(record: Any) -> Working:
        """Read a worker's record. Raises TypeError for any other."""
        kinds: dict[str, type | tuple[type, ...]] = {
            "machine": str,
            "process": int,
            "device": str,
            "at": str,
            "since": (int, float),
            "beat": int,
        }
        checked(record, kinds)
        return Working(**{name: record[name] for name in kinds})


@contextmanager
def present(folder: Path, device: str) -> Iterator[Callable[[str], None]]:
    """Place this process among the folder's workers while inside.

    Gives a function to call with the words for each job that begins. Raises DiskError where the
    folder's locks do not hold between this machine and another worker's.
    """
    place = folder / ".workers"
    place.mkdir(exist_ok=True)
    mine = _Own(place / f"{atomic_write.machine()}-{os.getpid()}.json", device)
    with locks.locked(mine.file.with_suffix(".lock")):
        try:
            with mine.beating():
                check_others(place, mine.file)
                yield mine.begin
        finally:
            for file in (mine.file, mine.file.with_suffix(".lock")):
                file.unlink(missing_ok=True)


class _Own:
    """This worker's file, and the thread that keeps it young."""

    def __init__(self, file: Path, device: str):
        self.file, self.writing, self.over = file, threading.Lock(), threading.Event()
        self.state = Working(atomic_write.machine(), os.getpid(), device, "", time.time())
        self._write(self.state)

    def begin(self, words: str) -> None:
        with self.writing:
            self._write(replace(self.state, at=words, since=time.time()))

    @contextmanager
    def beating(self) -> Iterator[None]:
        thread = threading.Thread(target=self._beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join()

    def _beat(self) -> None:
        while not self.over.wait(BEAT):
            with self.writing, suppress(OSError):  # of a full disk the work itself tells
                self._write(replace(self.state, beat=self.state.beat + 1))

    def _write(self, state: Working) -> None:
        self.state = state
        atomic_write.record(self.file, asdict(state))


def check_others(place: Path, mine: Path) -> None:
    """Raise DiskError where the lock of a worker that lives on another machine can be had here.

    place: the folder of the workers' files. mine: this one's.
    """
    now = mine.stat().st_mtime  # by the clock of the disk, as the others' are
    doubtful: dict[Path, Working] = {}
    for file in sorted(place.glob("*.json")):
        found = _read(file)
        if (
            found
            and found.machine != atomic_write.machine()
            and now - _changed(file) < LONGEST
            and not locks.held(file.with_suffix(".lock"))
        ):
            doubtful[file] = found
    end = time.monotonic() + 2.5 * BEAT
    # each is gone, or a dead one's file, which no longer changes
    while doubtful and time.monotonic() < end:
        for file, found in doubtful.items():
            later = _read(file)
            if later and later.beat != found.beat:
                raise DiskError(
                    f"File locks in {place.parent} do not hold between this machine and {found.machine}: two processes would write into one file.",
                    then="name a folder on another disk (--out), or give each machine a part and a folder of its own (--shard 1/2 --out A, "
                    "--shard 2/2 --out B) and join them (medbench merge A B --out C)",
                )
        time.sleep(BEAT / 10)


def _changed(file: Path) -> float:
    """When it was written last; long ago where it is gone."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def working(folder: Path) -> list[Working]:
    """Return the workers of a results folder that are alive, by their files' names.

    One whose lock cannot be asked for from here is judged by its signs of life. What dead ones left
    is removed.
    """
    found = []
    for file in sorted((folder / ".workers").glob("*.json")):
        state = _read(file)
        if state and locks.held(file.with_suffix(".lock")):
            found.append(state)
        elif state and time.time() - _changed(file) > LONGEST:
            for left in (file, file.with_suffix(".lock")):
                left.unlink(missing_ok=True)
    return found


def _read(file: Path) -> Working | None:
    """None where it is gone, or damaged: its worker writes it anew."""
    try:
        return Working.from_json(parsed(file.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
