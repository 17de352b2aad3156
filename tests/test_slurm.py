"""A real SLURM of one node: an array whose tasks take work, one of them cancelled and requeued.

Run with: pytest -m slurm, as root, with Debian's packages slurm-wlm and munge and Python's
submitit.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.shared_runs import essence, slow_grid

from medbench import Grid, Store
from medbench.run import execution, planning
from medbench.run.engines import slurm
from medbench.run.engines.slurm import Request, minutes_of
from medbench.schema import UserError
from medbench.system import locks

NODE = Path(__file__).with_name("slurm_node.sh")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("submitit")
    if shutil.which("slurmctld") is None or os.geteuid() != 0:
        pytest.skip("needs root, and apt-get install slurm-wlm munge")
    place = tmp_path / "slurm"
    try:
        started = subprocess.run([NODE, "start", place], capture_output=True, text=True, timeout=60)
        assert started.returncode == 0, started.stderr
        monkeypatch.setenv("SLURM_CONF", started.stdout.strip())
        yield
    finally:
        subprocess.run(["scancel", "--me"], capture_output=True, timeout=30)
        subprocess.run([NODE, "stop", place], timeout=30)


def wait(reached: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def interrupted(grid: Grid, folder: Path) -> tuple[int, str]:
    """Exit code of a command that gets a Ctrl-C once it has submitted an array of two, and what it
    says after that."""
    words = ["--task", grid.tasks[0], "--encoder", ",".join(grid.encoders), "--seeds", "2"]
    words += ["--protocols", ",".join(grid.protocols), "--labels", ",".join(grid.labels)]
    command = [sys.executable, "-m", "medbench", "run", *words, "--out", str(folder)]
    with subprocess.Popen(
        [*command, "--engine", "slurm", "--jobs", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a command behind `&` would ignore it
    ) as process:
        assert process.stderr is not None
        said = next((line for line in process.stderr if line.startswith("Submitted SLURM")), "")
        assert said, "nothing was submitted"
        time.sleep(2 * slurm.LOOK)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.slurm
@pytest.mark.usefixtures("node")
def test_an_array_of_four_with_one_requeued_makes_the_rows_of_one_process(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "shared"))
    monkeypatch.setattr(slurm, "LOOK", 0.5)
    monkeypatch.setattr(slurm, "ASK", 1.0)
    grid, store = slow_grid(folder, 6), Store(tmp_path / "out")
    plan, told = planning.plan(grid), []
    number = slurm.submit(grid, plan, store, Request(jobs=4, minutes=30))
    wait(lambda: list((store.folder / ".workers").glob("*.json")), 120, "no task began")
    first = next(task for task, state in slurm.states(store.folder).items() if state == "RUNNING")
    subprocess.run(["scontrol", "requeue", first], check=True)
    assert medbench("status", str(store.folder)) == 0
    assert f"SLURM {number}: " in capsys.readouterr().out
    slurm.watch(plan, store, told.append)
    alone = execution.execute(plan, Store(tmp_path / "alone"), device="cpu")
    assert essence(store) == essence(alone) and len(told) == len(plan.cells)
    assert len((store.folder / "rows.jsonl").read_text().splitlines()) == len(plan.cells), (
        "none twice"
    )

    more = Grid(**{**vars(grid), "protocols": ("knn", "svm")})
    slurm.cancel(store.folder)  # the requeued one, which waits for minutes where all is done
    wait(lambda: not slurm.states(store.folder), 60, "not cancelled")
    code, said = interrupted(more, store.folder)
    assert code == 130 and f"To end them: medbench status {store.folder} --cancel" in said, said
    assert len(slurm.states(store.folder)) >= 2, "Ctrl-C leaves them running"
    assert medbench("status", str(store.folder), "--cancel") == 0
    wait(lambda: not slurm.states(store.folder), 60, "not cancelled")
    with pytest.raises(UserError, match="SLURM refused"):
        slurm.submit(more, planning.plan(more), store, Request(jobs=1, partition="none"))


def test_ctrl_c_leaves_the_jobs_and_says_how_to_see_and_to_cancel_them(
    folder: Path,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    queue = {"7_0": "RUNNING", "7_1": "PENDING (Resources)"}
    monkeypatch.setattr(slurm, "states", lambda folder: queue)
    monkeypatch.setattr(slurm, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    monkeypatch.setattr(slurm, "cancel", lambda folder: pytest.fail("nobody asked for that"))
    out = str(tmp_path / "my study")
    words = ["run", "--task", f"folder:{folder}", "--size", "32", "--methods", "random"]
    words += ["--labels", "100", "--no-audit", "--out", out]
    assert medbench(*words, "--engine", "slurm") == 130
    said = capsys.readouterr().err
    assert "2 earlier jobs are still there: 7_0, 7_1. No new job is submitted." in said
    assert f"To see them: medbench status '{out}', or the same command again" in said
    assert f"To end them: medbench status '{out}' --cancel" in said


def test_times_are_those_of_sbatch() -> None:
    times = {"30": 30, "30:01": 31, "4:00:00": 240, "2-0": 2880, "1-12:30:00": 2190, "0:10:00": 10}
    assert {text: minutes_of(text) for text in times} == times
    for wrong in ("", "4h", "0", "0:30", "1:2:3:4"):
        with pytest.raises(UserError, match="--time"):
            minutes_of(wrong)


def test_a_printed_script_runs_copies_of_the_command(
    folder: Path, tmp_path: Path, medbench: Callable[..., int], capsys
) -> None:
    words = [
        "run",
        "--task",
        f"folder:{folder}",
        "--size",
        "32",
        "--methods",
        "random",
        "--labels",
        "100",
        "--out",
        str(tmp_path / "a b"),
    ]
    asked = [
        "--engine",
        "slurm",
        "--print",
        "--jobs",
        "8",
        "--gpus",
        "1",
        "--time",
        "4:00:00",
        "--partition",
        "gpu",
        "--account",
        "lab",
    ]
    assert medbench(*words, *asked) == 0
    lines = capsys.readouterr().out.splitlines()
    options = {
        "job-name": "medbench",
        "array": "0-7",
        "time": "240",
        "partition": "gpu",
        "account": "lab",
        "gpus-per-node": "1",
    }
    assert {f"#SBATCH --{name}={value}" for name, value in options.items()} | {
        "#SBATCH --requeue"
    } <= set(lines)
    command = lines[-1]
    assert (
        f"-m medbench run --task folder:{folder}" in command
        and "--size 32" in command
        and f"--out '{tmp_path}/a b'" in command
    )
    assert not (tmp_path / "a b").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "slrm"), "Did you mean 'slurm'"),
        (("--jobs", "8"), "--engine slurm"),
        (("--address", "here:1", "--engine", "slurm"), "--engine ray"),
        (("--gpus", "1"), "--engine slurm or ray"),
        (("--engine", "slurm", "--workers", "2"), "of this machine"),
        (("--engine", "slurm", "--jobs", "0"), "out of range"),
        (("--engine", "slurm", "--time", "soon"), "--time 'soon'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: tuple[str, ...], said: str, medbench: Callable[..., int], capsys
) -> None:
    assert medbench("run", *words) == 2
    assert said in capsys.readouterr().err


def test_status_says_what_is_there_and_who_works(
    folder: Path, tmp_path: Path, medbench: Callable[..., int], capsys, monkeypatch
) -> None:
    plan, store = planning.plan(slow_grid(folder, 0)), Store(tmp_path / "out")
    store.create()
    store.add_plan(plan.file)
    store.fail(plan.cells[0], "no reason")
    held = tmp_path / "out" / ".workers"
    held.mkdir()
    (held / "there-1.json").write_text(
        '{"machine": "there", "process": 1, "device": "cuda", "at": "derm simclr", "since": 0, "beat": 3}'
    )
    with locks.locked(held / "there-1.lock"):
        assert medbench("status", str(store.folder)) == 0
    said = capsys.readouterr().out
    assert (
        "0 of 12 rows, 1 failed, 11 to come" in said and "there 1 (cuda): derm simclr, for " in said
    )
    assert medbench("status", str(store.folder), "--cancel") == 0, "nothing to cancel"
