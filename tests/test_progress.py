"""Who hears how far long work is.

A library user's callback, the screen, work in other threads and in copies of this process.
"""

from __future__ import annotations

import ast
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import medbench
from medbench import Grid, images
from medbench.audit import dataset
from medbench.models.finetune import MODERN
from medbench.protocols import finetune
from medbench.report import compare, html
from medbench.run import execution, labelled_subsets, planning
from medbench.schema import Progress, registry
from medbench.system import fork_pool
from medbench.system.progress_listener import calling, heard_in_threads, listening, report_progress


@pytest.fixture
def few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medbench.schema.methods.QUICK_VIEWS", 260)


def test_a_user_s_callback_hears_every_stage_of_a_run_and_fails_none(
    folder: Path, tmp_path: Path, few_views: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pretraining and fine-tuning too.

    It once called the callback with a fourth argument, so that every pretrained unit failed.
    """
    heard: list[tuple[str, int, int]] = []
    short = replace(MODERN, steps=4, epochs=0.1, rates=(1e-3,), batch=8)
    monkeypatch.setitem(
        registry.protocols(), "finetune", finetune._protocol("finetune", 1, "short", short)
    )

    def callback(stage: str, done: int, total: int) -> None:
        heard.append((stage, done, total))

    methods = {
        "pretrained": Grid(methods=("simclr",), source="task"),
        "tuned": Grid(methods=("random",), protocols=("finetune",)),
    }
    for name, grid in methods.items():
        asked = replace(grid, tasks=(f"folder:{folder}",), size=32, labels=("100",), seeds=1)
        store = execution.run(asked, tmp_path / name, progress=callback)
        assert len(store.rows()) == 1 and not store.failures()
    stages = {stage.split()[0] for stage, *_ in heard}
    assert stages >= {"reading", "packing", "pretraining", "embedding", "fine-tuning,"}
    ends = {stage: (done, total) for stage, done, total in heard}
    assert all(done == total > 0 for done, total in ends.values()), "a stage ends with done = total"


def test_what_a_callback_raises_ends_the_run_and_is_no_failure_of_a_cell(
    folder: Path, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    def callback(stage: str, done: int, total: int) -> None:
        if stage.startswith("embedding"):
            raise Enough

    grid = Grid(tasks=(f"folder:{folder}",), methods=("random",), size=32, labels=("100",), seeds=1)
    with pytest.raises(Enough):
        execution.run(grid, tmp_path / "out", progress=callback)
    assert not medbench.Store(tmp_path / "out").failures()
    assert len(execution.run(grid, tmp_path / "out").rows()) == 1, "the next run goes on"


def test_a_callback_is_called_with_three_arguments_wherever_one_is_taken() -> None:
    takers = (
        execution.run,
        execution.execute,
        planning.plan,
        labelled_subsets.splits,
        dataset.audit,
        compare.compare,
        html.build_page,
    )
    for function in takers:
        parameter = inspect.signature(function).parameters["progress"]
        assert (parameter.annotation, parameter.default) == ("ProgressCallback | None", None), (
            function
        )
    heard: list[object] = []
    with calling(lambda stage, done, total: heard.append((stage, done, total))):
        report_progress("pretraining mine", 5, 9, "views", "loss 3.1")
    report_progress("nobody hears of it", 5, 9)
    assert heard == [("pretraining mine", 5, 9)]


def test_one_type_is_called_progress() -> None:
    """Five were, and a callback of the one was handed to what calls another."""
    source = Path(medbench.__file__).parent
    found = []
    for file in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = (
                [node.name]
                if isinstance(node, ast.ClassDef)
                else [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
            )
            found += [
                (file.relative_to(source).as_posix(), name)
                for name in names
                if name in ("Progress", "ProgressCallback")
            ]
    assert found == [("schema/progress.py", "ProgressCallback"), ("schema/progress.py", "Progress")]


def test_a_listener_is_one_thread_s_own_unless_it_is_carried_along() -> None:
    """Two runs at once do not hear each other; work that a run gives to threads is heard."""
    barrier = threading.Barrier(2)

    def run(name: str) -> list[str]:
        heard: list[str] = []
        with listening(lambda progress: heard.append(progress.stage)):
            barrier.wait()
            with ThreadPoolExecutor(2) as threads:
                list(
                    threads.map(
                        heard_in_threads(lambda n: report_progress(f"{name} {n}", 1, 1)), range(3)
                    )
                )
                list(threads.map(lambda n: report_progress("not carried", 1, 1), range(3)))
            barrier.wait()
        return sorted(heard)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, ("a", "b"))) == [["a 0", "a 1", "a 2"], ["b 0", "b 1", "b 2"]]


def test_what_reads_ahead_in_a_thread_is_heard() -> None:
    class Rows:
        def __getitem__(self, rows: slice) -> np.ndarray:
            report_progress("reading an archive", rows.stop, 4, "rows")
            return np.zeros((rows.stop - rows.start, 2, 2, 3), np.uint8)

    heard: list[Progress] = []
    with listening(heard.append):
        assert (
            len(
                list(
                    images.batches(
                        SimpleNamespace(array=Rows()),
                        np.arange(4),
                        2,
                        "cpu",
                        (0.5,) * 3,
                        (0.5,) * 3,
                    )
                )
            )
            == 2
        )
    assert heard == [Progress("reading an archive", n, 4, "rows") for n in (2, 4)]


def test_copies_of_this_process_report_their_number_alone() -> None:
    heard: list[Progress] = []

    def work(n: int) -> int:
        report_progress("inside", n, 4)
        return n * n

    with listening(heard.append):
        assert fork_pool.each(work, range(4), 2, "parts of it") == [0, 1, 4, 9]
    assert heard and {(one.stage, one.unit, one.total) for one in heard} == {
        ("parts of it", "parts", 4)
    }
    heard.clear()
    with listening(heard.append):
        assert fork_pool.each(work, range(4), 1, "parts of it") == [0, 1, 4, 9]
    assert [one.stage for one in heard] == ["inside"] * 4, "one process reports itself"
