"""k nearest neighbours against a slow loop, Nielsen's classifiers against the published arguments
and against scikit-learn's own pipeline."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer
from sklearn.svm import SVC

from medbench.models import neighbours, power_transform
from medbench.protocols import _features as features
from medbench.protocols import knn, linear, svm_logreg
from medbench.protocols.knn import KNN
from medbench.protocols.knn_nielsen2023 import KNN_NIELSEN2023
from medbench.protocols.svm_logreg import LOGREG, SVM
from medbench.run import validation
from medbench.schema import Protocol, Scores, Train, UserError, registry
from medbench.stats import splits

ALL = pytest.mark.parametrize(
    "protocol", [KNN, KNN_NIELSEN2023, SVM, LOGREG], ids=lambda protocol: protocol.name
)
FITTED = pytest.mark.parametrize("protocol", [SVM, LOGREG], ids=lambda protocol: protocol.name)
SVC_AS_PUBLISHED = {
    "C": 1.0,
    "kernel": "rbf",
    "gamma": "scale",
    "class_weight": "balanced",
    "break_ties": True,
}


def _drawn(
    n: int, dimensions: int, classes: int, seed: int, *, per_group: int = 1, spread: float = 1.0
) -> Train:
    """Skewed, partly silent features of overlapping classes, as after a ReLU; `per_group`
    near-copies a group."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, classes + 1)
    labels = np.r_[
        np.repeat(np.arange(classes), 3),
        rng.choice(classes, n - 3 * classes, p=share / share.sum()),
    ]
    centres = rng.normal(size=(classes, dimensions))
    x = np.maximum(centres[labels] + spread * rng.normal(size=(n, dimensions)), 0) * rng.lognormal(
        size=dimensions
    )
    x = np.repeat(x, per_group, 0) * (1 + 0.05 * rng.random((n * per_group, dimensions)))
    groups = np.repeat([f"g{i}" for i in range(n)], per_group)
    kind = "binary" if classes == 2 else "multiclass"
    return Train(x.astype(np.float32), np.repeat(labels, per_group), groups, kind, classes)


def _scores(
    protocol: Protocol, train: Train, images: np.ndarray, draw: np.ndarray | None = None
) -> Scores:
    draw = np.arange(len(train.labels)) if draw is None else draw
    return next(protocol.evaluate(train, {"test": images}, [draw]))["test"]


@FITTED
def test_every_argument_is_the_published_one(protocol, monkeypatch):
    """Against the arguments in the paper's code (sparsam).

    What it does not name is scikit-learn's default.
    """
    given = []
    for estimator, method in ((PCA, "fit_transform"), (SVC, "fit"), (LogisticRegression, "fit")):

        def record(self, *data, original=getattr(estimator, method)):
            given.append((type(self).__name__, self.get_params()))
            return original(self, *data)

        monkeypatch.setattr(estimator, method, record)
    train = _drawn(40, 6, 3, 0)
    chosen = _scores(protocol, train, train.features).chosen
    published = {
        "PCA": PCA().get_params(),
        "SVC": SVC().get_params() | SVC_AS_PUBLISHED,
        "LogisticRegression": LogisticRegression().get_params()
        | {"C": 2.5, "class_weight": "balanced", "max_iter": 10_000},
    }
    last = "SVC" if protocol is SVM else "LogisticRegression"
    assert [name for name, _ in given[:2]] == ["PCA", last]
    assert {name for name, _ in given} == {"PCA", last}
    for name, arguments in given:
        kernel = (
            {"kernel": "precomputed"} if name == "SVC" else {}
        )  # the published one, which `test_as_a_plain_scikit_learn_pipeline` compares
        assert arguments == published[name] | kernel
    defaults = PowerTransformer().get_params()  # what `power_transform` stands for
    assert defaults["method"] == "yeo-johnson" and defaults["standardize"]
    assert published["PCA"]["n_components"] is None and not published["PCA"]["whiten"]
    assert {
        name: published[last][name] for name in chosen if name in published[last]
    }.items() <= dict(chosen).items()


