"""A child interpreter that is given one thing to do.

It tells how far it is, message after message, until it ends or dies. As in `worker_pool` it never
imports the parent's `__main__`, inherits no threads, and ends when the parent does, however that
ends.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from medbench.system.worker_pool import cores

_end_at_once = os._exit  # as it is now: `contained_exit` replaces the name while a user's code runs
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Process(Protocol):
    """What a child is made of, as `subprocess.Popen` has it."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """What is written to the process, in bytes; None where nothing can be."""

    @property
    def stdout(self) -> IO[bytes] | None:
        """What the process writes, in bytes; None where nothing is read."""

    @property
    def returncode(self) -> int | None:
        """Its exit status; None while it runs."""

    def kill(self) -> None:
        """End the process at once."""

    def wait(self) -> int:
        """Wait until the process has ended, and return its exit status."""


class ChildProcess:
    """A child that calls `function` with `given` and with tell(message).

    function: of a module; all that is sent must be picklable. process: calls `serve`, as
    `interpreter` and `fork_server` begin one. What the child tells comes to `heard` as (number,
    message), and None once it has ended.
    """

    def __init__(
        self,
        number: int,
        process: Process,
        function: Callable[..., None],
        given: Any,
        heard: queue.SimpleQueue[Any],
    ):
        self.process = process
        assert self.process.stdin is not None
        self.number, self.heard = number, heard
        try:
            # it stays open: its end is this process's end
            pickle.dump((function, given), self.process.stdin)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once, which is heard
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        try:
            while True:
                self.heard.put((self.number, pickle.load(self.process.stdout)))
        except (EOFError, pickle.UnpicklingError):  # cut off inside a message
            self.process.wait()
            self.heard.put((self.number, None))

    def end(self) -> None:
        """Kill the process, wait for it and for its listener, and close its streams."""
        self.process.kill()
        self.process.wait()
        self.listener.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):  # it died before it had read what it was given
                stream.close()


def interpreter(said: Path, threads: int) -> subprocess.Popen[bytes]:
    """Start a Python process that serves as a child. What it prints goes to the file `said`.

    threads: of its libraries, see `environment`.
    """
    command = [sys.executable, "-P", "-W", "ignore", "-c", f"from {__name__} import serve; serve()"]
    with said.open("ab") as printed:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            env=environment(threads),
        )


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a child with so many threads, where the user named no number."""
    # MKL, which torch asks, and OpenBLAS follow the first of these where they are not named
    divided = {} if _THREADS[0] in os.environ else dict.fromkeys(_THREADS, str(threads))
    return {
        **divided,
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def threads_each(processes: int) -> int:
    """Return how many threads each of so many processes that share this machine's cores gets."""
    return max(1, cores() // processes)


def how_it_ended(code: int) -> str:
    """Say in words how a process ended, from its exit code; -n: by signal n.

    A process that the system kills most often lacked memory.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed ({signal.Signals(-code).name}{', most likely because memory ran out' if code == -signal.SIGKILL else ''})"


def serve() -> None:
    """Do what a child does: read function and argument from stdin, and call it.

    What it tells goes to what was stdout, pickled.
    """
    # Ctrl-C is the parent's to handle; it ends this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # so is SLURM's word that the time is over
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # what a library prints must not mix with the messages
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    function, given = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    one_at_a_time = threading.Lock()

    def tell(message: Any) -> None:
        with one_at_a_time:
            try:
                pickle.dump(message, answers)
                answers.flush()
            except BrokenPipeError:  # the parent was killed; there is nobody left to tell
                _end_at_once(1)

    function(given, tell)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    _end_at_once(1)
