"""One fit, many scored sets.

Labels of another data set in the task's words, answers read in them, and nothing fitted again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import chest, skin
from trees.files import picture
from trees.skin import make_ham

from medbench import Grid, Store, UserError, images
from medbench.data.evaluation_sets import EvaluationSet, mapped_labels, shifted, shifts_of
from medbench.data.task_data import open_task
from medbench.report import leaderboard
from medbench.report.html.summary import loud
from medbench.run import execution
from medbench.schema import NOTHING, Mark, Note, Row, Scores, Shift, registry

Medbench = Callable[..., int]
NAN = float("nan")


# Labels and answers, by hand
# -------------------------------------------------------------------------------------------------------


def test_exclusive_labels_are_renamed_and_those_without_a_meaning_left_out() -> None:
    # MEL, NV, BCC, AK, BKL, DF, VASC, SCC
    derm, isic = registry.task("derm"), registry.task("isic2019")
    means = [derm.shifts["isic2019"].classes[name] for name in derm.classes]
    labels, kept, why = mapped_labels(derm, isic, np.array([0, 1, 2, 3, 4, 5, 6, 7, 7]), means)
    assert [derm.classes[i] for i in labels[kept]] == [
        "mel",
        "nv",
        "bcc",
        "akiec",
        "bkl",
        "df",
        "vasc",
    ]
    assert kept.tolist() == [True] * 7 + [False] * 2
    assert why == {"of no common class": 2}


def test_findings_become_one_class_or_none() -> None:
    """No finding: NORMAL.

    Pneumonia, whatever is beside it: PNEUMONIA. Another finding alone: neither.
    """
    kermany, nih = registry.task("pneumonia"), registry.task("nih14")
    rows = np.zeros((4, 14))
    rows[1, nih.classes.index("Pneumonia")] = 1
    rows[2, [nih.classes.index("Pneumonia"), nih.classes.index("Edema")]] = 1
    rows[3, nih.classes.index("Edema")] = 1
    means = [kermany.shifts["nih14"].classes[name] for name in kermany.classes]
    labels, kept, why = mapped_labels(kermany, nih, rows, means)
    assert labels[kept].tolist() == [0, 1, 1]
    assert kept.tolist() == [True, True, True, False]
    assert why == {"of no common class": 1}


def test_uncertain_and_double_labels_are_no_class() -> None:
    task = replace(registry.task("pneumonia"), kind="multiclass", classes=("a", "b", "none"))
    other = replace(registry.task("nih14"), classes=("x", "y", "z"))
    rows = np.array(
        [[1, 0, 0], [0, 1, 1], [1, 1, 0], [NAN, 0, 0], [NAN, 1, 0], [0, 0, 0.0], [0, 0, NAN]]
    )
    labels, kept, why = mapped_labels(task, other, rows, [("x",), ("y", "z"), (NOTHING,)])
    assert labels[kept].tolist() == [0, 1, 2]
    assert np.flatnonzero(kept).tolist() == [0, 1, 5]
    assert why == {"of several common classes": 1, "whose label is uncertain": 3}


def test_labels_that_are_not_exclusive_stay_columns() -> None:
    """A label that two mean is there where one is, uncertain where one is and none is there."""
    task, other = (
        registry.task("chexpert"),
        replace(registry.task("nih14"), classes=("x", "y", "z")),
    )
    rows = np.array([[1, 0, NAN], [0, NAN, 0], [0, 0, 1], [NAN, 1, 0.0]])
    labels, kept, why = mapped_labels(task, other, rows, [("x", "y"), ("z",)])
    np.testing.assert_equal(labels, [[1, NAN], [NAN, 0], [0, 1], [1, 0]])
    assert kept.all()
    assert not why


def target(own: list[int] | None) -> EvaluationSet:
    return EvaluationSet(
        "there",
        "test",
        "there-1",
        None,
        ("?",),
        None,
        (),
        own=None if own is None else np.array(own),
    )  # type: ignore[arg-type]


def test_answers_are_read_over_the_common_classes() -> None:
    probabilities = np.array(
        [[0.5, 0.3, 0.2], [0.8, 0.05, 0.15], [1, 0, 0], [0.2, 0.4, 0.4]], np.float32
    )
    scores = Scores(probabilities, np.array([0, 0, 0, 2]), {"k": 1})
    read = target([1, 2]).read(scores)
    np.testing.assert_allclose(
        read.probabilities, [[0.6, 0.4], [0.25, 0.75], [0.5, 0.5], [0.5, 0.5]], atol=1e-7
    )
    assert read.decisions.tolist() == [0, 1, 0, 1], (
        "a decision for a common class stands: the last, a tie that the protocol broke its way"
    )
    assert read.chosen == {"k": 1}
    assert target(None).read(scores) is scores
    several = Scores(probabilities, np.array([[1, 0, 1]] * 4), {})
    assert (target([0, 2]).read(several).probabilities == probabilities[:, [0, 2]]).all(), (
        "not exclusive: nothing is divided"
    )
    assert target([0, 2]).read(several).decisions.tolist() == [[1, 1]] * 4


# The mappings that tasks have
# --------------------------------------------------------------------------------------------------------


def test_every_mapping_names_classes_of_both_sides() -> None:
    found = 0
    for task in registry.tasks().values():
        for name, shift in task.shifts.items():
            other = registry.task(name)
            found += 1
            assert set(shift.classes) <= set(task.classes)
            theirs = [word for words in shift.classes.values() for word in words]
            assert len(theirs) == len(set(theirs)), "one meaning each"
            assert set(theirs) <= {*other.classes, NOTHING}
            assert NOTHING not in theirs or (
                other.kind == "multilabel" and task.kind != "multilabel"
            )
    assert found >= 5


def test_isic_is_scored_without_ham10000s_images_and_their_lesions(tmp_path: Path) -> None:
    """The trees share their ids ISIC_0000000 and so on: HAM10000 has the even ones and those that
    are 1 modulo 6."""
    for number, file in enumerate(
        sorted(make_ham(tmp_path / "ham10000", ("images",)).rglob("*.jpg")), 1000
    ):
        picture(file, number)  # no two alike
    isic = skin.make_isic(tmp_path / "isic2019")
    file = isic / "ISIC_2019_Training_Metadata.csv"
    file.write_text(
        file.read_text().replace(
            "ISIC_0000003,15.0,back,BCN_0000003", "ISIC_0000003,15.0,back,BCN_0000002"
        )
    )
    grid = Grid(data=str(tmp_path))
    derm = registry.task("derm")
    data = open_task(derm, grid, images.cache_folder(), [])
    found = shifted(data, registry.task("isic2019"), derm.shifts["isic2019"], grid)
    own = {name for part in data.parts.values() for name in part.ids}
    kind = lambda i: (i % 60) % 8
    expected = [i for i in range(85) if f"ISIC_{i:07d}" not in own and kind(i) != 7 and i != 3]
    assert sorted(found.split.ids) == [f"ISIC_{i:07d}" for i in expected], (
        "3 now is an image of lesion 2, which HAM10000 has"
    )
    for name, label in zip(found.split.ids, found.split.labels, strict=True):
        theirs = registry.task("isic2019").classes[kind(int(name[-7:]))]
        assert derm.shifts["isic2019"].classes[derm.classes[label]] == (theirs,)
    scc = sum(kind(i) == 7 for i in range(85))
    assert Mark("remark", f"left out: {scc} images of no common class") in found.marks
    assert (
        Mark("remark", f"left out: {85 - scc - len(expected)} images that HAM10000 has, too")
        in found.marks
    )
    assert found.own is None, "all seven classes are there"


def test_pad_ufes_has_five_of_the_seven_classes(tmp_path: Path) -> None:
    for number, file in enumerate(
        sorted(make_ham(tmp_path / "ham10000", ("images",)).rglob("*.jpg")), 1000
    ):
        picture(file, number)  # no two alike
    skin.make_pad_ufes(tmp_path / "pad-ufes")
    derm, grid = registry.task("derm"), Grid(data=str(tmp_path))
    found = shifted(
        open_task(derm, grid, images.cache_folder(), []),
        registry.task("pad-ufes"),
        derm.shifts["pad-ufes"],
        grid,
    )
    assert found.classes == ("akiec", "bcc", "bkl", "mel", "nv")
    assert found.own is not None
    assert found.own.tolist() == [0, 1, 2, 4, 5]
    assert any(
        mark.text.startswith("df, vasc: not in PAD-UFES-20; probabilities are divided")
        for mark in found.marks
    )
    assert found.groups == "patient"


# Runs
# --------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def there(tmp_path: Path, folder: Path) -> Path:
    """Another data set with two of the three classes, and with one image that the task has, too."""
    rng = np.random.default_rng(1)
    for c, name in enumerate(("mel", "nv")):
        place = tmp_path / "there" / name
        place.mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 150, (50, 30, 3)) + np.eye(3, dtype=int)[c + 1] * 30
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    shutil.copy(folder / "train" / "mel" / "train0.png", tmp_path / "there" / "mel" / "copy.png")
    return tmp_path / "there"


@pytest.fixture
def grid(folder: Path, mine: str) -> Grid:
    return Grid(
        tasks=(f"folder:{folder}",), encoders=(mine,), size=32, labels=("20", "100"), seeds=2
    )


def essence(row: Row) -> object:
    return (row.cell, row.n_labels, row.chosen, row.metrics)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the draws that were fitted, in order."""
    seen: list[int] = []
    for name in ("linear", "knn"):
        protocol = registry.protocol(name)

        def counting(
            train: object,
            targets: object,
            draws: list[np.ndarray],
            evaluate: Callable[..., Iterator[object]],
        ) -> Iterator[object]:
            for draw, answer in zip(draws, evaluate(train, targets, draws), strict=True):
                seen.append(len(draw))
                yield answer

        wrapped = lambda *args, evaluate=protocol.evaluate: counting(*args, evaluate)
        monkeypatch.setitem(registry.protocols(), name, replace(protocol, evaluate=wrapped))
    return seen


