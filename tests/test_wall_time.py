"""How long several processes take: pieces handed out as workers take them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medbench import Grid, Store
from medbench.run import cost_estimate, planning, wall_time
from medbench.run.wall_time import Piece, makespan


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
    folder: Path, tmp_path: Path, mine: str, medbench: Callable[..., int], capsys
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
