"""The linear probe against scikit-learn, which solves one member at a time, and on data that breaks
solvers."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from medbench.models import logistic
from medbench.models.logistic import products, search, spaces
from medbench.protocols import linear
from medbench.schema import Train, UserError
from medbench.stats import splits


def _drawn(
    n: int, dimensions: int, classes: int, seed: int, *, per_group: int = 1, skew: float = 1.0
) -> tuple[np.ndarray, ...]:
    """Gaussian classes with unequal feature scales; `per_group` near-copies a group."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, classes + 1, dtype=float) ** -skew
    labels = np.r_[
        np.repeat(np.arange(classes), 3),
        rng.choice(classes, n - 3 * classes, p=share / share.sum()),
    ]
    centres = rng.normal(size=(classes, dimensions)) * 2 / np.sqrt(dimensions)
    x = (centres[labels] + rng.normal(size=(n, dimensions))) * rng.lognormal(
        size=dimensions
    ) + rng.normal(size=dimensions)
    x = np.repeat(x, per_group, 0)
    x += 0.1 * rng.normal(size=x.shape)
    groups = np.repeat([f"g{i}" for i in range(n)], per_group)
    return x.astype(np.float32), np.repeat(labels, per_group), groups


def _loaded(name: str, n: int) -> tuple[np.ndarray, ...]:
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    keep = np.random.default_rng(0).permutation(len(y))[:n]
    return x[keep].astype(np.float32), y[keep], np.array([f"g{i}" for i in range(len(keep))])


CASES = {
    "iris": lambda: _loaded("iris", 150),
    "wine": lambda: _loaded("wine", 178),
    "digits": lambda: _loaded("digits", 150),
    "breast_cancer": lambda: _loaded("breast_cancer", 200),
    "wide": lambda: _drawn(60, 90, 3, 0),
    "wide and skewed": lambda: _drawn(80, 90, 4, 1, skew=2.0),
    "grouped": lambda: _drawn(50, 20, 3, 2, per_group=3),
    "grouped and wide": lambda: _drawn(30, 95, 3, 3, per_group=3),
    "binary, wide": lambda: _drawn(60, 100, 2, 4),
    "noise": lambda: (
        np.random.default_rng(5).normal(size=(90, 12)).astype(np.float32),
        np.arange(90) % 3,
        np.arange(90).astype(str),
    ),
}


def _train(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Train:
    classes = int(y.max()) + 1
    return Train(x, y, groups, "binary" if classes == 2 else "multiclass", classes)


def _reference(x: np.ndarray, y: np.ndarray, penalty: float, images: np.ndarray) -> np.ndarray:
    """Log-probabilities of scikit-learn's exact solver on standardised features, images limited to
    sqrt(n - 1) deviations."""
    x, images = x.astype(float), images.astype(float)
    mean, deviation = x.mean(0), x.std(0)
    deviation = np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf)
    model = LogisticRegression(
        C=1 / (len(y) * penalty), tol=1e-8, max_iter=1000, solver="newton-cholesky"
    )
    limit = np.sqrt(len(y) - 1)
    return model.fit((x - mean) / deviation, y).predict_log_proba(
        np.clip((images - mean) / deviation, -limit, limit)
    )


@pytest.mark.parametrize("name", CASES)
def test_same_penalty_and_probabilities_as_scikit_learn(name, monkeypatch):
    monkeypatch.setattr(linear, "PENALTIES", linear.PENALTIES[4::5])
    x, y, groups = CASES[name]()
    images = x + 0.3 * x.std(0) * np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    scores = next(linear.evaluate(_train(x, y, groups), {"test": images}, [np.arange(len(y))]))[
        "test"
    ]
    fold = splits.held_out_fold(y, groups)
    k = fold.max() + 1
    losses = np.zeros(len(linear.PENALTIES))
    for i, penalty in enumerate(linear.PENALTIES):
        for j in range(k):
            out = fold == j
            losses[i] -= _reference(x[~out], y[~out], penalty, x[out])[
                np.arange(out.sum()), y[out]
            ].sum() / len(y)
    best = np.flatnonzero(losses <= losses.min() + linear.TIE)[-1]
    assert scores.chosen["penalty"] == linear.PENALTIES[best]
    # As far as the folds are solved, to a gradient of 1e-4: 1.4e-4 at most (digits), and 4e-7 where
    # they are solved to 1e-6.
    assert scores.chosen["cv_log_loss"] == pytest.approx(losses[best], abs=2e-4)
    monkeypatch.setattr(linear, "TOLERANCE", 1e-6)
    exact = next(linear.evaluate(_train(x, y, groups), {"test": images[:1]}, [np.arange(len(y))]))[
        "test"
    ]
    assert exact.chosen["penalty"] == linear.PENALTIES[best]
    assert exact.chosen["cv_log_loss"] == pytest.approx(losses[best], abs=2e-6)
    assert scores.chosen["rule"] == f"{k}-fold grouped CV"
    expected = np.exp(_reference(x, y, linear.PENALTIES[best], images))
    np.testing.assert_allclose(scores.probabilities, expected, atol=1e-5)
    assert (scores.decisions == expected.argmax(1)).mean() > 0.995
    assert scores.extra["gradient"] <= linear.FINAL_TOLERANCE


