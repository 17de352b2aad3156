"""A child interpreter that imports what workers need, once, and copies itself for each of them.

torch alone takes a process more than a second of CPU, which eight workers on two cores, and each
that is started again, would spend anew. The server computes nothing and asks for no GPU, so that a
copy lacks no thread and no device.

`child_process.ChildProcess` takes a copy where it else starts an interpreter. A copy's parent is a
process that waits for its end and tells it; all of them end when this process does.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO

from medbench.system import child_process

#: Seconds that a server has to end by itself.
LEAVE = 1.0
_NUMBER = struct.Struct("i")
_end_at_once = os._exit  # as in `child_process`


class ForkServer:
    """Of processes that begin with these modules imported; what they print goes to `said`.

    A context, after which nothing more is copied. Copies that are alive go on.
    """

    def __init__(self, modules: Sequence[str], said: Path, threads: int):
        here, there = socket.socketpair()
        code = f"import sys; from {__name__} import serve; serve(sys.argv[1])"
        command = [sys.executable, "-P", "-W", "ignore", "-c", code, json.dumps(list(modules))]
        with there, said.open("ab") as printed:
            self.process = subprocess.Popen(
                command,
                stdin=there.fileno(),
                stdout=printed,
                stderr=printed,
                env=child_process.environment(threads),
            )
        self.socket = here

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        try:
            self.process.wait(LEAVE)
        except subprocess.TimeoutExpired:  # it is still at its imports
            self.process.kill()
            self.process.wait()

    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self.process.poll() is None

    def copy(self) -> Copy:
        """Make a process that serves as a child does; it begins once all is imported."""
        return Copy(self.socket)


class Copy:
    """As much of a `subprocess.Popen` as a child needs.

    returncode: as there; that of SIGKILL where whoever would know is dead itself.
    """

    def __init__(self, server: socket.socket):
        words, self.stdin = _pipe_to()
        self.stdout, answers = _pipe_from()
        self._told, telling = _pipe_from()
        try:
            with suppress(OSError):  # the server died: the pipes end here, which is heard
                socket.send_fds(server, [b"1"], [words, answers, telling])
        finally:
            for end in (words, answers, telling):
                os.close(end)
        self._number: int | None = None
        self.returncode: int | None = None
        # one thread waits, and another one may kill meanwhile
        self._numbering, self._waiting = threading.Lock(), threading.Lock()

    def kill(self) -> None:
        """End the copy at once; nothing where it has ended."""
        number = self._known()
        if number is not None and self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def wait(self) -> int:
        """Wait until the process has ended, and return its exit code.

        A negative code is the signal that ended it.
        """
        self._known()
        with self._waiting:
            if self.returncode is None:
                code = self._hear()
                self.returncode = -signal.SIGKILL if code is None else code
                self._told.close()
        return self.returncode

    def _known(self) -> int | None:
        """Its number, once it has one; None where it has ended before."""
        with self._numbering:
            if self._number is None and self.returncode is None:
                self._number = self._hear()
            return self._number

    def _hear(self) -> int | None:
        found = self._told.read(_NUMBER.size)
        return int(_NUMBER.unpack(found)[0]) if len(found) == _NUMBER.size else None


def _pipe_to() -> tuple[int, IO[bytes]]:
    read, write = os.pipe()
    return read, os.fdopen(write, "wb")


def _pipe_from() -> tuple[IO[bytes], int]:
    read, write = os.pipe()
    return os.fdopen(read, "rb"), write


def possible(devices: Sequence[str]) -> bool:
    """Return whether workers on these devices can be copies of one process, and there are several.

    Not on a GPU: a copy of a process that has as much as counted the GPUs cannot use one, and what
    is imported may do so.
    """
    return len(devices) > 1 and sys.platform == "linux" and set(devices) == {"cpu"}


def serve(modules: str) -> None:
    """Do what a fork server does: import modules, then copy itself whenever it is asked.

    modules: a JSON list. Ends when nobody can ask any more.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: _bury())
    server = socket.socket(fileno=os.dup(0))
    for name in json.loads(modules):
        import_module(name)
    gc.freeze()  # a copy that collects would else write into every page that they share
    while True:
        asked, ends, _, _ = socket.recv_fds(server, 1, 3)
        if not asked:  # the parent has ended, or needs no more
            break
        try:
            guard = os.fork()
        except OSError:  # no process or memory is left: the pipes end, which is heard
            traceback.print_exc()
            guard = -1
        if guard == 0:
            server.close()
            _guard(*ends)
        for end in ends:
            os.close(end)
    last = time.monotonic() + LEAVE / 2
    while _bury() and time.monotonic() < last:
        time.sleep(0.005)


def _bury() -> bool:
    """Take the ended children's CPU seconds into this process's count. Whether others are alive."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _guard(words: int, answers: int, telling: int) -> None:
    """Tell the number and the end of a copy of this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        copy = os.fork()
    except OSError:
        traceback.print_exc()
        _end_at_once(1)
    if not copy:
        os.close(telling)
        _be_a_child(words, answers)
    # 0 is the server's end: what nobody serves any more must not wait in it while a copy lives
    for end in (0, words, answers):
        os.close(end)
    try:
        os.write(telling, _NUMBER.pack(copy))
        os.write(telling, _NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])))
    finally:  # the parent may have ended
        _end_at_once(0)


def _be_a_child(words: int, answers: int) -> None:
    code = 1
    try:
        for end, place in ((words, 0), (answers, 1)):
            os.dup2(end, place)
            os.close(end)
        child_process.serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        _end_at_once(code)
