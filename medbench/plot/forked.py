"""A function of each job, in copies of this process: they hold what it holds (thousands of rows) without reading or sending anything.

Only where the caller knows that forking is safe: a command's own process on Linux. `images.workforce` is for everything else.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from medbench.spec import UserError

J = TypeVar("J")
R = TypeVar("R")


def each(function: Callable[[J], R], jobs: Sequence[J], processes: int) -> list[R]:
    """[function(job)] in the order of `jobs`, the last begun first; results and errors must be picklable, `function` and jobs need not.

    Here and one by one for a single process, and wherever forking is not what the system does well. Raises what `function` raises, and
    UserError where a process was killed.
    """
    count = min(processes, len(jobs))
    if count < 2 or sys.platform != "linux":
        return [function(job) for job in jobs]
    with warnings.catch_warnings():  # Python 3.12 warns of threads: numpy's, which are made to be forked
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        pool = ProcessPoolExecutor(count, mp_context=get_context("fork"), initializer=_begin, initargs=(function, jobs))
        try:
            futures: dict[int, Future[R]] = {place: pool.submit(_one, place) for place in reversed(range(len(jobs)))}
            return [futures[place].result() for place in range(len(jobs))]
        except BrokenProcessPool as gone:
            raise UserError("A worker process was killed, most likely because memory ran out.", then="run again") from gone
        finally:
            pool.shutdown(cancel_futures=True)


_HELD: list[Any] = []  # in a copy alone: the function and the jobs


def _begin(function: Callable[[J], R], jobs: Sequence[J]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _HELD[:] = function, jobs


def _one(place: int) -> Any:
    function, jobs = _HELD
    return function(jobs[place])
