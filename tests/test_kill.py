"""SIGKILL at ten moments of the shipped command, inside a fine-tuning, and two runs into one folder
at once. Minutes long: pytest -m slow.

Each kill falls a random while after a line of the log that says which stage has begun, so that
packing, pretraining, embedding, solving and writing are all hit; the log line is printed with the
test (-s).
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from medbench import Store
from medbench.schema import Row

pytestmark = pytest.mark.slow
COMMAND = [
    sys.executable,
    "-m",
    "medbench",
    "run",
    "--task",
    "derm",
    "--labels",
    "1,10,100",
    "--seeds",
    "3",
]
COMMAND += ["--methods", "random,simclr,supervised"]
#: What the log says when the stage begins, and the longest wait (seconds) before the kill, in the
#: order of the stages. `row` falls on solving and on writing.
MOMENTS = [
    ("packing derm", 0.5),
    ("packing derm", 1.5),
    ("embedding derm random", 0.5),
    ("embedding derm random", 1.0),
    ("row 1/", 0.0),
    ("row 2/", 0.05),
    ("embedding derm supervised", 1.0),  # what need not be trained comes before what must be
    ("pretraining derm simclr", 3.0),
    ("pretraining derm simclr", 25.0),  # a checkpoint is written every 20 s
    ("embedding derm simclr", 0.5),
]


FINE_TUNING = [
    sys.executable,
    "-m",
    "medbench",
    "run",
    "--task",
    "derm",
    "--methods",
    "supervised",
    "--protocols",
    "finetune",
]
# long enough that a training is saved before it is done: every 30 s
FINE_TUNING += ["--labels", "100", "--seeds", "1"]


def start(out: Path, cache: Path, command: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
    environment = {**os.environ, "MEDBENCH_CACHE": str(cache)}
    return subprocess.Popen(
        [*command, "--out", str(out)],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def kill_after(process: subprocess.Popen[str], sign: str, wait: float) -> str:
    """Kill when the log shows `sign`, `wait` seconds later.

    Returns the last line before the kill.
    """
    assert process.stderr is not None
    last = ""
    for line in process.stderr:
        last = line.strip()
        if sign in last:
            break
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rest = process.stderr.read().splitlines()
    return rest[-1].strip() if rest else last


def finish(process: subprocess.Popen[str]) -> str:
    """The log of a run that ended well."""
    _, log = process.communicate()
    assert process.returncode == 0, log
    return log


def essence(store: Store) -> dict[str, tuple[object, ...]]:
    return {
        key: (row.cell, row.n_labels, row.n_requested, row.chosen)
        for key, row in store.rows().items()
    }


def assert_same(a: Store, b: Store) -> None:
    """Cell, counts, choices and fingerprint equal, metrics to 1e-6."""
    assert essence(a) == essence(b)
    for key, row in a.rows().items():
        other: Row = b.rows()[key]
        for name, values in row.metrics.items():
            assert values == pytest.approx(other.metrics[name], abs=1e-6), (row.cell, name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder / "out", folder / "cache"))
    store = Store(folder / "out")
    assert len(store.rows()) == 21
    return store


def test_ten_kills_end_with_the_same_rows(whole: Store, tmp_path: Path) -> None:
    rng = random.Random(0)
    for sign, longest in MOMENTS:
        process = start(tmp_path / "out", tmp_path / "cache")
        timer = threading.Timer(300, process.kill)
        timer.start()
        where = kill_after(process, sign, rng.uniform(0, longest))
        timer.cancel()
        assert process.returncode == -signal.SIGKILL, "the run was over before the kill"
        print(f"killed at '{sign}', last line: {where}; {len(Store(tmp_path / 'out').rows())} rows")
    finish(start(tmp_path / "out", tmp_path / "cache"))
    assert_same(whole, Store(tmp_path / "out"))


def kill_when(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Kill as soon as the disk shows that the moment has come."""
    end = time.monotonic() + 900
    while not reached():
        assert process.poll() is None, "the run was over before the kill"
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run was over before the kill"


def test_killed_inside_a_fine_tuning_it_goes_on_and_ends_with_the_same_row(tmp_path: Path) -> None:
    """In the search after its first candidate, after its second, and in the training itself, behind
    a checkpoint of it."""
    import torch

    out, cache = tmp_path / "out", tmp_path / "cache"

    def saved(pattern: str) -> list[Path]:
        return sorted((cache / "cells").glob(f"*/{pattern}"))

    for reached in (
        lambda: len(saved("*-0.2.pth")) == 1,
        lambda: len(saved("*-0.2.pth")) == 2,
        lambda: bool(saved("*-1.pth")),
    ):
        kill_when(start(out, cache, FINE_TUNING), reached)
        assert Store(out).rows() == {}
    (file,) = saved("*-1.pth")
    state = torch.load(file, weights_only=True)
    assert not state["done"] and 0 < state["state"]["step"] < 355, (
        "ten passes over 1,137 images in batches of 32"
    )
    resumed = finish(start(out, cache, FINE_TUNING))
    assert set(re.findall(r"(\d+) images, rate", resumed)) == {"1419"}, (
        "the training alone went on, none of the search"
    )
    assert not saved("*")

    finish(start(tmp_path / "whole", tmp_path / "fresh", FINE_TUNING))
    assert len(Store(out).rows()) == 1
    assert_same(Store(tmp_path / "whole"), Store(out))


def test_two_runs_into_one_folder_lose_and_double_nothing(whole: Store, tmp_path: Path) -> None:
    both = [start(tmp_path / "out", tmp_path / "cache") for _ in range(2)]
    for process in both:
        finish(process)
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 21
    assert_same(whole, Store(tmp_path / "out"))