def _objective(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, penalty: float
) -> float:
    logits = x @ weight.T + bias
    logits -= logits.max(1, keepdims=True)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    return float(loss.mean() + penalty / 2 * (weight**2).sum())


def test_objective_is_no_worse_than_scikit_learns_and_lies_within_the_stated_gap():
    x, y, _ = _drawn(70, 100, 4, 7, skew=1.5)
    target, _ = logistic.encode(y, "multiclass")
    penalties = torch.logspace(-3, 2, 6, dtype=torch.float64)
    rough = logistic.fit(
        torch.from_numpy(x), target, penalties, dtype=torch.float32, tolerance=1e-4
    )
    z = (x.astype(float) - x.astype(float).mean(0)) / x.astype(float).std(0)
    for i, penalty in enumerate(penalties.tolist()):
        own = _objective(z, y, rough.weight[0, i, 0].numpy(), rough.bias[0, i, 0].numpy(), penalty)
        default = LogisticRegression(C=1 / (len(y) * penalty), max_iter=10_000).fit(z, y)
        exact = LogisticRegression(
            C=1 / (len(y) * penalty), tol=1e-10, max_iter=1000, solver="newton-cholesky"
        ).fit(z, y)
        minimum = _objective(z, y, exact.coef_, exact.intercept_, penalty)
        assert own <= _objective(z, y, default.coef_, default.intercept_, penalty) + 1e-6
        assert own - minimum <= float(rough.gap[0, i, 0]) * 1.01 + 1e-7
    norms = rough.weight[0].square().sum((1, 2, 3))
    assert (norms.diff() < 0).all()


HARD = {
    "constant features": lambda: (
        np.c_[_drawn(40, 5, 3, 0)[0], np.full((40, 3), 7.3, np.float32)],
        _drawn(40, 5, 3, 0)[1],
    ),
    "nothing but constants": lambda: (np.ones((12, 4), np.float32), np.arange(12) % 3),
    "nothing but constants, more than images": lambda: (
        np.ones((12, 40), np.float32),
        np.arange(12) % 3,
    ),
    "separable": lambda: (
        np.repeat(np.eye(3, dtype=np.float32) * 100, 20, 0),
        np.repeat(np.arange(3), 20),
    ),
    "one image a class": lambda: (_drawn(12, 40, 4, 1)[0][:12:3], np.arange(4)),
    "duplicates": lambda: (
        np.repeat(_drawn(12, 30, 3, 2)[0], 4, 0),
        np.repeat(_drawn(12, 30, 3, 2)[1], 4),
    ),
    "far apart scales": lambda: (
        _drawn(50, 8, 3, 3)[0] * np.float32(10.0) ** np.arange(-12, 12, 3, dtype=np.float32),
        _drawn(50, 8, 3, 3)[1],
    ),
    "one rare class": lambda: (_drawn(300, 6, 2, 4)[0], (np.arange(300) == 5).astype(int)),
}


