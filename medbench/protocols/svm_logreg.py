"""Classical classifiers on frozen features as Nielsen et al. (2023) set them: `svm` and `logreg`.

`PowerTransformer()`, `PCA()`, then the classifier, with the arguments of the paper's code
(sparsam). No penalty is chosen. Departures, none of which changes the fit to features that vary:
- The power transform's exponents are found for all features at once (`models.power_transform`):
  scikit-learn's to seven digits, and where a feature
  varies by less than a thousandth of itself, those that scikit-learn's own rounding hides from it.
- The decision function gives the labels. The paper's code takes them from `SVC(probability=True)`,
  whose pairwise Platt scaling turned 21
  separable classes with one image each into an accuracy of 0.
- Probabilities of `svm` are the softmax of the decision values over one temperature, which keeps
  their order. It is fitted by grouped
  cross-validation of the SVC (the transforms see the whole subset, as in `SVC(probability=True)`),
  and is 1 where the budget is not (`splits.divides`). Platt scaling turned classes around that few
  images show: on one draw of HAM10000, 5 a class, the AUC fell from 0.68 to 0.45. Class weights are
  balanced, so that both protocols give probabilities for classes equally frequent.
- Features that do not vary in the subset are left out, as are principal components without
  variance: their direction is rounding.
- Where an image that is scored would leave the power transform's range it is held there: at `REACH`
  times the largest training value before, at
  sqrt(n - 1) deviations after it. No training image can lie beyond either.
- If nothing is left that varies, all classes seen are equally probable, and the first is the
  decision.
Nielsen's own nearest neighbours, after the same transforms, are `knn-nielsen2023`.
They classify exclusive classes only: multi-label tasks are refused.

A class without a labelled image gets probability 0. Ordinal classes are treated as nominal.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from medbench.models import power_transform
from medbench.protocols._features import MAX_FOLDS, blocks, check_finite
from medbench.schema import HeldOut, Kind, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np

    # decision values (M, classes seen) of components (M, K)
    Decide = Callable[[np.ndarray], np.ndarray]
    # of the training images at some rows: scikit-learn's model and its decision values
    Fit = Callable[[np.ndarray], tuple[Any, Decide]]

EXCLUSIVE: tuple[Kind, ...] = ("binary", "multiclass", "ordinal")
SVM_ARGUMENTS: Mapping[str, Any] = {
    "C": 1.0,
    "kernel": "rbf",
    "gamma": "scale",
    "class_weight": "balanced",
    "break_ties": True,
}
LOGREG_ARGUMENTS: Mapping[str, Any] = {"C": 2.5, "class_weight": "balanced", "max_iter": 10_000}
CONSTANT = 1e-6  # a feature whose deviation is below this share of its mean is rounding
# scipy bounds the exponent so that 20 times the largest value of a feature is transformed without
# overflow
REACH = 20.0
KERNEL_IMAGES = 16_384  # of more, squared distances take more than 2 GiB: libsvm computes its own
VARIANCE = 1e-10  # of the first component's: below, a direction is rounding
# bounds of 1 / temperature, within which float32 keeps the order of decision values
SHARPNESS = (0.1, 10.0)


def svm(
    train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from features (M, D).

    See `Protocol`. Raises UserError on features that are not finite.
    """
    return _classify(train, targets, draws, support_vectors, SVM_ARGUMENTS, calibrate=True)


