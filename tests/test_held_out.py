"""Held-out scores inside the labelled subset.

Against scikit-learn fold by fold, never by a model that saw the image, and what is kept of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.finetuning import LABELS, SHORT, job, pictures, scored
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import PowerTransformer, StandardScaler
from sklearn.svm import SVC

from medbench.models.finetune import loop
from medbench.models.fusion import TRUONG2021, fit_predict
from medbench.protocols import knn, svm_logreg
from medbench.report.clinical import bands
from medbench.run import fitting
from medbench.run.store import Store
from medbench.schema import HeldOut, Kind, Scores, Split, Train, registry
from medbench.stats import splits


def _drawn(kind: Kind, n: int = 90, dimensions: int = 12, seed: int = 0) -> Train:
    """Three overlapping classes (or labels), two near-copies a group."""
    rng = np.random.default_rng(seed)
    classes = 2 if kind == "binary" else 3
    if kind == "multilabel":
        labels = (rng.random((n, classes)) < [0.5, 0.3, 0.2]).astype(float)
        labels[rng.random((n, classes)) < 0.1] = np.nan
        x = rng.normal(size=(n, dimensions)) + np.nan_to_num(labels) @ rng.normal(
            size=(classes, dimensions)
        )
    else:
        labels = np.arange(n) % classes
        x = rng.normal(size=(n, dimensions)) + 1.5 * np.eye(classes, dimensions)[labels]
    x = np.repeat(x, 2, 0) + 0.05 * rng.normal(size=(2 * n, dimensions))
    groups = np.repeat([f"g{i}" for i in range(n)], 2)
    return Train(x.astype(np.float32), np.repeat(labels, 2, 0), groups, kind, classes)


def _held(protocol: str, train: Train, draw: np.ndarray | None = None) -> tuple[Scores, HeldOut]:
    draw = np.arange(len(train.labels)) if draw is None else draw
    scores = next(
        registry.protocol(protocol).evaluate(train, {"test": train.features[:3]}, [draw])
    )["test"]
    assert scores.held_out is not None
    return scores, scores.held_out


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_linear_gives_what_scikit_learn_gives_fold_by_fold(kind: Kind) -> None:
    """Probabilities within 2e-3: the folds are solved to a gradient of 1e-4 in float32."""
    train, draw = _drawn(kind), np.arange(20, 140)
    scores, held = _held("linear", train, draw)
    x, y, groups = train.features[draw].astype(float), train.labels[draw], train.groups[draw]
    fold = splits.held_out_fold(y, groups)
    expected = np.full((len(draw), train.n_classes), np.nan)
    for i in range(fold.max() + 1):
        scale = StandardScaler().fit(x[fold != i])
        n = (fold != i).sum()
        model = LogisticRegression(C=1 / (n * scores.chosen["penalty"]), tol=1e-8, max_iter=10_000)
        model.fit(scale.transform(x[fold != i]), y[fold != i])
        expected[fold == i] = model.predict_proba(
            scale.transform(x[fold == i]).clip(-np.sqrt(n - 1), np.sqrt(n - 1))
        )
    np.testing.assert_array_equal(held.index, np.arange(len(draw)))
    np.testing.assert_allclose(held.probabilities, expected, atol=2e-3)
    true = np.take_along_axis(held.probabilities, y[:, None], 1)
    assert -np.log(true).mean() == pytest.approx(scores.chosen["cv_log_loss"], abs=1e-5), (
        "the penalty was chosen by these very scores"
    )


@pytest.mark.parametrize("protocol", ["linear", "knn", "svm", "logreg"])
def test_a_class_of_one_group_is_always_trained_on_and_the_others_are_held_out(
    protocol: str,
) -> None:
    train = _drawn("multiclass")
    lonely = train.groups == train.groups[4]
    labels = np.where(lonely, 3, train.labels)  # one group alone is of class 3
    scores, held = _held(protocol, replace(train, labels=labels, n_classes=5))
    np.testing.assert_array_equal(np.sort(held.index), np.flatnonzero(~lonely))
    assert (held.probabilities[:, 4] == 0).all(), "no image of class 4"
    assert protocol == "knn" or (held.probabilities[:, 3] > 0).all(), (
        "class 3 was trained on in every fold"
    )
    np.testing.assert_allclose(held.probabilities.sum(1), 1, atol=1e-6)
    assert protocol == "logreg" or "5-fold" in scores.chosen["rule"]


def test_a_label_of_one_positive_group_is_fitted_in_every_fold() -> None:
    train = _drawn("multilabel")
    only = np.where(train.groups == train.groups[4], 1.0, 0.0)  # its positives lie in one group
    labels = np.column_stack([train.labels, only, np.zeros(len(only))])
    _, held = _held("linear", replace(train, labels=labels, n_classes=5))
    np.testing.assert_array_equal(held.index, np.flatnonzero(only == 0))
    assert (
        not np.isnan(held.probabilities[:, :4]).any() and np.isnan(held.probabilities[:, 4]).all()
    )


def test_knn_gives_the_votes_of_other_folds() -> None:
    train = _drawn("multiclass", 40)
    scores, held = _held("knn", train)
    x = train.features / np.linalg.norm(train.features.astype(float), axis=1, keepdims=True)
    fold = splits.folds(train.labels, train.groups, 5)
    for i in range(len(x)):
        others = np.flatnonzero(fold != fold[i])
        near = others[np.argsort(-(x[others] @ x[i]))[: scores.chosen["k"]]]
        votes = np.bincount(train.labels[near], np.exp(x[near] @ x[i] / knn.TEMPERATURE), 3)
        np.testing.assert_allclose(held.probabilities[i], votes / votes.sum(), atol=1e-5)


@pytest.mark.parametrize("protocol", ["svm", "logreg"])
def test_classical_ones_give_what_scikit_learn_gives_fold_by_fold(protocol: str) -> None:
    """The transforms see the whole subset, as in `SVC(probability=True)`."""
    train = _drawn("multiclass", 40)
    scores, held = _held(protocol, train)
    inside = PCA().fit_transform(PowerTransformer().fit_transform(train.features.astype(float)))
    fold = splits.folds(train.labels, train.groups, 5)
    made = (
        (lambda: SVC(**svm_logreg.SVM_ARGUMENTS))
        if protocol == "svm"
        else lambda: LogisticRegression(**svm_logreg.LOGREG_ARGUMENTS)
    )
    values = np.empty((len(fold), 3))
    for i in range(5):
        values[fold == i] = (
            made()
            .fit(inside[fold != i], train.labels[fold != i])
            .decision_function(inside[fold == i])
        )
    values /= scores.chosen.get("temperature", 1.0)
    expected = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    np.testing.assert_allclose(held.probabilities, expected[held.index], atol=1e-4)


def _by_chance(protocol: str) -> tuple[HeldOut, Train]:
    """Labels that nothing predicts but a near-copy in the same group."""
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(120, 8)), rng.integers(0, 2, 120)
    x = np.repeat(x, 2, 0) + 0.01 * rng.normal(size=(240, 8))
    train = Train(
        x.astype(np.float32),
        np.repeat(labels, 2),
        np.repeat([f"g{i}" for i in range(120)], 2),
        "binary",
        2,
    )
    if protocol != "fusion":
        return _held(protocol, train)[1], train
    sources = [train.features[:, :4], train.features[:, 4:]]
    recipe = replace(TRUONG2021, width=16, epochs=8)
    every = [np.arange(240)]
    scores, _ = next(
        fit_predict(
            sources,
            train.labels,
            train.groups,
            "binary",
            2,
            {"test": sources},
            every,
            [0],
            tokens="none",
            recipe=recipe,
        )
    )
    assert scores["test"].held_out is not None
    return scores["test"].held_out, train


@pytest.mark.parametrize("protocol", ["linear", "knn", "svm", "logreg", "fusion"])
def test_no_model_saw_the_image_or_its_group(protocol: str) -> None:
    held, train = _by_chance(protocol)
    assert len(set(held.index.tolist())) == len(held.index) >= 40
    chosen = np.isin(np.arange(240), held.index)
    assert not set(train.groups[chosen]) & set(train.groups[~chosen]), "whole groups"
    # fewer images there, and the best of eight looks at them
    seen = 0.30 if protocol == "fusion" else 0.38
    assert seen < roc_auc_score(train.labels[held.index], held.probabilities[:, 1]) < 1 - seen, (
        "a leak would score near 1"
    )


@pytest.mark.parametrize("protocol", ["linear", "knn", "svm", "logreg"])
def test_nothing_is_held_out_where_a_class_has_one_group(protocol: str) -> None:
    train = _drawn("multiclass", 30)
    draw = np.array([0, 1, 2, 4])
    scores = next(
        registry.protocol(protocol).evaluate(train, {"test": train.features[:3]}, [draw])
    )["test"]
    assert scores.held_out is None


@pytest.mark.parametrize("protocol", ["linear", "knn", "svm", "logreg"])
def test_the_budget_says_whether_anything_is_held_out(protocol: str) -> None:
    """Of two draws of one budget, one holds a hundred images and the other twelve.

    Both are divided, or neither.
    """
    train = _drawn("multiclass", 60)
    whole = np.arange(len(train.labels))
    small = np.concatenate([np.flatnonzero(train.labels == c)[:4] for c in range(3)])
    judge = registry.protocol(protocol).evaluate
    for divided in (True, False):
        asked = replace(train, divided=[divided, divided])
        answers = [
            answer["test"] for answer in judge(asked, {"test": train.features[:3]}, [whole, small])
        ]
        assert [answer.held_out is not None for answer in answers] == [divided, divided]
    alone = [
        answer["test"].held_out is not None
        for answer in judge(train, {"test": train.features[:3]}, [whole, small])
    ]
    assert alone == [True, False], "so each decided by itself"


def test_a_fusion_scores_its_validation_part_with_the_weights_that_are_scored() -> None:
    train = _drawn("multilabel", 100)
    labels = np.column_stack([train.labels[:, :2], np.zeros(len(train.labels))])
    sources, every = [train.features[:, :6], train.features[:, 6:]], np.arange(len(labels))
    recipe = replace(TRUONG2021, width=16, epochs=4)
    again = {"test": sources}
    scores, _ = next(
        fit_predict(
            sources,
            labels,
            train.groups,
            "multilabel",
            3,
            again,
            [every],
            [0],
            tokens="source",
            recipe=recipe,
        )
    )
    held = scores["test"].held_out
    assert held is not None
    np.testing.assert_array_equal(
        held.index,
        np.flatnonzero(
            splits.validation_part(labels, train.groups, recipe.validation, "validation")
        ),
    )
    np.testing.assert_array_equal(
        held.probabilities[:, :2], scores["test"].probabilities[held.index, :2]
    )
    assert np.isnan(held.probabilities[:, 2]).all(), "a label of which one value was seen"


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_fine_tuning_scores_its_validation_part_with_the_weights_that_are_scored(
    kind: str, tmp_path: Path
) -> None:
    labels, classes = LABELS[kind]
    train = job(labels, kind, classes, tmp_path)
    scores = scored(train, pictures(labels), replace(SHORT, steps=6))
    held = scores.held_out
    assert held is not None
    np.testing.assert_array_equal(
        held.index, loop.hold_out(labels, train.groups, SHORT.held_out)[1]
    )
    np.testing.assert_allclose(held.probabilities, scores.probabilities[held.index], atol=1e-6)
    few = scored(
        job(np.arange(12) % 3, "multiclass", 3, tmp_path / "few"),
        pictures(np.arange(12) % 3),
        replace(SHORT, steps=2),
    )
    assert few.held_out is None


def test_a_validation_part_that_can_rank_no_label_is_none(tmp_path: Path) -> None:
    """One image of a hundred has the label.

    It stays in training, and what is held out could choose nothing. A fusion and a fine-tuning
    agree.
    """
    labels = np.zeros((100, 2))
    labels[0] = 1
    groups = np.arange(100).astype(str)
    assert splits.held_out(labels, groups, 0.2, "finetune").sum() >= splits.MIN_HELD_OUT
    for key in ("finetune", "validation"):
        assert not splits.validation_part(labels, groups, 0.2, key).any()
    fit, val = loop.hold_out(labels, groups, 0.2)
    assert len(fit) == 100 and len(val) == 0


def test_folds_are_those_of_every_protocol() -> None:
    labels, groups = np.arange(40) % 2, np.repeat(np.arange(20), 2).astype(str)
    fold = splits.folds(labels, groups, 5)
    for i, (rows, out) in enumerate(splits.cross_validation(labels, groups, 5)):
        assert (fold[out] == i).all() and (fold[rows] != i).all() and len(rows) + len(out) == 40
    assert splits.cross_validation(np.zeros(40, int), groups, 5) == [], "one class"
    alone = splits.cross_validation(np.append(labels, 2), np.append(groups, "x"), 5)
    assert len(alone) == 5 and all(40 in rows and 40 not in out for rows, out in alone), (
        "a class of one group"
    )


def test_a_row_keeps_what_was_held_out_with_its_labels() -> None:
    held = HeldOut(np.array([2, 0]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    kept = fitting._held_out(
        Scores(np.zeros((1, 2)), np.zeros(1), {}, held_out=held), np.array([7, 8, 9])
    )
    assert kept["held_out_labels"].tolist() == [9, 7]
    assert kept["held_out_index"].tolist() == [2, 0]
    assert kept["held_out_probabilities"].dtype == np.float32
    assert fitting._held_out(Scores(np.zeros((1, 2)), np.zeros(1), {}), np.array([7])) == {}


def test_a_run_saves_them_beside_its_rows(
    folder: Path, medbench: Callable[..., int], tmp_path: Path
) -> None:
    assert (
        medbench(
            "run",
            "--task",
            f"folder:{folder}",
            "--size",
            "32",
            "--labels",
            "1/class,100",
            "--seeds",
            "1",
            "--methods",
            "random",
        )
        == 0
    )
    store = Store(tmp_path / "runs" / "folder-mine")
    few, many = sorted(store.rows().values(), key=lambda row: row.n_labels)
    assert not {name for name in store.scores(few) if name.startswith("held_out")}, (
        "one image a class: nothing to hold out"
    )
    kept = store.scores(many)
    assert kept["held_out_index"].tolist() == list(range(36))
    assert kept["held_out_probabilities"].shape == (36, 3)
    assert np.bincount(kept["held_out_labels"]).tolist() == [12, 12, 12]


def _split(n: int, **meta: list[object]) -> Split:
    names = np.array([f"patient {i // 2}" for i in range(n)])
    return Split(
        [Path()] * n,
        np.arange(n).astype(str),
        np.zeros(n, int),
        names,
        names,
        {k: np.array(v) for k, v in meta.items()},
    )


def test_a_target_keeps_bags_and_what_describes_images_not_what_names_people(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.create()
    n = 40
    split = _split(
        n,
        sex=["male", "female"] * 20,
        age=[float(i) + 0.5 for i in range(n)],
        whole_age=[20 + i for i in range(n)],
        year=[2016, 2017] * 20,
        name=[f"Smith {i // 2}" for i in range(n)],
        note=[f"seen again, {i}" for i in range(n)],
        accession=[float(70_000 + i) for i in range(n)],
        unknown=[float("nan")] * n,
    )
    store.add_target(
        "t",
        split.ids,
        split.labels,
        split.groups,
        bags=split.bags,
        meta={**split.meta, "odd": np.array(["a", None] * 20, object)},
    )
    saved = store.target("t")
    assert set(saved) == {
        "ids",
        "labels",
        "groups",
        "bags",
        *(f"meta_{c}" for c in ("sex", "age", "whole_age", "year", "unknown", "odd")),
    }
    np.testing.assert_array_equal(saved["bags"][:4], [0, 0, 1, 1])
    assert saved["bags"].dtype == np.int64, "a bag is often named after its patient"


def test_a_target_without_bags_and_metadata_still_reads(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    store.add_target("t", np.array(["a"]), np.array([0]), np.array(["g"]))
    assert set(store.target("t")) == {"ids", "labels", "groups"}


def test_real_dermoscopy_keeps_age_sex_and_site_for_subgroups(
    real_data: Path, tmp_path: Path
) -> None:
    task = registry.tasks()["derm"]
    root = task.find(real_data)
    assert root is not None
    split, store = task.load(root)["test"], Store(tmp_path)
    store.create()
    store.add_target("t", split.ids, split.labels, split.groups, bags=split.bags, meta=split.meta)
    saved = store.target("t")
    assert set(saved) == {
        "ids",
        "labels",
        "groups",
        "bags",
        "meta_age",
        "meta_sex",
        "meta_localization",
    }
    found = {name: bands(name, saved[f"meta_{name}"]) for name in ("age", "sex", "localization")}
    assert all(levels is not None and len(levels) == 2005 for levels in found.values())
    assert set(np.unique(found["sex"]).tolist()) == {"female", "male", "unknown"}  # type: ignore[arg-type]
    assert len(np.unique(saved["bags"])) == len(np.unique(split.groups)), "a case is a lesion"
