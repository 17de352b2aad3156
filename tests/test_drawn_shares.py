"""What a percentage holds of each class beside its share of the images.

Told as numbers where percentages stand, against counts made here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medbench import Grid, Store
from medbench.report.leaderboard import leaderboards, notes
from medbench.run import labelled_subsets, planning
from medbench.stats.drawn_shares import Held, held, share_notes

KINDS = Path(__file__).parents[1] / "results" / "kinds"


def numbers(text: str, budget: str) -> list[float]:
    """The percentages that a note says of a budget."""
    (of_budget,) = [
        part for part in re.split(r"[;.] |: (?=\d)", text) if part.startswith(f"{budget} contains")
    ]
    return [float(n) for n in re.findall(r"([\d.]+) %", of_budget)]


def test_a_class_of_one_image_is_a_hundred_percent_of_itself_at_one_percent() -> None:
    labels = np.repeat([0, 1, 2], [160, 39, 1])
    draw = np.array([0, 160, 199])
    (note,) = share_notes(
        {"1%": [held(labels[draw], 3)]}, held(labels, 3), ("a", "b", "c"), several=False, task="own"
    )
    assert note.kind == "enriched" and note.text.startswith(
        "own: 1% contains 1.5 % of the images and 100 % of c. A published fraction"
    )


def test_images_of_several_labels_are_told_with_the_sum_of_their_findings_and_what_is_alike_is_said_to_be() -> (
    None
):
    pool = Held(100, np.array([20, 10]))
    drawn = {
        "10%": [Held(10, np.array([4, 1])), Held(10, np.array([6, 2]))],
        "50%": [Held(50, np.array([10, 5]))],
        "5/class": [pool],
    }
    (note,) = share_notes({**drawn, "100%": [pool]}, pool, ("x", "y"), several=True)
    # 13 of 60 findings in two draws, 10 of 40 of x
    assert (
        "10% contains 10 % of the images, 21.7 % of the findings and 25 % of x (mean of 2 draws)"
        in note.text
    )
    assert "50%" not in note.text and "5/class" not in note.text and "100%" not in note.text
    assert not share_notes({"100%": [pool], "n50": [pool]}, pool, ("x", "y"), several=True)


def test_a_plan_and_the_split_tell_what_the_draws_hold(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = Grid(
        tasks=("chest",), data="phantom", labels=("1%", "10%"), seeds=2, methods=("supervised",)
    )
    plan = planning.plan(grid)
    (data,) = plan.tasks
    labels, shares = data.pool.labels, {}
    for budget in ("1%", "10%"):
        draws = [plan.draws["chest", "phantom", budget, seed] for seed in range(2)]
        images = np.mean([len(index) for index in draws]) / len(labels)
        of_class = np.mean([(labels[index] == 1).sum(0) for index in draws], axis=0)
        pool = (labels == 1).sum(0)
        shares[budget] = [
            100 * float(x) for x in (images, of_class.sum() / pool.sum(), (of_class / pool).max())
        ]
    (told,) = [note.text for note in plan.notes if note.kind == "enriched"]
    assert all(
        numbers(told.removeprefix("chest: "), budget) == pytest.approx(of, rel=5e-3)
        for budget, of in shares.items()
    )
    assert (
        medbench("data", "split", "chest", "--data", "phantom", "--labels", "1,10", "--seeds", "2")
        == 0
    )
    assert told in capsys.readouterr().err


def test_a_leaderboard_tells_it_from_its_rows() -> None:
    (board,) = [
        board for board in leaderboards(Store(KINDS)) if board.about["kind"] == "multilabel"
    ]
    (told,) = [note.text for note in notes(board) if note.kind == "enriched"]
    rows = {row.cell.seed: row for line in board.at("10%") for row in line.rows}.values()
    pool = next(iter(rows)).provenance["parts"]["train"]
    of_class = np.mean([list(row.provenance["subset_classes"].values()) for row in rows], axis=0)
    images, findings = (
        np.mean([row.n_labels for row in rows]) / pool["images"],
        of_class.sum() / sum(pool["classes"]),
    )
    assert numbers(told, "10%")[:2] == pytest.approx([100 * images, 100 * findings], rel=5e-3)


def test_a_budget_that_comes_to_all_images_is_told(folder: Path, mine: str) -> None:
    """36 training images, 12 a class: 50 a class are all of them, 5 a class are not."""
    grid = Grid(
        tasks=(f"folder:{folder}",),
        encoders=(mine,),
        protocols=("knn",),
        labels=("5/class", "50/class", "n200"),
        size=32,
    )
    said = [note.text for note in planning.plan(grid).notes if "training images" in note.text]
    assert said == [
        f"folder:{folder.name}: 50/class, n200 come to all 36 training images: the line is called 100%"
    ]
    assert said[0] in [note.text for note in labelled_subsets.splits(grid)[1]]