def logreg(
    train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from features (M, D).

    See `Protocol`. Raises UserError on features that are not finite.
    """
    return _classify(train, targets, draws, regression, LOGREG_ARGUMENTS, calibrate=False)


def _classify(
    train: Train,
    targets: Mapping[str, np.ndarray],
    draws: Sequence[np.ndarray],
    prepare: Callable[[np.ndarray, np.ndarray], Fit],
    arguments: Mapping[str, Any],
    *,
    calibrate: bool,
) -> Iterator[dict[str, Scores]]:
    check_finite({"training": train.features, **targets})
    for classifier in _fitted(train, draws, prepare, arguments, calibrate=calibrate):
        scores = {}
        for name, features in targets.items():
            probabilities, decisions = classifier.score(features)
            scores[name] = Scores(
                probabilities, decisions, classifier.chosen, classifier.extra, classifier.held_out
            )
        yield scores


@dataclass(frozen=True, eq=False)
class Classifier:
    """What was learnt from n labelled images.

    decide: None where there was nothing to fit. seen: the classes that have an image.
    """

    transform: Callable[[np.ndarray], np.ndarray]
    model: Any
    decide: Decide | None
    seen: np.ndarray
    n: int
    n_classes: int
    sharpness: float
    chosen: dict[str, Any]
    extra: dict[str, Any]
    held_out: HeldOut | None

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities (M, C) float32 and decisions (M,) of features (M, D)."""
        import numpy as np
        from scipy.special import softmax

        values = np.zeros((len(features), len(self.seen)))
        if self.decide is not None:
            for rows in blocks(len(features), max(features.shape[1], self.n)):
                values[rows] = self.decide(self.transform(features[rows]))
        probabilities = np.zeros((len(features), self.n_classes), np.float32)
        probabilities[:, self.seen] = softmax(self.sharpness * values, axis=1)
        return probabilities, self.seen[values.argmax(1)]


def logreg_fitted(train: Train, draws: Sequence[np.ndarray]) -> Iterator[Classifier]:
    """Yield what `logreg` scores with, draw after draw.

    Raises UserError on features that are not finite.

    draws: (n,) int64 each.
    """
    return _fitted(train, draws, regression, LOGREG_ARGUMENTS, calibrate=False)


def svm_fitted(train: Train, draws: Sequence[np.ndarray]) -> Iterator[Classifier]:
    """Yield what `svm` scores with, draw after draw.

    Raises UserError on features that are not finite.

    draws: (n,) int64 each.
    """
    return _fitted(train, draws, support_vectors, SVM_ARGUMENTS, calibrate=True)


def _fitted(
    train: Train,
    draws: Sequence[np.ndarray],
    prepare: Callable[[np.ndarray, np.ndarray], Fit],
    arguments: Mapping[str, Any],
    *,
    calibrate: bool,
) -> Iterator[Classifier]:
    import numpy as np
    from scipy.special import softmax

    from medbench.stats import splits

    check_finite({"training": train.features})
    for draw, divided in zip(draws, train.divided or [None] * len(draws), strict=True):
        labels = train.labels[draw]
        seen = np.unique(labels)
        inside, transform = transforms(train.features[draw])
        sharpness, chosen = 1.0, {**arguments, "rule": "as published"}
        model, decide, held_out = None, None, None
        extra = {"components": inside.shape[1]}
        if not (len(seen) > 1 and inside.shape[1] > 0):
            chosen["rule"] = "nothing to fit: one class, or no feature varies"
        else:
            fit = prepare(inside, labels)
            model, decide = fit(np.arange(len(labels)))
            extra["iterations"] = int(np.max(model.n_iter_))
            folds = splits.cross_validation(labels, train.groups[draw], MAX_FOLDS, divided)
            index, outside = cross_validated(inside, labels, folds, fit)
            if calibrate:
                sharpness, how = inverse_temperature(outside, labels, index, len(folds))
                chosen |= how
            if len(index):
                spread = np.zeros((len(index), train.n_classes), np.float32)
                spread[:, seen] = softmax(sharpness * outside, axis=1)
                held_out = HeldOut(index, spread)
        yield Classifier(
            transform,
            model,
            decide,
            seen,
            len(labels),
            train.n_classes,
            sharpness,
            chosen,
            extra,
            held_out,
        )


def support_vectors(inside: np.ndarray, labels: np.ndarray) -> Fit:
    """Return the function that fits an SVC to rows of components (n, K), by their places.

    labels: (n,) int. libsvm computes a kernel entry by entry: on 7,000 x 1280 features one fit took
    51 s, and 2 s with the same kernel made from squared distances. These take a matrix product of 4
    s, once for all folds, each of which has its own gamma (scikit-learn's "scale").
    """
    import numpy as np
    from sklearn.svm import SVC

    small = len(inside) <= KERNEL_IMAGES
    squared = _squared_distances(inside, inside) if small else None

    def fit(rows: np.ndarray) -> tuple[Any, Decide]:
        x, y = inside[rows], labels[rows]
        if squared is None:
            model = fitted(SVC(**SVM_ARGUMENTS), x, y)
            return model, partial(decision_values, model)
        gamma = 1 / (x.shape[1] * x.var())
        kernel = np.exp(-gamma * squared[np.ix_(rows, rows)])
        model = fitted(SVC(**{**SVM_ARGUMENTS, "kernel": "precomputed"}), kernel, y)
        return model, lambda images: decision_values(
            model, np.exp(-gamma * _squared_distances(images, x))
        )

    return fit


def regression(inside: np.ndarray, labels: np.ndarray) -> Fit:
    """Return the function that fits a logistic regression to some rows of components (n, K).

    labels: (n,) int, of all rows.
    """
    from sklearn.linear_model import LogisticRegression

    def fit(rows: np.ndarray) -> tuple[Any, Decide]:
        model = fitted(LogisticRegression(**LOGREG_ARGUMENTS), inside[rows], labels[rows])
        return model, partial(decision_values, model)

    return fit


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(len(a), len(b))."""
    import numpy as np

    squared: np.ndarray = a @ b.T
    squared *= -2
    squared += (a**2).sum(1)[:, None]
    squared += (b**2).sum(1)
    np.maximum(squared, 0, out=squared)
    return squared


def transforms(features: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Fit power transform and PCA to the labelled images' features (n, D) float32.

    Returns their components (n, K) float64, and the function that gives those of others. K = 0
    where nothing varies.
    """
    import numpy as np
    from sklearn.decomposition import PCA

    x = features.astype(np.float64)
    varies = x.std(0) > CONSTANT * np.abs(x.mean(0))
    pca = PCA()
    reach, limit = REACH * np.abs(x[:, varies]).max(0), np.sqrt(len(x) - 1)
    if not varies.any():
        return x[:, :0], lambda images: np.zeros((len(images), 0))
    transformed, z = power_transform.fit_transform(x[:, varies])
    z = pca.fit_transform(z)
    kept = pca.explained_variance_ > VARIANCE * pca.explained_variance_[0]
    return z[:, kept], Transforms(varies, reach, float(limit), transformed, pca, kept)


@dataclass(frozen=True, eq=False)
class Transforms:
    """Map features (M, D) to components (M, K) float64.

    varies (D,) bool and kept: features and components that are used. reach (V,), limit: how far an
    image may lie out.
    """

    varies: np.ndarray
    reach: np.ndarray
    limit: float
    power: power_transform.Power
    pca: Any
    kept: np.ndarray

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import numpy as np

        within = images[:, self.varies].astype(np.float64).clip(-self.reach, self.reach)
        components: np.ndarray = self.pca.transform(
            self.power.transform(within).clip(-self.limit, self.limit)
        )[:, self.kept]
        return components


def cross_validated(
    inside: np.ndarray, labels: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]], fit: Fit
) -> tuple[np.ndarray, np.ndarray]:
    """Return the held-out images of all folds and their decision values.

    Positions (m,) int64 and decision values (m, classes seen), fold after fold; m = 0 where nothing
    can be held out. inside: components (n, K). labels: (n,) int. folds: training and held-out
    positions; every training part has every class (`splits.held_out_fold`), so that decision values
    of all folds are of one problem. fit: of `regression` or `support_vectors`.
    """
    import numpy as np

    if not folds:
        return np.zeros(0, np.int64), np.zeros((0, len(np.unique(labels))))
    return np.concatenate([out for _, out in folds]), np.concatenate(
        [fit(rows)[1](inside[out]) for rows, out in folds]
    )


