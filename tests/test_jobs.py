"""Work is taken, not waited for.

What another process holds is passed over, and done by whoever has nothing else to do.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock, SoftFileLock

from medbench import Grid, Store
from medbench.run import execution, jobs, planning
from medbench.run.jobs import Job
from medbench.schema import DiskError, Protocol, Row, Scores, fingerprint, registry
from medbench.system import locks


@pytest.fixture
def grid(folder: Path, tmp_path: Path) -> Grid:
    """Two units that take no time."""
    code = "import torch\n"
    for name, size in (("halves", 1), ("quarters", 2)):
        code += f"def {name}(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n"
        code += f"    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d({size}), torch.nn.Flatten())\n"
    (tmp_path / "mine.py").write_text(code)
    encoders = tuple(f"{tmp_path / 'mine.py'}:{name}" for name in ("halves", "quarters"))
    return Grid(
        tasks=(f"folder:{folder}",),
        encoders=encoders,
        protocols=("linear", "knn"),
        labels=("100",),
        seeds=1,
    )


def unit_lock(store: Store, unit: object) -> FileLock:
    (store.folder / ".locks").mkdir(parents=True, exist_ok=True)
    return FileLock(store.folder / ".locks" / fingerprint(unit.cells[0].cell.unit)[:16])


def test_a_run_goes_on_where_another_holds_a_unit_and_comes_back(
    grid: Grid, tmp_path: Path
) -> None:
    """It waited at the first unit's lock."""
    plan, store, order = planning.plan(grid), Store(tmp_path / "out"), []
    first = unit_lock(store, plan.units[0])
    first.acquire()

    def on_row(row: Row) -> None:
        order.append(row.cell.encoder)
        if len(order) == 2:
            first.release()

    execution.execute(plan, store, device="cpu", on_row=on_row)
    assert order == ["mine.py:quarters"] * 2 + ["mine.py:halves"] * 2


def test_what_another_process_embeds_is_not_waited_for(grid: Grid, tmp_path: Path) -> None:
    plan, store, order = planning.plan(grid), Store(tmp_path / "out"), []
    job = jobs.jobs_of(plan, plan.units[0])[0]
    with ExitStack() as held:
        names = jobs.lacking(plan, job, job.cells, "cpu")
        assert [name.split("-")[0] for name in names] == ["embed"] and held.enter_context(
            jobs.preparing(plan.cache_dir, names)
        )

        def on_row(row: Row) -> None:
            order.append(row.cell.encoder)
            held.close()

        execution.execute(plan, store, device="cpu", on_row=on_row)
    assert order == ["mine.py:quarters"] * 2 + ["mine.py:halves"] * 2


def test_what_failed_in_another_process_of_the_run_is_not_tried_again(
    grid: Grid, tmp_path: Path
) -> None:
    plan, store = planning.plan(grid), Store(tmp_path / "out")
    cells = plan.units[1].cells
    store.create()
    store.fail(cells[0], "of an earlier run: tried again")

    def on_row(row: Row) -> None:
        if not store.failures().get(cells[1].fingerprint):
            Store(store.folder).fail(cells[1], "beside")

    execution.execute(plan, store, device="cpu", on_row=on_row)
    assert store.rows().keys() == {planned.fingerprint for planned in plan.cells} - {
        cells[1].fingerprint
    }


