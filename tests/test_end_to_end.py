"""From a folder of images to a leaderboard, by the command line, without a download.

Broken off, doubled, failed, repeated.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medbench import Grid, Store, images
from medbench.data.evaluation_sets import EvaluationSet
from medbench.models.finetune import MODERN
from medbench.protocols import finetune
from medbench.report import leaderboard
from medbench.run import execution, job_steps, prepare
from medbench.run.plans import Plan
from medbench.run.units import Unit
from medbench.schema import Protocol, Row, Train, registry


def job(folder: Path, *more: str) -> list[str]:
    return [
        "run",
        "--task",
        f"folder:{folder}",
        "--size",
        "32",
        "--labels",
        "10,100",
        "--seeds",
        "2",
        "--methods",
        "random,supervised",
        *more,
    ]


def essence(rows: dict[str, Row]) -> dict[str, object]:
    """What must be the same in a repeated row: all but cost and provenance."""
    return {key: (row.cell, row.n_labels, row.chosen, row.metrics) for key, row in rows.items()}


def test_the_main_job(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert medbench(*job(folder)) == 0
    out = tmp_path / "runs" / "folder-mine"
    store = Store(out)
    rows = store.rows()
    assert len(rows) == 6, "2 methods x (10 % at two seeds, 100 % once)"
    printed = capsys.readouterr().out
    assert "images of one patient may stand on both sides" in printed
    assert (
        "6 new rows" in printed and f"Next: medbench compare {out.relative_to(tmp_path)}" in printed
    )
    board = leaderboard.leaderboard(store)
    assert set(board.status) == {"done"}
    assert list(board.columns) == list(leaderboard.COLUMNS)
    best = board[
        (board.metric == "auc") & (board.method == "supervised") & (board.labels == "100%")
    ]
    assert float(best["mean"].iloc[0]) > 0.7, "three tints under noise can be told apart"
    assert best["sd"].isna().all(), "all labels are one draw: run once, a dash for sd"
    for row in rows.values():
        assert store.target(row.provenance["target"])["ids"].shape == (18,)
        assert store.scores(row)["probabilities"].shape == (18, 3)
        assert (
            row.metrics["auc"]["low"] <= row.metrics["auc"]["value"] <= row.metrics["auc"]["high"]
        )
        assert (row.n_requested, row.n_labels) in ((4, 4), (36, 36))

    before = (out / "rows.jsonl").read_bytes()
    assert medbench(*job(folder)) == 0
    assert "0 new rows" in capsys.readouterr().out
    assert (out / "rows.jsonl").read_bytes() == before
    assert medbench("table", str(out), "--metric", "kappa") == 0
    assert "kappa" in capsys.readouterr().out
    text = (out / "leaderboard.md").read_text()
    assert "| 100% | 36 | supervised | * |" in text


def test_a_changed_image_is_another_cell(
    folder: Path, medbench: Callable[..., int], tmp_path: Path
) -> None:
    arguments = job(folder, "--methods", "random", "--labels", "100")
    assert medbench(*arguments) == 0
    Image.new("RGB", (40, 40)).save(folder / "train" / "nv" / "train0.png")
    assert medbench(*arguments) == 0
    store = Store(tmp_path / "runs" / "folder-mine")
    assert len(store.rows()) == 2
    lines = [line for board in leaderboard.leaderboards(store) for line in board.lines]
    assert [len(line.rows) for line in lines] == [1], "the old fingerprint does not mix in"


def test_a_broken_run_ends_with_the_rows_of_an_unbroken_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(
        tasks=(f"folder:{folder}",),
        size=32,
        labels=("10", "100"),
        seeds=2,
        methods=("random", "supervised"),
    )

    def stop_at(count: int) -> Callable[[Row], None]:
        seen: list[Row] = []

        def on_row(row: Row) -> None:
            seen.append(row)
            if len(seen) == count:
                raise KeyboardInterrupt

        return on_row

    whole = execution.run(grid, tmp_path / "whole").rows()
    for count in (1, 4):
        with pytest.raises(KeyboardInterrupt):
            execution.run(grid, tmp_path / "broken", on_row=stop_at(count))
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "another cache"))
    assert essence(execution.run(grid, tmp_path / "broken").rows()) == essence(whole)


def test_a_cell_that_fails_is_shown_with_its_reason_and_mended_by_the_next_run(
    folder: Path,
    medbench: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    linear = registry.protocol("linear")

    def fails_on_all(train: Train, targets: object, draws: list[np.ndarray]) -> object:
        for draw, divided in zip(draws, train.divided, strict=True):
            if len(draw) == 36:
                raise RuntimeError("out of\nmemory")
            yield from linear.evaluate(replace(train, divided=[divided]), targets, [draw])  # type: ignore[arg-type]

    broken = Protocol(
        "linear", linear.version, linear.title, linear.kinds, fails_on_all, False, linear.settings
    )  # type: ignore[arg-type]
    monkeypatch.setitem(registry.protocols(), "linear", broken)
    assert medbench(*job(folder)) == 3
    printed = capsys.readouterr().out
    assert "linear 100% failed 1 of 1: RuntimeError: out of memory" in printed
    assert "4 new rows" in printed
    monkeypatch.setitem(registry.protocols(), "linear", linear)
    assert medbench(*job(folder)) == 0
    assert "failed" not in capsys.readouterr().out
    assert len(Store(tmp_path / "runs" / "folder-mine").rows()) == 6


def test_missing_is_shown_as_missing(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert medbench(*job(folder)) == 0
    out = tmp_path / "runs" / "folder-mine"
    lines = [
        line
        for line in (out / "rows.jsonl").read_text().splitlines()
        if json.loads(line)["cell"]["seed"] == 0
    ]
    (out / "rows.jsonl").write_text("\n".join(lines) + "\n")
    capsys.readouterr()
    assert medbench("table", str(out)) == 0
    assert "missing 1 of 2" in capsys.readouterr().out
    board = leaderboard.leaderboard(Store(out))
    assert board[board.labels == "10%"]["mean"].isna().all(), "no average over an incomplete group"


def test_a_unit_that_fails_leaves_the_others_alone(
    folder: Path, medbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text(
        "import torch\n"
        "class Picky(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        assert len(x) <= 2, 'only two'\n"
        "        return x.mean((2, 3))\n"
        "def picky(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n"
        "    return Picky()\n"
        "def nan(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), Log())\n"
        "def plain(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
        "class Log(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.where(x > 0, torch.nan, x)\n"
    )
    encoders = "bad.py:picky,bad.py:nan,bad.py:plain"
    assert (
        medbench(
            "run",
            "--task",
            f"folder:{folder}",
            "--size",
            "32",
            "--labels",
            "100",
            "--encoder",
            encoders,
        )
        == 3
    )
    printed = capsys.readouterr().out
    assert "AssertionError: only two" in printed
    assert "features of 36 of 36 images are not finite" in printed
    assert "1 new row" in printed
    assert "2 cells failed" in printed


def test_a_set_that_cannot_be_embedded_is_tried_once_and_costs_the_others_nothing(
    folder: Path, mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    embedded = prepare.unit_features

    def broken(plan: Plan, unit: Unit, device: str, target: EvaluationSet | None = None) -> object:
        if target is not None:
            tried.append(target.name)
            if target.name == "corrupted-blur-1":
                raise RuntimeError("out of memory")
        return embedded(plan, unit, device, target)

    monkeypatch.setattr(job_steps, "unit_features", broken)
    asked = Grid(
        tasks=(f"folder:{folder}",),
        encoders=(mine,),
        labels=("20", "100"),
        seeds=3,
        corruptions=("blur", "noise"),
        levels=("1",),
    )
    store = execution.run(replace(asked, protocols=("linear", "knn")), tmp_path / "out")
    assert tried.count("corrupted-blur-1") == 1
    targets = [row.cell.target for row in store.rows().values()]
    assert {name: targets.count(name) for name in set(targets)} == {
        "test": 8,
        "corrupted-noise-1": 8,
    }
    assert list(store.failures().values()) == ["RuntimeError: out of memory"] * 8


def test_features_that_are_not_finite_are_looked_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All draws share them: what a protocol says of its input is the reason of every fit."""
    linear = registry.protocol("linear")
    asked: list[int] = []

    def counted(train: object, targets: object, draws: list[np.ndarray]) -> object:
        asked.append(len(draws))
        return linear.evaluate(train, targets, draws)  # type: ignore[arg-type]

    monkeypatch.setitem(registry.protocols(), "linear", replace(linear, evaluate=counted))
    (tmp_path / "bad.py").write_text(
        "import torch\n"
        "class Nan(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.where(x > 0, torch.nan, x).mean((2, 3)) if len(x) > 2 else x.mean((2, 3))\n"
        "def nan(size=32, mean=(0, 0, 0), std=(1, 1, 1)):\n"
        "    return Nan()\n"
    )
    store = execution.run(
        Grid(
            tasks=(f"folder:{folder}",),
            encoders=(f"{tmp_path / 'bad.py'}:nan",),
            labels=("20", "50", "100"),
            seeds=3,
        ),
        tmp_path / "out",
    )
    assert asked == [7]
    assert len(store.failures()) == 7 and all(
        "not finite" in reason for reason in store.failures().values()
    )


