"""Which images are unlike those that a model was trained with.

How far their features lie from these, without keeping a vector of any patient.

The distance is Mahalanobis' in square roots of the features, brought to length 1 (Hellinger's
geometry; the length is Mahalanobis++'s, Mueller & Hein 2025), standardised, with a covariance that
is drawn towards a multiple of the identity (Ledoit & Wolf 2004, Journal of Multivariate Analysis
88:365) and kept as its first components and one variance for all the rest. The threshold is set by
distances of images that were held out, whole groups at a time, of the fit that measured them:
images that a fit has seen lie nearer than new ones (`_threshold`). No label is used: the whole
training part counts, however few images were labelled.

The rule was chosen among 72, by a criterion that was written down before, at 64 px after 70 images
of endoscopy and of two sets of chest radiographs as home, and judged on dermoscopy as home
(`benchmarks/unlike.py`, tf_efficientnet_lite0, 20 draws): 2.1 % of its own are flagged (8 % in the
worst draw), all radiographs, and 90 % of endoscopy (51 %), of which the rule before, without roots
and with a threshold for 1 %, flagged 80 % (31 %). At 112 px they are 2.2 % and 99 % (91 %). Most of
what was won is the threshold's. It was not judged on features that may be negative, which keep
their sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FOLDS = 5
FLAGGED = 0.02  # of images like the training images
MANY = 10 / FLAGGED
COMPONENTS = 128
FLOOR = 0.1  # of the mean variance of a feature, added to each
MOST = 5000  # images a fit looks at: more change no digit that matters
NAMES = frozenset(("mean", "scale", "components", "variances", "rest", "threshold"))


@dataclass(frozen=True, eq=False)
class Typical:
    """Where the features of training images lie, and how far another image's may lie out.

    mean and scale: (D,), of features that do not vary 0. components (K, D) of the standardised
    features with variances (K,); rest: the variance of every other direction; threshold: of the
    distance.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    rest: float
    threshold: float

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return how far features (M, D) are from the training images, (M,) float64.

        The unit is the standard deviation of a direction.
        """
        z = (_directions(features) - self.mean) * self.scale
        inside = z @ self.components.T
        outside = np.maximum((z**2).sum(1) - (inside**2).sum(1), 0)
        found: np.ndarray = np.sqrt(
            ((inside**2 / self.variances).sum(1) + outside / self.rest)
            / max((self.scale > 0).sum(), 1)
        )
        return found

    def unlike(self, features: np.ndarray) -> np.ndarray:
        """Return (M,) bool: whether an image lies beyond the threshold."""
        beyond: np.ndarray = ~(self.distance(features) <= self.threshold)
        return beyond

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that a folder keeps: the components float32, the rest float64.

        mean and scale are (D,), variances (K,), components (K, D).
        """
        own = {
            name: np.asarray(getattr(self, name), float) for name in ("mean", "scale", "variances")
        }
        return {
            **own,
            "components": self.components.astype(np.float32),
            "rest": np.array([self.rest]),
            "threshold": np.array([self.threshold]),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> Typical:
        """Read what `arrays` gave. Raises ValueError for anything else."""
        right = arrays.keys() == NAMES and all(
            value.dtype.kind == "f" and np.isfinite(value).all() for value in arrays.values()
        )
        k = (len(arrays["variances"]),) if right else ()
        wide = arrays["mean"].shape if right else ()
        right = (
            right
            and len(wide) == 1
            and arrays["scale"].shape == wide
            and arrays["components"].shape == (*k, *wide)
        )
        right = (
            right
            and arrays["rest"].shape == arrays["threshold"].shape == (1,)
            and arrays["variances"].shape == k
        )
        if not right or arrays["rest"][0] <= 0 or (arrays["variances"] <= 0).any():
            raise ValueError("its arrays are not those of typical features")
        rest, threshold = (float(arrays[name][0]) for name in ("rest", "threshold"))
        return Typical(
            arrays["mean"],
            arrays["scale"],
            arrays["components"].astype(np.float64),
            arrays["variances"].astype(float),
            rest,
            threshold,
        )


def typical_of(features: np.ndarray, groups: np.ndarray) -> Typical | None:
    """Fit where features (N, D) of images in groups (N,) lie, and how far out held-out groups lie.

    None with fewer than ten groups, or where nothing varies.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2 * FOLDS:
        return None
    if len(features) > MOST:
        kept = np.sort(np.random.default_rng(0).permutation(len(features))[:MOST])
        features, member = features[kept], member[kept]
    fold = np.random.default_rng(0).permutation(len(names))[member] % FOLDS
    # the same in every fit: distances of all must be of one scale
    k = min(COMPONENTS, int(np.bincount(fold).min()))
    whole = _fitted(features, k)
    if whole is None:
        return None
    distances = []
    for i in range(FOLDS):
        part = _fitted(features[fold != i], k)
        if part is None:
            return None
        distances.append(part.distance(features[fold == i]))
    threshold = _threshold(np.concatenate(distances), len(names))
    return Typical(
        whole.mean, whole.scale, whole.components, whole.variances, whole.rest, threshold
    )


def _threshold(held: np.ndarray, groups: int) -> float:
    """Find the threshold of held-out distances.

    The normal prediction limit of their logarithms, beyond which a new image lies with the
    probability FLAGGED. Of many images not less than their own quantile, beyond which so many lie:
    of seventy it would be the farthest of them, which is a matter of chance.
    """
    from scipy.stats import t

    logs = np.log(np.maximum(held, 1e-12))
    factor = float(t.ppf(1 - FLAGGED, groups - 1)) * np.sqrt(1 + 1 / groups)
    limit = float(np.exp(logs.mean() + factor * logs.std(ddof=1)))
    if len(held) < MANY:
        return limit
    place = min(int(np.ceil((len(held) + 1) * (1 - FLAGGED))), len(held)) - 1
    return max(limit, float(np.sort(held)[place]))


def _directions(features: np.ndarray) -> np.ndarray:
    """Bring square roots of features (M, D), with their signs, to length 1, float64."""
    x = np.sign(features) * np.sqrt(np.abs(features.astype(np.float64)))
    found: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return found


def _fitted(features: np.ndarray, most: int) -> Typical | None:
    """Without a threshold.

    most: components, fewer than images, as the last ones hold nothing but single images.
    """
    from scipy.linalg import eigh
    from sklearn.covariance import ledoit_wolf_shrinkage

    x = _directions(features)
    mean, sd = x.mean(0), x.std(0)
    varies = sd > 1e-6 * np.abs(mean)
    # a feature that hardly varies in a few images would decide alone in others
    sd = np.sqrt(sd**2 + FLOOR * (sd**2).mean())
    if not varies.any() or len(x) < 3:
        return None
    scale = np.where(varies, 1 / np.where(varies, sd, 1.0), 0.0)
    z = ((x - mean) * scale)[:, varies]
    n, d = z.shape
    shrinkage = float(np.clip(ledoit_wolf_shrinkage(z, assume_centered=True), 1e-3, 1.0))
    k = max(min(most, d, n // 3), 1)
    if n < d:  # the smaller of the two products has the same values
        values, vectors = eigh(z @ z.T / n, subset_by_index=[n - k, n - 1])
        inner = (vectors / np.sqrt(np.maximum(values, 1e-12) * n)).T @ z
    else:
        values, vectors = eigh(z.T @ z / n, subset_by_index=[d - k, d - 1])
        inner = vectors.T
    # the mean variance of every other direction: standardised features have d in all
    left = max(d - values.sum(), 0.0) / max(d - k, 1)
    components = np.zeros((k, len(mean)))
    components[:, varies] = inner
    return Typical(
        mean,
        scale,
        components,
        (1 - shrinkage) * values + shrinkage,
        (1 - shrinkage) * left + shrinkage,
        np.inf,
    )
