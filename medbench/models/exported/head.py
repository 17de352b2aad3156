"""The classifiers of protocols as named arrays.

What a folder keeps, and what scores features without the labelled images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from medbench.models.exported import components
from medbench.models.exported.components import Arrays, Components, OnComponents, expect
from medbench.models.exported.trained_heads import (
    FUSED_NAMES,
    LAYER_NAMES,
    FusedHead,
    LayerHead,
)
from medbench.models.exported.training_vectors import (
    NEIGHBOUR_NAMES,
    SUPPORT_NAMES,
    NeighbourHead,
    SupportHead,
)
from medbench.schema import Kind
from medbench.stats import metrics

if TYPE_CHECKING:
    from medbench.models.logistic import Model


class Head(Protocol):
    """What turns features (M, D) into probabilities and decisions.

    Probabilities are (M, C) float32, decisions (M,), multi-label (M, C).
    """

    @property
    def name(self) -> str:
        """Its key in `HEADS`."""

    @property
    def width(self) -> int:
        """The number of features that it takes, D."""

    @property
    def possible(self) -> np.ndarray:
        """Which classes can have a probability, (C,) bool; all of several labels."""

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score features (N, D) float32: probabilities (N, C) float32, and decisions.

        Decisions are (N,) int64, or (N, C) of several labels.
        """

    def arrays(self) -> Arrays:
        """Return what the head keeps as named arrays, from which it is read again."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The linear probe: standardisation, limit on outliers, weights."""

    name: ClassVar[str] = "linear"
    model: Model

    @property
    def width(self) -> int:
        """The number of features that it takes."""
        return int(self.model.fits.mean.shape[-1])

    @property
    def possible(self) -> np.ndarray:
        """Which classes it can decide for, (C,) bool."""
        base = self.model.base
        found = np.isin(np.arange(len(base)), self.model.columns) | (base > 0)
        return np.ones(2, bool) if len(base) == 1 else found

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score features (M, D) as `protocols.linear` does; the shapes are those of `Head`."""
        probabilities, decisions = self.model.score(features)
        return probabilities.astype(np.float32), decisions

    def arrays(self) -> Arrays:
        """Name what it holds, float64.

        weight (T, c, D) of standardised features, bias (T, c), mean and scale (D,), limit (1,),
        columns (c,) or (T,), base (C,).
        """
        fits = self.model.fits
        solved = {
            "weight": fits.weight[0, 0],
            "bias": fits.bias[0, 0],
            "mean": fits.mean[0],
            "scale": fits.scale[0],
            "limit": fits.limit,
        }
        return {
            **{name: value.cpu().numpy() for name, value in solved.items()},
            "columns": self.model.columns,
            "base": self.model.base,
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> LinearHead:
        """Build the head. Raises ValueError for arrays that are no such head."""
        import torch

        from medbench.models.logistic import Fits, Model

        weight, bias, columns, base = (
            arrays[name] for name in ("weight", "bias", "columns", "base")
        )
        wide = arrays["mean"].shape
        width = 1 if kind == "binary" else n_classes
        expect(
            weight.ndim == 3
            and bias.shape == weight.shape[:2]
            and weight.shape[2:] == wide == arrays["scale"].shape,
            "shapes",
        )
        expect(
            arrays["limit"].shape == (1,)
            and base.shape == (width,)
            and columns.shape == (bias.size,),
            "shapes",
        )
        expect(
            bool(np.isin(columns, np.arange(width)).all())
            and len(set(columns.tolist())) == len(columns),
            "columns",
        )
        expect(
            weight.shape[1] == 1
            if kind in ("binary", "multilabel")
            else weight.shape[0] == 1 and len(columns) > 0,
            "shapes",
        )
        expect(bool(((base >= 0) & (base <= 1)).all()), "base")
        certificate = torch.zeros(1, 1, weight.shape[0], dtype=torch.float64)
        solved = [
            torch.from_numpy(arrays[name].astype(np.float64))[None]
            for name in ("weight", "bias", "mean", "scale")
        ]
        limit = torch.from_numpy(arrays["limit"].astype(np.float64))
        fits = Fits(
            solved[0][None], solved[1][None], solved[2], solved[3], limit, *[certificate] * 5
        )
        return LinearHead(Model(fits, columns, base, kind, {}))


@dataclass(frozen=True, eq=False)
class ComponentHead(OnComponents):
    """The head of `logreg`: a logistic regression on components.

    coef (S, K), intercept (S,): decision values of the S classes `seen`.
    """

    name: ClassVar[str] = "logreg"
    transform: Components
    coef: np.ndarray
    intercept: np.ndarray
    seen: np.ndarray
    n_classes: int

    def decide(self, x: np.ndarray) -> np.ndarray:
        """Return decision values (M, S) of components x (M, K)."""
        made: np.ndarray = x @ self.coef.T + self.intercept
        return made

    def arrays(self) -> Arrays:
        """Return the head's own arrays, beside those of the transform."""
        return {
            **self.transform.arrays(),
            **{name: np.asarray(getattr(self, name)) for name in _OWN},
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> ComponentHead:
        """Build the head. Raises ValueError for arrays that are no such head."""
        transform, seen = Components.of(arrays), arrays["seen"]
        expect(
            kind != "multilabel" and arrays["coef"].shape == (len(seen), transform.out), "shapes"
        )
        expect(
            arrays["intercept"].shape == seen.shape and 0 < len(seen) == len(set(seen.tolist())),
            "shapes",
        )
        expect(bool(np.isin(seen, np.arange(n_classes)).all()), "seen")
        return ComponentHead(transform, arrays["coef"], arrays["intercept"], seen, n_classes)


_OWN = ("coef", "intercept", "seen")
#: By name: a protocol's on frozen features, the layer of a fine-tuning, a fusion's own. Those of
#: KEEP_VECTORS keep vectors of the labelled images.
HEADS: dict[
    str,
    type[LinearHead | ComponentHead | NeighbourHead | SupportHead | LayerHead | FusedHead],
] = {
    one.name: one
    for one in (LinearHead, ComponentHead, NeighbourHead, SupportHead, LayerHead, FusedHead)
}
KEEP_VECTORS = ("knn", "svm")
#: The arrays of each, for a reader that takes no others; of a fusion's also those of its network.
NAMES: dict[str, frozenset[str]] = {
    "linear": frozenset(("weight", "bias", "mean", "scale", "limit", "columns", "base")),
    "logreg": components.NAMES | {*_OWN},
    "knn": NEIGHBOUR_NAMES,
    "svm": components.NAMES | SUPPORT_NAMES,
    "layer": LAYER_NAMES,
    "fusion": FUSED_NAMES,
}


def decided(name: str, probabilities: np.ndarray, kind: Kind) -> np.ndarray:
    """Return what the head of that name decides, of its probabilities (M, C) alone.

    (M,), multi-label (M, C). Two classes that are as probable are the first one, but of a linear
    probe, which has one score for both, from 0.5 on the second one.
    """
    if name == LinearHead.name and kind == "binary":
        probabilities = probabilities[:, ::-1]
        return 1 - metrics.decided(probabilities, multilabel=False)
    return metrics.decided(probabilities, kind == "multilabel")


def head_of(name: str, arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> Head:
    """Build the head of that name.

    Raises ValueError for arrays that are none, or hold what is no number.
    """
    own = {one for one in arrays if name != "fusion" or not one.startswith("net.")}
    expect(own == NAMES[name], f"arrays ({', '.join(sorted(own)):.200})")
    for one, value in arrays.items():
        # of several labels an image, where one is not known
        unknown = name == "knn" and one == "labels"
        right = value.dtype.kind in "fiu" and bool(np.isfinite(value).all() or unknown)
        expect(right, f"'{one:.60}'")
    return HEADS[name].of(arrays, kind, n_classes)
