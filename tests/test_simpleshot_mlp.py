"""`simpleshot` beside a loop written by hand, and what `mlp` promises of its fixed recipe."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from medbench import Grid
from medbench.protocols import simpleshot
from medbench.protocols.mlp import MLP
from medbench.protocols.simpleshot import SIMPLESHOT
from medbench.schema import Kind, Protocol, Scores, Train

RNG = np.random.default_rng(0)


def answers(
    protocol: Protocol, train: Train, target: np.ndarray, draws: list[np.ndarray]
) -> list[Scores]:
    return [found["t"] for found in protocol.evaluate(train, {"t": target}, draws)]


def trained(
    features: np.ndarray,
    labels: np.ndarray,
    kind: Kind = "multiclass",
    classes: int = 3,
    seeds: tuple[int, ...] = (),
) -> Train:
    return Train(
        features.astype(np.float32), labels, np.arange(len(labels)), kind, classes, seeds=seeds
    )


def by_hand(
    features: np.ndarray, labels: np.ndarray, target: np.ndarray, classes: int
) -> np.ndarray:
    """Class by class and image by image, as the paper's CL2N says it; NaN for a class without
    images."""
    mean = features.astype(float).mean(0)
    normalised = [(one - mean) / np.linalg.norm(one - mean) for one in features.astype(float)]
    squared = np.full((len(target), classes), np.nan)
    for c in range(classes):
        own = [one for one, label in zip(normalised, labels, strict=True) if label == c]
        for i, image in enumerate(target.astype(float) if own else ()):
            turned = (image - mean) / np.linalg.norm(image - mean)
            squared[i, c] = ((turned - np.mean(own, axis=0)) ** 2).sum()
    return squared


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 5), ("ordinal", 4)])
def test_simpleshot_is_the_loop(kind: Kind, classes: int) -> None:
    """More draws than stand in one product, of several sizes.

    Features far from 0, as after a rectifier.
    """
    labels = np.arange(90) % classes
    features = (RNG.normal(size=(90, 12)) + 50 + np.eye(12)[labels]).astype(np.float32)
    target = (RNG.normal(size=(40, 12)) + 50 + np.eye(12)[np.arange(40) % classes]).astype(
        np.float32
    )
    draws = [RNG.permutation(90)[:n] for n in range(20, 20 + simpleshot.TOGETHER + 5)]
    draws.append(np.flatnonzero(labels > 0)[:30])  # class 0 has no labelled image
    found = answers(SIMPLESHOT, trained(features, labels, kind, classes), target, draws)
    assert len(found) == len(draws)
    for draw, scores in zip(draws, found, strict=True):
        squared = by_hand(features[draw], labels[draw], target, classes)
        np.testing.assert_allclose(
            scores.probabilities,
            softmax(np.where(np.isnan(squared), -np.inf, -squared), axis=1),
            atol=1e-6,
        )
        np.testing.assert_array_equal(scores.decisions, np.nanargmin(squared, axis=1))
    assert (found[-1].probabilities[:, 0] == 0).all()


def test_simpleshot_has_a_pair_of_centroids_for_each_label() -> None:
    labels = (RNG.random((60, 4)) < 0.4).astype(float)
    labels[RNG.random((60, 4)) < 0.1] = np.nan
    labels[:, 3] = np.where(np.isnan(labels[:, 3]), np.nan, 1.0)  # only ever positive
    features, target = (RNG.normal(1, 1, size=(n, 8)).astype(np.float32) for n in (60, 20))
    (scores,) = answers(
        SIMPLESHOT, trained(features, labels, "multilabel", 4), target, [np.arange(40)]
    )
    features, labels = features[:40], labels[:40]
    mean = features.astype(float).mean(0)
    turned, asked = (
        (x - mean) / np.linalg.norm(x - mean, axis=1, keepdims=True)
        for x in (features.astype(float), target.astype(float))
    )
    for c in range(3):
        squared = [
            ((asked - turned[labels[:, c] == value].mean(0)) ** 2).sum(1) for value in (0, 1)
        ]
        np.testing.assert_allclose(
            scores.probabilities[:, c], softmax(-np.array(squared), axis=0)[1], atol=1e-6
        )
    positive = int((labels[:, 3] == 1).sum())
    np.testing.assert_allclose(
        scores.probabilities[:, 3], (positive + 1) / (positive + 2), rtol=1e-6
    )
    np.testing.assert_array_equal(scores.decisions, scores.probabilities >= 0.5)


def test_no_place_in_the_product_changes_a_bit_of_a_draw() -> None:
    labels = np.arange(120) % 3
    features = RNG.normal(size=(120, 70)).astype(np.float32)
    draws = [np.sort(RNG.permutation(120)[:40]) for _ in range(simpleshot.TOGETHER + 3)]
    train = trained(features, labels)
    every = answers(SIMPLESHOT, train, features, draws)
    for i in (0, 1, 7, 30, 33):
        for beside in ([draws[i]], [*draws[:5], draws[i]], draws[i:]):
            alone = answers(SIMPLESHOT, train, features, beside)[0 if beside[0] is draws[i] else -1]
            np.testing.assert_array_equal(alone.probabilities, every[i].probabilities)


@pytest.mark.parametrize("protocol", [SIMPLESHOT, MLP], ids=lambda protocol: protocol.name)
def test_features_that_say_nothing_give_no_direction(protocol: Protocol) -> None:
    """All alike, and not exactly so in float64: no rounding is read as a direction."""
    train = trained(np.full((30, 6), 0.1), np.arange(30) % 3)
    (scores,) = answers(protocol, train, train.features, [np.arange(30)])
    np.testing.assert_allclose(scores.probabilities, 1 / 3, atol=0.02)
    assert np.ptp(scores.probabilities, axis=0).max() == 0


def test_a_hidden_layer_learns_what_no_line_divides() -> None:
    corners = RNG.integers(0, 2, (600, 2))
    features = corners + RNG.normal(0, 0.15, (600, 2))
    labels = corners[:, 0] ^ corners[:, 1]
    (scores,) = answers(
        MLP,
        trained(features[:400], labels[:400], "binary", 2),
        features[400:].astype(np.float32),
        [np.arange(400)],
    )
    assert (scores.decisions == labels[400:]).mean() > 0.95


def test_a_training_hangs_on_its_own_seed_alone() -> None:
    labels = np.arange(90) % 3
    features = RNG.normal(size=(90, 5)) + np.eye(5)[labels]
    draw = np.arange(60)
    first, second, again = answers(
        MLP,
        trained(features, labels, seeds=(0, 1, 0)),
        features.astype(np.float32),
        [draw, draw, draw],
    )
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert np.abs(first.probabilities - second.probabilities).max() > 1e-4 and MLP.seeded


def test_what_a_subset_lacks_is_not_learnt() -> None:
    """A class without an image has probability 0, a label of one value its smoothed base rate."""
    labels = np.arange(60) % 3
    features = RNG.normal(size=(60, 5)).astype(np.float32)
    (scores,) = answers(MLP, trained(features, labels), features, [np.flatnonzero(labels != 1)])
    assert (scores.probabilities[:, 1] == 0).all() and not (scores.decisions == 1).any()
    several = np.column_stack([labels == 0, np.zeros(60)]).astype(float)
    several[5, 1] = np.nan
    (scores,) = answers(MLP, trained(features, several, "multilabel", 2), features, [np.arange(60)])
    np.testing.assert_allclose(scores.probabilities[:, 1], 1 / 61, rtol=1e-6)


def test_neither_is_in_the_default_set() -> None:
    assert not {"simpleshot", "mlp"} & set(Grid().protocols)