@pytest.fixture
def pixel_protocol(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A fine-tuning that takes no time; the seeds that it was called with."""
    linear, seeds = registry.protocol("linear"), []

    def evaluate(train, targets, draws):
        for draw, seed in zip(draws, train.seeds, strict=True):
            seeds.append(seed)
            assert len(draw) and train.network is not None
            yield {
                name: Scores(*_uniform(len(images), train.n_classes), {})
                for name, images in targets.items()
            }

    made = Protocol(
        "pixels",
        1,
        "a test's",
        linear.kinds,
        evaluate,
        seeded=True,
        settings={},
        needs="images",
        divides=False,
    )
    monkeypatch.setitem(registry.protocols(), "pixels", made)
    return seeds


def _uniform(n: int, classes: int) -> tuple[object, object]:
    import numpy as np

    return np.full((n, classes), 1 / classes), np.zeros(n, int)


def test_fine_tunings_are_taken_one_by_one(
    grid: Grid, tmp_path: Path, pixel_protocol: list[int]
) -> None:
    asked = replace(
        grid,
        encoders=grid.encoders[:1],
        protocols=("linear", "pixels"),
        labels=("10/class",),
        seeds=3,
    )
    plan, store = planning.plan(asked), Store(tmp_path / "out")
    found = jobs.jobs_of(plan, plan.units[0])
    assert [(job.pixels, len(job.cells)) for job in found] == [
        (False, 3),
        (True, 1),
        (True, 1),
        (True, 1),
    ]
    assert len({job.name for job in found}) == 4
    (store.folder / ".locks").mkdir(parents=True)
    second = FileLock(store.folder / ".locks" / found[2].name)
    second.acquire()
    rows: list[tuple[str, int]] = []

    def on_row(row: Row) -> None:
        rows.append((row.cell.protocol, row.cell.seed))
        if len(rows) == 5:
            second.release()

    execution.execute(plan, store, device="cpu", on_row=on_row)
    assert rows == [
        ("linear", 0),
        ("linear", 1),
        ("linear", 2),
        ("pixels", 0),
        ("pixels", 2),
        ("pixels", 1),
    ]
    assert pixel_protocol == [0, 2, 1], "each once"


def test_a_worker_looks_at_held_work_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(jobs.time, "sleep", pauses.append)
    tried: list[str] = []

    def attempt(job: str) -> bool:
        tried.append(job)
        return job == "free" or len(pauses) > 6

    jobs.take(["held", "free"], attempt)  # type: ignore[list-item]
    assert tried[:3] == ["held", "free", "held"] and tried.count("free") == 1
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5]


def test_locks_of_several_files_are_had_together_or_not_at_all(tmp_path: Path) -> None:
    with locks.locked(tmp_path / "b"), locks.attempted(tmp_path / "a", tmp_path / "b") as held:
        assert not held
        with locks.attempted(tmp_path / "a") as free:
            assert free, "the first was given back"
    with locks.attempted(tmp_path / "a", tmp_path / "b") as held:
        assert held


def test_a_lock_whose_file_goes_is_never_that_of_a_file_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who held it removed it between another one's opening and locking."""
    file, flock = tmp_path / "lock", fcntl.flock

    def removed_before(descriptor: int, how: int) -> None:
        monkeypatch.setattr("fcntl.flock", flock)
        file.unlink()
        flock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", removed_before)
    with locks.passing(file):
        assert locks.held(file)
    with pytest.raises(ZeroDivisionError), locks.passing(file):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_locks_keep_nobody_out_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locks.exclude(tmp_path)
    # as on a network disk that only says it locks
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    assert not locks.exclude(tmp_path)


def test_a_disk_without_locks_is_told_and_no_mere_file_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.raises(DiskError, match="without file locks"), locks.locked(tmp_path / "lock"):
        pass


def test_a_python_without_fcntl_goes_on_beside_lock_files_that_were_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds a lock by a mere file, and must not wait for ever for one that nobody holds."""
    with locks.locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").exists(), "as a Python with fcntl leaves it"
    monkeypatch.setattr("filelock.FileLock", SoftFileLock)
    with locks.locked(tmp_path / "lock", timeout=5), locks.attempted(tmp_path / "lock") as second:
        assert not second
    assert not caplog.text
    left = tmp_path / "lock.held"
    left.write_text("77\nelsewhere\n")
    for _ in range(2):  # of another machine: nobody here knows
        assert locks.held(tmp_path / "lock") and not caplog.text
    os.utime(left, (1, 1))
    for _ in range(2):
        assert locks.held(tmp_path / "lock")
    assert caplog.text.count("by process 77 on elsewhere. Where that has ended, delete the") == 1


def test_work_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """The kernel gives its locks back."""
    if (child := os.fork()) == 0:
        with Store(tmp_path).attempting("unit"):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with Store(tmp_path).attempting("unit") as held:
        assert held


def test_a_job_is_named_in_words(grid: Grid) -> None:
    plan = planning.plan(grid)
    found: list[Job] = [job for unit in plan.units for job in jobs.jobs_of(plan, unit)]
    assert str(found[0]).endswith("given mine.py:halves@32") and isinstance(found[0].cells, tuple)


def test_many_held_jobs_are_leapt_over_and_none_is_lost() -> None:
    """It asked for each of them: 64 processes that walk along one list asked 113 times for a
    job."""
    every, free, tried, done = list(range(200)), {150, 60}, [], []

    def attempt(job: int) -> bool:
        tried.append(job)
        if job in free or len(tried) > 150:
            done.append(job)
            return True
        return False

    jobs.take(every, attempt, chance=lambda n: n - 1)  # type: ignore[arg-type]
    first = tried[: tried.index(0, 1)]
    assert first[:6] == [0, 1, 2, 3, 4, 9], (
        "four in order, as few processes find a free one, then ever wider leaps"
    )
    assert len(first) < 30
    assert sorted(done) == every, "what was leapt over is come back to"