def test_one_fit_scores_all_and_changes_nothing_at_home(
    grid: Grid, there: Path, tmp_path: Path, fits: list[int]
) -> None:
    home = execution.run(grid, tmp_path / "home").rows()
    assert len(home) == len(fits) == 3
    both = replace(grid, shifts=(f"folder:{there}",))
    store = execution.run(both, tmp_path / "both")
    rows = store.rows()
    assert len(rows) == 9, "at home, at home on the two common classes, and there"
    assert len(fits) == 6, "a fit a draw, not one a target"
    for key, row in home.items():
        assert essence(rows[key]) == essence(row)
    away = [row for row in rows.values() if row.cell.target == "folder:there"]
    assert [row.cell.labels for row in away] == ["20%", "20%", "100%"]
    for row in away:
        scores, saved = store.scores(row), store.target(row.provenance["target"])
        assert scores["probabilities"].shape == (20, 2)
        np.testing.assert_allclose(scores["probabilities"].sum(1), 1, atol=1e-6)
        assert set(scores["decisions"]) <= {0, 1}
        assert saved["ids"].shape == saved["labels"].shape == (20,)
        assert not any("copy" in name for name in saved["ids"]), "the task has it, too"
        assert row.provenance["fit"] in {
            planned.setting for planned in store.plan().cells if planned.cell.target == "test"
        }
    boards = leaderboard.leaderboards(store)
    assert [board.target for board in boards] == [
        "test",
        "test-common-folder:there",
        "folder:there",
    ]
    assert [board.target for board in leaderboard.standing(boards)] == ["test", "folder:there"]
    assert boards[2].about["classes"] == boards[1].about["classes"] == ["mel", "nv"]
    assert boards[2].about["parts"]["folder:there"] == [20, 20]
    said = "trained on mine, scored unchanged on 20 of the 21 images of there, all parts together"
    assert Mark("shift", said) in boards[2].about["marks"]
    assert boards[2].shift["of"] == "test-common-folder:there"
    for row in rows.values():
        if row.cell.target == "test-common-folder:there":
            (at_home,) = [
                other for other in rows.values() if other.cell == replace(row.cell, target="test")
            ]
            labels, all_labels = (
                store.target(each.provenance["target"]) for each in (row, at_home)
            )
            kept = np.isin(all_labels["labels"], [1, 2])
            assert (labels["ids"] == all_labels["ids"][kept]).all()
            assert (labels["labels"] == all_labels["labels"][kept] - 1).all()
            two = store.scores(at_home)["probabilities"][kept][:, 1:]
            np.testing.assert_allclose(
                store.scores(row)["probabilities"], two / two.sum(1, keepdims=True), atol=1e-6
            )

    execution.run(both, tmp_path / "both")
    assert len(fits) == 6, "all is there"
    execution.run(both, tmp_path / "home")
    assert len(fits) == 9, "rows at home are there, their fits are not kept"
    assert {key: essence(row) for key, row in Store(tmp_path / "home").rows().items()} == {
        k: essence(r) for k, r in rows.items()
    }


