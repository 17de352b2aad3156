"""A function of each job, in copies of this process.

They hold what it holds (thousands of rows) without reading or sending anything.

Only where the caller knows that forking is safe: a command's own process on Linux.
`system.worker_pool` is for everything else.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from medbench.schema import UserError
from medbench.system.progress_listener import listening, report_progress

J = TypeVar("J")
R = TypeVar("R")
_PLACE = struct.Struct("i")
_MOST = 65_536 // _PLACE.size  # what a pipe holds before writing waits for a reader


def possible(processes: int) -> int:
    """Return `processes` where the system forks well, else 1."""
    return processes if sys.platform == "linux" and hasattr(os, "fork") else 1


def each(function: Callable[[J], R], jobs: Sequence[J], processes: int, stage: str = "") -> list[R]:
    """Return [function(job)] in the order of `jobs`; the last is begun first.

    Results and errors must be picklable, `function` and jobs need not.

    This process is one of `processes`: a copy less to make. stage: as which it reports how many
    were begun, if it is given; what `function` itself reports is not heard, as a copy has no
    screen. Raises what `function` raises, and UserError where a process was killed. Raises
    ValueError for more jobs than a pipe can hold.
    """
    count = min(possible(processes), len(jobs))
    if count < 2:
        return [function(job) for job in jobs]
    if len(jobs) > _MOST:
        raise ValueError(f"at most {_MOST} jobs")
    reader, writer = os.pipe()  # of places: whoever is free takes the next
    os.write(writer, b"".join(map(_PLACE.pack, reversed(range(len(jobs))))))
    os.close(writer)
    pool = ProcessPoolExecutor(
        count - 1,
        mp_context=get_context("fork"),
        initializer=_begin,
        initargs=(function, jobs, reader),
    )
    try:
        # Python 3.12 warns of threads: numpy's, which are made to be forked
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            others = [pool.submit(_work) for _ in range(count - 1)]
        done = _take(function, jobs, reader, stage)
        for other in others:
            done |= other.result()
        if stage:
            # this process may have had no part in it
            report_progress(stage, len(jobs), len(jobs), "parts")
    except BrokenProcessPool as gone:
        raise UserError(
            "A worker process was killed, most likely because memory ran out.", then="run again"
        ) from gone
    finally:
        pool.shutdown()
        os.close(reader)
    return [done[place] for place in range(len(jobs))]


def _take(function: Callable[[J], R], jobs: Sequence[J], reader: int, stage: str) -> dict[int, R]:
    done: dict[int, R] = {}
    try:
        while token := os.read(reader, _PLACE.size):
            (place,) = _PLACE.unpack(token)
            with listening(None):
                done[place] = function(jobs[place])
            if stage:
                report_progress(stage, len(jobs) - place, len(jobs), "parts")
    except BaseException:
        while os.read(reader, _MOST):  # nobody begins anything more
            pass
        raise
    return done


_HELD: list[Any] = []  # in a copy alone: the function, the jobs and the pipe


def _begin(function: Callable[[J], R], jobs: Sequence[J], reader: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to handle
    _HELD[:] = function, jobs, reader


def _work() -> dict[int, Any]:
    function, jobs, reader = _HELD
    return _take(function, jobs, reader, "")
