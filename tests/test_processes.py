"""Several processes of one training, on two CPU processes as torchrun starts them.

Each disk its own, one lock, one plan, one end.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from medbench.models.pretrain import checkpointing
from medbench.system import locks
from tests.fakes.pretraining import plain_encoder, small, train

ROOT = Path(__file__).parents[1]
BEGIN = """
import sys, time, warnings
from pathlib import Path
import torch
torch.set_num_threads(1)
from medbench.models.pretrain import checkpointing, looks, loop
from medbench.system.process_group import join
from tests.fakes.pretraining import plain_encoder, small, train
quiet = lambda: torch.nn.Sequential(*list(plain_encoder())[:-1])  # without dropout, which each process draws for itself
group = join("cpu")
own = Path(sys.argv[1], str(group.rank))  # a disk of its own
"""


def quiet() -> nn.Module:
    return nn.Sequential(*list(plain_encoder())[:-1])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def two(folder: Path, text: str, timeout: float = 60) -> list[tuple[int, str]]:
    """What two processes that run `text` end with, and say."""
    script = folder / "work.py"
    script.write_text(BEGIN + textwrap.dedent(text))
    surroundings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(free_port()),
    }
    made = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env={**surroundings, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in made]
    finally:
        for process in made:
            process.kill()
    return [(process.returncode, words) for process, words in zip(made, said, strict=True)]


def losses(folder: Path) -> list[float]:
    return [
        line["loss"]
        for line in json.loads((folder / "history.json").read_text())["steps"]
        if "loss" in line
    ]


@pytest.mark.slow
def test_the_first_process_says_where_a_killed_training_goes_on(tmp_path: Path) -> None:
    """The second one's own disk holds nothing, then an older state, then weights that are whole.

    It asks the first.
    """
    ended = two(
        tmp_path,
        """
        recipes = [small("simclr", steps=6)]
        checkpointing.CheckpointWriter.due = lambda self: True
        real, stop = loop._step, [3]
        def step(training, number, *args):
            if number == stop[0]:
                raise KeyboardInterrupt
            steps.append(number)
            return real(training, number, *args)
        loop._step, steps = step, []
        with group.watched():
            try:
                train(own, recipes, quiet)
            except KeyboardInterrupt:
                pass
            stop[0] = -1
            if group.rank:
                assert not (own / "checkpoint.pth").exists()
                (own / "checkpoint.pth").write_bytes(b"of another time")
                (own / "weights.pth").write_bytes(b"of another time")
            assert checkpointing.finished(own) is False
            try:
                train(own, recipes, quiet)
            except Exception as error:
                assert group.rank, error  # its own disk has other weights, which its caller cannot read
        print("steps", steps)
        """,
    )
    assert [code for code, _ in ended] == [0, 0], ended
    assert all("steps [0, 1, 2, 3, 4, 5]" in said for _, said in ended), ended
    train(tmp_path / "alone", [small("simclr", steps=6)], quiet)
    np.testing.assert_allclose(losses(tmp_path / "0"), losses(tmp_path / "alone"), rtol=1e-4)


@pytest.mark.slow
def test_the_reason_of_the_one_that_dies_ends_all(tmp_path: Path) -> None:
    started = time.monotonic()
    ended = two(
        tmp_path,
        """
        real = loop._step
        def step(training, number, *args):
            if group.rank == 1 and number == 2:
                raise RuntimeError("its GPU fell off the bus")
            return real(training, number, *args)
        loop._step = step
        with group.watched():
            assert group.in_turn(lambda: group.rank) == group.rank
            train(own, [small("simclr", steps=6)])
        """,
    )
    assert [code for code, _ in ended] == [1, 1], ended
    assert all("its GPU fell off the bus" in said for _, said in ended)
    assert "Stopped with all processes of this training. process 1: RuntimeError" in ended[0][1]
    assert time.monotonic() - started < 55


@pytest.mark.slow
def test_a_plan_that_fails_in_the_first_process_is_told_and_ends_the_others(tmp_path: Path) -> None:
    ended = two(
        tmp_path,
        """
        def plan():
            (own.parent / f"planned {group.rank}").touch()
            raise ValueError("no such task")
        with group.watched():
            group.in_turn(plan)
        """,
    )
    assert [code for code, _ in ended] == [1, 1], ended
    assert (
        "no such task" in ended[1][1]
        and (tmp_path / "planned 0").exists()
        and not (tmp_path / "planned 1").exists()
    )


@pytest.mark.slow
def test_looks_are_shared_and_are_those_of_one_process(tmp_path: Path) -> None:
    ended = two(
        tmp_path,
        """
        seen = []
        embedded = looks.embedded
        def counted(training, encoder, chunks):
            ahead = training.data.plain
            object.__setattr__(training.data, "plain", lambda mine, device: seen.extend(mine) or ahead(mine, device))
            found = embedded(training, encoder, chunks)
            object.__delattr__(training.data, "plain")
            print("share", len(seen), "of", len(chunks), tuple(found.shape))
            return found
        looks.embedded = counted
        with group.watched():
            train(own.with_name("0"), [small("dino", steps=3)], quiet)
        """,
    )
    assert [code for code, _ in ended] == [0, 0], ended
    train(tmp_path / "alone", [small("dino", steps=3)], quiet)
    looks = [
        [
            line["look_rank"]
            for line in json.loads((folder / "history.json").read_text())["steps"]
            if "look_rank" in line
        ]
        for folder in (tmp_path / "0", tmp_path / "alone")
    ]
    assert looks[0]
    np.testing.assert_allclose(*looks, rtol=1e-4)
    for _, said in ended:
        first = next(line for line in said.splitlines() if line.startswith("share")).split()
        assert int(first[1]) < int(first[3]) or first[3] == "1"


def test_a_lock_that_another_run_holds_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sits in one collective meanwhile: each question is answered by all."""
    asked: list[object] = []

    class Two(checkpointing.DistributedContext):
        def told(self, value: object) -> object:
            asked.append(value)
            return value

        def barrier(self) -> None: ...

    monkeypatch.setattr(checkpointing, "POLL", 0.05)
    held, over = threading.Event(), threading.Event()

    def other() -> None:
        with locks.locked(tmp_path / "lock"):
            held.set()
            over.wait(5)

    threading.Thread(target=other).start()
    held.wait(5)
    threading.Timer(0.3, over.set).start()
    with checkpointing.locked(tmp_path, Two(0, 2)) as wanted:
        assert wanted
    assert asked[:2] == [False, False] and asked[-2:] == [True, False]