def test_the_score_elsewhere_is_that_of_the_common_classes(
    grid: Grid, there: Path, tmp_path: Path
) -> None:
    """Against scikit-learn on the saved probabilities."""
    from sklearn.metrics import accuracy_score, roc_auc_score

    store = execution.run(
        replace(grid, shifts=(f"folder:{there}",), labels=("100",)), tmp_path / "out"
    )
    (row,) = [row for row in store.rows().values() if row.cell.target == "folder:there"]
    scores, labels = store.scores(row), store.target(row.provenance["target"])["labels"]
    assert row.metrics["auc"]["value"] == pytest.approx(
        roc_auc_score(labels, scores["probabilities"][:, 1])
    )
    assert row.metrics["accuracy"]["value"] == pytest.approx(
        accuracy_score(labels, scores["decisions"])
    )


def test_a_run_killed_between_the_targets_of_a_draw_fits_it_once_more(
    grid: Grid, there: Path, tmp_path: Path, fits: list[int]
) -> None:
    both = replace(grid, shifts=(f"folder:{there}",), protocols=("linear", "knn"))
    whole = execution.run(both, tmp_path / "whole").rows()
    assert len(whole) == 18
    del fits[:]
    seen: list[Row] = []

    def stop(row: Row) -> None:
        seen.append(row)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execution.run(both, tmp_path / "broken", on_row=stop)
    assert seen[-1].cell.target == "test", "its shifted rows are not there"
    began = len(fits)
    again = execution.run(both, tmp_path / "broken").rows()
    assert len(fits) - began == 5, "the second draw of linear, its third, and three of knn"
    assert set(again) == set(whole)
    for key, row in whole.items():
        assert again[key].metrics == row.metrics
        assert essence(again[key]) == essence(row), (
            "to the bit: no draw depends on what is solved beside it"
        )


