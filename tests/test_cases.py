"""Cases against images: both on the same ones, what becomes of several labels in a case, and what
is left out is counted and said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk
from test_clinical import N, line_of, study

from medbench import Store
from medbench.report import clinical, html, leaderboard
from medbench.report.clinical import Draw, LinePredictions, tables
from medbench.schema import CASE_RULES, CaseRule, Kind, registry
from medbench.stats import metrics

NAN = np.nan


def made(
    kind: Kind,
    labels: Sequence[object],
    bags: Sequence[int],
    rule: CaseRule | None = None,
    classes: int = 3,
) -> LinePredictions:
    """Images of these labels in these bags, a group each, with scores that know something."""
    rng, truth = np.random.default_rng(0), np.array(labels, float if kind == "multilabel" else int)
    n = len(truth)
    if kind == "multilabel":
        p = (0.2 + 0.6 * np.nan_to_num(truth) + rng.uniform(-0.15, 0.15, truth.shape)).clip(0, 1)
    else:
        p = rng.dirichlet(np.ones(classes), n) * 0.5 + 0.5 * np.eye(classes)[truth]
    weights = np.concatenate(
        [
            np.ones((n, 1), int),
            rng.multinomial(9, np.full(max(bags) + 1, 1 / (max(bags) + 1)), 50).T[list(bags)],
        ],
        axis=1,
    )
    draw = Draw(p, metrics.decided(p, kind == "multilabel"))
    names = [f"class {c}" for c in range(truth.shape[1] if truth.ndim == 2 else classes)]
    groups, ids = np.array([f"p{b}" for b in bags]), np.array(bags)
    return LinePredictions(
        kind,
        names,
        "patient",
        truth,
        groups,
        weights.astype(np.uint8),
        ids,
        {},
        [draw],
        rule or CASE_RULES[kind],
    )


def test_both_sides_are_on_the_same_cases() -> None:
    """Patients with images of two grades are the hard ones.

    Against images of all patients, cases without them looked better than they are.
    """
    answers = made("multiclass", [0, 0, 1, 1, 2, 2, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    found = clinical.by_case(answers)
    assert (found.mixed, found.left_out, found.left_out_images) == (2, 2, 4)
    assert found.images.labels.tolist() == [0, 0, 1, 1, 2, 2] and found.answers.labels.tolist() == [
        0,
        1,
        2,
    ]
    np.testing.assert_allclose(
        found.answers.draws[0].probabilities,
        answers.draws[0].probabilities[:6].reshape(3, 2, 3).mean(1),
    )
    frame = clinical.cases(answers).set_index("metric")
    assert (frame.loc["kappa", "images"], frame.loc["kappa", "cases"]) == (6, 3)
    kept = answers.draws[0].decisions[:6]
    assert frame.loc["kappa", "image"] == pytest.approx(
        sk.cohen_kappa_score(answers.labels[:6], kept)
    )
    assert frame.loc["kappa", "gain"] == pytest.approx(
        frame.loc["kappa", "case"] - frame.loc["kappa", "image"]
    )
    assert frame.attrs["said"][1:] == [
        "2 cases hold images of different classes. The label is none, and the case is left out.",
        "Left out on both sides: 2 cases with 4 images, as their images have different classes.",
    ]


def test_a_case_that_is_a_whole_group_has_its_name() -> None:
    """Who gave patients and no bags never heard of bags."""
    answers = made("ordinal", [0, 0, 1, 2], [0, 0, 1, 1])
    assert (
        clinical.cases(answers).attrs["said"][0]
        == f"A case is the images of one {answers.group}, its probability their mean."
    )
    one = replace(answers, groups=np.array(["a"] * 4))
    assert (
        clinical.cases(one).attrs["said"][0]
        == "A case is the images of one bag, its probability their mean."
    )


def test_a_class_whose_cases_are_all_left_out_is_named() -> None:
    answers = made("multiclass", [0, 0, 1, 1, 2, 0, 2, 1], [0, 0, 1, 1, 2, 2, 3, 3])
    assert clinical.by_case(answers).lost == {"class 2": 2}
    assert (
        "No case has the label class 2; 2 cases hold an image of it."
        in clinical.cases(answers).attrs["said"]
    )


def test_of_ordered_classes_the_worst_counts() -> None:
    found = clinical.by_case(made("ordinal", [0, 0, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2]))
    assert found.answers.labels.tolist() == [0, 2, 2] and (found.mixed, found.left_out) == (2, 0)
    assert len(found.images.labels) == 6 and found.lost == {"class 1": 1}
    said = clinical.cases(made("ordinal", [0, 0, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2])).attrs["said"]
    assert (
        "2 cases hold images of different classes. The label is the highest class of its images."
        in said
    )
    assert clinical.by_case(
        made("ordinal", [0, 0, 1, 2], [0, 0, 1, 1], "same")
    ).answers.labels.tolist() == [0], "a task's own rule"


def test_of_several_labels_any_counts_and_both_sides_know_the_same_ones() -> None:
    """Before: a class whose only cases had it in one image of two was unknown everywhere, and
    nobody was told."""
    labels = [[0, 1], [1, 1], [0, 0], [NAN, 0], [1, 0], [NAN, 0], [NAN, NAN], [NAN, NAN]]
    answers = made("multilabel", labels, [0, 0, 1, 1, 2, 2, 3, 3])
    found = clinical.by_case(answers)
    np.testing.assert_array_equal(found.answers.labels, [[1, 1], [NAN, 0], [1, 0]])
    assert (found.mixed, found.left_out, found.left_out_images, found.lost) == (1, 1, 2, {})
    np.testing.assert_array_equal(
        found.images.labels, [[0, 1], [1, 1], [NAN, 0], [NAN, 0], [1, 0], [NAN, 0]]
    )
    said = clinical.cases(answers).attrs["said"]
    assert "Left out on both sides: 1 case with 2 images, as no label of theirs is known." in said
    strict = clinical.by_case(replace(answers, cases="same"))
    np.testing.assert_array_equal(strict.answers.labels, [[NAN, 1], [NAN, 0], [1, 0]])


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_a_set_whose_every_case_mixes_classes_is_said_and_nothing_fails(
    kind: Kind, tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two images a patient, of different classes: `clinical` and `report` ended in a traceback."""
    store = relabelled(study(tmp_path / "out", kind, seeds=1))
    answers = clinical.read_predictions(line_of(store))
    assert clinical.by_case(answers).left_out == N // 2
    for form in ("terminal", "markdown", "csv", "latex"):
        assert medbench("clinical", str(store.folder), "--labels", "10", "--format", form) == 0
        text = capsys.readouterr().out
        assert form == "csv" or "No case is left to be scored." in " ".join(text.split())
    assert "No case is left to be scored." in html.build_page([store])
    with pytest.raises(clinical.class_metrics.UserError, match="none has a label"):
        clinical.per_class(line_of(store), unit="case")


