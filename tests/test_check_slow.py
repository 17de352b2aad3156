"""The smoke studies, full size, against their committed references.

Unchanged they stay green with any number of threads, with a plant not.

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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medbench import images
from medbench.models.finetune import MODERN, TRUONG2021_LINEAR, FineTuneRecipe
from medbench.models.logistic import fitting
from medbench.protocols import finetune, knn_nielsen2023, svm_logreg
from medbench.report import check
from medbench.run import execution, planning, prepare, study
from medbench.schema import PARTS, Split, registry
from medbench.stats import metrics
from medbench.stats import splits as sampling

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
STUDY = str(ROOT / "benchmarks" / "smoke.py")
CHECK = (
    "check",
    STUDY,
    "--against",
    str(ROOT / "results" / "smoke" / "rows.jsonl"),
    "--explain",
    "--json",
    "all.json",
)
TASKS = {"derm", "chest", "retina", "lymph"}
Medbench = Callable[..., int]


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's packs, drawn once.

    Processes of one thread draw them, whatever the threads of a run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDBENCH_CACHE", str(tmp_path_factory.mktemp("packs")))
        for unit in planning.plan(study.load_study(STUDY).grid).units:
            prepare.task_pack(unit.data, unit.encoder, images.cache_folder())
        return images.cache_folder() / "packs"


@pytest.fixture
def place(packs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and in it `out`, whose run finds the packs; `check` embeds and judges
    anew."""
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


def test_a_probe_that_forgets_to_standardise(
    medbench: Medbench, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(features: Any, constant: float) -> Any:
        x = features.double()
        return x, x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])

    monkeypatch.setattr(fitting, "_standardise", plain)
    assert medbench(*CHECK, "--out", "out") == 1
    assert {(finding["cell"]["task"], finding["cell"]["protocol"]) for finding in red(place)} == {
        (task, "linear") for task in TASKS
    }
    assert parts(red(place)) == {"probe"}


