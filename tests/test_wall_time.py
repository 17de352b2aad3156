"""How long several processes take: pieces handed out as workers take them."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medbench import Grid, Store
from medbench.models import encoder_speed
from medbench.models.finetune import MODERN, TRUONG2021_LINEAR, training_trial
from medbench.models.pretrain import Recipe
from medbench.models.pretrain import training_trial as pretraining_trial
from medbench.run import cost_estimate, planning, trial_fits, wall_time
from medbench.run.wall_time import Piece, makespan
from medbench.schema import Encoder, Kind
from tests.fakes.finetuning import NETWORK, SHORT


def test_equal_pieces_are_shared_evenly() -> None:
    eight = [Piece((), 0.0, 3.0)] * 8
    assert [makespan(eight, n) for n in (1, 2, 3, 8, 20)] == [24, 12, 9, 3, 3]


def test_what_is_prepared_is_prepared_once_and_others_go_on_meanwhile() -> None:
    tuned = [Piece(("train-a",), 10.0, 5.0), *[Piece(("train-a",), 0.0, 5.0)] * 3]
    assert makespan(tuned, 1) == 10 + 4 * 5
    assert makespan(tuned, 4) == 10 + 5, "the other three wait for the training"
    assert makespan([*tuned, Piece((), 0.0, 9.0)], 2) == 20, (
        "one of them does what needs no training: 9 + 1 of waiting, then two each"
    )
    assert makespan([], 3) == 0


def test_the_plan_says_what_several_workers_take(
    folder: Path,
    tmp_path: Path,
    mine: str,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [
        "run",
        "--task",
        f"folder:{folder}",
        "--encoder",
        mine,
        "--labels",
        "100",
        "--out",
        str(tmp_path / "out"),
    ]
    assert medbench(*words, "--plan", "--workers", "2") == 0
    said = capsys.readouterr().out
    assert re.search(r"2 workers: about \d+ s of wall time; one at their speed: \d+ s", said)
    monkeypatch.setattr(trial_fits, "of_features", lambda *_: {})
    assert medbench(*words, "--plan", "--workers", "2") == 0
    assert re.search(
        r"2 workers: about \d+ s of wall time, and the solving that no row\s+here tells of; one at their speed",
        capsys.readouterr().out,
    )
    assert medbench(*words) == 0
    capsys.readouterr()
    assert medbench(*words, "--labels", "5/class", "--plan") == 0
    assert "workers:" not in capsys.readouterr().out


def test_pieces_are_the_missing_jobs(
    folder: Path, tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_estimate.Speeds, "of", lambda self, part: 9.0)
    grid = Grid(
        tasks=(f"folder:{folder}",),
        encoders=(mine,),
        protocols=("linear", "finetune"),
        labels=("5/class",),
        seeds=3,
    )
    plan = planning.plan(grid)
    found = wall_time.pieces(plan, cost_estimate.costs(plan, Store(tmp_path / "out"), "cpu"), "cpu")
    assert [(len(piece.shared), piece.preparing) for piece in found] == [
        (1, 54 / 9.0),
        (0, 0.0),
        (0, 0.0),
        (0, 0.0),
    ]


def test_cells_that_no_row_tells_of_are_tried(
    folder: Path, tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_estimate.Speeds, "of", lambda self, part: 9.0)
    monkeypatch.setattr(training_trial, "seconds_a_view", lambda *_, recipe: 0.5)
    grid = Grid(
        tasks=(f"folder:{folder}",),
        encoders=(mine,),
        protocols=("linear", "finetune"),
        labels=("5/class", "100"),
        seeds=2,
    )
    plan, store = planning.plan(grid), Store(tmp_path / "out")
    (cost,) = cost_estimate.costs(plan, store, "cpu", trials=True)
    scored = len(plan.targets_of(cost.unit.data)[0].split)
    for planned, seconds in cost.solving.items():
        assert seconds is not None
        if planned.cell.protocol == "finetune":
            trained, embedded = MODERN.passes(len(plan.draw(planned.cell)))
            assert seconds == pytest.approx(0.5 * trained + (embedded + scored) / 9.0)
        else:
            assert 0 < seconds < 30
    assert not store.folder.exists() and cost.solve_seconds == sum(cost.solving.values())  # type: ignore[arg-type]
    order = [piece.seconds for piece in wall_time.pieces(plan, [cost], "cpu")]
    assert len(order) == 5 and order[1:] == sorted(order[1:], reverse=True), "the longest first"
    monkeypatch.setattr(trial_fits, "fit_and_score", lambda *_: pytest.fail("it was tried"))
    known = cost_estimate.costs(plan, store, "cpu")
    assert known[0].solve_seconds is None, "only where it was asked for"


def test_what_cannot_be_tried_is_not_known(
    folder: Path, tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> float:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(cost_estimate.Speeds, "of", lambda self, part: 9.0)
    monkeypatch.setattr(training_trial, "seconds_a_view", broken)
    sets = []
    own_sets = trial_fits._own_sets
    monkeypatch.setattr(trial_fits, "_own_sets", lambda *of: sets.append(of) or own_sets(*of))
    asked = Grid(
        tasks=(f"folder:{folder}",),
        encoders=(mine,),
        protocols=("linear", "finetune"),
        labels=("100",),
        seeds=2,
    )
    plan, store = planning.plan(asked), Store(tmp_path / "out")
    (cost,) = cost_estimate.costs(plan, store, "cpu", trials=True)
    known = {planned.cell.protocol: seconds for planned, seconds in cost.solving.items()}
    assert known["finetune"] is None and known["linear"] is not None
    assert len(sets) == 1, "a unit's sets are the same for all its cells"
    monkeypatch.setattr(cost_estimate.Speeds, "width", broken)
    (cost,) = cost_estimate.costs(plan, store, "cpu", trials=True)
    assert set(cost.solving.values()) == {None}


def test_a_fine_tuning_tells_its_passes() -> None:
    assert MODERN.passes(35) == (200 * 32, 35), "too few to hold out; the start is a probe"
    held, whole = 200, 1 + 3 * 0.2
    assert MODERN.passes(1000) == (250 * 32 * whole, held * (20 * whole + 1) + 800)
    trained, embedded = TRUONG2021_LINEAR.passes(100)
    assert trained == 0, "the encoder is frozen"
    assert embedded == 63 * 64 + 20 * (51 + 1)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_a_step_of_a_fine_tuning_is_tried(kind: Kind) -> None:
    took = training_trial.seconds_a_view(NETWORK, kind, 3, "cpu", recipe=SHORT)
    assert 0 < took < 5


def test_steps_of_a_pretraining_that_nobody_made_here_are_tried(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_estimate.Speeds, "of", lambda self, part: 9.0)
    grid = Grid(
        tasks=(f"folder:{folder}",),
        methods=("simclr",),
        source="task",
        encoders=("test_resnet",),
        size=32,
        labels=("100",),
    )
    plan, store = planning.plan(grid), Store(tmp_path / "out")
    views = sum(recipe.views for recipe in plan.units[0].recipes)
    (cost,) = cost_estimate.costs(plan, store, "cpu")
    assert cost.seconds == pytest.approx((cost_estimate.PASSES * views + cost.to_embed) / 9.0)
    asked = []

    def tried(build: object, encoder: Encoder, recipe: Recipe, *given: object) -> float:
        asked.append(recipe.views)
        return real(build, encoder, recipe, *given)  # type: ignore[arg-type]

    real = pretraining_trial.seconds_a_view
    monkeypatch.setattr(pretraining_trial, "seconds_a_view", tried)
    speeds = cost_estimate.Speeds(plan, "cpu")
    (cost,) = cost_estimate.costs(plan, store, "cpu", speeds, trials=True)
    assert asked == [views], "a stage once"
    assert cost.seconds is not None and cost.seconds > cost.to_embed / 9.0
    assert set(speeds._views.values()) != {None}
    (note,) = cost_estimate.more_pretrainings(plan, speeds)
    assert f"take about {2 * cost.seconds:,.0f} s more" in note.text, "as the table has it"

    def broken(*_: object) -> float:
        raise ValueError("somebody else's code")

    monkeypatch.setattr(pretraining_trial, "seconds_a_view", broken)
    (cost,) = cost_estimate.costs(plan, store, "cpu", trials=True)
    assert cost.seconds == pytest.approx((cost_estimate.PASSES * views + cost.to_embed) / 9.0)


def test_an_encoder_that_fails_on_its_trial_batch_leaves_its_seconds_unknown(
    folder: Path,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "large.py").write_text(
        "import torch\n"
        "class Large(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        if len(x) > 20:\n"
        "            raise RuntimeError('not so\\nmany')\n"
        "        return x.mean((2, 3))\n"
        "def net(size=40, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)): return Large()\n"
    )
    asked = ("run", "--task", f"folder:{folder}", "--encoder", f"{tmp_path / 'large.py'}:net")
    asked += ("--protocols", "linear,finetune", "--labels", "100", "--plan", "--json", "plan.json")
    for workers in ((), ("--workers", "2")):
        assert medbench(*asked, *workers) == 0
        said, warned = capsys.readouterr(), [one.getMessage() for one in caplog.records]
        assert sum("RuntimeError: not so many" in line for line in warned) == 1
        caplog.clear()
        assert " + encoder" in said.out
        assert {one["unit_seconds"] for one in json.loads(Path("plan.json").read_text())} == {None}
    assert ", and the work of encoders that failed" in " ".join(said.out.split())


def test_a_trial_batch_that_does_not_fit_is_divided_as_in_a_run() -> None:
    class Large(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 20:
                raise RuntimeError("CUDA out of memory")
            return x.mean((2, 3))

    encoder = Encoder("large", "large", "", 32, (0.5,) * 3, (0.5,) * 3, "bicubic")
    assert encoder_speed.trial_speed(Large, encoder, "cpu", "fp32") > 0


def test_drawn_features_take_the_memory_of_themselves_alone() -> None:
    """They took seven times as much, in float64: gigabytes of the largest tasks."""
    labels = np.arange(20_000) % 3
    task = SimpleNamespace(classes=("a", "b", "c"))
    unit: Any = SimpleNamespace(
        data=SimpleNamespace(parts={"train": SimpleNamespace(labels=labels)}, task=task)
    )
    tracemalloc.start()
    try:
        array = trial_fits._drawn(unit, 256).array
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert array.dtype == np.float32 and most < 1.7 * array.nbytes
    centres = np.stack([array[labels == c].mean(0) for c in range(3)])
    assert np.linalg.norm(centres[0] - centres[1]) > 0.8, "they hold something of the classes"