CASES = {
    "tall": (120, 8, 5),
    "wide": (60, 70, 4),
    "binary": (60, 10, 2),
    "wide, binary": (25, 30, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_as_a_plain_scikit_learn_pipeline(case):
    n, dimensions, classes = CASES[case]
    both = _drawn(n + 200, dimensions, classes, 1)
    train = Train(both.features[:n], both.labels[:n], both.groups[:n], both.kind, classes)
    images, x = both.features[n:], train.features.astype(float)
    plain = make_pipeline(PowerTransformer(), PCA(), SVC(**SVC_AS_PUBLISHED)).fit(x, train.labels)
    scores = _scores(SVM, train, images)
    np.testing.assert_array_equal(scores.decisions, plain.predict(images.astype(float)))
    np.testing.assert_array_equal(scores.probabilities.argmax(1), scores.decisions)
    plain = make_pipeline(
        PowerTransformer(),
        PCA(),
        LogisticRegression(C=2.5, class_weight="balanced", max_iter=10_000),
    )
    expected = plain.fit(x, train.labels).predict_proba(images.astype(float))
    scores = _scores(LOGREG, train, images)
    np.testing.assert_allclose(scores.probabilities, expected, atol=2e-3)
    assert (scores.decisions == expected.argmax(1)).mean() > 0.99


@FITTED
def test_the_kernel_that_folds_share_changes_nothing(protocol, monkeypatch):
    train = _drawn(80, 20, 3, 4, per_group=2)
    images = _drawn(50, 20, 3, 5).features
    shared = _scores(protocol, train, images)
    monkeypatch.setattr(svm_logreg, "KERNEL_IMAGES", 0)
    by_libsvm = _scores(protocol, train, images)
    np.testing.assert_allclose(by_libsvm.probabilities, shared.probabilities, atol=1e-5)
    np.testing.assert_array_equal(by_libsvm.decisions, shared.decisions)


def _columns(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {
        "as after a ReLU": np.maximum(rng.normal(-0.5, 1, (n, 40)), 0) * rng.lognormal(size=40),
        "positive": rng.gamma(0.5, 0.5, (n, 40)),
        "negative": -rng.gamma(0.5, 1, (n, 40)),
        "of both signs": rng.normal(0.1, 1, (n, 40)) ** 3,
    }


@pytest.mark.parametrize("n", [5, 14, 300])
def test_the_power_transform_is_scikit_learns(n):
    for name, x in _columns(n).items():
        x = x[:, x.std(0) > 0]
        before = x.copy()
        found, z = power_transform.fit_transform(x)
        theirs = PowerTransformer().fit(x)
        np.testing.assert_allclose(
            found.exponents, theirs.lambdas_, atol=2e-5, rtol=2e-5, err_msg=name
        )  # they stop at values, we at slopes
        np.testing.assert_allclose(z, theirs.transform(x), atol=2e-7, err_msg=name)
        others = np.vstack([3 * x, -x, np.zeros_like(x[:1])])
        np.testing.assert_allclose(
            found.transform(others), theirs.transform(others), rtol=1e-4, atol=1e-6, err_msg=name
        )
        np.testing.assert_array_equal(x, before)


def _exactly(x: np.ndarray, exponent: float) -> tuple[np.ndarray, float]:
    """The transform of a column, standardised, and minus its log-likelihood an image, in 200
    digits."""
    with mpmath.workdps(200):
        sides, exact = [1 if v >= 0 else -1 for v in x], [mpmath.mpf(float(v)) for v in x]
        own = [mpmath.mpf(exponent) if s > 0 else 2 - mpmath.mpf(exponent) for s in sides]
        lengths = [mpmath.log1p(abs(v)) for v in exact]
        made = [
            s * (mpmath.expm1(a * t) / a if a else t)
            for s, a, t in zip(sides, own, lengths, strict=True)
        ]
        mean = mpmath.fsum(made) / len(made)
        variance = mpmath.fsum((v - mean) ** 2 for v in made) / len(made)
        pull = mpmath.fsum(s * t for s, t in zip(sides, lengths, strict=True)) / len(made)
        return np.array([float((v - mean) / mpmath.sqrt(variance)) for v in made]), float(
            mpmath.log(variance) / 2 - (exponent - 1) * pull
        )


@pytest.mark.parametrize("middle", [5.0, -3.0, 0.0])
@pytest.mark.parametrize("spread", [1e-4, 1e-2, 1.0])
def test_the_power_transform_in_many_digits(middle, spread):
    """Also of columns that hardly vary, where scikit-learn's exponents and values are lost to
    rounding."""
    x = middle + spread * np.random.default_rng(0).standard_t(3, (12, 4))
    found, z = power_transform.fit_transform(x)
    theirs = PowerTransformer().fit(x)
    for j in range(4):
        exactly, loss = _exactly(x[:, j], float(found.exponents[j]))
        np.testing.assert_allclose(z[:, j], exactly, atol=1e-9)
        assert loss <= _exactly(x[:, j], float(theirs.lambdas_[j]))[1] + 1e-12


def test_a_column_of_two_values_and_one_of_another_sign_than_in_training():
    x = np.array([[0, 2.0], [0, 5.0], [0, 3.0], [4, 9.0]])
    found, z = power_transform.fit_transform(x)
    theirs = PowerTransformer().fit(x)
    np.testing.assert_allclose(z, theirs.transform(x), atol=1e-7)
    images = np.array([[-4.0, -3.0], [2.0, 0.0]])
    np.testing.assert_allclose(found.transform(images), theirs.transform(images), rtol=1e-5)


def test_temperature_is_that_of_scikit_learn_on_grouped_folds():
    train = _drawn(50, 6, 3, 2, per_group=2)
    inside, transform = svm_logreg.transforms(train.features)
    fold = splits.held_out_fold(train.labels, train.groups)
    k = fold.max() + 1
    assert k > 1 and all(len(set(fold[train.groups == g])) == 1 for g in set(train.groups))
    parts = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]
    reference = CalibratedClassifierCV(
        SVC(**SVC_AS_PUBLISHED), method="temperature", ensemble=False, cv=parts
    ).fit(inside, train.labels)
    images = _drawn(80, 6, 3, 3).features
    scores = _scores(SVM, train, images)
    assert scores.chosen["temperature"] == pytest.approx(
        1 / reference.calibrated_classifiers_[0].calibrators[0].beta_, rel=1e-4
    )
    np.testing.assert_allclose(
        scores.probabilities, reference.predict_proba(transform(images)), atol=1e-4
    )
    assert scores.chosen["rule"].startswith(f"{k}-fold grouped CV")


def _vote(
    row: np.ndarray, train: np.ndarray, labels: np.ndarray, k: int, classes: int
) -> tuple[np.ndarray, float]:
    similarity = np.array(
        [row @ other / (np.linalg.norm(row) * np.linalg.norm(other)) for other in train]
    )
    votes = np.zeros(classes)
    for i in np.argsort(-similarity)[:k]:
        votes[labels[i]] += np.exp(similarity[i] / 0.07)
    return votes / votes.sum(), votes.sum() / np.exp(similarity.max() / 0.07)


def test_neighbours_and_their_number_as_a_slow_loop_finds_them():
    train = _drawn(40, 8, 3, 4, per_group=2, spread=2.0)
    x, labels, n = train.features.astype(float), train.labels, len(train.labels)
    images = _drawn(30, 8, 3, 5).features
    images = images[images.any(1)]
    scores = _scores(KNN, train, images)
    fold = splits.held_out_fold(labels, train.groups)
    parts = fold.max() + 1
    losses = {}
    for k in knn.NEIGHBOURS:
        if k > min((fold != i).sum() for i in range(parts)):
            break
        votes = [_vote(x[i], x[fold != fold[i]], labels[fold != fold[i]], k, 3) for i in range(n)]
        losses[k] = -np.mean(
            [
                np.log((cast * share[labels[i]] + 1 / 3) / (cast + 1))
                for i, (share, cast) in enumerate(votes)
            ]
        )
    best = min(losses, key=losses.__getitem__)
    assert 1 < best < max(losses)
    assert scores.chosen["k"] == best and scores.chosen["cv_log_loss"] == pytest.approx(
        losses[best]
    )
    expected = np.array([_vote(row.astype(float), x, labels, best, 3)[0] for row in images])
    np.testing.assert_allclose(scores.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(scores.decisions, expected.argmax(1))


def test_labels_of_a_multilabel_task_are_voted_on_by_those_who_know_them():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    labels = (x[:, :3] > 0.3).astype(float)
    labels[rng.random(labels.shape) < 0.5] = np.nan
    labels = np.c_[labels, np.full(60, np.nan)]
    labels[7, 3] = 1
    images = rng.normal(size=(40, 5)).astype(np.float32)
    scores = _scores(KNN, Train(x, labels, np.arange(60).astype(str), "multilabel", 4), images)
    k, unheard = scores.chosen["k"], 0
    assert 1 < k < 60
    unit, rows = (
        a.astype(float) / np.linalg.norm(a.astype(float), axis=1)[:, None] for a in (x, images)
    )
    for i, row in enumerate(rows):
        nearest = np.argsort(-(unit @ row))[:k]
        for c in range(4):
            voting = nearest[~np.isnan(labels[nearest, c])]
            weight = np.exp(unit[voting] @ row / 0.07)
            unheard += len(voting) == 0
            known = labels[~np.isnan(labels[:, c]), c]
            expected = (
                weight @ labels[voting, c] / weight.sum()
                if len(voting)
                else (known.sum() + 1) / (len(known) + 2)
            )
            assert scores.probabilities[i, c] == pytest.approx(expected, abs=1e-6)
    assert unheard > 0
    np.testing.assert_array_equal(scores.decisions, scores.probabilities >= 0.5)
    assert "multilabel" in KNN.kinds and "multilabel" not in SVM.kinds + LOGREG.kinds


@pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal", "multilabel"])
def test_what_a_protocol_does_not_serve_is_refused_at_plan_time(kind):
    task = replace(registry.tasks()["derm"], kind=kind)
    served = [KNN, linear.LINEAR] if kind == "multilabel" else [KNN, linear.LINEAR, SVM, LOGREG]
    validation._check_protocols(task, served)
    for protocol in (SVM, LOGREG) if kind == "multilabel" else ():
        with pytest.raises(
            UserError, match=f"Protocol '{protocol.name}' does not serve 'derm', a multilabel task."
        ) as refused:
            validation._check_protocols(task, [KNN, protocol])
        assert "linear" in str(refused.value) and "knn" in str(refused.value)


def test_the_order_of_equal_images_decides_nothing():
    rng = np.random.default_rng(7)
    different, labels = rng.normal(size=(5, 333)).astype(np.float32), np.tile(np.arange(3), 25)
    train = Train(np.repeat(different, 15, 0), labels, labels.astype(str), "multiclass", 3)
    images = different[:, ::-1] + different
    for draw in (np.arange(75), rng.permutation(75)):
        scores = _scores(KNN, train, images, draw)
        assert scores.chosen["k"] == knn.FIXED_NEIGHBOURS
        np.testing.assert_allclose(scores.probabilities, 1 / 3, atol=1e-6)


def test_similarities_that_rounding_tells_apart_are_one():
    similarity = torch.tensor([[0.9, 0.9 - 1e-12, 0.1]], dtype=torch.float64)
    own = torch.eye(3, dtype=torch.float64)
    share, heard = next(
        knn.votes(
            *neighbours.nearest(similarity, own, 1), [1], own, torch.ones(3, 1, dtype=torch.float64)
        )
    )
    assert share.tolist() == [pytest.approx([0.5, 0.5, 0])] and heard.item() == pytest.approx(2)


def test_no_image_lies_further_out_than_a_training_image_could():
    train = _drawn(50, 8, 3, 14)
    inside, transform = svm_logreg.transforms(train.features)
    np.testing.assert_allclose(transform(train.features), inside, atol=1e-9)
    far = transform(1e6 * train.features)
    assert (
        np.linalg.norm(inside, axis=1).max()
        < np.linalg.norm(far, axis=1).max()
        <= np.sqrt(49 * 8) * (1 + 1e-9)
    )


@ALL
def test_one_image_a_class_of_21_separable_classes(protocol):
    """Where the published script raised an error (kNN) or got everything wrong (SVC)."""
    rng = np.random.default_rng(8)
    x = (rng.normal(size=(21, 30)).repeat(6, 0) + 0.1 * rng.normal(size=(126, 30))).astype(
        np.float32
    )
    labels, first = np.repeat(np.arange(21), 6), np.arange(0, 126, 6)
    train = Train(x, labels, np.arange(126).astype(str), "multiclass", 21)
    scores = _scores(protocol, train, x, first)
    assert scores.chosen.get("k", 0) <= 21 and scores.chosen.get("temperature", 1) == 1
    two = _scores(protocol, train, x, np.sort(np.r_[first, first + 1]))
    for each in (scores, two):
        np.testing.assert_array_equal(each.decisions, labels)
        np.testing.assert_array_equal(each.probabilities.argmax(1), labels)


@ALL
def test_absent_classes_get_nothing_and_rows_sum_to_one(protocol):
    few = _drawn(40, 6, 3, 9)
    train = Train(few.features, np.array([0, 2, 5])[few.labels], few.groups, "ordinal", 7)
    scores = _scores(protocol, train, few.features)
    assert scores.probabilities.shape == (40, 7) and scores.probabilities.dtype == np.float32
    assert scores.decisions.shape == (40,) and scores.decisions.dtype == np.int64
    assert (scores.probabilities >= 0).all() and (scores.probabilities <= 1).all()
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-6)
    assert (scores.probabilities[:, [1, 3, 4, 6]] == 0).all() and set(scores.decisions) == {0, 2, 5}


@ALL
@pytest.mark.parametrize("n", [1, 6])
def test_a_subset_of_one_class_gives_that_class(protocol, n):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    scores = _scores(protocol, Train(x, np.ones(n, int), np.arange(n).astype(str), "binary", 2), x)
    np.testing.assert_array_equal(scores.probabilities, np.tile([0, 1], (n, 1)))
    assert (scores.decisions == 1).all()


def _hard(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features of the labelled subset and of the images to be scored."""
    images, seen = x.copy(), x.copy()
    if name == "constant":
        seen[:, :2], images[:, :2] = (0.1, 7.3), (40.0, -3.0)
    elif name == "constant but for rounding":
        seen[:, 0] = np.float32(0.1) * (1 + np.float32(2e-7) * np.arange(len(x)))
        images[:, 0] = 40
    elif name == "far from zero":
        seen, images = 1e3 + 0.01 * x, 1e3 + 0.1 * x
    elif name == "tiny":
        seen, images = 1e-20 * x, 1e-19 * x
    elif name == "silent, then awake":
        seen[:, 0], images[:, 0] = 0, 1e30
        seen[0, 0] = 1e-4
    elif name == "beyond the range":
        images = 1e6 * x
    elif name == "copies":
        seen = np.repeat(x[::4], 4, 0)[: len(x)]
    elif name == "nothing varies":
        seen = np.ones_like(x)
    elif name == "nothing at all":
        seen, images = np.zeros_like(x), np.zeros_like(x)
    return seen.astype(np.float32), images.astype(np.float32)


HARD = [
    "constant",
    "constant but for rounding",
    "far from zero",
    "tiny",
    "silent, then awake",
    "beyond the range",
    "copies",
    "nothing varies",
    "nothing at all",
]


@ALL
@pytest.mark.parametrize("n", [7, 50])
@pytest.mark.parametrize("name", HARD)
def test_hard_features_give_probabilities_and_no_warning(protocol, n, name):
    drawn = _drawn(50, 6, 2, 10)
    seen, images = _hard(name, drawn.features)
    train = Train(seen, drawn.labels, drawn.groups, "binary", 2)
    scores = _scores(protocol, train, images, np.arange(n))
    assert np.isfinite(scores.probabilities).all()
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-6)
    assert set(scores.decisions) <= {0, 1}


@FITTED
def test_a_feature_that_was_constant_in_training_has_no_say(protocol):
    train = _drawn(60, 12, 3, 11)
    wider = Train(
        np.c_[train.features, np.full(60, 3, np.float32)],
        train.labels,
        train.groups,
        "multiclass",
        3,
    )
    images = np.c_[train.features, np.full(60, 99, np.float32)]
    np.testing.assert_array_equal(
        _scores(protocol, wider, images).probabilities,
        _scores(protocol, train, train.features).probabilities,
    )


@ALL
def test_scores_depend_on_neither_the_other_images_nor_the_other_draws_and_repeat_bitwise(
    protocol, monkeypatch
):
    train = _drawn(70, 12, 3, 12)
    draws = [np.arange(0, 70, 2), np.arange(70)]
    order = np.random.default_rng(0).permutation(70)[:35]
    first, second = protocol.evaluate(
        train, {"a": train.features, "b": train.features[order]}, draws
    )
    for scores in (first, second):
        np.testing.assert_allclose(
            scores["a"].probabilities[order], scores["b"].probabilities, atol=1e-6
        )
        np.testing.assert_array_equal(scores["a"].decisions[order], scores["b"].decisions)
    again = _scores(protocol, train, train.features, draws[1])
    np.testing.assert_array_equal(again.probabilities, second["a"].probabilities)
    assert again.chosen == second["a"].chosen and again.extra == second["a"].extra
    monkeypatch.setattr(features, "BLOCK_VALUES", {"cpu": 200})
    blocked = _scores(protocol, train, train.features, draws[1])
    np.testing.assert_allclose(blocked.probabilities, again.probabilities, atol=1e-6)
    assert (
        blocked.chosen == pytest.approx(again.chosen)
        if protocol is not KNN
        else blocked.chosen["k"] == again.chosen["k"]
    )


@ALL
def test_features_that_are_not_finite_are_named(protocol):
    train = _drawn(30, 5, 3, 13)
    images = train.features.copy()
    images[4, 2] = np.nan
    with pytest.raises(UserError, match=r"test features of 1 of 30 images.*image 4"):
        _scores(protocol, train, images)


@pytest.mark.parametrize("case", CASES)
def test_nielsens_neighbours_are_a_plain_scikit_learn_pipeline(case):
    """k = 5 x classes, distance weights, after power transform and PCA.

    Where fewer images are there than k, all of them.
    """
    n, dimensions, classes = CASES[case]
    both = _drawn(n + 200, dimensions, classes, 1)
    train = Train(both.features[:n], both.labels[:n], both.groups[:n], both.kind, classes)
    images, x = both.features[n:], train.features.astype(float)
    k = min(5 * classes, n)
    plain = make_pipeline(
        PowerTransformer(), PCA(), KNeighborsClassifier(k, weights="distance")
    ).fit(x, train.labels)
    scores = _scores(KNN_NIELSEN2023, train, images)
    assert scores.chosen["k"] == k
    reached = np.abs(images).max(0) <= 20 * np.abs(x).max(0)  # all of them: no image is held back
    assert reached.all()
    expected = plain.predict_proba(images.astype(float))
    near = np.abs(scores.probabilities - expected).max(1)
    assert np.median(near) < 1e-4 and (scores.decisions == expected.argmax(1)).mean() > 0.98
    few = Train(train.features, train.labels, train.groups, train.kind, classes)
    assert _scores(KNN_NIELSEN2023, few, images, np.arange(3 * classes)).chosen["k"] == 3 * classes
