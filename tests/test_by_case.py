"""Runs by case: what is drawn and scored is a case, whichever protocol judges it, and attention
finds what one image of five shows."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trees.cases import Sign, one_of, spread, write_cases

from medbench import Grid, Store
from medbench.data import examples
from medbench.report import clinical, leaderboard
from medbench.report.compare import compare
from medbench.run.execution import run
from medbench.run.planning import plan
from medbench.schema import Split, UserError
from medbench.stats.case_labels import cases_of, label_cases

JUDGES = ("linear", "case-mean", "case-attention")


def grid_of(task: str, encoder: str, **more: object) -> Grid:
    fields = {
        "labels": ("all",),
        "methods": ("given",),
        "seeds": 2,
        "audit": False,
        "by": "case",
        **more,
    }
    return Grid(tasks=(task,), encoders=(encoder,), **fields)  # type: ignore[arg-type]


def differences(store: Store) -> dict[str, tuple[float, float, float]]:
    """Protocol -> its AUC less that of the mean of image scores, paired on the cases, with its
    interval."""
    (board,) = leaderboard.leaderboards(store)
    found = {}
    for pair in compare(board, "auc", 0.0):
        names = [line.cell.protocol for line in (pair.first, pair.second)]
        if "linear" in names:
            turned = 1 if names[1] == "linear" else -1
            low, high = pair.verdict.difference.interval()
            found[names[names[0] == "linear"]] = (
                turned * pair.verdict.difference.value,
                *sorted((turned * low, turned * high)),
            )
    return found


def test_attention_finds_the_lesion_that_one_of_five_images_shows(tmp_path: Path) -> None:
    store = run(
        grid_of(*write_cases(tmp_path / "one", one_of, 100, 60), protocols=JUDGES, seeds=1),
        tmp_path / "out",
    )
    assert differences(store)["case-attention"][0] > 0.05
    rows = store.rows().values()
    assert {row.cell.task for row in rows} == {"folder:t.csv:by-case"} and {
        row.n_labels for row in rows
    } == {100}
    chosen = next(row.chosen for row in rows if row.cell.protocol == "case-attention")
    assert chosen["rule"] == "5-fold grouped CV" and 10 <= chosen["steps"] <= 120


@pytest.mark.slow
@pytest.mark.parametrize("sign", [one_of, spread])
def test_attention_wins_where_it_should_and_loses_nothing_elsewhere(
    sign: Sign, tmp_path: Path
) -> None:
    """At all labels, paired and by case, with the interval over cases and initialisations."""
    store = run(
        grid_of(*write_cases(tmp_path / "cases", sign, 250, 250), protocols=JUDGES, seeds=3),
        tmp_path / "out",
    )
    found = differences(store)
    print(sign.__name__, {name: [round(x, 3) for x in values] for name, values in found.items()})
    gain, low, high = found["case-attention"]
    assert low > 0.03 if sign is one_of else high > 0 and gain > -0.01


def test_on_cases_of_one_image_all_agree(tmp_path: Path) -> None:
    """The mean vector of one image is the image, the mean of one score the score.

    To the bit, and as a run by image has it.
    """
    grid = grid_of(
        *write_cases(tmp_path / "single", spread, size=1),
        protocols=JUDGES,
        labels=("10/class", "all"),
    )
    store = run(grid, tmp_path / "out")
    by_image = run(replace(grid, by="image", protocols=("linear",)), tmp_path / "image")
    scores = {
        (r.cell.protocol, r.cell.labels, r.cell.seed): store.scores(r)
        for r in store.rows().values()
    }
    for row in by_image.rows().values():
        alone = by_image.scores(row)
        for protocol in ("linear", "case-mean"):
            of_case = scores[protocol, row.cell.labels, row.cell.seed]
            for name in (
                "probabilities",
                "decisions",
                "held_out_index",
                "held_out_probabilities",
                "held_out_labels",
            ):
                np.testing.assert_array_equal(of_case[name], alone[name])
    gain, low, high = differences(store)["case-attention"]
    assert low < 0 < high and abs(gain) < 0.03


def test_the_mean_of_scores_is_that_of_a_run_by_image(tmp_path: Path) -> None:
    """Fitted to all images of the cases, `linear` by case gives the case table of `clinical`,
    held-out cases too."""
    grid = grid_of(*write_cases(tmp_path / "clinic", spread, 60, 40), protocols=("linear", "knn"))
    found, images = run(grid, tmp_path / "case"), run(replace(grid, by="image"), tmp_path / "image")
    (cases,), (board,) = leaderboard.leaderboards(found), leaderboard.leaderboards(images)
    for line, of_images in zip(cases.lines, board.lines, strict=True):
        mean = clinical.by_case(clinical.read_predictions(of_images)).answers.draws[0]
        (row,) = line.rows
        scores = found.scores(row)
        np.testing.assert_allclose(scores["probabilities"], mean.probabilities, atol=1e-6)
        np.testing.assert_array_equal(scores["decisions"], mean.decisions)
        alone = images.scores(of_images.rows[0])
        if "held_out_index" in alone:
            case = alone["held_out_index"] // 5
            np.testing.assert_array_equal(scores["held_out_index"], np.unique(case))
            of_first = alone["held_out_probabilities"][case == scores["held_out_index"][0]].mean(0)
            np.testing.assert_allclose(scores["held_out_probabilities"][0], of_first, atol=1e-6)


def test_budgets_count_cases_and_a_killed_run_goes_on_alike(tmp_path: Path) -> None:
    grid = grid_of(
        *write_cases(tmp_path / "clinic", one_of, 60, 40, size=2),
        protocols=JUDGES,
        labels=("5/class", "n20"),
    )
    planned = plan(grid)
    assert {
        len(index) for (_, _, budget, _), index in planned.draws.items() if budget == "5/class"
    } == {10}
    (about,) = planned.file.tasks.values()
    assert about["parts"] == {"train": [60, 60], "test": [40, 40]} and about["by"] == "case"
    assert any("a case is all images of one bag" in mark.text for mark in about["marks"])
    whole = run(grid, tmp_path / "whole")
    text = leaderboard.markdown(whole)
    assert "| labels | cases |" in text and "Scored on 40 test cases of 40 groups" in text
    part = next(iter(whole.rows().values())).provenance["parts"]
    assert (part["train"]["images"], part["test"]["classes"], part["all"]["images"]) == (
        60,
        [20, 20],
        100,
    )
    one_budget = replace(grid, labels=("n20",))
    run(replace(one_budget, seeds=1), tmp_path / "parts")
    parts = run(one_budget, tmp_path / "parts")
    assert len(whole.rows()) == 2 * len(parts.rows()) == 2 * 2 * len(JUDGES)
    for row in whole.rows().values():
        assert (row.n_labels, row.n_requested) == (
            (10, 10) if row.cell.labels == "5/class" else (20, 20)
        )
        assert sum(row.provenance["subset_classes"].values()) == row.n_labels
    for fingerprint, row in parts.rows().items():
        one, other = whole.scores(whole.rows()[fingerprint]), parts.scores(row)
        np.testing.assert_array_equal(one["probabilities"], other["probabilities"])


def test_pixels_and_damaged_images_are_scored_by_case(tmp_path: Path, mine: str) -> None:
    """An encoder embeds images, whatever is scored; a drop is paired on cases."""
    task, _ = write_cases(tmp_path / "clinic", one_of, 30, 20)
    grid = Grid(
        (task,),
        ("all",),
        encoders=(mine,),
        by="case",
        protocols=JUDGES,
        corruptions=("noise",),
        levels=("3",),
        audit=False,
        seeds=1,
    )
    store = run(grid, tmp_path / "out")
    assert len(store.rows()) == 2 * len(JUDGES)
    for row in store.rows().values():
        assert (
            store.scores(row)["probabilities"].shape == (20, 2)
            and len(store.target(row.provenance["target"])["ids"]) == 20
        )
    shown = leaderboard.robustness_gaps(leaderboard.leaderboards(store))
    assert set(shown["status"]) == {"done"} and set(shown["paired"]) == {True}


def test_cases_of_another_data_set_are_scored_whole(tmp_path: Path, mine: str) -> None:
    """A case of which the task has an image, too, is left out with its other images; the mean of
    scores is that of a run by image; so it is where sites are held out."""
    site = lambda case: "AB"[case // 2 % 2]
    task, _ = write_cases(tmp_path / "clinic", one_of, 40, 40, columns=(("site", site),))
    away, _ = write_cases(tmp_path / "there", spread, 12, 8, size=3, seed=1)
    (tmp_path / "there" / "t.csv").rename(tmp_path / "there" / "there.csv")
    shutil.copy(tmp_path / "clinic" / "c0-0.png", tmp_path / "there" / "c3-1.png")
    grid = Grid(
        (task,),
        ("all",),
        encoders=(mine,),
        by="case",
        protocols=("linear", "case-mean"),
        shifts=(away.replace("t.csv", "there.csv"),),
        audit=False,
        seeds=1,
    )
    by_image = run(replace(grid, by="image", protocols=("linear",)), tmp_path / "image")
    (images,) = [row for row in by_image.rows().values() if row.cell.target != "test"]
    names = by_image.target(images.provenance["target"])["ids"]
    assert len(names) == 59, "by image the other two are scored"
    of_images = by_image.scores(images)["probabilities"]
    sites = replace(grid, hold_out_by="site", protocols=("case-mean",))
    for one, boards in ((grid, 1), (sites, 2)):
        store = run(one, tmp_path / f"{boards}")
        rows = [row for row in store.rows().values() if row.cell.target == "folder:there.csv"]
        assert len(rows) == boards * len(one.protocols)
        for row in rows:
            saved = store.target(row.provenance["target"])
            assert len(saved["ids"]) == 19 and not [i for i in saved["ids"] if "c3-" in i]
            found = store.scores(row)["probabilities"]
            assert found.shape == (19, 2)
            if boards == 1 and row.cell.protocol == "linear":
                for case, probability in zip(saved["ids"], found, strict=True):
                    its = [
                        str(name).startswith(str(case).rpartition("-")[0] + "-") for name in names
                    ]
                    np.testing.assert_allclose(of_images[its].mean(0), probability, atol=1e-6)
        about = next(a for a in store.plan().tasks.values() if "shift" in a)
        left = "left out: 3 images of cases of which t.csv has an image, too"
        assert any(mark.text == left for mark in about["marks"]) and about["by"] == "case"


def test_a_case_with_an_image_that_is_left_out_has_others() -> None:
    n = 5
    split = Split([Path()] * n, np.arange(n), np.zeros(n, int), np.array(list("aabba")), np.array(list("xyxxx")))  # fmt: skip
    some = np.array([True, False, False, False, False])
    assert examples.in_cases_of(split, some).tolist() == [True, False, False, False, True]


def rewritten(task: str, change: Callable[[list[str]], None]) -> None:
    file = Path(task.removeprefix("folder:"))
    with file.open(newline="") as stream:
        head, *rows = csv.reader(stream)
    for row in rows:
        change(row)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])


def test_what_cannot_be_judged_by_case_is_refused(tmp_path: Path, folder: Path, mine: str) -> None:
    task, encoder = write_cases(tmp_path / "clinic", one_of, 30, 20)
    good = grid_of(task, encoder)
    with pytest.raises(
        UserError, match=r"Unknown unit 'cases'. Allowed: image, case. Did you mean 'case'\?"
    ):
        plan(replace(good, by="cases"))
    with pytest.raises(
        UserError,
        match=r"'case-mean' judges all images of a case together.*run --protocols case-mean --by case",
    ):
        plan(replace(good, by="image", protocols=("case-mean",)))
    with pytest.raises(
        UserError, match=r"Nobody says which images of 'folder:mine' are one case.*column bag"
    ):
        plan(Grid((f"folder:{folder}",), encoders=(mine,), by="case"))

    def torn(row: list[str]) -> None:
        row[4] = "test" if row[0] == "c3-0.png" else row[4]

    rewritten(task, torn)
    for leak in (False, True):
        with pytest.raises(
            UserError, match=r"The case 'b3' has images in both train and test \(1 such case\)"
        ):
            plan(replace(good, allow_leak=leak))


@pytest.mark.parametrize(("order", "cases"), [((), 27), (("healthy", "ill", "sick"), 30)])
def test_cases_of_several_labels_follow_the_rule_of_the_task(
    order: tuple[str, ...], cases: int, tmp_path: Path
) -> None:
    """Three cases of the training part have an image of another label.

    Left out, or of the worst label where labels are ordered.
    """
    task, encoder = write_cases(tmp_path / "clinic", one_of, 30, 20)

    def mixed(row: list[str]) -> None:
        if row[0] in ("c0-1.png", "c2-4.png", "c4-2.png"):
            row[1] = "sick"
        elif order and row[0].startswith(("c6-", "c36-")):
            row[1] = "ill"

    rewritten(task, mixed)
    grid = replace(grid_of(task, encoder), order=order)
    planned = plan(grid)
    (about,) = planned.file.tasks.values()
    assert about["parts"]["train"] == [cases, cases]
    said = "the highest class of its images" if order else "none, and the case is left out"
    assert any(
        f"3 of 30 cases of the train part have images of several labels; the label is {said}"
        in m.text
        for m in about["marks"]
    )
    (data,) = planned.tasks
    assert (
        len(data.pool) == 5 * cases
        and (data.pool.labels.reshape(-1, 5) == data.pool.labels[::5, None]).all()
    )


def test_a_case_keeps_the_metadata_that_its_images_share() -> None:
    n = 6
    meta = {
        "age": np.array([40, 40, 50, np.nan, np.nan, np.nan]),
        "sex": np.array(list("ffmfmm")),
        "view": np.arange(n),
    }
    split = Split(
        [Path()] * n,
        np.arange(n).astype(str),
        np.zeros(n, int),
        np.repeat(["a", "b", "c"], 2),
        np.repeat(["a", "b", "c"], 2),
        meta,
    )
    found = examples.examples_of(split, "case")
    np.testing.assert_array_equal(found.split.meta["age"], [40, np.nan, np.nan])
    np.testing.assert_array_equal(found.split.meta["sex"], ["f", "", "m"])
    assert np.isnan(found.split.meta["view"]).all() and found.split.ids.tolist() == ["0", "2", "4"]


def test_labels_that_no_image_of_a_case_knows_are_unknown() -> None:
    labels = np.array([[1, np.nan], [0, np.nan], [np.nan, 0], [0, 0]])
    first, case = cases_of(np.array(["b", "b", "a", "a"]), np.array(["x", "x", "x", "x"]))
    assert (first.tolist(), case.tolist()) == ([0, 2], [0, 0, 1, 1]), (
        "in the order of the images, one bag's name in two groups"
    )
    found = label_cases(labels, case, "any")
    np.testing.assert_array_equal(found.labels, [[1, np.nan], [np.nan, 0]])
    assert found.kept.all() and found.mixed.tolist() == [True, False]
