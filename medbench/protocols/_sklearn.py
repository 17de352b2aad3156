"""The linear probe as a scikit-learn classifier.

For people who want the classifier without the suite.

    from medbench import LinearProbe
    probe = LinearProbe().fit(features, labels, groups=patients)
    probe.predict_proba(other_features), probe.penalty_, probe.certificate_

It runs the code of `protocols/linear.py`: the same path of penalties, folds, rule for ties, solver
and limit on outliers.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from medbench.protocols import linear
from medbench.protocols._features import MAX_FOLDS
from medbench.schema import Kind

FLOATS = (np.float64, np.float32)


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classify by L2-penalised logistic regression on standardised features.

    The penalty is chosen by grouped, stratified cross-validation. The objective is the mean
    cross-entropy + penalty / 2 * ||W||^2 in standardised features; the bias is not penalised.
    scikit-learn's C is 1 / (n * penalty). The path is searched from its strong end, all folds
    together. The mean log-loss of the held-out samples decides; of penalties within 1e-6 nats of
    the lowest the strongest is taken.

    Parameters
    ----------
    penalties : sequence of float
        The path, positive.
    cv : int
        Number of folds. A class of one group is trained on in each of them.
    fixed_penalty : float
        Taken where nothing can be held out: cv=1, or fewer than twenty samples and a class of fewer
        than five groups.
    device : str
        "cpu" or "cuda", as torch names it.

    Attributes
    ----------
    classes_ : ndarray (C,)
        Labels in sorted order.
    penalty_ : float
        The chosen penalty.
    chosen_ : dict
        How it was chosen: rule, cv_log_loss (nats), at_edge (at an end of the path).
    certificate_ : dict
        How exactly the fit was solved; `models.logistic.Fits` defines each number.
    coef_, intercept_ : ndarray (C, D) and (C,); binary (1, D) and (1,)
        Of features as given: `X @ coef_.T + intercept_` is the decision function of samples whose
        features lie within sqrt(n - 1) standard deviations of the training mean. Features further
        out count as if they lay there.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    def __init__(
        self,
        penalties: Sequence[float] = linear.PENALTIES,
        cv: int = MAX_FOLDS,
        fixed_penalty: float = linear.FIXED_PENALTY,
        device: str = "cpu",
    ):
        self.penalties = penalties
        self.cv = cv
        self.fixed_penalty = fixed_penalty
        self.device = device

    def fit(self, X: Any, y: Any, groups: Any = None) -> LinearProbe:
        """Fit the probe.

        Parameters
        ----------
        X : array (n, D)
            Finite features.
        y : array (n,)
            Labels of any type, at least two classes.
        groups : array (n,), optional
            What no fold may tear, such as the patient. By default each sample is its own group.

        Returns
        -------
        LinearProbe
            Itself.

        Raises
        ------
        ValueError
            For features that are not finite, for fewer than two classes, and for parameters out of
            range.
        """
        penalties = self._check_parameters()
        X, y = validate_data(self, X, y, dtype=FLOATS, ensure_min_samples=2, force_writeable=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"LinearProbe needs samples of at least two classes; the data hold one class, {self.classes_[0]!r}"
            )
        groups = (
            np.arange(len(y))
            if groups is None
            else check_array(groups, ensure_2d=False, dtype=None)
        )
        check_consistent_length(X, groups)
        kind: Kind = "binary" if len(self.classes_) == 2 else "multiclass"
        features = torch.as_tensor(X, device=self.device)
        names = groups.astype(str)
        self.model_ = linear.learn(
            features,
            labels,
            names,
            kind,
            len(self.classes_),
            penalties,
            self.fixed_penalty,
            self.cv,
        )
        self.chosen_, self.certificate_ = self.model_.chosen, self.model_.certificate
        self.penalty_ = self.chosen_["penalty"]
        fits = self.model_.fits
        coef = fits.weight[0, 0].flatten(0, 1) * fits.scale[0]
        self.coef_ = coef.cpu().numpy()
        self.intercept_ = (fits.bias[0, 0].flatten() - coef @ fits.mean[0]).cpu().numpy()
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return logits of samples X (M, D): (M, C) float64; of two classes (M,), of the second.

        Raises ValueError for features that are not finite, or of another number.
        """
        X = self._check(X)
        logits = self.model_.logits(X)
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of samples X (M, D): (M, C) float64, in the order of `classes_`.

        Raises ValueError for features that are not finite, or of another number.
        """
        X = self._check(X)
        return self.model_.score(X)[0]

    def predict(self, X: Any) -> np.ndarray:
        """Return the label (M,) with the largest probability, of samples X (M, D).

        Raises ValueError for features that are not finite, or of another number.
        """
        X = self._check(X)
        decisions: np.ndarray = self.classes_[self.model_.score(X)[1]]
        return decisions

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        checked: np.ndarray = validate_data(
            self, X, dtype=FLOATS, reset=False, force_writeable=True
        )
        return checked

    def _check_parameters(self) -> list[float]:
        """Return the path in ascending order."""
        penalties = sorted({float(penalty) for penalty in self.penalties})
        if not penalties or not all(0 < penalty < np.inf for penalty in penalties):
            raise ValueError(
                f"penalties must be positive and finite, and at least one; given: {self.penalties!r}"
            )
        if not isinstance(self.fixed_penalty, Real) or not 0 < self.fixed_penalty < np.inf:
            raise ValueError(
                f"fixed_penalty must be positive and finite; given: {self.fixed_penalty!r}"
            )
        if not isinstance(self.cv, Integral) or self.cv < 1:
            raise ValueError(f"cv must be a whole number of folds, 1 for none; given: {self.cv!r}")
        return penalties