@pytest.mark.parametrize("name", HARD)
def test_never_diverges(name):
    x, y = HARD[name]()
    target, _ = logistic.encode(y, "multiclass")
    penalties = torch.logspace(-6, 6, 7, dtype=torch.float64)
    fits = logistic.fit(torch.from_numpy(x), target, penalties, tolerance=1e-6)
    assert fits.weight.isfinite().all() and fits.bias.isfinite().all()
    assert float(fits.gradient.max()) <= 1e-6 and fits.gap.isfinite().all()
    share = np.bincount(y) / len(y)
    prior = -float((share * np.log(share)).sum())
    z = fits.logits(torch.from_numpy(x))[:, 0]
    loss = -z.log_softmax(1)[:, torch.from_numpy(y), torch.arange(len(y))].mean(1)
    assert (loss <= prior + 1e-6).all() and loss[-1] == pytest.approx(prior, abs=1e-3)
    rough = logistic.fit(
        torch.from_numpy(x), target, penalties, tolerance=1e-4, dtype=torch.float32
    )
    assert rough.weight.isfinite().all() and rough.bias.isfinite().all()


def test_labels_are_solved_one_by_one_on_their_known_images():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 10)).astype(np.float32)
    labels = (x[:, :3] + rng.normal(size=(120, 3)) > 0.5).astype(float)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    labels = np.c_[labels, np.zeros(120), np.full(120, np.nan)]
    groups = np.array([f"g{i // 2}" for i in range(120)])
    scores = next(
        linear.evaluate(Train(x, labels, groups, "multilabel", 5), {"test": x}, [np.arange(120)])
    )["test"]
    z = (x - x.mean(0)) / x.std(0)
    for label in range(3):
        known = ~np.isnan(labels[:, label])
        model = LogisticRegression(
            C=1 / (known.sum() * scores.chosen["penalty"]), tol=1e-8, solver="newton-cholesky"
        )
        expected = model.fit(z[known], labels[known, label]).predict_proba(z)[:, 1]
        np.testing.assert_allclose(scores.probabilities[:, label], expected, atol=1e-5)
    np.testing.assert_allclose(scores.probabilities[:, 3], 1 / 122, rtol=1e-6)
    np.testing.assert_allclose(scores.probabilities[:, 4], 0.5)
    np.testing.assert_array_equal(scores.decisions, scores.probabilities >= 0.5)


def test_absent_classes_get_nothing_and_a_single_group_switches_no_choice_off():
    x, y, groups = _drawn(30, 8, 3, 6)
    y = np.array([0, 2, 5])[y]
    train = Train(x, y, np.where(y == 5, "one lesion", groups), "multiclass", 7)
    scores = next(linear.evaluate(train, {"test": x}, [np.arange(30)]))["test"]
    assert (
        scores.chosen["rule"] == "5-fold grouped CV"
        and (scores.held_out.index == np.flatnonzero(y != 5)).all()
    )
    assert scores.probabilities.shape == (30, 7) and scores.probabilities.dtype == np.float32
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, atol=1e-6)
    assert (scores.probabilities[:, [1, 3, 4, 6]] == 0).all() and set(scores.decisions) <= {0, 2, 5}
    single = next(
        linear.evaluate(replace(train, groups=y.astype(str)), {"test": x}, [np.arange(30)])
    )["test"]
    assert (
        single.chosen["penalty"] == linear.FIXED_PENALTY
        and single.chosen["rule"].startswith("fixed")
        and single.held_out is None
    )


def test_ordinal_classes_are_solved_as_nominal_ones():
    x, y, groups = _drawn(60, 8, 4, 14)
    draws = [np.arange(60)]
    ordinal, nominal = (
        next(linear.evaluate(Train(x, y, groups, kind, 5), {"a": x}, draws))["a"]
        for kind in ("ordinal", "multiclass")
    )
    np.testing.assert_array_equal(ordinal.probabilities, nominal.probabilities)
    np.testing.assert_array_equal(ordinal.decisions, nominal.decisions)
    assert ordinal.probabilities.shape == (60, 5) and (ordinal.probabilities[:, 4] == 0).all()


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("binary", np.ones(6, int)), ("multiclass", np.ones(6, int)), ("multilabel", np.ones((6, 2)))],
)
def test_a_subset_of_one_class_gives_its_base_rate(kind, labels):
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    scores = next(
        linear.evaluate(
            Train(x, labels, np.arange(6).astype(str), kind, 2), {"test": x}, [np.arange(6)]
        )
    )["test"]
    expected = {"binary": [1 / 8, 7 / 8], "multiclass": [0, 1], "multilabel": [7 / 8, 7 / 8]}[kind]
    np.testing.assert_allclose(scores.probabilities, np.tile(expected, (6, 1)), atol=1e-6)
    assert (scores.decisions == 1).all()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((9, 9), 5), ((9, 3), 5), ((9, 2), 5), ((9, 9, 1), 5), ((9, 1), 0), ((9,), 0), ((4, 4), 0)],
)
def test_every_fold_trains_on_every_class(sizes, expected):
    """Two images a group: of (4, 4) sixteen could be held out, fewer than twenty, in fewer than
    five folds of each class."""
    labels = np.repeat(np.repeat(np.arange(len(sizes)), sizes), 2)
    groups = np.repeat([f"g{i}" for i in range(sum(sizes))], 2)
    fold = splits.held_out_fold(labels, groups)
    assert fold.max() + 1 == expected
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    assert all(set(labels[fold != i]) == set(labels) for i in range(expected))
    alone = [c for c, size in enumerate(sizes) if size == 1]
    if expected:
        np.testing.assert_array_equal(fold == -1, np.isin(labels, alone))