def relabelled(store: Store) -> Store:
    """Every second image of a patient has another class."""
    target = store.target("target")
    labels = target["labels"].copy()
    labels[1::2] = (labels[::2] + 1) % (labels.max() + 1)
    arrays = {"meta": {}, "bags": target["groups"]}
    (store.folder / "targets" / "target.npz").unlink()
    again = Store(store.folder)
    again.add_target(
        "target", target["ids"].astype(str), labels, target["groups"].astype(str), **arrays
    )
    return again


def test_the_page_says_what_is_left_out(tmp_path: Path) -> None:
    store = study(tmp_path, "multiclass", seeds=1)
    target = store.target("target")
    (store.folder / "targets" / "target.npz").unlink()
    labels = target["labels"].copy()
    labels[0] = (labels[1] + 1) % 3
    again = Store(store.folder)
    again.add_target(
        "target",
        target["ids"].astype(str),
        labels,
        target["groups"].astype(str),
        bags=target["groups"],
        meta={},
    )
    assert "Left out on both sides: 1 case with 2 images" in html.build_page([again])
    (board,) = leaderboard.leaderboards(again)
    made_of = tables.sheets(
        board, line_of(again), metric="auc", by=None, specificity=0.9, sensitivity=0.9
    )
    (sheet,) = [sheet for sheet in made_of if sheet.title == "A case beside an image"]
    assert sheet.header[1:3] == [f"{N - 2} images", f"{N // 2 - 1} cases"]


def test_every_task_states_a_rule_that_fits_its_kind() -> None:
    for task in registry.tasks().values():
        if hasattr(task, "case_rule"):
            assert task.case_rule in (
                {"any", "same"} if task.kind == "multilabel" else {"worst", "same"}
            ), task.name
