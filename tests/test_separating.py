"""Features tables: which columns are features by their names, and the mark on a feature that tells
the class, whatever it is called."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medbench import Store, UserError
from medbench.audit.features import separating as module
from medbench.audit.features.separating import separating
from medbench.models import features_table
from medbench.schema import Kind, Mark, Split, registry

RNG = np.random.default_rng(0)
NOISE = {f"f{i}": RNG.normal(size=4) for i in range(3)}


def table(tmp_path: Path, columns: dict[str, Any], index: str = "") -> Path:
    frame = pd.DataFrame({"id": list("abcd"), **columns})
    (frame.set_index(index) if index else frame).to_parquet(
        tmp_path / "t.parquet", index=bool(index)
    )
    return tmp_path / "t.parquet"


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (NOISE, ("f0", "f1", "f2")),
        ({"0": [1.0] * 4, "1": [2] * 4}, ("0", "1")),
        ({"dino_007": [1.0] * 4, "dino_010": [1] * 4}, ("dino_007", "dino_010")),
        (
            {"feat.area": [1.0] * 4, "feat.mean": [2.0] * 4, "feat.1": [3.0] * 4},
            ("feat.area", "feat.mean", "feat.1"),
        ),
        ({"f[0]": [1.0] * 4}, ("f[0]",)),
        ({"vector": [[1.0, 2.0]] * 4}, ("vector[0]", "vector[1]")),
    ],
)
def test_features_by_their_names(
    columns: dict[str, Any], names: tuple[str, ...], tmp_path: Path
) -> None:
    found = features_table.read(table(tmp_path, columns))
    assert found.names == names
    assert found.values.shape == (4, len(names))
    assert found.values.dtype == np.float32


def test_an_index_may_hold_the_ids(tmp_path: Path) -> None:
    assert features_table.read(table(tmp_path, NOISE, index="id")).ids == list("abcd")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {**NOISE, "label": [0, 1, 0, 1]},
            r"'label' is no feature: the features are called f0, f1, \.\.\. \(3\)\. Allowed: id, and",
        ),
        (
            {"index": [0, 1, 2, 3], **NOISE, "fold": [0, 1, 0, 1]},
            r"'index', 'fold' are no features",
        ),
        ({"Unnamed: 0": [0, 1, 2, 3], **NOISE}, r"'Unnamed: 0' is no feature"),
        ({"level_0": [0, 1, 2, 3], **NOISE}, r"'level_0' is no feature"),
        ({**NOISE, "malignant": [True, False] * 2}, r"'malignant' is no feature"),
        ({**NOISE, "fold1": [1.0] * 4, "path": list("wxyz")}, r"'fold1', 'path' are no features"),
        (
            {"0": [1.0] * 4, "1": [1.0] * 4, "label": [0, 1] * 2},
            r"'label' is no feature: the features are called 0, 1, \.\.\. \(2\)",
        ),
        (
            {"area": [1.0] * 4, "mean": [1.0] * 4},
            r"'area', 'mean' are no features: no columns are called alike",
        ),
        ({"score": [1.0] * 4}, r"'score' is no feature"),
        ({"label_0": [1.0] * 4, "label_1": [0.0] * 4}, r"'label_0', 'label_1' are no features"),
        ({"f0": [1.0] * 4, "y": [0, 1] * 2}, r"are no features|is no feature"),
        ({"f1": [1.0] * 4, "f01": [1.0] * 4}, r"Two columns are the feature f1"),
        (
            {"vector": [[1.0, 2.0]] * 4, "label": [0, 1] * 2},
            r"'label' is no feature: the features are the lists in 'vector'",
        ),
        (
            {"vector": [[1.0, 2.0]] * 3 + [[1.0]]},
            r"the list of 'd' in 'vector' is no list of 2 numbers",
        ),
        (
            {"vector": [[1.0, 2.0]] * 3 + [None]},
            r"the list of 'd' in 'vector' is no list of 2 numbers",
        ),
        ({"vector": [["x", "y"]] * 4}, r"is no list of 2 numbers"),
        ({"f0": list("wxyz"), "f1": [1.0] * 4}, r"column 'f0' does not hold numbers"),
        ({"f0": [1.0] * 4, "f1": [True, False] * 2}, r"column 'f1' does not hold numbers"),
        (
            {"feat_0": [1.0] * 4, "feat_1": [2.0] * 4, "feat_label": [0.0, 1.0] * 2},
            r"'feat_label' is no feature",
        ),
        (
            {"emb.0": [1.0] * 4, "emb.1": [2.0] * 4, "emb.split": [0.0, 1.0] * 2},
            r"'emb.split' is no feature",
        ),
        (
            {"glcm_a": [1.0] * 4, "glcm_b": [2.0] * 4, "glcm_Target": [0, 1] * 2},
            r"'glcm_Target' is no feature",
        ),
        (
            {"class_0": [1.0, 0.0] * 2, "class_1": [0.0, 1.0] * 2},
            r"'class_0', 'class_1' are no features",
        ),
        ({}, r"holds ids alone"),
    ],
)
def test_columns_that_are_no_features(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        features_table.read(table(tmp_path, columns))


def test_ids_in_a_column_and_in_the_index_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"id": list("abcd"), **NOISE}, index=pd.Index(list("wxyz"), name="id")).to_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(UserError, match=r"has a column 'id' and an index of that name"):
        features_table.read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "values", [np.ones((2, 3)) * 1j, np.ones((2, 3), bool), np.full((2, 3), "x")]
)
def test_arrays_that_are_no_real_numbers(values: np.ndarray, tmp_path: Path) -> None:
    """Before: complex numbers lost their imaginary part."""
    np.savez(tmp_path / "f.npz", ids=["a", "b"], features=values)
    with pytest.raises(UserError, match="real numbers"):
        features_table.read(tmp_path / "f.npz")


def test_ids_in_another_unicode_form_are_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", ids=["e\u0301.png"], features=np.ones((1, 2)))
    assert features_table.read(tmp_path / "f.npz").of(["\u00e9.png"], [True]).tolist() == [[1, 1]]


# a feature that tells the class


def split(labels: np.ndarray, groups: np.ndarray | None = None) -> Split:
    ids = np.array([f"{i:05d}" for i in range(len(labels))])
    return Split([Path(name) for name in ids], ids, labels, ids if groups is None else groups, ids)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40, 300])
@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3)])
def test_noise_gets_no_mark_however_few_images(n: int, kind: Kind, classes: int) -> None:
    """Of 6 images one noise feature in ten separates two classes by chance: 2 / C(6, 3)."""
    rng = np.random.default_rng(n)
    for _ in range(20):
        labels = (
            np.arange(n * classes) % classes
            if kind != "multilabel"
            else rng.integers(0, 2, (n * classes, classes)).astype(float)
        )
        assert (
            separating(
                rng.normal(size=(n * classes, 500)), split(labels), kind, tuple("abcd")[:classes]
            )
            == []
        )


def test_chance_by_hand() -> None:
    """Against every order of 4 images of one class among 9, and of 3 among 8."""
    for n, m in ((4, 5), (3, 5)):
        every = [
            sum(1 for i in own for j in range(n + m) if j not in own and j > i)
            for own in itertools.combinations(range(n + m), n)
        ]
        assert module._log_chance(0, n, m) == pytest.approx(
            math.log(2 * every.count(0) / len(every))
        )
        for u in range(n * m // 2):
            exact = 2 * sum(value <= u for value in every) / len(every)
            assert math.exp(module._log_chance(u, n, m)) >= exact


@pytest.mark.parametrize(
    ("leak", "auc"),
    [
        (lambda y, rng: y.astype(float), 1.0),
        (lambda y, rng: -3.0 * y + 5, 1.0),
        (lambda y, rng: y + rng.uniform(-0.4, 0.4, len(y)), 1.0),
        # a row number of a sorted table
        (lambda y, rng: np.argsort(np.argsort(y, kind="stable")).astype(float), 1.0),
    ],
)
def test_a_label_under_any_name_is_found(leak: Callable[..., np.ndarray], auc: float) -> None:
    rng = np.random.default_rng(1)
    y = np.arange(60) % 2
    values = rng.normal(size=(60, 512)).astype(np.float32)
    values[:, 77] = leak(y, rng)
    (found,) = separating(values, split(y), "binary", ("no", "yes"))
    assert (found.feature, found.name, found.auc, found.groups) == (77, "yes", auc, 60)


def test_a_label_with_a_mistake_is_found_and_half_a_label_is_not() -> None:
    rng = np.random.default_rng(2)
    y = np.arange(400) % 2
    values = rng.normal(size=(400, 100))
    values[:, 3] = y
    values[7, 3] = 1 - y[7]
    (found,) = separating(values, split(y), "binary", ("no", "yes"))
    assert found.feature == 3
    assert found.auc == pytest.approx(1 - 1 / 200)
    values[:, 3] = y + rng.normal(size=400)
    assert separating(values, split(y), "binary", ("no", "yes")) == []


def test_classes_one_by_one_and_labels_with_gaps() -> None:
    y = np.arange(120) % 3
    values = np.random.default_rng(3).normal(size=(120, 50))
    values[:, 9] = y == 1
    assert [
        (one.feature, one.name) for one in separating(values, split(y), "multiclass", tuple("abc"))
    ] == [(9, "b")]
    several = np.column_stack([y == 0, y == 1]).astype(float)
    several[:5, 1] = np.nan
    values[:5, 9] = 0.5
    assert [
        (one.feature, one.name)
        for one in separating(values, split(several), "multilabel", tuple("ab"))
    ] == [(9, "b")]


def test_images_of_one_patient_count_once() -> None:
    """300 images of 6 patients.

    A feature that tells the patients apart tells the classes by chance.
    """
    patient = np.arange(300) % 6
    y = (patient < 3).astype(int)
    values = np.random.default_rng(4).normal(size=(300, 5))
    values[:, 0] = -patient
    assert (
        separating(values, split(y, np.array([f"p{p}" for p in patient])), "binary", ("no", "yes"))
        == []
    )
    assert [one.feature for one in separating(values, split(y), "binary", ("no", "yes"))] == [0]


def test_the_mark_stands_in_plan_rows_and_table(
    folder: Path, tmp_path: Path, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A label called like a feature, in noise.

    Before: AUC 1.000 and not a word. Another encoder in the same folder does not take the mark
    away.
    """
    task = registry.task(f"folder:{folder}")
    parts = list(task.load(folder).values())
    ids, labels = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "labels")
    )
    noise = np.random.default_rng(0).normal(size=(len(ids), 8))
    np.savez(tmp_path / "leak.npz", ids=ids, features=np.column_stack([noise, labels == 1]))
    np.savez(tmp_path / "noise.npz", ids=ids, features=noise)
    said = "features:leak.npz: single features tell a class by themselves, among 36 images of train: 8 tells mel (AUC 1.000). Is it the label?"
    for name in ("leak", "noise"):
        arguments = (
            "run",
            "--task",
            f"folder:{folder}",
            "--encoder",
            f"features:{name}.npz",
            "--labels",
            "all",
            "--out",
            "out",
        )
        assert medbench(*arguments, "--plan") == 0
        assert (said in " ".join(capsys.readouterr().err.split())) == (name == "leak")
        assert medbench(*arguments) == 0
        capsys.readouterr()
    marked = [
        row.cell.encoder
        for row in Store(tmp_path / "out").rows().values()
        if Mark("telling", said) in row.provenance["marks"]
    ]
    assert marked == ["features:leak.npz"]
    assert medbench("table", "out") == 0
    assert said in (tmp_path / "out" / "leaderboard.md").read_text()
