"""The classifiers of `linear` and `logreg` as named arrays: what a folder keeps, and what scores features without the labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medbench.models.logistic import Model
from medbench.models.power_transform import Power
from medbench.schema import Kind

Arrays = dict[str, np.ndarray]
BLOCK = 4096  # images scored at a time


class Head(Protocol):
    """What turns features (M, D) into probabilities (M, C) float32 and decisions (M,), multi-label (M, C)."""

    @property
    def width(self) -> int:
        """D."""

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def arrays(self) -> Arrays: ...


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The linear probe: standardisation, limit on outliers, weights."""

    model: Model

    @property
    def width(self) -> int:
        return int(self.model.fits.mean.shape[-1])

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `protocols.linear` scores."""
        probabilities, decisions = self.model.score(features)
        return probabilities.astype(np.float32), decisions

    def arrays(self) -> Arrays:
        """float64; weight (T, c, D) of standardised features, bias (T, c), mean and scale (D,), limit (1,), columns (c,) or (T,), base (C,)."""
        fits = self.model.fits
        solved = {"weight": fits.weight[0, 0], "bias": fits.bias[0, 0], "mean": fits.mean[0], "scale": fits.scale[0], "limit": fits.limit}
        return {**{name: value.cpu().numpy() for name, value in solved.items()}, "columns": self.model.columns, "base": self.model.base}

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> LinearHead:
        """Build the head. Raises ValueError for arrays that are no such head."""
        import torch

        from medbench.models.logistic import Fits

        weight, bias, columns, base = (arrays[name] for name in ("weight", "bias", "columns", "base"))
        wide = arrays["mean"].shape
        width = 1 if kind == "binary" else n_classes
        _expect(weight.ndim == 3 and bias.shape == weight.shape[:2] and weight.shape[2:] == wide == arrays["scale"].shape, "shapes")
        _expect(arrays["limit"].shape == (1,) and base.shape == (width,) and columns.shape == (bias.size,), "shapes")
        _expect(bool(np.isin(columns, np.arange(width)).all()) and len(set(columns.tolist())) == len(columns), "columns")
        _expect(weight.shape[1] == 1 if kind in ("binary", "multilabel") else weight.shape[0] == 1 and len(columns) > 0, "shapes")
        _expect(bool(((base >= 0) & (base <= 1)).all()), "base")
        certificate = torch.zeros(1, 1, weight.shape[0], dtype=torch.float64)
        solved = [torch.from_numpy(arrays[name].astype(np.float64))[None] for name in ("weight", "bias", "mean", "scale")]
        limit = torch.from_numpy(arrays["limit"].astype(np.float64))
        fits = Fits(solved[0][None], solved[1][None], solved[2], solved[3], limit, *[certificate] * 5)
        return LinearHead(Model(fits, columns, base, kind, {}))


@dataclass(frozen=True, eq=False)
class ComponentHead:
    """`logreg`: power transform and principal components of the features that vary, then a logistic regression.

    varies (D,) bool. reach (V,), limit: how far an image may lie out. centre (V,) and components (K, V) of the PCA. coef (S, K), intercept (S,):
    decision values of the S classes `seen`; without components all are 0.
    """

    varies: np.ndarray
    reach: np.ndarray
    limit: float
    power: Power
    centre: np.ndarray
    components: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    seen: np.ndarray
    n_classes: int

    @property
    def width(self) -> int:
        return len(self.varies)

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `protocols.svm_logreg` scores."""
        from scipy.special import softmax

        values = np.empty((len(features), len(self.seen)))
        for i in range(0, len(features), BLOCK):
            within = features[i : i + BLOCK, self.varies].astype(np.float64).clip(-self.reach, self.reach)
            z = self.power.transform(within).clip(-self.limit, self.limit)
            values[i : i + BLOCK] = (z - self.centre) @ self.components.T @ self.coef.T + self.intercept
        probabilities = np.zeros((len(features), self.n_classes), np.float32)
        probabilities[:, self.seen] = softmax(values, axis=1)
        return probabilities, self.seen[values.argmax(1)]

    def arrays(self) -> Arrays:
        """Those of the class, the power transform's with its name before them."""
        own = {name: np.asarray(getattr(self, name)) for name in _OWN}
        powers = {f"power_{name}": np.asarray(getattr(self.power, name)) for name in _POWER}
        return {**own, "varies": self.varies.astype(np.uint8), "limit": np.array([self.limit]), **powers}

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> ComponentHead:
        """Raises ValueError for arrays that are no such head."""
        varies, seen = arrays["varies"].astype(bool), arrays["seen"]
        wide, k = (int(varies.sum()),), arrays["components"].shape[0]
        _expect(varies.ndim == 1 and kind != "multilabel" and arrays["limit"].shape == (1,), "shapes")
        _expect(all(arrays[name].shape == wide for name in ("reach", "centre", *(f"power_{name}" for name in _POWER))), "shapes")
        _expect(arrays["components"].shape == (k, *wide) and arrays["coef"].shape == (len(seen), k), "shapes")
        _expect(arrays["intercept"].shape == seen.shape and 0 < len(seen) == len(set(seen.tolist())), "shapes")
        _expect(bool(np.isin(seen, np.arange(n_classes)).all()), "seen")
        power = Power(*(arrays[f"power_{name}"] for name in _POWER))
        own = {name: arrays[name] for name in _OWN}
        return ComponentHead(varies=varies, limit=float(arrays["limit"][0]), power=power, n_classes=n_classes, **own)


_OWN = ("reach", "centre", "components", "coef", "intercept", "seen")
_POWER = ("exponents", "centre", "mean", "deviation")
HEADS: dict[str, type[LinearHead] | type[ComponentHead]] = {"linear": LinearHead, "logreg": ComponentHead}
#: The arrays of each, for a reader that takes no others.
NAMES: dict[str, frozenset[str]] = {
    "linear": frozenset(("weight", "bias", "mean", "scale", "limit", "columns", "base")),
    "logreg": frozenset((*_OWN, "varies", "limit", *(f"power_{name}" for name in _POWER))),
}


def head_of(protocol: str, arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> Head:
    """Build the head of that protocol from arrays.

    Raises ValueError for arrays that are no head of that protocol, or hold what is no number.
    """
    _expect(arrays.keys() == NAMES[protocol], f"arrays ({', '.join(sorted(arrays))})")
    for name, value in arrays.items():
        _expect(value.dtype.kind in "fiu" and bool(np.isfinite(value).all()), f"'{name}'")
    return HEADS[protocol].of(arrays, kind, n_classes)


def _expect(right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"its {what} are not those of a head")
