"""Jobs in copies of a process: all are done, errors are heard, nothing goes on after one."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from medbench import UserError
from medbench.system import fork_pool
from medbench.system.progress_listener import listening

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


def test_a_killed_process_is_said_and_one_that_fails_is_heard() -> None:
    me = os.getpid()
    with pytest.raises(UserError, match="A worker process was killed"):
        fork_pool.each(
            lambda job: (
                time.sleep(0.2) if os.getpid() == me else os.kill(os.getpid(), signal.SIGKILL)
            ),
            range(8),
            2,
        )
    with pytest.raises(ZeroDivisionError):
        fork_pool.each(lambda job: 1 // job, [1, 0], 2)
    assert fork_pool.each(lambda job: (job, os.getpid()), [3, 1], 1) == [(3, me), (1, me)]
    begun: list[int] = []
    with listening(lambda progress: begun.append(progress.done)):
        done = fork_pool.each(lambda job: (job, time.sleep(0.2), os.getpid()), range(8), 2, "jobs")
    assert [job for job, _, _ in done] == list(range(8))
    assert len({process for _, _, process in done}) == 2 and me in {
        process for _, _, process in done
    }
    assert begun == sorted(begun) and begun[-1] <= 8


def test_after_an_error_no_job_is_begun(tmp_path: Path) -> None:
    def job(place: int) -> None:
        (tmp_path / str(place)).touch()
        time.sleep(0.1)
        raise ValueError(place)

    with pytest.raises(ValueError, match=r"19|18"):
        fork_pool.each(job, range(20), 2)
    assert {file.name for file in tmp_path.iterdir()} <= {"19", "18"}
