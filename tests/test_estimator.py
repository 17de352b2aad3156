"""The linear probe as a scikit-learn classifier: scikit-learn's own checks, and the same answers as
the protocol."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import medbench
from medbench import LinearProbe
from medbench.protocols import linear
from medbench.schema import Train


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([LinearProbe(), LinearProbe(penalties=(0.1,), cv=1)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def _wine() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training features and labels, groups of two, and other images."""
    x, y = datasets.load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order].astype(np.float32), y[order]
    return x[:120], y[:120], np.array([f"p{i // 2}" for i in range(120)]), x[120:]


@pytest.mark.parametrize("classes", [2, 3])
def test_same_scores_as_the_protocol(classes):
    x, y, groups, images = _wine()
    x, groups, y = x[y < classes], groups[y < classes], y[y < classes]
    kind = "binary" if classes == 2 else "multiclass"
    scores = next(
        linear.evaluate(Train(x, y, groups, kind, classes), {"test": images}, [np.arange(len(y))])
    )["test"]
    probe = LinearProbe().fit(x, np.array(["b", "a", "c"])[y], groups)
    order = np.argsort(np.array(["b", "a", "c"])[:classes])  # strings sort otherwise
    assert probe.classes_.tolist() == sorted("bac"[:classes])
    assert (
        probe.penalty_ == scores.chosen["penalty"]
        and probe.chosen_["rule"] == scores.chosen["rule"]
    )
    # classes in another order are the mirrored problem, which stops elsewhere inside the tolerance
    np.testing.assert_allclose(
        probe.predict_proba(images), scores.probabilities[:, order], atol=3e-6
    )
    assert (probe.predict(images) == np.array(["b", "a", "c"])[scores.decisions]).all()
    assert probe.certificate_["gradient"] <= linear.FINAL_TOLERANCE


def test_groups_are_not_torn():
    x, y, _, _ = _wine()
    twice, labels = np.repeat(x, 2, 0), np.repeat(y, 2)
    patients = np.repeat(np.arange(len(y)), 2)
    torn, whole, once = (
        LinearProbe().fit(twice, labels),
        LinearProbe().fit(twice, labels, patients),
        LinearProbe().fit(x, y),
    )
    # a copy of each held-out image was trained on
    assert torn.chosen_["cv_log_loss"] < whole.chosen_["cv_log_loss"]
    assert torn.penalty_ <= whole.penalty_
    assert whole.chosen_["cv_log_loss"] == pytest.approx(once.chosen_["cv_log_loss"], rel=0.5)


@pytest.mark.parametrize("classes", [2, 3])
def test_coefficients_are_scikit_learns_and_give_the_decision_function(classes):
    x, y, _, _ = _wine()
    x, y = x[y < classes].astype(float), y[y < classes]
    probe = LinearProbe(penalties=(0.03,), cv=1, fixed_penalty=0.03).fit(x, y)
    assert probe.penalty_ == 0.03 and probe.chosen_["rule"].startswith("fixed")
    logits = x @ probe.coef_.T + probe.intercept_
    np.testing.assert_allclose(
        logits[:, 0] if classes == 2 else logits, probe.decision_function(x), atol=1e-9
    )
    reference = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=1 / (len(y) * 0.03), tol=1e-10, solver="newton-cholesky"),
    ).fit(x, y)
    np.testing.assert_allclose(probe.coef_, reference[1].coef_ / reference[0].scale_, atol=1e-5)
    np.testing.assert_allclose(probe.predict_proba(x), reference.predict_proba(x), atol=1e-6)


def test_the_path_may_come_in_any_order():
    x, y, _, images = _wine()
    up, down = (
        LinearProbe(penalties=(0.01, 0.1, 1.0)).fit(x, y),
        LinearProbe(penalties=[1.0, 0.01, 0.1, 0.1]).fit(x, y),
    )
    assert up.penalty_ == down.penalty_
    np.testing.assert_array_equal(up.predict_proba(images), down.predict_proba(images))


def test_works_inside_scikit_learn_with_frames():
    x, y, _, _ = _wine()
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(x.shape[1])])
    assert cross_val_score(LinearProbe(penalties=(0.01, 0.1, 1.0)), frame, y, cv=3).mean() > 0.9
    probe = LinearProbe().fit(frame, y)
    assert probe.feature_names_in_.tolist() == frame.columns.tolist() and probe.n_features_in_ == 13
    with pytest.raises(ValueError, match="feature names"):
        probe.predict(frame.rename(columns={"f0": "g0"}))


def _bad() -> dict[str, tuple[LinearProbe, object, object, object, type[Exception], str]]:
    x, y, groups, _ = _wine()
    hole = x.copy()
    hole[3, 2] = np.nan
    infinite = x.copy()
    infinite[3, 2] = np.inf
    return {
        "nan": (LinearProbe(), hole, y, None, ValueError, "NaN"),
        "infinity": (LinearProbe(), infinite, y, None, ValueError, "infinity"),
        "sparse": (LinearProbe(), sparse.csr_array(x), y, None, TypeError, "[Ss]parse"),
        "one class": (
            LinearProbe(),
            x,
            np.full(len(y), "only"),
            None,
            ValueError,
            "one class, .*'only'",
        ),
        "regression": (LinearProbe(), x, y + 0.5, None, ValueError, "continuous"),
        "groups": (LinearProbe(), x, y, groups[:-1], ValueError, "inconsistent numbers"),
        "negative penalty": (
            LinearProbe(penalties=(-1.0, 1.0)),
            x,
            y,
            None,
            ValueError,
            "penalties must be positive",
        ),
        "no penalty": (LinearProbe(penalties=()), x, y, None, ValueError, "at least one"),
        "fixed penalty": (LinearProbe(fixed_penalty=0), x, y, None, ValueError, "fixed_penalty"),
        "folds": (LinearProbe(cv=0), x, y, None, ValueError, "cv must be"),
    }


@pytest.mark.parametrize("name", _bad())
def test_bad_input_is_refused_with_a_reason(name):
    probe, x, y, groups, error, reason = _bad()[name]
    with pytest.raises(error, match=reason):
        probe.fit(x, y, groups)


def test_the_package_names_it_and_nothing_that_is_not_there():
    assert medbench.LinearProbe is LinearProbe and "LinearProbe" in medbench.__all__
    with pytest.raises(AttributeError, match="LinearProb'"):
        _ = medbench.LinearProb
