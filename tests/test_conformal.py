"""Sets of classes hold the right one as often as they say, for an image of a new group.

And the flag for images unlike the training images.
"""

from __future__ import annotations

import numpy as np
import pytest

from medbench import UserError
from medbench.models.exported.typical import Typical, typical_of
from medbench.stats import conformal


def answers(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """probabilities (N, 4), labels and groups.

    Images of one group are alike, and large groups harder.
    """
    sizes = rng.geometric(0.5, groups)
    member = np.repeat(np.arange(groups), sizes)
    labels = rng.integers(0, 4, groups)[member]
    own = rng.normal(0, 1, (groups, 4))[member]
    logits = (
        own
        + rng.normal(0, 0.3, (len(member), 4))
        + (2.2 / np.sqrt(sizes[member]))[:, None] * (labels[:, None] == np.arange(4))
    )
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return p, labels, member


def coverage(p: np.ndarray, labels: np.ndarray, groups: np.ndarray, quantile: float) -> float:
    """Of an image of a new group: each group counts once."""
    held = conformal.sets(p, quantile)[np.arange(len(p)), labels]
    return float(np.mean([held[groups == g].mean() for g in np.unique(groups)]))


@pytest.mark.parametrize("stated", [0.8, 0.9, 0.95])
def test_the_coverage_is_what_is_stated(stated: float) -> None:
    rng, found = np.random.default_rng(0), []
    test = answers(rng, 1500)
    for _ in range(60):
        p, labels, groups = answers(rng, 150)
        quantile = conformal.quantile_of(
            conformal.calibrate(p[np.arange(len(p)), labels], groups), stated
        )
        assert quantile is not None
        found.append(coverage(*test, quantile))
    assert np.mean(found) == pytest.approx(stated, abs=0.02)


def test_groups_count_once_and_too_few_promise_nothing() -> None:
    right, groups = np.array([0.9] * 90 + [0.2] * 10), np.array(["a"] * 90 + list("bcdefghijk"))
    quantiles = conformal.calibrate(right, groups)
    # ten of eleven groups are bad, whatever the number of images of the other
    assert quantiles["0.50"] == pytest.approx(0.8)
    assert quantiles["0.91"] == pytest.approx(0.8) and quantiles["0.92"] is None  # 11 of 12
    chosen = conformal.sets(np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]]), 0.05)
    assert chosen.tolist() == [[True, False, False], [True, False, False]], "no set is empty"


def features(n: int, seed: int, of: int = 1) -> np.ndarray:
    """Sparse, skewed features of a few sources, as a network gives them.

    of: another modality has other sources.
    """
    mix = np.random.default_rng(of).normal(size=(20, 300)) * np.exp(-np.arange(20) / 6)[:, None]
    rng = np.random.default_rng(seed)
    return np.maximum(rng.gamma(2, 1, (n, 20)) @ mix + 0.5 * rng.gamma(1, 1, (n, 300)), 0).astype(
        np.float32
    )


@pytest.mark.parametrize("n", [70, 600])
def test_few_of_the_same_set_are_flagged_and_most_of_another(n: int) -> None:
    like, other = features(1000, 99), features(300, 98, of=2)
    rates = []
    for seed in range(5):
        found = typical_of(features(n, seed), np.arange(n))
        assert found is not None
        again = Typical.of(found.arrays())
        rates.append((again.unlike(like).mean(), again.unlike(other).mean()))
        assert len(found.components) <= min(128, n // 5)
        np.testing.assert_allclose(again.distance(like), found.distance(like), rtol=1e-4)
    same, another = np.array(rates).T
    assert same.mean() <= 0.03 and another.min() >= 0.9


def test_what_is_no_number_is_unlike_and_few_groups_say_nothing() -> None:
    assert typical_of(features(70, 0), np.zeros(70)) is None
    assert typical_of(np.ones((70, 5), np.float32), np.arange(70)) is None
    found = typical_of(features(70, 0), np.arange(70))
    assert found is not None and found.unlike(np.full((1, 300), 1e6, np.float32)).all()
    with pytest.raises(ValueError, match="not those of typical features"):
        Typical.of({**found.arrays(), "rest": np.array([-1.0])})


def test_a_model_without_sets_says_why() -> None:
    from types import SimpleNamespace

    from medbench.models.exported.model import ExportedModel

    def model(sets: dict[str, float | None], kind: str) -> ExportedModel:
        return ExportedModel(SimpleNamespace(points={"sets": sets}, kind=kind), "cpu")  # type: ignore[arg-type]

    with pytest.raises(UserError, match="each label is decided for itself"):
        model({}, "multilabel").quantile(0.9)
    with pytest.raises(
        UserError, match=r"coverage of 0.95: it has whole percents from 0.50 to 0.90"
    ):
        model({"0.90": 0.3, "0.95": None}, "binary").quantile(0.95)