def test_two_results_folders_do_not_share_a_fine_tunings_scratch(
    folder: Path, mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run ends, and clears its scratch, just before the first writes a checkpoint."""
    import torch

    short = replace(MODERN, steps=4, epochs=0.1, rates=(1e-3,), batch=8)
    monkeypatch.setitem(
        registry.protocols(), "finetune", finetune._protocol("finetune", 1, "short", short)
    )
    asked = Grid(
        tasks=(f"folder:{folder}",),
        encoders=(mine,),
        labels=("100",),
        protocols=("finetune",),
        seeds=1,
    )
    save = torch.save
    others: list[Store] = []

    def overtaken(record: object, file: Path) -> None:
        if not others:
            others.append(Store(tmp_path / "other"))
            execution.run(asked, tmp_path / "other")
        save(record, file)

    monkeypatch.setattr(torch, "save", overtaken)
    store = execution.run(asked, tmp_path / "out")
    assert store.failures() == {}
    assert essence(store.rows()) == essence(others[0].rows()) and len(store.rows()) == 1


def test_a_second_data_set_of_the_same_name_does_not_mix_in(
    folder: Path, medbench: Callable[..., int], tmp_path: Path
) -> None:
    """Three seeds on one data set, then one seed on another into the same folder.

    One seed is shown.
    """
    arguments = [
        "--size",
        "32",
        "--labels",
        "20",
        "--methods",
        "random",
        "--out",
        str(tmp_path / "out"),
    ]
    assert medbench("run", "--task", f"folder:{folder}", "--seeds", "3", *arguments) == 0
    other = tmp_path / "other" / "mine"
    shutil.copytree(folder, other)
    (other / "test" / "nv" / "test0.png").unlink()
    assert medbench("run", "--task", f"folder:{other}", "--seeds", "1", *arguments) == 0
    (board,) = leaderboard.leaderboards(Store(tmp_path / "out"))
    assert [len(line.rows) for line in board.lines] == [1]
    assert board.about["parts"]["test"][0] == 17


def test_two_methods_on_the_same_weights_have_their_own_features(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class Blind(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(images), 5)

    supervised = registry.method("supervised")
    blind = replace(supervised, name="blind", encoder=lambda encoder, weights, seed: Blind())
    monkeypatch.setitem(registry.methods(), "blind", blind)
    asked = Grid(
        tasks=(f"folder:{folder}",), size=32, labels=("100",), methods=("supervised", "blind")
    )
    rows = {row.cell.method: row for row in execution.run(asked, tmp_path / "out").rows().values()}
    assert rows["blind"].metrics["auc"]["value"] == 0.5
    assert rows["supervised"].metrics["auc"]["value"] > 0.6


def test_started_inside_the_data_it_does_not_read_its_own_results(
    folder: Path,
    medbench: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    arguments = [
        "run",
        "--task",
        "folder:.",
        "--size",
        "32",
        "--labels",
        "100",
        "--methods",
        "random",
    ]
    assert medbench(*arguments) == 0
    assert medbench(*arguments) == 0
    assert "0 new rows" in capsys.readouterr().out


def test_the_plan_computes_nothing(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert medbench(*job(folder, "--plan")) == 0
    printed = capsys.readouterr().out
    assert "54" in printed, "images to embed"
    assert re.search(r"\d+ \+ solving", printed)
    assert not (tmp_path / "runs").exists()
    assert images.cache_entries(images.cache_folder(), "features") == {}


def test_the_plan_says_once_what_all_have_and_what_all_will_cost(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "run",
        "--task",
        "derm",
        "--data",
        "phantom",
        "--size",
        "32",
        "--labels",
        "100",
        "--plan",
        "--methods",
    ]
    assert medbench(*arguments, "simclr,swav,dino,dvme") == 0
    plan = capsys.readouterr().out.partition("\nlines")[0]
    assert (
        "plan: derm, phantom, tf_efficientnet_lite0 32 px" in plan
        and "of simclr + swav + dino" in plan
    )
    assert re.search(r"│ all +│ +│ +6 │ +6 │ +12,000 │ +6,090 │", plan), (
        "a fusion's members are counted once"
    )
    assert medbench(*arguments, "dvme") == 0
    plan = capsys.readouterr().out
    assert "simclr on phantom" in plan and "│ all" not in plan


def test_split_prints_the_ids_a_run_uses(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        medbench("data", "split", f"folder:{folder}", "--labels", "10", "--seeds", "2", "--ids")
        == 0
    )
    shown = capsys.readouterr()
    assert "no group column: images of one patient may stand on both sides" in shown.err, (
        "as a run says it"
    )
    lines = shown.out.splitlines()
    assert lines[0] == "part,labels,seed,id"
    assert sum(line.startswith("test,,0,") for line in lines) == 18
    assert sum(line.startswith("train,10%,1,") for line in lines) == 4
    assert medbench(*job(folder, "--methods", "random")) == 0
    capsys.readouterr()
    assert medbench("data", "split", f"folder:{folder}", "--labels", "10", "--seeds", "2") == 0
    printed = capsys.readouterr().out
    for row in Store(tmp_path / "runs" / "folder-mine").rows().values():
        if row.cell.labels == "10%":
            assert row.provenance["subset_sha256"] in printed


def test_cache_shows_and_prunes(
    folder: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench(*job(folder, "--methods", "random")) == 0
    capsys.readouterr()
    assert medbench("cache") == 0
    assert "features: 1 entry" in capsys.readouterr().out
    assert medbench("cache", "--prune") == 0
    assert images.cache_entries(images.cache_folder(), "features") == {}