def inverse_temperature(
    values: np.ndarray, labels: np.ndarray, index: np.ndarray, k: int
) -> tuple[float, dict[str, Any]]:
    """Return 1 / temperature of the lowest log-loss on held-out images, and how it was found.

    values, index: as `cross_validated` gives them.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    from medbench.stats import splits

    if not len(index):
        return 1.0, {"temperature": 1.0, "rule": splits.UNDIVIDED}
    true = np.unique(labels, return_inverse=True)[1][index]

    def loss(log_sharpness: float) -> float:
        return -float(
            log_softmax(np.exp(log_sharpness) * values, axis=1)[np.arange(len(true)), true].mean()
        )

    best = minimize_scalar(
        loss, bounds=np.log(SHARPNESS), method="bounded", options={"xatol": 1e-9}
    )
    sharpness = float(np.exp(best.x))
    return sharpness, {
        "temperature": 1 / sharpness,
        "rule": f"{k}-fold grouped CV of the temperature",
        "cv_log_loss": float(best.fun),
    }


def fitted(model: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    """Fit a scikit-learn model to images (n, D) with labels (n,), and return it.

    Many classes of few images are no regression, as scikit-learn suspects aloud above 20 images.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The number of unique classes is greater than 50%", UserWarning
        )
        return model.fit(images, labels)


def decision_values(model: Any, images: np.ndarray) -> np.ndarray:
    """Return a model's decision values of images (M, K): (M, classes seen) float64.

    For two classes 0 and the margin, so that the softmax is the logistic function.
    """
    import numpy as np

    values: np.ndarray = model.decision_function(images)
    return values if values.ndim == 2 else np.column_stack([np.zeros_like(values), values])


NIELSEN = (
    "Nielsen et al., Self-supervision for medical image classification: state-of-the-art performance with ~100 labeled training samples "
    "per class, Bioengineering 2023, 10(8), 895, arXiv:2304.05163"
)
TRANSFORMS = {
    "transforms": "PowerTransformer(), PCA()",
    "constant": CONSTANT,
    "reach": REACH,
    "variance": VARIANCE,
}
SVM = Protocol(
    name="svm",
    version=3,
    title="RBF support vector machine after a power transform and PCA, as Nielsen et al. 2023 set it",
    kinds=EXCLUSIVE,
    evaluate=svm,
    seeded=False,
    settings={**SVM_ARGUMENTS, **TRANSFORMS, "sharpness": SHARPNESS, "max_folds": MAX_FOLDS},
    citation=NIELSEN,
)
LOGREG = Protocol(
    name="logreg",
    version=2,
    title="Logistic regression after a power transform and PCA, as Nielsen et al. 2023 set it",
    kinds=EXCLUSIVE,
    evaluate=logreg,
    seeded=False,
    settings={**LOGREG_ARGUMENTS, **TRANSFORMS},
    citation=NIELSEN,
)
