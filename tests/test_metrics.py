"""metrics.py against scikit-learn and against sums written out by hand."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from medbench.schema import KINDS, Kind
from medbench.stats import metrics


@pytest.fixture(autouse=True)
def _shipped_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without metrics that a user added: what these tests know is how ours are defined."""
    ours = {name: one for name, one in metrics.METRICS.items() if not one.of_counts}
    monkeypatch.setattr(metrics, "METRICS", ours)


Problem = tuple[np.ndarray, np.ndarray, np.ndarray]


def problem(kind: Kind, seed: int) -> tuple[Problem, np.ndarray]:
    """A random test set and weights (N, 4).

    Skewed classes, ties in most sets, sometimes a class without images or an unknown label.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    n = int(rng.integers(3, 120))
    c = 2 if kind == "binary" else int(rng.integers(2, 7))
    prior = rng.dirichlet(np.full(c, 0.5))
    if kind == "multilabel":
        labels = (rng.random((n, c)) < prior).astype(float)
        probabilities = np.clip(rng.normal(0.3 + 0.3 * labels, 0.3), 0, 1)
        labels[rng.random((n, c)) < rng.choice([0, 0.2])] = np.nan
        labels[:, 0] = np.nan if rng.random() < 0.2 else labels[:, 0]
        decisions = (probabilities > rng.uniform(0.3, 0.7, c)).astype(int)
    else:
        labels = rng.choice(c, n, p=prior)
        probabilities = rng.dirichlet(np.ones(c), n) + rng.uniform(0, 1) * np.eye(c)[labels]
        probabilities /= probabilities.sum(1, keepdims=True)
        decisions = np.where(rng.random(n) < 0.2, rng.choice(c, n), probabilities.argmax(1))
    if rng.random() < 0.6:
        probabilities = probabilities.round(1)
    if rng.random() < 0.3:
        probabilities = probabilities.astype(np.float32)
    weights = rng.poisson(rng.choice([0.1, 1.0]), (n, 4)).astype(rng.choice([np.uint8, np.int64]))
    return (labels, probabilities, decisions), weights


def mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def kappa(
    truth: np.ndarray, decided: np.ndarray, w: np.ndarray, c: int, power: str | None
) -> float:
    used = set(truth) | set(decided)
    if len(used) < 2:
        return math.nan
    return sklearn_metrics.cohen_kappa_score(
        truth, decided, labels=range(c), weights=power, sample_weight=w
    )


def one_vs_rest(positive: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    return (
        sklearn_metrics.roc_auc_score(positive, p, sample_weight=w)
        if 0 < positive.sum() < len(positive)
        else math.nan
    )


def calibration_error(confidence: np.ndarray, right: np.ndarray, w: np.ndarray) -> float:
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            accuracy, believed = (
                np.average(right[inside], weights=w[inside]),
                np.average(confidence[inside], weights=w[inside]),
            )
            total += w[inside].sum() * abs(accuracy - believed)
    return total / w.sum() if len(w) else math.nan


def single_label(
    truth: np.ndarray, p: np.ndarray, decided: np.ndarray, w: np.ndarray, kind: Kind
) -> dict[str, float]:
    """Each metric by scikit-learn, for images that all have w > 0."""
    c = p.shape[1]
    if not len(w):
        return dict.fromkeys([*metrics.metric_names(kind)], math.nan) | {"auc_classes": 0}
    aucs = [one_vs_rest(truth == k, p[:, k], w) for k in ([1] if kind == "binary" else range(c))]
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(truth, decided, sample_weight=w),
        "balanced_accuracy": sklearn_metrics.recall_score(
            truth, decided, labels=np.unique(truth), average="macro", sample_weight=w
        ),
        "auc": mean(aucs),
        "auc_classes": len(aucs) - sum(map(math.isnan, aucs)),
        "f1": sklearn_metrics.f1_score(
            truth, decided, average="macro", zero_division=0, sample_weight=w
        ),
        "kappa": kappa(truth, decided, w, c, None),
        "ece": calibration_error(p.max(1).astype(float), p.argmax(1) == truth, w),
    }
    if kind == "ordinal":
        expected["weighted_kappa"] = kappa(truth, decided, w, c, "quadratic")
    return expected


def multilabel(
    truth: np.ndarray, p: np.ndarray, decided: np.ndarray, w: np.ndarray
) -> dict[str, float]:
    """Label after label as a binary problem by scikit-learn, then the mean."""
    each: list[dict[str, float]] = []
    f1 = []
    for k in range(p.shape[1]):
        known = ~np.isnan(truth[:, k])
        t, q, d, v = truth[known, k].astype(int), p[known, k], decided[known, k], w[known]
        each.append(single_label(t, np.stack([1 - q, q], 1), d, v, "binary"))
        f1.append(
            sklearn_metrics.f1_score(t, d, zero_division=0, sample_weight=v)
            if (t | d).any()
            else math.nan
        )
    known = ~np.isnan(truth)
    pooled = p[known].astype(float)
    ece = calibration_error(
        np.maximum(pooled, 1 - pooled),
        (pooled > 0.5) == truth[known],
        np.broadcast_to(w[:, None], p.shape)[known],
    )
    expected = {
        name: mean([one[name] for one in each]) for name in metrics.metric_names("multilabel")
    }
    return expected | {
        "f1": mean(f1),
        "ece": ece,
        "auc_classes": sum(one["auc_classes"] for one in each),
    }


def by_scikit_learn(data: Problem, kind: Kind, w: np.ndarray) -> dict[str, float]:
    labels, p, decisions = (part[w > 0] for part in data)
    w = w[w > 0].astype(float)
    return (
        multilabel(labels, p, decisions, w)
        if kind == "multilabel"
        else single_label(labels, p, decisions, w, kind)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_scikit_learn(kind: Kind) -> None:
    defined = set()
    for seed in range(12):
        data, weights = problem(kind, seed)
        resampled, plain = metrics.score(*data, kind, weights), metrics.score(*data, kind)
        results = [(plain.values | {"auc_classes": plain.auc_classes}, np.ones(len(weights), int))]
        for r in range(weights.shape[1]):
            of_r = {name: values[r] for name, values in resampled.values.items()} | {
                "auc_classes": resampled.auc_classes[r]
            }
            results.append((of_r, weights[:, r]))
        for ours, w in results:
            expected = by_scikit_learn(data, kind, w)
            assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True), (kind, seed)
            defined |= {name for name, value in expected.items() if not math.isnan(value)}
    assert defined == {*metrics.metric_names(kind), "auc_classes"}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_mean_repetition(kind: Kind) -> None:
    """A resample is the set in which each image stands as often as its weight says."""
    for seed in range(20):
        data, weights = problem(kind, seed)
        resampled = metrics.score(*data, kind, weights)
        for r in np.flatnonzero(weights.sum(0)):
            repeated = metrics.score(
                *(np.repeat(part, weights[:, r], axis=0) for part in data), kind
            )
            assert {name: values[r] for name, values in resampled.values.items()} == pytest.approx(
                repeated.values, abs=1e-12, nan_ok=True
            )
            assert resampled.auc_classes[r] == repeated.auc_classes


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_images_does_not_matter(kind: Kind) -> None:
    data, weights = problem(kind, 3)
    order = np.random.default_rng(0).permutation(len(weights))
    one, other = (
        metrics.score(*data, kind, weights),
        metrics.score(*(part[order] for part in data), kind, weights[order]),
    )
    for name in metrics.metric_names(kind):
        np.testing.assert_allclose(one.values[name], other.values[name], rtol=0, atol=1e-12)


def test_binary_by_hand() -> None:
    labels, p = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.6, 0.6, 0.9, 0.3])
    result = metrics.score(labels, np.stack([1 - p, p], 1), (p > 0.5).astype(int), "binary")
    # Pairs (positive, negative): .6 beats .1, ties .6; .9 beats both; .3 beats .1: 1.5 + 2 + 1 of
    # 6. Decisions 0 1 1 1 0: recall 1/2 and 2/3; f1 of class 0: 2 / (2 + 2), of class 1: 4 / 6; p_o
    # = 3/5, p_e = (2*2 + 3*3) / 25. Bins of the confidences .9 .6 .6 .9 .7: {.9 right, .9 right},
    # {.6 wrong, .6 right}, {.7 wrong}.
    assert result.values == pytest.approx(
        {
            "accuracy": 3 / 5,
            "balanced_accuracy": (1 / 2 + 2 / 3) / 2,
            "auc": 4.5 / 6,
            "f1": (1 / 2 + 2 / 3) / 2,
            "kappa": (3 / 5 - 13 / 25) / (1 - 13 / 25),
            "ece": (abs(2 - 1.8) + abs(1 - 1.2) + abs(0 - 0.7)) / 5,
        }
    )
    assert result.auc_classes == 1


def test_calibration_bins_hold_their_upper_end() -> None:
    """.6 = 9/15 (right) and .62 (wrong) lie in two bins; in one, their errors would cancel."""
    p = np.array([0.6, 0.62])
    result = metrics.score(np.array([1, 0]), np.stack([1 - p, p], 1), np.array([1, 1]), "binary")
    assert result.values["ece"] == pytest.approx((0.4 + 0.62) / 2)


def test_ordinal_distance_counts_classes_without_images() -> None:
    """Grade 1 has no image: 0 against 2 is still two steps.

    Observed: 4 + 4 over 4 images; expected: all 16 pairs alike.
    """
    labels, decisions = np.array([0, 0, 2, 3]), np.array([0, 2, 0, 3])
    result = metrics.score(labels, np.full((4, 4), 0.25), decisions, "ordinal")
    pairs = (labels[:, None] - decisions[None]) ** 2
    assert result.values["weighted_kappa"] == pytest.approx(1 - (8 / 4) / (pairs.sum() / 16))
    assert result.values["auc"] == 0.5 and result.auc_classes == 3


@pytest.mark.parametrize("kind", KINDS)
def test_small_unsigned_integers_do_not_wrap(kind: Kind) -> None:
    (labels, p, decisions), weights = problem(kind, 2)
    wide = metrics.score(labels, p, decisions, kind, weights)
    narrow = metrics.score(
        labels if kind == "multilabel" else labels.astype(np.uint8),
        p,
        decisions.astype(np.uint8),
        kind,
        weights,
    )
    for name in metrics.metric_names(kind):
        np.testing.assert_array_equal(narrow.values[name], wide.values[name])


def test_absent_classes_are_left_out_and_counted() -> None:
    labels, p = (
        np.array([0, 0, 1, 1]),
        np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]]),
    )
    weights = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    result = metrics.score(labels, p, p.argmax(1), "multiclass", weights)
    np.testing.assert_array_equal(result.values["auc"], [1, np.nan, np.nan])
    np.testing.assert_array_equal(result.auc_classes, [2, 0, 0])
    np.testing.assert_array_equal(result.values["balanced_accuracy"], [1, 1, np.nan])
    np.testing.assert_array_equal(result.values["f1"], [1, 1, np.nan])
    np.testing.assert_array_equal(result.values["kappa"], [1, np.nan, np.nan])
    assert all(np.isnan(values[2]) for values in result.values.values())


def test_uncertain_labels_change_nothing() -> None:
    """What is scored or decided for an uncertain label has no effect."""
    (labels, p, decisions), weights = problem("multilabel", 5)
    labels[::3, 1] = np.nan
    other_p, other_decisions = p.copy(), decisions.copy()
    other_p[np.isnan(labels)] = 1 - p[np.isnan(labels)]
    other_decisions[np.isnan(labels)] = 1 - decisions[np.isnan(labels)]
    one, other = (
        metrics.score(labels, p, decisions, "multilabel", weights),
        metrics.score(labels, other_p, other_decisions, "multilabel", weights),
    )
    for name in metrics.metric_names("multilabel"):
        np.testing.assert_allclose(one.values[name], other.values[name], rtol=0, atol=1e-12)


def test_plain_values_are_numbers_for_json() -> None:
    data, _ = problem("ordinal", 1)
    result = metrics.score(*data, "ordinal")
    assert tuple(result.values) == tuple(metrics.METRICS)
    assert {type(value) for value in result.values.values()} == {float} and type(
        result.auc_classes
    ) is int


def test_memory_is_bounded() -> None:
    """Peak beyond the weights themselves does not grow with the number of resamples."""
    rng = np.random.default_rng(0)
    n, c = 50_000, 3
    labels, p = rng.integers(c, size=n), rng.dirichlet(np.ones(c), n).astype(np.float32)
    peaks = []
    for r in (50, 200):
        weights = rng.integers(0, 3, (n, r), dtype=np.uint8)
        tracemalloc.start()
        metrics.score(labels, p, p.argmax(1), "multiclass", weights)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 300e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.array([0, 1, 2])},
            "labels of a binary task must be whole numbers from 0 to 1",
        ),
        ({"labels": np.array([0, 1])}, "shapes do not fit a binary task"),
        ({"decisions": np.array([0, 1, -1])}, "decisions of a binary task"),
        ({"probabilities": np.array([0.1, 0.2, 0.3])}, r"probabilities must be \(N, C\)"),
        ({"probabilities": np.full((3, 3), 0.3)}, "shapes do not fit a binary task"),
        ({"probabilities": np.full((3, 2), np.nan)}, "NaN is not allowed"),
        ({"probabilities": np.full((3, 2), 1.5)}, r"must lie in \[0, 1\]"),
        ({"weights": np.ones((3, 2))}, "weights must be integers"),
        ({"weights": np.ones((2, 3), int)}, "weights must be integers of shape"),
        ({"weights": np.array([[1], [2], [-1]])}, "weights must be >= 0"),
        ({"weights": np.full((3, 1), 2**30)}, "smaller than"),
    ],
)
def test_refuses(change: dict[str, np.ndarray], message: str) -> None:
    given = {
        "labels": np.array([0, 1, 1]),
        "probabilities": np.full((3, 2), 0.5),
        "decisions": np.array([0, 1, 1]),
        "weights": None,
    }
    with pytest.raises(ValueError, match=message):
        metrics.score(**(given | change), kind="binary")
