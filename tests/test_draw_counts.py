"""How many draws a line gets: by a rule that is known at plan time, and never by what came out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.results import make

from medbench import Grid
from medbench.models import encoder_speed
from medbench.report.leaderboard import leaderboards
from medbench.report.methods_text import methods_text
from medbench.run import cost_estimate, execution, labelled_subsets, planning
from medbench.run.draw_counts import number_of_draws, number_of_initialisations
from medbench.run.store import Store
from medbench.schema import Row, UserError, registry


@pytest.mark.parametrize(
    ("images", "probe", "head"),
    [
        (8, 20, 10),
        (70, 20, 10),
        (220, 20, 10),
        (221, 10, 5),
        (701, 10, 5),
        (2000, 5, 3),
        (7006, 3, 3),
    ],
)
def test_cheap_draws_are_many_and_a_number_that_is_given_is_meant(
    images: int, probe: int, head: int
) -> None:
    linear, finetune, dvme = (
        registry.protocol("linear"),
        registry.protocol("finetune"),
        registry.method("dvme"),
    )
    assert (
        number_of_draws("auto", images)
        == number_of_draws("auto", images, linear, registry.method("concat"))
        == probe
    )
    assert number_of_draws("auto", images, linear, dvme) == head
    assert (
        number_of_draws("auto", images, finetune)
        == number_of_draws("auto", images, finetune, dvme)
        == 3
    )
    assert number_of_draws(7, images, finetune, dvme) == 7


def test_all_labels_are_one_draw_and_three_initialisations_of_a_head() -> None:
    assert number_of_initialisations("auto") == 3 and number_of_initialisations(7) == 7


def test_each_line_of_a_plan_has_its_own_number_of_the_same_draws() -> None:
    asked = Grid(
        methods=("supervised", "dvme"),
        protocols=("linear", "finetune"),
        labels=("10", "50", "100"),
        data="phantom",
    )
    plan = planning.plan(asked)
    counts = Counter(
        (c.method, c.protocol, c.labels) for c in (planned.cell for planned in plan.cells)
    )
    assert {key[1:]: n for key, n in counts.items() if key[0] == "supervised"} == {
        **{("linear", "10%"): 20, ("linear", "50%"): 10, ("linear", "100%"): 1},
        **{("finetune", "10%"): 3, ("finetune", "50%"): 3, ("finetune", "100%"): 3},
    }
    assert {key[1:]: n for key, n in counts.items() if key[0] == "dvme"} == {
        **{("linear", "10%"): 10, ("linear", "50%"): 5, ("linear", "100%"): 3},
        **{("finetune", "10%"): 3, ("finetune", "50%"): 3, ("finetune", "100%"): 3},
    }
    few = planning.plan(replace(asked, seeds=3))
    of_few, of_all = ({one.cell: one.fingerprint for one in made.cells} for made in (few, plan))
    assert of_few.items() <= of_all.items(), (
        "the first three draws are the same, to the fingerprint"
    )


def test_data_split_shows_the_draws_of_a_probe() -> None:
    found, _ = labelled_subsets.splits(Grid(labels=("10", "100"), data="phantom"))
    assert Counter(one.labels for one in found if one.labels) == {"10%": 20, "100%": 1}


def test_a_later_run_with_more_draws_adds_rows_and_keeps_those_that_are_there(
    folder: Path, mine: str, tmp_path: Path
) -> None:
    asked = Grid(
        tasks=(f"folder:{folder}",),
        encoders=(mine,),
        protocols=("knn",),
        labels=("20", "100"),
        seeds=3,
        size=32,
    )
    execution.run(asked, tmp_path / "out")
    rows = (tmp_path / "out" / "rows.jsonl").read_bytes()
    store = execution.run(replace(asked, seeds="auto"), tmp_path / "out")
    after = (tmp_path / "out" / "rows.jsonl").read_bytes()
    assert after.startswith(rows) and len(rows.splitlines()) == 4
    seeds = Counter(json.loads(line)["cell"]["labels"] for line in after.splitlines())
    assert seeds == {"20%": 20, "100%": 1}
    lines = [
        (line.cell.labels, len(line.rows), line.status) for line in leaderboards(store)[0].lines
    ]
    assert lines == [("20%", 20, "done"), ("100%", 1, "done")]
    execution.run(asked, tmp_path / "out")
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == after, (
        "and one with fewer takes none away"
    )
    said = methods_text(leaderboards(Store(tmp_path / "out"))).paragraph
    assert "Label budgets: 20\\% (20 draws) and 100\\% of the training part" in said


def test_the_plan_shows_the_draws_of_each_line_and_what_they_cost(
    folder: Path,
    mine: str,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [
        "run",
        "--task",
        f"folder:{folder}",
        "--encoder",
        mine,
        "--protocols",
        "knn",
        "--labels",
        "20,100",
        "--size",
        "32",
        "--out",
        "out",
    ]

    def seconds(*more: str) -> list[tuple[str, str]]:
        assert medbench(*asked, *more, "--plan") == 0
        lines = capsys.readouterr().out.partition("\nlines")[2].splitlines()
        cells = [[cell.strip() for cell in line.split("│")] for line in lines if "knn" in line]
        return [(line[-4], line[-2]) for line in cells]

    assert seconds() == [("20", "not known yet"), ("1", "not known yet")]
    assert seconds("--seeds", "2", "--pretrain-seeds", "1") == [
        ("2", "not known yet"),
        ("1", "not known yet"),
    ]
    assert medbench(*asked, "--seeds", "2") == 0
    *_, answer, _, _ = capsys.readouterr().out.splitlines()
    assert answer.endswith("No other line was run."), (
        "the run ends in its answer, before where its files are and what is next"
    )
    rows = [json.loads(line) for line in Path("out/rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["cost"]["seconds"] = {("20%", 0): 9.0, ("20%", 1): 1.0, ("100%", 0): 7.0}[
            row["cell"]["labels"], row["cell"]["seed"]
        ]
        del row["checksum"]
    Path("out/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    assert seconds() == [("20", "90"), ("1", "0")], (
        "18 draws more, each as long as one of those that are there, 5 s"
    )


def test_the_plan_says_what_it_would_cost_to_speak_of_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoder_speed, "measured_speed", lambda *_: 1000.0)
    asked = Grid(
        methods=("random", "supervised", "simclr", "swav", "dino", "dvme"),
        labels=("10", "100"),
        data="phantom",
    )
    plan = planning.plan(asked)
    (note,) = cost_estimate.more_pretrainings(plan, cost_estimate.Speeds(plan))
    units = {unit.method.name: unit for unit in plan.units}
    views = sum(
        recipe.views for name in ("simclr", "swav", "dino") for recipe in units[name].recipes
    )
    images = len(units["random"].data.hashes)
    seconds = 2 * (cost_estimate.PASSES * views + 4 * images) / 1000
    rows = 2 * sum(len(units[name].cells) for name in units if name != "supervised")
    assert (
        "results for random, simclr, swav, dino, dvme hold for one set of weights" in note.text
    ), "the fusion's members are counted once"
    assert (
        f"take about {seconds:,.0f} s more to pretrain and embed, and {rows:,} more rows to solve."
        in note.text
    )
    for changes in (
        {"methods": ("supervised",)},
        {"methods": ("random", "supervised"), "pretrain_seeds": 2},
    ):
        other = planning.plan(replace(asked, **changes))  # type: ignore[arg-type]
        assert cost_estimate.more_pretrainings(other, cost_estimate.Speeds(other)) == []


def test_a_number_of_views_is_the_standard_recipe_so_long() -> None:
    asked = Grid(methods=("supervised", "simclr", "micle", "supervised-bn"), data="phantom")
    long, quick, short = (
        {unit.method.name: unit for unit in planning.plan(replace(asked, pretrain=pretrain)).units}
        for pretrain in ("standard", "quick", "5000")
    )
    for name in ("simclr", "micle"):
        assert sum(recipe.views for recipe in short[name].recipes) == 5000
        for one, other in zip(short[name].recipes, long[name].recipes, strict=True):
            assert one.having(views=0) == other.having(views=0)
        assert short[name].weights.name.endswith("(supervised), 5,000 views")
        hashes = {units[name].weights.sha256 for units in (long, quick, short)}
        assert len(hashes) == 3
    assert short["supervised-bn"].recipes == long["supervised-bn"].recipes


def test_a_run_says_what_a_standard_pretraining_would_take() -> None:
    asked = Grid(methods=("supervised", "simclr", "swav", "dvme:simclr+swav"), data="phantom")
    plan = planning.plan(asked)
    units = {unit.method.name: unit for unit in plan.units}

    def row(name: str, pace: float | None) -> Row:
        about = {
            "weights_sha256": units[name].weights.sha256,
            "pretraining": [{"views_per_second": pace}],
        }
        return replace(make("simclr", "10%", 0, 0.8)[0], provenance=about)

    (note,) = cost_estimate.longer_pretraining(plan, [row("simclr", 100.0), row("swav", 140.0)])
    images = len(units["simclr"].data.learnt_from[0])
    assert (
        f"sees {100 * images:,}: about {round(100 * images / 120 / 60)} min a method" in note.text
    )
    assert cost_estimate.longer_pretraining(plan, [row("simclr", None)]) == []
    standard = planning.plan(replace(asked, pretrain="standard"))
    assert cost_estimate.longer_pretraining(standard, [row("simclr", 100.0)]) == []


def test_draws_that_are_not_under_all_pretrainings_are_refused_before_anything_is_computed(
    tmp_path: Path,
) -> None:
    """More draws for the first pretraining alone.

    The table would refuse their mean at the end of the run.
    """
    asked = Grid(
        methods=("random",), labels=("10",), seeds=3, pretrain_seeds=2, size=32, data="phantom"
    )
    store = Store(tmp_path / "out")
    store.create()
    store.add_plan(planning.plan(asked).file)
    store.check_crossed(planning.plan(replace(asked, seeds=2, pretrain_seeds=1)).file)
    store.check_crossed(planning.plan(replace(asked, seeds="auto")).file)
    alone = planning.plan(replace(asked, seeds="auto", pretrain_seeds=1))
    with pytest.raises(
        UserError,
        match=r"random linear 10% in .*out would have 20 draws under one pretraining seed and 3 under another.*--pretrain-seeds 2",
    ):
        execution.execute(alone, store)
    store.check_crossed(
        replace(
            alone.file, cells=tuple(replace(cell, setting="another") for cell in alone.file.cells)
        )
    )