def test_a_class_that_a_fold_lacks_is_left_out_of_its_loss():
    x, y, _ = _drawn(40, 6, 3, 8)
    features, (target, _) = torch.from_numpy(x), logistic.encode(y, "multiclass")
    parts = [
        np.flatnonzero((y != 2) & (np.arange(40) % 4 > 0)),
        np.flatnonzero(np.arange(40) % 3 > 0),
    ]
    held = [np.setdiff1d(np.arange(40), part) for part in parts]
    penalties = torch.tensor([0.1, 1.0], dtype=torch.float64)
    training, outside = ([torch.from_numpy(rows) for rows in some] for some in (parts, held))
    total, count = logistic.held_out_loss(
        logistic.fit(features, target, penalties, training), features, target, training, outside
    )
    for b, (part, rest) in enumerate(zip(parts, held, strict=True)):
        rest = rest[np.isin(y[rest], y[part])]
        assert len(rest) == int(count[b]) and len(rest) < len(held[b]) + b
        for i, penalty in enumerate(penalties.tolist()):
            penalty /= 1 + (b == 0)  # scikit-learn solves two classes as one label
            expected = -_reference(x[part], y[part], penalty, x[rest])[
                np.arange(len(rest)), np.searchsorted(np.unique(y[part]), y[rest])
            ]
            assert float(total[b, i]) == pytest.approx(expected.sum(), abs=1e-4)


def test_scores_depend_on_neither_the_other_images_nor_the_other_draws_and_repeat_bitwise():
    x, y, groups = _drawn(90, 30, 3, 9, skew=0.5)
    train = _train(x, y, groups)
    draws = [np.arange(0, 90, 2), np.arange(90)]
    order = np.random.default_rng(0).permutation(90)[:45]
    first, second = linear.evaluate(train, {"a": x, "b": x[order]}, draws)
    for scores in (first, second):
        np.testing.assert_allclose(
            scores["a"].probabilities[order], scores["b"].probabilities, atol=1e-6
        )
        np.testing.assert_array_equal(scores["a"].decisions[order], scores["b"].decisions)
    (again,) = linear.evaluate(train, {"a": x}, draws[1:])
    np.testing.assert_array_equal(again["a"].probabilities, second["a"].probabilities)
    assert again["a"].chosen == second["a"].chosen and again["a"].extra == second["a"].extra


def test_a_draw_that_fills_its_block_alone_is_rotated_once(monkeypatch):
    x, y, groups = _drawn(60, 20, 3, 31)
    rotated = []
    rotate = search.rotate
    monkeypatch.setattr(search, "rotate", lambda *given: rotated.append(0) or rotate(*given))
    list(linear.evaluate(_train(x, y, groups), {"a": x}, [np.arange(60)]))
    assert len(rotated) == linear.MAX_FOLDS + 1


