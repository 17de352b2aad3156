"""Copies of one process: each begins with what was imported, tells its end, and outlives nothing."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medbench.system import fork_server
from medbench.system.child_process import ChildProcess, interpreter
from medbench.system.fork_server import ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux alone")


def tells(given: str, tell: Callable[[Any], None]) -> None:
    """A child's work: whether a module was there before it began, and its number."""
    tell(("tabnanny" in sys.modules, os.getpid()))
    if given == "fails":
        raise ValueError("of a child")
    if given == "stays":
        time.sleep(60)


def heard(messages: queue.SimpleQueue[Any]) -> Any:
    return messages.get(timeout=30)


def test_copies_begin_with_what_was_imported_and_tell_how_they_end(tmp_path: Path) -> None:
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    said = tmp_path / "said"
    with ForkServer(["tabnanny", __name__], said, threads=1) as server:
        assert server.alive()
        numbers = set()
        for word, code in (("ends", 0), ("fails", 1), ("stays", -signal.SIGKILL)):
            child = ChildProcess(7, server.copy(), tells, word, messages)
            place, (imported, number) = heard(messages)
            assert (place, imported) == (7, True)
            numbers.add(number)
            if word == "stays":
                os.kill(number, signal.SIGKILL)
            assert heard(messages) == (7, None)
            child.end()
            assert child.process.returncode == code
        assert len(numbers) == 3 and os.getpid() not in numbers
        lasting = ChildProcess(1, server.copy(), tells, "stays", messages)
        assert heard(messages)[1][0]
    assert "ValueError: of a child" in said.read_text()
    assert not server.alive() and lasting.process.returncode is None, "it goes on without it"
    late = ChildProcess(2, server.copy(), tells, "stays", messages)
    assert heard(messages) == (2, None), "nobody is there to copy"
    for child in (lasting, late):
        child.end()
        assert child.process.returncode == -signal.SIGKILL


def test_an_interpreter_of_its_own_has_imported_nothing(tmp_path: Path) -> None:
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    child = ChildProcess(0, interpreter(tmp_path / "said", 1), tells, "ends", messages)
    assert heard(messages)[1][0] is False and heard(messages) == (0, None)
    child.end()
    assert child.process.returncode == 0


def test_copies_end_with_the_process_that_asked_for_them(tmp_path: Path) -> None:
    code = (
        f"import queue, time; from pathlib import Path; from {__name__} import tells\n"
        "from medbench.system.child_process import ChildProcess\n"
        "from medbench.system.fork_server import ForkServer\n"
        f"server, heard = ForkServer(['tabnanny'], Path({str(tmp_path / 'said')!r}), 1), queue.SimpleQueue()\n"
        "child = ChildProcess(0, server.copy(), tells, 'stays', heard)\n"
        "print(heard.get()[1][1], server.process.pid, flush=True); time.sleep(60)"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=path
    ) as parent:
        assert parent.stdout is not None
        numbers = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    end = time.monotonic() + 20
    while any(alive(number) for number in numbers):
        assert time.monotonic() < end, "a copy or its server lives on"
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_on_a_gpu_are_no_copies() -> None:
    assert fork_server.possible(["cpu", "cpu"])
    assert not fork_server.possible(["cpu"]), "one process imports as much"
    assert not fork_server.possible(["cuda:0", "cpu"])


def test_what_a_dead_server_has_not_begun_ends_while_a_copy_lives(tmp_path: Path) -> None:
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with ForkServer(["tabnanny", __name__], tmp_path / "said", threads=1) as server:
        lasting = ChildProcess(1, server.copy(), tells, "stays", messages)
        assert heard(messages)[0] == 1
        server.process.send_signal(signal.SIGSTOP)
        waiting = ChildProcess(2, server.copy(), tells, "ends", messages)
        server.process.kill()
        assert heard(messages) == (2, None)
        assert lasting.process.returncode is None
    for child in (lasting, waiting):
        child.end()


def test_a_copy_that_the_system_refuses_ends_and_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_process_left.py").write_text(
        "import os\n"
        "real = os.fork\n"
        "def once():\n"
        "    os.fork = real\n"
        "    raise BlockingIOError(11, 'none is left')\n"
        "os.fork = once\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with ForkServer(["no_process_left", __name__], tmp_path / "said", threads=1) as server:
        for number, answers in ((1, 0), (2, 1)):
            child = ChildProcess(number, server.copy(), tells, "ends", messages)
            for _ in range(answers):
                assert heard(messages)[1] is not None
            assert heard(messages) == (number, None)
            child.end()
    assert "none is left" in (tmp_path / "said").read_text()
