"""What every task must hold, whoever adds it.

Whole groups, every class in every part, no image twice.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medbench.schema import KINDS, MODALITIES, PARTS, Drawn, Task, registry

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
