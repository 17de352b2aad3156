"""Jobs over processes that import nothing but what the job needs.

Plain child interpreters instead of `multiprocessing`: they never import the parent's `__main__` (a
script without a guard, a notebook or a Ray worker may call us), never inherit torch's threads, and
end by themselves when the parent does, however it ends.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from medbench.schema import UserError

J = TypeVar("J")
R = TypeVar("R")


def run_jobs(
    function: Callable[[J], R], jobs: Sequence[J], workers: int | None = None
) -> Generator[tuple[J, R], None, None]:
    """Yield (job, function(job)) as each is done, in any order.

    `workers`: None = one a core; 1 = here, without a process.

    Jobs, results and `function` must be picklable; jobs that are not (a drawing defined in
    `__main__`) are done here. An OSError of a job is raised as it is, anything else as RuntimeError
    with the worker's traceback. Raises UserError where a worker was killed.
    """
    count = min(workers or cores(), len(jobs))
    if count <= 1 or not _sendable(jobs[0]):
        for job in jobs:
            yield job, function(job)
        return
    crew = [_start() for _ in range(count)]
    idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    for worker in crew:
        idle.put(worker)

    def ask(job: J) -> R:
        worker = idle.get()
        try:
            return _ask(worker, function, job)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(count)
    try:
        futures = {threads.submit(ask, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in crew:
            worker.kill()
        threads.shutdown()
        for worker in crew:
            worker.communicate()


def serve() -> None:
    """Serve as a worker: read (function, job), write (result, error), until the input ends."""
    # Ctrl-C is the parent's to handle; it ends this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # what a library prints must not mix with the answers
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        try:
            function, job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: tuple[Any, Exception | None] = (function(job), None)
        except OSError as error:
            answer = (None, OSError(error.errno, error.strerror))
        except Exception:
            answer = (None, RuntimeError(traceback.format_exc()))
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:  # the parent was killed; there is nobody left to tell
            os._exit(1)


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-W", "ignore", "-c", f"from {__name__} import serve; serve()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _ask(worker: subprocess.Popen[bytes], function: Callable[[J], R], job: J) -> R:
    assert worker.stdin is not None and worker.stdout is not None
    try:
        pickle.dump((function, job), worker.stdin)
        worker.stdin.flush()
        answer: tuple[R, Exception | None] = pickle.load(worker.stdout)
    except (EOFError, BrokenPipeError) as gone:
        what = "A worker process was killed, most likely because memory ran out."
        raise UserError(what, then="run again: it goes on where it stopped") from gone
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def _sendable(job: object) -> bool:
    try:
        return b"__main__" not in pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
