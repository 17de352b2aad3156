"""Planted regressions: each turns the check red, and --explain names the part that was planted
in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import planted

from medbench import Grid, images
from medbench.images import packing
from medbench.images.squeezing import PackForm
from medbench.models import features as embed
from medbench.models.logistic import spaces
from medbench.report import check
from medbench.run import execution, prepare, provenance
from medbench.schema import Scores, Train, registry
from medbench.stats import metrics, splits

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    folder = tmp_path_factory.mktemp("encoder")
    protocols = ("linear", "knn")
    return Grid(
        ("planted",),
        protocols=protocols,
        encoders=(planted.encoder(folder),),
        labels=("20", "100"),
        seeds=2,
        size=32,
    )


@pytest.fixture(scope="module")
def reference(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> check.Given:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.tasks(), "planted", planted.task())
        return rows(grid, tmp_path_factory.mktemp("reference"), patch)


def rows(grid: Grid, folder: Path, patch: Patch) -> check.Given:
    """Computed with nothing from a cache, as the command does."""
    patch.setenv("MEDBENCH_CACHE", str(folder / "cache"))
    execution.run(grid, folder / "out", device="cpu")
    return check.read_rows(folder / "out")


@pytest.fixture
def again(
    grid: Grid, reference: check.Given, tmp_path: Path, monkeypatch: Patch
) -> Callable[..., check.Comparison]:
    def call(task: object = planted.parts) -> check.Comparison:
        monkeypatch.setitem(registry.tasks(), "planted", planted.task(task))
        return check.compare_rows(
            reference, rows(grid, tmp_path, monkeypatch), check.Repeatability()
        )

    return call


def test_unchanged_is_the_same(again: Callable[..., check.Comparison]) -> None:
    comparison = again()
    assert comparison.counts == {"same": 6}
    assert not comparison.red
    assert max(finding.largest for finding in comparison.findings) < 1e-6


def forgets_to_standardise(patch: Patch) -> None:
    def plain(features: Any, constant: float) -> Any:
        x = features.double()
        return x, x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])

    patch.setattr(spaces, "_standardise", plain)


def changed_encoder(patch: Patch, change: Callable[[Any], None]) -> None:
    def build(*arguments: Any) -> Any:
        net = copy.deepcopy(true(*arguments))
        change(net)
        return net

    true = prepare.unit_encoder
    patch.setattr(prepare, "unit_encoder", build)


def other_weights(patch: Patch) -> None:
    changed_encoder(
        patch, lambda net: net.filters.weight.data.copy_(net.filters.weight.data.flip(0))
    )


def other_readout(patch: Patch) -> None:
    changed_encoder(patch, lambda net: setattr(net, "readout", "max"))


def other_batches(patch: Patch, change: Callable[[Any], Any]) -> None:
    true = images.batches
    patch.setattr(
        images,
        "batches",
        lambda *arguments, **more: (change(batch) for batch in true(*arguments, **more)),
    )


def other_mean(patch: Patch) -> None:
    other_batches(patch, lambda batch: batch * 1.2 + 0.1)


def blue_first(patch: Patch) -> None:
    other_batches(patch, lambda batch: batch[:, [2, 1, 0]])


def other_interpolation(patch: Patch) -> None:
    true = packing.squeezed
    other = {"bicubic": "bilinear", "bilinear": "bicubic"}
    patch.setattr(
        packing,
        "squeezed",
        lambda image, forms: true(image, [PackForm(f.size, other[f.interpolation]) for f in forms]),
    )


def a_class_is_dropped(patch: Patch) -> None:
    true = splits.draws

    def draws(labels: np.ndarray, *arguments: Any) -> list[np.ndarray]:
        return [
            index if len(index) == len(labels) else index[labels[index] != 2]
            for index in true(labels, *arguments)
        ]

    patch.setattr(splits, "draws", draws)


def other_training(
    patch: Patch,
    change: Callable[
        [Train, Mapping[str, np.ndarray], list[np.ndarray]], tuple[Train, list[np.ndarray]]
    ],
) -> None:
    for name in ("linear", "knn"):
        true = registry.protocol(name)

        def evaluate(
            train: Train,
            targets: Mapping[str, np.ndarray],
            draws: list[np.ndarray],
            true: Any = true,
        ) -> Iterator[dict[str, Scores]]:
            train, draws = change(train, targets, draws)
            # held-out images may lie beyond the draw that the run knows
            for answer in true.evaluate(train, targets, draws):
                yield {name: replace(scores, held_out=None) for name, scores in answer.items()}

        patch.setitem(registry.protocols(), name, replace(true, evaluate=evaluate))  # type: ignore[arg-type]


def leaked_test_set(patch: Patch) -> None:
    test = planted.parts()["test"]

    def leak(
        train: Train, targets: Mapping[str, np.ndarray], draws: list[np.ndarray]
    ) -> tuple[Train, list[np.ndarray]]:
        more = np.arange(len(train.labels), len(train.labels) + len(test))
        joined = [
            np.concatenate(pair)
            for pair in (
                (train.features, targets["test"]),
                (train.labels, test.labels),
                (train.groups, test.groups),
            )
        ]
        return replace(train, features=joined[0], labels=joined[1], groups=joined[2]), [
            np.concatenate([draw, more]) for draw in draws
        ]

    other_training(patch, leak)


def labels_shifted_in_training(patch: Patch) -> None:
    other_training(
        patch,
        lambda train, targets, draws: (
            replace(train, labels=(train.labels + 1) % train.n_classes),
            draws,
        ),
    )


def other_metric(patch: Patch) -> None:
    true = metrics._auc
    patch.setattr(metrics, "_auc", lambda *arguments: np.maximum(true(*arguments), 0.75))


def other_library(patch: Patch) -> None:
    """Another torch, and features that moved a little with it."""
    true = embed.machine
    machine = lambda device: {
        **true(device),
        "versions": {**true(device)["versions"], "torch": "1.0"},
    }
    patch.setattr(embed, "machine", machine)
    patch.setattr(provenance, "machine", machine)
    changed_encoder(
        patch,
        lambda net: net.register_forward_hook(
            lambda module, given, out: out * (1 + 0.3 * (out > out.mean(1, keepdim=True)))
        ),
    )


def other_recipe(patch: Patch) -> None:
    """As after a raise of the version: the numbers are the same, the row's identity is not."""
    patch.setitem(registry.protocols(), "linear", replace(registry.protocol("linear"), version=99))


