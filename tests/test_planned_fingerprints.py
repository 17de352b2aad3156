"""The studies behind the committed results still plan the same rows: no change of structure or names may make a committed row unreachable."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from medbench import Grid
from medbench.run import planning
from medbench.run import study as studies

ROOT = Path(__file__).parents[1]


def committed(study: str) -> set[str]:
    rows = (ROOT / "results" / study / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return {json.loads(row)["fingerprint"] for row in rows}


def planned(*grids: Grid) -> set[str]:
    return {cell.fingerprint for one in grids for cell in planning.plan(one).cells}


@pytest.mark.parametrize(("study", "file"), [("smoke", "smoke.py"), ("smoke-pretraining", "smoke_pretraining.py")])
def test_a_study_of_phantoms_plans_its_committed_rows(study: str, file: str) -> None:
    assert planned(studies.load_study(str(ROOT / "benchmarks" / file)).grid) == committed(study)


#: As results/README.md tells them.
DERM = {
    "derm": studies.load_study(str(ROOT / "benchmarks" / "derm.py")).grid,
    "derm-classical": Grid(
        methods=("supervised", "dino"),
        protocols=("linear", "knn", "svm", "logreg"),
        labels=("1/class", "10/class", "100/class"),
        size=64,
        seeds=5,
    ),
    "derm-finetune": Grid(labels=("10",), size=64, methods=("supervised", "simclr"), protocols=("finetune", "linear"), seeds=3),
    "derm-finetune-100": Grid(labels=("100",), size=64, methods=("supervised", "simclr"), protocols=("linear", "finetune"), seeds=1),
}


def test_the_studies_of_ham10000_plan_their_committed_rows(real_data: Path) -> None:
    for study, asked in DERM.items():  # in one test: its images are hashed once
        assert planned(replace(asked, tasks=("derm",), data=str(real_data))) == committed(study), study


@pytest.fixture
def csvs(real_data: Path, tmp_path: Path) -> Path:
    """A folder with the images and the CSV files that `benchmarks/evidence_csvs.py` writes beside them."""
    for name in ("hyperkvasir", "hannover_cxr"):
        shutil.copytree(real_data / name, tmp_path / name)
    runpy.run_path(str(ROOT / "benchmarks" / "evidence_csvs.py"), run_name="evidence_csvs")["write"](tmp_path)
    return tmp_path


def test_the_studies_of_endoscopy_and_of_all_kinds_plan_their_committed_rows(csvs: Path, real_data: Path) -> None:
    methods = ("supervised", "simclr", "swav", "dino", "dvme", "dvme-concat", "concat")
    gut = Grid(tasks=(f"folder:{csvs / 'hyperkvasir.csv'}",), labels=("10", "100"), size=64, seeds=3, methods=methods, audit=False)
    colitis = replace(gut, tasks=(f"folder:{csvs / 'colitis.csv'}",), ordinal=True)
    assert planned(gut, colitis) == committed("hyperkvasir")
    kinds = Grid(methods=("random", "supervised"), labels=("10", "100"), seeds=2, size=64, allow_partial=True, audit=False)
    own = replace(kinds, tasks=(f"folder:{csvs / 'films.csv'}",))
    assert planned(replace(kinds, tasks=("derm", "uc-grade", "pneumonia"), data=str(real_data)), own) == committed("kinds")
