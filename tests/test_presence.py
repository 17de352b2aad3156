"""Who works in a results folder; and whether its locks hold between machines."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from medbench.run import presence
from medbench.schema import DiskError
from medbench.system import locks


def plant(folder: Path, beat: int = 0) -> Path:
    """A worker of another machine."""
    (folder / ".workers").mkdir(exist_ok=True)
    file = folder / ".workers" / "there-7.json"
    file.write_text(
        json.dumps(
            {
                "machine": "there",
                "process": 7,
                "device": "cuda",
                "at": "a unit",
                "since": time.time(),
                "beat": beat,
            }
        )
    )
    return file


def test_a_worker_is_seen_while_it_works(tmp_path: Path) -> None:
    with presence.present(tmp_path, "cpu") as begin:
        begin("derm simclr")
        (found,) = presence.working(tmp_path)
        assert (found.device, found.at) == ("cpu", "derm simclr")
    assert presence.working(tmp_path) == [] and not list((tmp_path / ".workers").iterdir())


def test_what_a_dead_worker_left_is_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT", 0.04)
    file = plant(tmp_path)
    assert presence.working(tmp_path) == []
    with presence.present(tmp_path, "cpu"):
        pass  # it shows no sign of life: the locks are not doubted
    monkeypatch.setattr(presence, "LONGEST", -1.0)
    assert presence.working(tmp_path) == [] and not file.exists()


def test_locks_that_do_not_hold_between_machines_stop_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is alive, and yet its lock can be had.

    A disk whose locks each machine keeps for itself.
    """
    monkeypatch.setattr(presence, "BEAT", 0.2)
    plant(tmp_path)
    over = threading.Event()

    def live() -> None:
        beat = 0
        while not over.wait(0.05):
            plant(tmp_path, beat := beat + 1)

    alive = threading.Thread(target=live)
    alive.start()
    try:
        with (
            locks.locked(tmp_path / ".workers" / "there-7.lock"),
            presence.present(tmp_path, "cpu"),
        ):
            pass  # held: all is well
        with (
            pytest.raises(
                DiskError, match=r"do not hold between this machine and there.*--shard 1/2"
            ),
            presence.present(tmp_path, "cpu"),
        ):
            pass
    finally:
        over.set()
        alive.join()
