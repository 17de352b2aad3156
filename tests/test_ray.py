"""Two nodes of a Ray cluster here, with a cache each; one is removed while it works.

Run with: pytest -m ray, where ray is installed.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.shared_runs import essence, slow_grid

from medbench import Store, images
from medbench.run import execution, job_steps, planning
from medbench.run.engines import contents, ray_cluster
from medbench.run.engines.contents import Desk, Elsewhere, files_of, made_of, packs_of
from medbench.run.jobs import lacking


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """This process's node, which computes nothing, and two others whose caches are elsewhere."""
    # under `uv run` Ray copies the whole project for its workers, and some start before it is there
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = pytest.importorskip("ray")
    utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "head"))
    (tmp_path / "head").mkdir()
    made = utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False},
    )
    made.nodes = []
    try:
        for i in range(2):
            (tmp_path / f"node{i}").mkdir()
            made.nodes.append(
                made.add_node(
                    num_cpus=1, num_gpus=0, env_vars={"MEDBENCH_CACHE": str(tmp_path / f"node{i}")}
                )
            )
        made.wait_for_nodes()
        ray.init(address=made.address, logging_level=logging.ERROR, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.ray
def test_a_node_that_is_removed_loses_and_doubles_no_row(
    cluster: Any, folder: Path, tmp_path: Path
) -> None:
    grid = slow_grid(folder, 4)
    plan, told, gone = planning.plan(grid), [], threading.Event()

    def remove() -> None:
        """As soon as the second node embeds."""
        while not (tmp_path / "node1" / "embeds").exists():
            time.sleep(0.1)
        cluster.remove_node(cluster.nodes[1], allow_graceful=False)
        gone.set()

    threading.Thread(target=remove, daemon=True).start()
    store = ray_cluster.execute(plan, Store(tmp_path / "out"), on_row=told.append)
    assert gone.is_set(), "the second node was removed while it worked"
    # a trial batch and the images, of each unit
    passes = sum(len((tmp_path / name / "embeds").read_text()) for name in ("node0", "node1"))
    assert 2 * len(plan.units) < passes <= 2 * len(plan.units) + 2, (
        "each unit once, and what the node was at again"
    )
    assert len(list((tmp_path / "node0" / "packs").glob("*/images.npy"))) == 1, (
        "the pack was fetched"
    )
    assert len(list((tmp_path / "head" / "features").glob("*/about.json"))) == len(plan.units), (
        "features were handed back"
    )
    alone = execution.execute(plan, Store(tmp_path / "alone"), device="cpu")
    assert essence(store) == essence(alone) and len(told) == len(plan.cells)
    assert len((store.folder / "rows.jsonl").read_text().splitlines()) == len(plan.cells)


def asking(desk: Desk) -> Callable[..., Any]:
    """A desk as it is asked from another process."""
    return lambda method, *args: pickle.loads(pickle.dumps(getattr(desk, method)(*args)))


def test_a_job_is_computed_elsewhere_from_what_is_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray: a cache that holds nothing, and a machine that has neither the images nor the
    user's file."""
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "head"))
    monkeypatch.setattr(contents, "CHUNK", 1000)
    plan, store = planning.plan(slow_grid(folder, 0, n=1)), Store(tmp_path / "out")
    context = execution.begin(plan, store, "cpu")
    job = ray_cluster.every_job(plan)[0]
    assert files_of(plan) == [tmp_path / "mine.py"]
    desk = Desk(plan.cache_dir, [tmp_path / "mine.py"])
    (sent,) = pickle.loads(pickle.dumps([plan]))
    other = Elsewhere(tmp_path / "node", asking(desk))
    monkeypatch.setattr(
        Path, "exists", lambda self, there=Path.exists: self != tmp_path / "mine.py" and there(self)
    )
    here = other.plan(sent)
    monkeypatch.undo()
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "head"))
    monkeypatch.setattr(contents, "CHUNK", 1000)
    assert here.units[0].encoder.file == next((tmp_path / "node" / "fetched").glob("*/mine.py"))
    away = ray_cluster.every_job(here)[0]
    (made,) = made_of(here, away, away.cells, "cpu")
    assert not other.fetch(made) and lacking(here, away, away.cells, "cpu")
    (tmp_path / "mine").rename(tmp_path / "hidden")
    (pack,) = packs_of(here, away, away.cells)
    assert (
        other.fetch(pack)
        and pack
        == f"packs/{images.pack_key(job.unit.data.hashes, 32, job.unit.encoder.interpolation)}"
    )
    rows = ray_cluster.RowsAway(store.folder)
    job_steps.compute(replace(context, plan=here, store=rows), away, away.cells, lambda row: None)
    other.hand_back(made)
    (tmp_path / "hidden").rename(tmp_path / "mine")
    assert not lacking(plan, job, job.cells, "cpu"), "the features came back"
    alone = execution.execute(plan, Store(tmp_path / "alone"), device="cpu")
    assert {row.fingerprint: row.metrics for row, _ in rows.made} == {
        key: row.metrics for key, row in alone.rows().items()
    }


def test_without_a_cluster_the_next_command_is_named(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    assert (
        medbench(
            "run", "--task", f"folder:{folder}", "--engine", "ray", "--address", "ray://there:10001"
        )
        == 2
    )
    assert "run on a node of the cluster" in capsys.readouterr().err