@pytest.mark.parametrize(
    ("plant", "statuses", "part"),
    [
        (forgets_to_standardise, {"worse"}, "probe"),
        (other_weights, {"worse", "better"}, "weights"),
        (other_readout, {"worse", "better"}, "readout"),
        (other_mean, {"worse", "better"}, "preprocessing"),
        (blue_first, {"worse", "better"}, "preprocessing"),
        (other_interpolation, {"worse", "better"}, "preprocessing"),
        (a_class_is_dropped, {"not comparable"}, "split"),
        (leaked_test_set, {"better"}, "probe"),
        (labels_shifted_in_training, {"worse"}, "probe"),
        (other_metric, {"better"}, "metrics"),
        (other_library, {"worse", "better"}, "library or readout"),
        (other_recipe, {"not comparable"}, "probe"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_planted_regression_is_red_and_explained(
    plant: Callable[[Patch], None],
    statuses: set[str],
    part: str,
    again: Callable[..., check.Comparison],
    monkeypatch: Patch,
) -> None:
    plant(monkeypatch)
    red = judged(again())
    assert {finding.status for finding in red} <= statuses
    assert {finding.explanation.part for finding in red if finding.explanation} == {part}


@pytest.mark.parametrize(
    ("change", "part"), [({"groups_are_images": True}, "split"), ({"shuffled": True}, "data")]
)
def test_a_planted_change_of_the_task_is_red_and_explained(
    change: dict[str, bool], part: str, again: Callable[..., check.Comparison]
) -> None:
    red = judged(again(lambda: planted.parts(**change)))
    assert len(red) == 6
    assert {finding.status for finding in red} == {"not comparable"}
    assert {finding.explanation.part for finding in red if finding.explanation} == {part}


def judged(comparison: check.Comparison) -> list[check.CellFinding]:
    red = [finding for finding in comparison.findings if finding.status != "same"]
    assert comparison.red and red
    assert all(finding.explanation for finding in red)
    return red