def test_a_fit_that_fails_is_the_reason_of_all_its_cells(
    grid: Grid, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Iterator[object]:
        raise RuntimeError("no room")
        yield

    monkeypatch.setitem(
        registry.protocols(), "linear", replace(registry.protocol("linear"), evaluate=fails)
    )
    store = execution.run(replace(grid, shifts=(f"folder:{there}",)), tmp_path / "out")
    assert len(store.failures()) == 9


def test_another_version_of_the_other_set_replaces_its_rows_alone(
    grid: Grid, there: Path, tmp_path: Path
) -> None:
    both = replace(grid, shifts=(f"folder:{there}",))
    execution.run(both, tmp_path / "out")
    (there / "nv" / "3.png").unlink()
    store = execution.run(replace(both, seeds=1), tmp_path / "out")
    lines = {
        board.target: [(line.cell.labels, len(line.rows)) for line in board.lines]
        for board in leaderboard.leaderboards(store)
    }
    common = "test-common-folder:there"
    assert lines == {
        "test": [("20%", 2), ("100%", 1)],
        common: [("20%", 2), ("100%", 1)],
        "folder:there": [("20%", 1), ("100%", 1)],
    }


@pytest.mark.parametrize(
    ("task", "make"), [("chexpert", chest.make_chexpert), ("pneumonia", chest.make_kermany)]
)
def test_chest_films_of_another_hospital(
    task: str, make: Callable[[Path], Path], mine: str, tmp_path: Path
) -> None:
    make(tmp_path / "data" / registry.task(task).folders[0])
    for number, file in enumerate(
        sorted(chest.make_nih(tmp_path / "data" / "nih").rglob("*.png")), 1000
    ):
        picture(file, number)  # other images than those of the other tree
    asked = Grid(
        (task,),
        encoders=(mine,),
        size=32,
        labels=("100",),
        data=str(tmp_path / "data"),
        shifts=("nih14",),
    )
    store = execution.run(asked, tmp_path / "out")
    assert not store.failures()
    away, home = (
        next(r for r in store.rows().values() if (r.cell.target == "nih14") == there)
        for there in (True, False)
    )
    labels = store.target(away.provenance["target"])["labels"]
    about = store.plan().tasks[f"{task}|{registry.task(task).data}|nih14"]
    if task == "chexpert":
        assert labels.shape == (120, 5), "all 60 patients, training list and test list"
        assert about["classes"] == list(registry.task("chexpert").classes)
    else:
        lines = (
            (tmp_path / "data" / "nih" / "Data_Entry_2017_v2020.csv").read_text().splitlines()[1:]
        )
        found = [line.split(",")[1].split("|") for line in lines]
        assert (labels == 1).sum() == sum("Pneumonia" in names for names in found)
        assert (labels == 0).sum() == sum(names == ["No Finding"] for names in found)
        assert any(
            mark.text.startswith(f"left out: {120 - len(labels)} images of no common class")
            for mark in about["marks"]
        )
    assert away.metrics["auc"]["value"] is not None
    assert home.provenance["target"] != away.provenance["target"]


def test_weights_that_saw_the_other_set_are_marked(grid: Grid, there: Path, tmp_path: Path) -> None:
    file = Path(grid.encoders[0].rpartition(":")[0])
    file.write_text(
        file.read_text().replace("std=(1, 1, 1)", "std=(1, 1, 1), trained_on=('there',)")
    )
    store = execution.run(
        replace(grid, shifts=(f"folder:{there}",), labels=("100",)), tmp_path / "out"
    )
    for say in (leaderboard.notes, loud):
        home, _, away = (
            "\n".join(map(str, say(board))) for board in leaderboard.leaderboards(store)
        )
        assert "SEEN" in away and ": the weights of given were trained on there" in away.replace(
            "</b>", ""
        )
        assert "SEEN" not in home


def test_features_of_a_file_serve_another_set_when_they_are_there(
    grid: Grid, there: Path, tmp_path: Path
) -> None:
    both = replace(grid, shifts=(f"folder:{there}",), labels=("100",))
    ids = [
        f"{part}/{name}/{part}{i}.png"
        for part, n in (("train", 12), ("test", 6))
        for name in ("akiec", "mel", "nv")
        for i in range(n)
    ]
    away = [f"{name}/{i}.png" for name in ("mel", "nv") for i in range(10)]
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "home.npz", ids=ids, features=rng.normal(size=(len(ids), 4)))
    np.savez(tmp_path / "all.npz", ids=ids + away, features=rng.normal(size=(len(ids + away), 4)))
    with pytest.raises(UserError, match=r"home\.npz lacks 20 of 20 images"):
        execution.run(
            replace(both, encoders=(f"features:{tmp_path / 'home.npz'}",), size=None),
            tmp_path / "out",
        )
    store = execution.run(
        replace(both, encoders=(f"features:{tmp_path / 'all.npz'}",), size=None), tmp_path / "out"
    )
    assert len(store.rows()) == 3


