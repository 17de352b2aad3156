"""The smoke study, full size, against its committed reference: unchanged it stays green with any number of threads, with a plant not.

Run with: pytest -m slow tests/test_check_slow.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medbench import images
from medbench.models.logistic import fitting
from medbench.run import planning, prepare, study
from medbench.schema import PARTS, Split, registry
from medbench.stats import metrics
from medbench.stats import splits as sampling

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
STUDY = str(ROOT / "benchmarks" / "smoke.py")
CHECK = ("check", STUDY, "--against", str(ROOT / "results" / "smoke" / "rows.jsonl"), "--explain", "--json", "all.json")
TASKS = {"derm", "chest", "retina", "lymph"}
Medbench = Callable[..., int]


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's packs, drawn once: processes of one thread draw them, whatever the threads of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDBENCH_CACHE", str(tmp_path_factory.mktemp("packs")))
        for unit in planning.plan(study.load_study(STUDY).grid).units:
            prepare.task_pack(unit.data, unit.encoder, images.cache_folder())
        return images.cache_folder() / "packs"


@pytest.fixture
def place(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and in it `out`, whose run finds the packs; `check` embeds and judges anew."""
    shutil.copytree(packs, tmp_path / "out" / "cache" / "packs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def red(place: Path) -> list[dict[str, Any]]:
    """What failed, as all.json has it."""
    findings = json.loads((place / "all.json").read_text())["findings"]
    return [finding for finding in findings if finding["status"] != "same"]


def parts(findings: list[dict[str, Any]]) -> set[str]:
    return {part for finding in findings for part in finding["explanation"]["parts"]}


@pytest.mark.parametrize("run", range(10))
def test_an_unchanged_run_stays_green(run: int, place: Path) -> None:
    threads = str((1, 2, 3, 4, 6)[run % 5])
    own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-m", "medbench", *CHECK, "--out", "out"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own})
    print(f"{threads} threads: {done.stdout}")
    assert done.returncode == 0, done.stdout


def test_a_probe_that_forgets_to_standardise(medbench: Medbench, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(features: Any, constant: float) -> Any:
        x = features.double()
        return x, x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])

    monkeypatch.setattr(fitting, "_standardise", plain)
    assert medbench(*CHECK, "--out", "out") == 1
    assert {(finding["cell"]["task"], finding["cell"]["protocol"]) for finding in red(place)} == {(task, "linear") for task in TASKS}
    assert parts(red(place)) == {"probe"}


def test_metrics_of_one_kind_of_task(medbench: Medbench, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disagreement of grades halved, findings scored by their absence, the wrong class of two ranked: each is seen on its task alone."""
    agreement, kappa, rankings = metrics._agreement, metrics._weighted_kappa, metrics._rankings
    monkeypatch.setattr(metrics, "_weighted_kappa", lambda support, predicted, squares: kappa(support, predicted, squares / 2))
    other = lambda *sums: {**agreement(*sums), **({"f1": agreement(*(s[:, ::-1] for s in sums[:3]), True)["f1"]} if sums[3] else {})}
    monkeypatch.setattr(metrics, "_agreement", other)
    monkeypatch.setattr(metrics, "_rankings", lambda y, p, kind: rankings(1 - y if kind == "binary" else y, p, kind))
    assert medbench(*CHECK, "--out", "out") == 1
    moved = {(f["cell"]["task"], change["metric"]) for f in red(place) for change in f["changes"]}
    assert moved == {("retina", "weighted_kappa"), ("chest", "f1"), ("lymph", "auc")}
    assert len(red(place)) == 30, "every cell of the three"
    assert parts(red(place)) == {"metrics"}


def by_image() -> dict[str, Split]:
    """The phantom of derm as it would be if an image were taken for a lesion."""
    splits = list(registry.task("derm").phantom().values())  # type: ignore[misc]
    ids, labels, bags = (np.concatenate([getattr(split, name) for split in splits]) for name in ("ids", "labels", "bags"))
    meta = {name: np.concatenate([split.meta[name] for split in splits]) for name in splits[0].meta}
    whole = Split([image for split in splits for image in split.images], ids, labels, ids, bags, meta)
    part = sampling.partition(labels, ids, (0.7, 0.1, 0.2), key="by image")
    return {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS)}


def test_a_split_by_image(medbench: Medbench, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn = by_image()
    monkeypatch.setitem(registry.tasks(), "derm", replace(registry.task("derm"), phantom=lambda: torn))
    assert medbench(*CHECK, "--out", "out") == 1
    assert {(finding["cell"]["task"], finding["status"]) for finding in red(place)} == {("derm", "not comparable")}
    assert len(red(place)) == 10
    assert parts(red(place)) == {"split"}