def test_a_gram_matrix_is_what_eigh_reads_of_a_product():
    x = torch.randn(300, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(products.gram(x).tril(), (x @ x.T).tril())


SAME = {
    "small, of several shapes": (
        lambda: _drawn(300, 40, 4, 20, skew=2.0),
        [45, 46, 47, 45, 70, 48, 46, 71, 45],
    ),
    "two classes": (lambda: _drawn(300, 40, 2, 21), [50, 50, 50, 51, 50, 50, 52]),
    "more images than features": (lambda: _drawn(300, 12, 3, 22), [60, 100, 60, 61, 101, 60]),
    "at the edges of a shape": (
        lambda: _drawn(300, 200, 3, 24),
        [158, 150, 162, 154, 166, 158, 170, 172],
    ),
    "about as many images as features": (
        lambda: _drawn(300, 90, 2, 25),
        [74, 76, 78, 112, 113, 115, 75],
    ),
    "small and large": (lambda: _drawn(700, 30, 3, 23), [300, 60, 301, 60]),
}


@pytest.mark.parametrize("name", SAME)
def test_a_draw_gives_the_same_bits_whatever_is_solved_beside_it(name):
    drawn, sizes = SAME[name]
    x, y, groups = drawn()
    rng = np.random.default_rng(3)
    draws = [np.sort(rng.permutation(len(y))[:n]) for n in sizes]
    train = replace(_train(x, y, groups), divided=(*[True] * (len(draws) - 1), False))
    together = [one["a"] for one in linear.evaluate(train, {"a": x[:50]}, draws)]
    orders = [rng.permutation(len(draws)), [0], [len(draws) - 2], [len(draws) - 1], [1, 2]]
    for order in orders:
        some = replace(train, divided=[train.divided[i] for i in order])
        for i, found in zip(
            order, linear.evaluate(some, {"a": x[:50]}, [draws[i] for i in order]), strict=True
        ):
            np.testing.assert_array_equal(found["a"].probabilities, together[i].probabilities)
            assert found["a"].chosen == together[i].chosen and found["a"].extra == together[i].extra
            if together[i].held_out is not None:
                np.testing.assert_array_equal(
                    found["a"].held_out.probabilities, together[i].held_out.probabilities
                )


def _whole_path(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(P,) mean held-out loss of every penalty."""
    features, (target, _) = (
        torch.from_numpy(x),
        logistic.encode(y, "binary" if y.max() == 1 else "multiclass"),
    )
    parts = [
        [torch.from_numpy(rows) for rows in fold]
        for fold in splits.cross_validation(y, groups, 5, True)
    ]
    training, held = [inside for inside, _ in parts], [out for _, out in parts]
    path = torch.tensor(linear.PENALTIES, dtype=torch.float64)
    fits = logistic.fit(features, target, path, training, tolerance=1e-7)
    total, count = logistic.held_out_loss(fits, features, target, training, held)
    return (total.sum(0) / count.sum()).numpy()


@pytest.mark.parametrize("name", CASES)
def test_the_search_finds_what_the_whole_path_has(name):
    x, y, groups = CASES[name]()
    losses = _whole_path(x, y, groups)
    scores = next(
        linear.evaluate(
            replace(_train(x, y, groups), divided=(True,)), {"a": x[:1]}, [np.arange(len(y))]
        )
    )["a"]
    best = np.flatnonzero(losses <= losses.min() + linear.TIE)[-1]
    assert linear.PENALTIES.index(scores.chosen["penalty"]) == best
    assert scores.chosen["cv_log_loss"] == pytest.approx(losses[best], abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 25])
@pytest.mark.parametrize("seed", range(5))
def test_the_search_ends_in_the_valley_of_a_path_with_one(count, seed):
    rng = np.random.default_rng(seed)
    for valley in range(count):
        rise = rng.uniform(0.01, 1, count).cumsum()
        losses = np.r_[rise[:valley][::-1], 0, rise[: count - valley - 1]]
        solved: dict[int, float] = {}
        while asked := search.proposed(solved, count, linear.TIE):
            assert len(asked) <= (search.WIDTH if solved else search.FIRST) and not set(
                asked
            ) & set(solved)
            solved |= {i: losses[i] for i in asked}
        assert search.lowest(solved, linear.TIE) == valley
        assert len(solved) <= search.FIRST + 2 + count / 2


def test_a_unit_that_was_silent_in_training_does_not_decide_alone():
    x, y, groups = _drawn(60, 20, 3, 10)
    x[:, 0] = 0
    x[0, 0] = 1e-4
    images = x.copy()
    images[:, 0] = 5
    scores = next(
        linear.evaluate(_train(x, y, groups), {"as seen": x, "awake": images}, [np.arange(60)])
    )
    assert (scores["awake"].decisions == scores["as seen"].decisions).mean() > 0.9


def test_features_that_are_not_finite_are_named():
    x, y, groups = _drawn(30, 5, 3, 11)
    images = x.copy()
    images[4, 2] = np.nan
    with pytest.raises(UserError, match=r"test features of 1 of 30 images.*image 4"):
        next(linear.evaluate(_train(x, y, groups), {"test": images}, [np.arange(30)]))


def test_parts_of_any_size_and_order_give_the_same_in_batches_and_in_turn(monkeypatch):
    x, y, _ = _drawn(60, 15, 3, 12)
    features, (target, _) = torch.from_numpy(x), logistic.encode(y, "multiclass")
    order = torch.from_numpy(np.random.default_rng(0).permutation(60))
    # below and above the 15 features
    parts = [order[:size] for size in (50, 9, 48, 14, 52, 10, 60)]
    penalties = torch.tensor([0.01, 1.0], dtype=torch.float64)
    together = logistic.fit(features, target, penalties, parts)
    monkeypatch.setattr(logistic.fitting, "BATCH_BYTES", {"cpu": 1})
    in_turn = logistic.fit(features, target, penalties, parts)
    torch.testing.assert_close(in_turn.weight, together.weight, atol=1e-4, rtol=0)
    for b, part in enumerate(parts):
        torch.testing.assert_close(
            logistic.fit(features, target, penalties, [part]).weight[0],
            together.weight[b],
            atol=1e-4,
            rtol=0,
        )


@pytest.mark.parametrize("n", [60, 200], ids=["fewer images than columns", "framed"])
def test_rotated_images_of_one_fold_at_a_time_lie_beside_the_problems(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million images all folds twice would not fit into memory."""
    x, labels, _ = _drawn(n, 80, 3, 0)
    features, made = torch.from_numpy(x), []
    monkeypatch.setattr(spaces, "ROTATIONS", 1)
    basis = spaces.eigenbasis(features, 1e-6)
    real = search.rotate

    def rotate(*given: Any) -> spaces.Space:
        assert all(images() is None for images in made)
        space = real(*given)
        made.append(weakref.ref(space.given))
        return space

    monkeypatch.setattr(search, "rotate", rotate)
    target = logistic.encode(labels, "multiclass")[0]
    held = [torch.arange(n) % 3 == fold for fold in range(3)]
    folds = [(torch.nonzero(~out)[:, 0], torch.nonzero(out)[:, 0]) for out in held]
    block = search.Block(features, target, [folds], torch.tensor([1.0]).double(), 1e-6, basis)
    assert len(made) == 3 and all(images() is None for images in made)
    assert [len(space.given) for space in block.spaces] == [len(rows) for rows, _ in folds]
    assert bool(block.spaces[0].framed) == (n == 200)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 400, 336), (3, 40, 33)])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_products_are_torchs_whatever_multiplies_them(shape, count, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    w, a = (
        torch.randn(shape[0], count, n, generator=generator, dtype=dtype)
        for n in (shape[2], shape[1])
    )
    near = {"rtol": 0, "atol": 1e-3 if dtype == torch.float32 else 1e-10}
    torch.testing.assert_close(products.times(w, x.mT), torch.bmm(w, x.mT), **near)
    torch.testing.assert_close(products.times(a, x), torch.bmm(a, x), **near)
    torch.testing.assert_close(products.product(w[0], x[0].mT), w[0] @ x[0].mT, **near)
    across = products.across(x)
    assert (across is not None) == products.one_by_one(x)
    if across is not None:
        assert torch.equal(across, x.mT)
        some = products.times(w[:2], across, (2, 0))
        torch.testing.assert_close(some, torch.bmm(w[:2], x[[2, 0]].mT), **near)


def test_problems_that_are_solved_leave_the_others_as_they_are(monkeypatch):
    """Large parts are not copied when one has left, small ones are: both find the same."""
    x, y, groups = _drawn(900, 180, 3, 20)
    found = []
    for small in (0, 2**40):  # each product by itself, and all in one batch
        monkeypatch.setattr(products, "SMALL", small)
        scores = next(
            linear.evaluate(
                replace(_train(x, y, groups), divided=(True,)), {"a": x}, [np.arange(700)]
            )
        )["a"]
        found.append(scores)
    one, other = found
    assert one.chosen["penalty"] == other.chosen["penalty"]
    assert one.chosen["cv_log_loss"] == pytest.approx(other.chosen["cv_log_loss"], abs=1e-5)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