# What a person gets wrong
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--shift", "isic2091"],
            "Unknown shift 'isic2091'. Allowed: isic2019, pad-ufes, folder:PATH. Did you mean 'isic2019'?",
        ),
        (
            ["--shift", "nih14"],
            "No labels of 'nih14' are mapped to those of 'derm'. Allowed: isic2019, pad-ufes, folder:PATH.",
        ),
        (
            ["--shift", "isic2019", "--data", "phantom"],
            "The images of the shift 'isic2019' (ISIC 2019) are not in ",
        ),
        (
            ["--shift", "isic2019", "--on", "val"],
            "A shift is measured against the test part, not with --on val.",
        ),
        (["--shift", "folder:nowhere"], "nowhere"),
    ],
)
def test_refused(
    arguments: list[str],
    line: str,
    medbench: Medbench,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert medbench("run", *arguments) == 2
    error = [text for text in capsys.readouterr().err.splitlines() if text.startswith("medbench: ")]
    assert len(error) == 1
    assert line in error[0]
    assert not (tmp_path / "runs").exists()


def test_folders_that_cannot_be_scored(
    grid: Grid, there: Path, folder: Path, tmp_path: Path
) -> None:
    task = registry.task(f"folder:{folder}")
    (there / "nevus").mkdir()
    shutil.copy(there / "nv" / "0.png", there / "nevus" / "0.png")
    with pytest.raises(
        UserError,
        match=r"folder:there has the class 'nevus', which 'folder:mine' does not have\. Allowed: akiec, mel, nv\.",
    ):
        shifts_of([task], [f"folder:{there}"])
    shutil.rmtree(there / "nevus")
    csv = tmp_path / "several.csv"
    csv.write_text(
        "path,label:mel,label:nv\n"
        + "".join(f"there/mel/{i}.png,1,0\nthere/nv/{i}.png,0,1\n" for i in range(10))
    )
    with pytest.raises(
        UserError,
        match=r"folder:several\.csv has several labels an image, and 'folder:mine' has one label an image",
    ):
        shifts_of([task], [f"folder:{csv}"])
    shutil.copytree(there, tmp_path / "elsewhere" / "there")
    with pytest.raises(UserError, match="Two shifts of this run are called 'folder:there'"):
        shifts_of([task], [f"folder:{there}", f"folder:{tmp_path / 'elsewhere' / 'there'}"])
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(
        UserError,
        match=r"Of 'folder:copy' 0 of 54 images can be scored .*too few \(54 that mine has, too\)",
    ):
        execution.run(replace(grid, shifts=(f"folder:{tmp_path / 'copy'}",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shift_serves_the_tasks_that_have_its_labels(folder: Path) -> None:
    tasks = [registry.task("derm"), registry.task("chexpert")]
    found, notes = shifts_of(tasks, ["isic2019"])
    assert {name: [other.name for other, _ in shifts] for name, shifts in found.items()} == {
        "derm": ["isic2019"],
        "chexpert": [],
    }
    assert notes == [Note("left out", "chexpert is not scored on isic2019: no labels are mapped")]
    assert isinstance(found["derm"][0][1], Shift)


def test_the_plan_counts_the_other_sets_images(
    grid: Grid, there: Path, tmp_path: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--task",
        grid.tasks[0],
        "--encoder",
        grid.encoders[0],
        "--size",
        "32",
        "--labels",
        "100",
        "--out",
        str(tmp_path / "out"),
    ]
    assert medbench("run", *arguments, "--shift", f"folder:{there}", "--plan") == 0
    printed = capsys.readouterr().out
    assert "74" in printed, "54 and 20"
    assert "test and 2 more" in printed
    assert medbench("run", *arguments) == 0
    capsys.readouterr()
    assert medbench("run", *arguments, "--shift", f"folder:{there}", "--plan") == 0
    assert " 20 " in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["cells"]


def test_a_set_that_is_asked_for_later_is_embedded_with_the_trained_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features at home lie in the cache by then."""
    grid = Grid(
        tasks=(f"folder:{folder}",),
        methods=("supervised-bn",),
        size=32,
        labels=("100",),
        seeds=1,
        audit=False,
    )
    damaged = replace(grid, corruptions=("darker",), levels=("1",))
    at_once = execution.run(damaged, tmp_path / "at once").rows()
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "another cache"))
    execution.run(grid, tmp_path / "later")
    later = execution.run(damaged, tmp_path / "later").rows()
    checks = lambda rows: {
        key: (row.metrics, [made["checks"] for made in row.provenance["features"]])
        for key, row in rows.items()
    }
    assert len(later) == 2
    assert checks(later) == checks(at_once)
