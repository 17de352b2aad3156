"""Several processes that share a run: the rows of one process, each made once, whatever dies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.shared_runs import essence

from medbench import Grid, Store
from medbench.run import execution, planning
from medbench.run.engines import assignment, local
from medbench.run.engines.assignment import Assignment, cells_hash, packed
from medbench.run.engines.sharding import Shard
from medbench.run.jobs import jobs_of
from medbench.run.merge import merge
from medbench.schema import DiskError, UserError
from medbench.system import child_process

#: Encoders that take no time. The second kills its process the first time that a worker embeds with
#: it: pytest runs in no worker.
ENCODERS = """
import os, sys, torch
from pathlib import Path

class Deadly(torch.nn.Module):
    def forward(self, x):
        if len(x) > 20 and "pytest" not in sys.modules:
            with open(Path(__file__).parent / "deaths", "a") as deaths:
                deaths.write("x")
            if (Path(__file__).parent / "deaths").stat().st_size <= {deaths}:
                os.kill(os.getpid(), 9)
        return x.mean((2, 3))

def halves(size=32, mean=(0, 0, 0), std=(1, 1, 1)):
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

def deadly(size=32, mean=(0, 0, 0), std=(1, 1, 1)):
    return Deadly()
"""


def grid_of(folder: Path, deaths: int) -> Grid:
    (folder.parent / "mine.py").write_text(ENCODERS.format(deaths=deaths))
    encoders = tuple(f"{folder.parent / 'mine.py'}:{name}" for name in ("halves", "deadly"))
    return Grid(
        tasks=(f"folder:{folder}",),
        encoders=encoders,
        protocols=("linear", "knn"),
        labels=("5/class", "100"),
        seeds=2,
    )


def test_two_workers_one_of_which_is_killed_make_the_rows_of_one_process(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_of(folder, deaths=1)
    plan, told = planning.plan(grid), []
    alone = execution.execute(plan, Store(tmp_path / "alone"), device="cpu")
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "fresh"))
    plan = planning.plan(grid)
    store = local.execute(grid, plan, Store(tmp_path / "out"), ["cpu", "cpu"], on_row=told.append)
    assert essence(store) == essence(alone) and len(told) == len(plan.cells)
    lines = (store.folder / "rows.jsonl").read_text().splitlines()
    assert len(lines) == len(plan.cells), "none twice"
    assert re.search(
        r"worker [12] \(cpu\) was killed \(SIGKILL.*\) at folder:mine given mine.py:deadly@32: it is started again",
        caplog.text,
    )
    assert "it is started again" in (store.folder / "run.log").read_text()


@pytest.mark.slow
def test_work_at_which_two_workers_died_has_failed_and_the_rest_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    grid = grid_of(folder, deaths=1000)
    plan = planning.plan(grid)
    store = local.execute(grid, plan, Store(tmp_path / "out"), ["cpu", "cpu"])
    failed = {planned.fingerprint for planned in plan.units[1].cells}
    assert store.rows().keys() == {planned.fingerprint for planned in plan.cells} - failed
    assert store.failures().keys() == failed and "SIGKILL" in next(iter(store.failures().values()))
    assert (tmp_path / "deaths").stat().st_size == 2


def test_a_folder_without_locks_stops_the_run_and_names_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.check_locks(tmp_path)
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with pytest.raises(
        DiskError, match=r"keep nobody out.*--shard 1/2 --out A.*medbench merge A B"
    ):
        local.check_locks(tmp_path)


def test_devices_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.devices_of("auto", "", "") == ["auto"], "one process, as ever"
    assert local.devices_of("cuda:1", "", "") == ["cuda:1"]
    assert local.devices_of("cpu", "", "3") == ["cpu"] * 3
    assert local.devices_of("auto", "auto", "") == ["cpu"], "no GPU is visible here"
    monkeypatch.setattr(local, "_gpus", lambda: ["cuda:0", "cuda:1"])
    assert local.devices_of("auto", "cuda:0, cuda:1", "") == ["cuda:0", "cuda:1"]
    assert (
        local.devices_of("auto", "auto", "")
        == local.devices_of("auto", "", "auto")
        == ["cuda:0", "cuda:1"]
    )
    assert local.devices_of("auto", "auto", "3") == ["cuda:0", "cuda:1", "cuda:0"]
    for wrong in (("auto", "", "many"), ("auto", "", "0"), ("cpu", "cuda:0", "")):
        with pytest.raises(UserError):
            local.devices_of(*wrong)


def test_cores_are_divided_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "cores", lambda: 8)
    assert [child_process.threads_each(n) for n in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert child_process.environment(4)["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert child_process.environment(4)["OMP_NUM_THREADS"] == "3", "the user's word"
    assert "MKL_NUM_THREADS" not in child_process.environment(4), "torch would follow it"


def test_threads_of_a_worker_do_not_depend_on_how_many_jobs_are_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "cores", lambda: 8)
    grid = grid_of(folder, deaths=0)
    plan, store = planning.plan(grid), Store(tmp_path / "out")
    context = execution.begin(plan, store, "cpu")
    jobs = {job.name: job for unit in plan.units for job in jobs_of(plan, unit)}
    given = Assignment(grid, store.folder, cells_hash(plan), context.since)
    for left in (jobs, dict(list(jobs.items())[:1])):
        crew = local.Crew(context, given, ["cpu"] * 4, left, lambda row: None)
        assert (len(crew.workers), crew.threads) == (len(left), 2)


def test_shards_divide_the_units_and_merge_into_the_whole(
    folder: Path, tmp_path: Path, medbench: Callable[..., int]
) -> None:
    grid = grid_of(folder, deaths=0)
    plan = planning.plan(grid)
    parts = [Shard(i, 2).of(plan) for i in (1, 2)]
    assert sorted(cell.fingerprint for part in parts for cell in part.cells) == sorted(
        cell.fingerprint for cell in plan.cells
    )
    assert [len(part.units) for part in parts] == [1, 1]
    words = [
        "run",
        "--task",
        grid.tasks[0],
        "--encoder",
        ",".join(grid.encoders),
        "--labels",
        "5/class,100",
        "--seeds",
        "2",
    ]
    for number in "12":
        assert (
            medbench(
                *words,
                "--protocols",
                "linear,knn",
                "--shard",
                f"{number}/2",
                "--out",
                str(tmp_path / number),
            )
            == 0
        )
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "both")
    whole = execution.execute(plan, Store(tmp_path / "whole"), device="cpu")
    assert essence(Store(tmp_path / "both")) == essence(whole)
    assert {entry.fingerprint for entry in Store(tmp_path / "both").plan().cells} == {
        entry.fingerprint for entry in plan.cells
    }


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--shard"):
        Shard.parse(text)


def test_more_shards_than_units_are_refused(folder: Path) -> None:
    plan = planning.plan(grid_of(folder, deaths=0))
    with pytest.raises(UserError, match="2 units"):
        Shard.parse("1/3").of(plan)


def test_a_plan_goes_to_workers_as_it_is_or_is_made_again_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_of(folder, deaths=0)
    plan = planning.plan(grid)
    whole = Assignment(grid, tmp_path / "out", cells_hash(plan), 0, packed=packed(plan))
    monkeypatch.setattr(assignment, "plan", lambda grid: pytest.fail("it was made again"))
    assert [cell.fingerprint for cell in whole.planned().cells] == [
        cell.fingerprint for cell in plan.cells
    ]
    monkeypatch.setattr(assignment, "plan", lambda grid: plan)
    assert replace(whole, packed=b"broken").planned() is plan
    assert packed(replace(plan, command=lambda: 0)) == b"", "what cannot be sent"
    with pytest.raises(UserError, match="plans other cells"):
        replace(whole, cells="others").planned()
