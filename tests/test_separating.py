"""The mark on a feature that tells the class, whatever it is called."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medbench import Store
from medbench.audit.features import separating as module
from medbench.audit.features.separating import separating
from medbench.schema import Kind, Mark, Split, registry


def split(labels: np.ndarray, groups: np.ndarray | None = None) -> Split:
    ids = np.array([f"{i:05d}" for i in range(len(labels))])
    return Split([Path(name) for name in ids], ids, labels, ids if groups is None else groups, ids)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40, 300])
@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3)])
def test_noise_gets_no_mark_however_few_images(n: int, kind: Kind, classes: int) -> None:
    """Of 6 images one noise feature in ten separates two classes by chance: 2 / C(6, 3)."""
    rng = np.random.default_rng(n)
    for _ in range(20 if n < 100 else 5):
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