def test_metrics_of_one_kind_of_task(
    medbench: Medbench, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disagreement of grades halved, findings scored by their absence, the wrong class of two
    ranked: each is seen on its task alone."""
    agreement, kappa, rankings = metrics._agreement, metrics._weighted_kappa, metrics._rankings
    monkeypatch.setattr(
        metrics,
        "_weighted_kappa",
        lambda support, predicted, squares: kappa(support, predicted, squares / 2),
    )
    other = lambda *sums: {
        **agreement(*sums),
        **({"f1": agreement(*(s[:, ::-1] for s in sums[:3]), True)["f1"]} if sums[3] else {}),
    }
    monkeypatch.setattr(metrics, "_agreement", other)
    monkeypatch.setattr(
        metrics, "_rankings", lambda y, p, kind: rankings(1 - y if kind == "binary" else y, p, kind)
    )
    assert medbench(*CHECK, "--out", "out") == 1
    moved = {(f["cell"]["task"], change["metric"]) for f in red(place) for change in f["changes"]}
    assert moved == {("retina", "weighted_kappa"), ("chest", "f1"), ("lymph", "auc")}
    assert len(red(place)) == 30, "every cell of the three"
    assert parts(red(place)) == {"metrics"}


def by_image() -> dict[str, Split]:
    """The phantom of derm as it would be if an image were taken for a lesion."""
    splits = list(registry.task("derm").phantom().values())  # type: ignore[misc]
    ids, labels, bags = (
        np.concatenate([getattr(split, name) for split in splits])
        for name in ("ids", "labels", "bags")
    )
    meta = {name: np.concatenate([split.meta[name] for split in splits]) for name in splits[0].meta}
    whole = Split(
        [image for split in splits for image in split.images], ids, labels, ids, bags, meta
    )
    part = sampling.partition(labels, ids, (0.7, 0.1, 0.2), key="by image")
    return {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS)}


def test_a_split_by_image(medbench: Medbench, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn = by_image()
    monkeypatch.setitem(
        registry.tasks(), "derm", replace(registry.task("derm"), phantom=lambda: torn)
    )
    assert medbench(*CHECK, "--out", "out") == 1
    assert {(finding["cell"]["task"], finding["status"]) for finding in red(place)} == {
        ("derm", "not comparable")
    }
    assert len(red(place)) == 10
    assert parts(red(place)) == {"split"}


Patch = pytest.MonkeyPatch


def compared(name: str, folder: Path, patch: Patch, **asked: tuple[str, ...]) -> check.Comparison:
    """Some cells of a committed study, computed anew with nothing from a cache, beside their
    reference and its tolerance."""
    grid = replace(study.load_study(str(ROOT / "benchmarks" / f"{name}.py")).grid, **asked)  # type: ignore[arg-type]
    patch.setenv("MEDBENCH_CACHE", str(folder / "cache"))
    execution.run(grid, folder / "out", device="cpu")
    found = check.read_rows(folder / "out")
    whole = check.read_rows(ROOT / "results" / name.replace("_", "-") / "rows.jsonl")
    reference = replace(
        whole, rows={cell: row for cell, row in whole.rows.items() if cell in found.rows}
    )
    assert reference.rows
    return check.compare_rows(reference, found, check.Repeatability.beside(whole.file))


def other_recipe(name: str, recipe: FineTuneRecipe) -> Callable[[Patch], None]:
    """Its settings, and so the fingerprints, say nothing of it."""
    changed = lambda: replace(
        registry.protocol(name), evaluate=partial(finetune.evaluate, recipe=recipe)
    )
    return lambda patch: patch.setitem(registry.protocols(), name, changed())


def other_temperature(patch: Patch) -> None:
    from lightly import loss

    true = loss.NTXentLoss
    patch.setattr(
        loss, "NTXentLoss", lambda temperature, **options: true(10 * temperature, **options)
    )


def plain_pixels(patch: Patch) -> None:
    from lightly.models import utils

    patch.setattr(utils, "normalize_mean_var", lambda patches: patches)


def variance_left_out(patch: Patch) -> None:
    from lightly.loss import vicreg_loss

    patch.setattr(vicreg_loss, "variance_loss", lambda x, eps: x.new_zeros(()))


PROTOCOLS, PRETRAINING, METHODS = "smoke_protocols", "smoke_pretraining", "smoke_methods"
#: Study, what of it is computed, what was planted, and the part that is named.
PLANTED: dict[str, tuple[str, dict[str, tuple[str, ...]], Callable[[Patch], None], str]] = {
    "rates of a fine-tuning": (
        PROTOCOLS,
        {"protocols": ("finetune",), "tasks": ("lymph",)},
        other_recipe("finetune", replace(MODERN, rates=(1e-6, 3e-6, 1e-5))),
        "probe",
    ),
    "views of a linear layer": (
        PROTOCOLS,
        {"protocols": ("linear-truong2021",)},
        other_recipe("linear-truong2021", replace(TRUONG2021_LINEAR, views="suite")),
        "weights or preprocessing or probe",
    ),
    "C of an SVM": (
        PROTOCOLS,
        {"protocols": ("svm",)},
        lambda patch: patch.setattr(
            svm_logreg, "SVM_ARGUMENTS", {**svm_logreg.SVM_ARGUMENTS, "C": 0.1}
        ),
        "probe",
    ),
    "penalty of a logistic regression": (
        PROTOCOLS,
        {"protocols": ("logreg",)},
        lambda patch: patch.setattr(
            svm_logreg, "LOGREG_ARGUMENTS", {**svm_logreg.LOGREG_ARGUMENTS, "C": 0.025}
        ),
        "probe",
    ),
    "neighbours": (
        PROTOCOLS,
        {"protocols": ("knn-nielsen2023",)},
        lambda patch: patch.setattr(knn_nielsen2023, "NEIGHBOURS_A_CLASS", 3),
        "probe",
    ),
    "temperature of SimCLR": (PRETRAINING, {"methods": ("simclr",)}, other_temperature, "weights"),
    "pixels that MAE draws": (METHODS, {"methods": ("mae",)}, plain_pixels, "weights"),
    "variance in VICReg": (METHODS, {"methods": ("vicreg",)}, variance_left_out, "weights"),
}


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_planted_regression_in_each_kind_of_row_is_red_and_explained(
    name: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    where, asked, plant, part = PLANTED[name]
    plant(monkeypatch)
    comparison = compared(where, tmp_path, monkeypatch, **asked)
    print(
        f"{name}: {[(str(f.cell), f.status, [(c.name, c.then, c.now) for c in f.changes[:2]]) for f in comparison.findings]}"
    )
    assert comparison.red
    red = [finding for finding in comparison.findings if finding.status != "same"]
    assert {finding.status for finding in red} <= {"worse", "better"}, (
        "another experiment it is not: all that is stated is the same"
    )
    assert {finding.explanation.part for finding in red if finding.explanation} == {part}
