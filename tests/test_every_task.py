"""What every task must hold, whoever adds it.

Whole groups, every class in every part, no image twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score

from medbench.schema import KINDS, MODALITIES, PARTS, Drawn, Split, Task, registry

TASKS = list(registry.tasks().values())
PHANTOMS = [task for task in TASKS if task.phantom]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_it_says_what_it_is(task: Task) -> None:
    assert task.kind in KINDS
    assert len(task.classes) >= 2 or task.kind == "multilabel"
    assert len(set(task.classes)) == len(task.classes)
    assert task.title
    assert task.modality in MODALITIES
    assert task.data != "phantom"
    for what in ("get", "citation", "licence", "folders"):
        assert getattr(task, what), f"{task.name} does not say its {what}"


@pytest.mark.parametrize("task", PHANTOMS, ids=lambda task: task.name)
def test_its_phantom_keeps_the_rules(task: Task) -> None:
    assert task.phantom is not None
    parts = task.phantom()
    assert set(parts) == set(PARTS)
    for name, split in parts.items():
        n = len(split)
        assert n == len(split.ids) == len(split.labels) == len(split.groups) == len(split.bags)
        assert all(len(column) == n for column in split.meta.values())
        assert all(isinstance(image, Drawn) for image in split.images)
        assert len({image.key for image in split.images}) == n
        if task.kind == "multilabel":
            assert split.labels.shape == (n, len(task.classes))
            assert np.isin(split.labels[~np.isnan(split.labels)], (0, 1)).all()
            assert ((split.labels == 1).any(0) & (split.labels == 0).any(0)).all(), name
        else:
            assert split.labels.dtype == np.int64
            assert set(split.labels) == set(range(len(task.classes))), name
    for a, b in itertools.combinations(parts.values(), 2):
        assert not set(a.groups) & set(b.groups)
        assert not set(a.ids) & set(b.ids)


@pytest.mark.parametrize("task", PHANTOMS, ids=lambda task: task.name)
def test_a_probe_of_pixels_tells_the_classes_of_its_phantom_apart(task: Task) -> None:
    """One whose classes are drawn alike shows nothing; the real difficulty is another test's."""
    assert task.phantom is not None
    parts = task.phantom()
    (images, labels), (others, truth) = (
        seen(parts["train"], 400, task),
        seen(parts["test"], 200, task),
    )
    errors = []  # above chance, in standard errors of an AUC of chance
    for of_class, true in zip(labels.T, truth.T, strict=True):
        known, there = ~np.isnan(of_class), ~np.isnan(true)
        n, positives = there.sum(), int(true[there].sum())
        if 0 < positives < n and len(np.unique(of_class[known])) == 2:
            trees = ExtraTreesClassifier(50, min_samples_leaf=3, random_state=0)
            trees.fit(images[known], of_class[known])
            area = roc_auc_score(true[there], trees.predict_proba(others[there])[:, 1])
            errors.append((area - 0.5) / np.sqrt((n + 1) / (12 * positives * (n - positives))))
    # each class alone may be rare: all of them together
    assert sum(errors) / np.sqrt(len(errors)) > 3, (
        f"the classes of {task.name}'s phantom look alike: {errors}"
    )


def test_a_phantom_whose_classes_are_drawn_alike_is_found() -> None:
    def phantom() -> dict[str, Split]:
        parts = {}
        for part, seeds in (("train", range(60)), ("test", range(60, 90))):
            ids = np.array([f"drawn{seed}" for seed in seeds])
            images = [Drawn(noise, seed, str(seed)) for seed in seeds]
            parts[part] = Split(images, ids, np.array([seed % 2 for seed in seeds]), ids, ids)
        return parts

    alike = replace(registry.task("lymph"), phantom=phantom)
    with pytest.raises(AssertionError, match="look alike"):
        test_a_probe_of_pixels_tells_the_classes_of_its_phantom_apart(alike)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (32, 32, 3)).astype(np.uint8)


def seen(part: Split, most: int, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """(N, F) features of pixels, and (N, C) labels."""
    rows = np.linspace(0, len(part) - 1, min(most, len(part))).astype(int)
    drawn = [image for image in (part.images[row] for row in rows) if isinstance(image, Drawn)]
    labels = part.labels[rows]
    if labels.ndim == 1:
        labels = labels[:, None] == np.arange(len(task.classes))
    return np.array([of_pixels(one.draw, one.seed) for one in drawn]), labels.astype(float)


@cache
def of_pixels(draw: Callable[[int], np.ndarray], seed: int) -> np.ndarray:
    """Means and deviations of 16 x 16 blocks, in place and sorted."""
    pixels = draw(seed) / 255
    high, wide = pixels.shape[0] // 16, pixels.shape[1] // 16
    blocks = pixels[: 16 * high, : 16 * wide].reshape(16, high, 16, wide, 3)
    means = blocks.mean((1, 3)).reshape(-1, 3)
    spread = blocks.std((1, 3)).mean(2).ravel()
    return np.concatenate([means.ravel(), spread, np.sort(means.mean(1))])


@pytest.mark.parametrize("task", PHANTOMS, ids=lambda task: task.name)
def test_its_phantom_is_the_same_each_time(task: Task) -> None:
    assert task.phantom is not None
    a, b = task.phantom()["test"], task.phantom()["test"]
    assert a.ids.tolist() == b.ids.tolist()
    assert [image.key for image in a.images] == [image.key for image in b.images]
    first = a.images[0]
    assert np.array_equal(first.draw(first.seed), b.images[0].draw(b.images[0].seed))


def test_official_counts_of_exclusive_classes_add_up_to_the_images() -> None:
    """A number that was copied wrong would hold a good download for a bad one."""
    counted = set()
    for task in registry.tasks().values():
        for column, counts in task.official.classes.items():
            images = {"all": task.n_images, **task.official.images}.get(column)
            assert len(counts) == len(task.classes), task.name
            if task.kind != "multilabel" and images is not None:
                assert sum(counts) == images, (task.name, column)
                counted.add(task.name)
    assert {"isic2019", "nih-expert", "derm"} <= counted


def test_uncertain_findings_count_where_they_are_read_as_ones() -> None:
    ignored, ones = (
        registry.task(f"chexpert{policy}").official.classes["train+val"] for policy in ("", ":ones")
    )
    assert (ignored[0], ones[0]) == (33_376, 33_376 + 33_739)
    assert all(more > less for more, less in zip(ones, ignored, strict=True))
