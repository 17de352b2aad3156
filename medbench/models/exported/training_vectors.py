"""Classifiers that keep vectors of the labelled images: `knn` and `svm`.

They are written only where a user says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medbench.models.exported.components import Arrays, Components, OnComponents, expect
from medbench.schema import Kind

BLOCK = 256  # images scored at a time


@dataclass(frozen=True, eq=False)
class NeighbourHead:
    """The head of `knn`, which keeps the labelled images' features.

    images: (n, D) float32. labels: (n,), or (n, C) with NaN. k: neighbours that vote. temperature:
    of a vote.
    """

    name: ClassVar[str] = "knn"
    images: np.ndarray
    labels: np.ndarray
    k: int
    temperature: float
    n_classes: int

    @property
    def width(self) -> int:
        """The number of features that it takes."""
        return int(self.images.shape[1])

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score features (M, D) as `protocols.knn` does; the shapes are those of `Head`."""
        values, known = self.votes()
        parts = [np.zeros((0, self.n_classes))]
        parts += [
            self._shares(features[i : i + BLOCK], values, known)
            for i in range(0, len(features), BLOCK)
        ]
        shares = np.concatenate(parts)
        decisions = (shares >= 0.5).astype(np.int64) if self.labels.ndim == 2 else shares.argmax(1)
        return shares.astype(np.float32), decisions

    def votes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what each image says for each class, and where it has a say.

        (n, C) float64 of 0 and 1; and (n, C), or (n, 1) of exclusive classes.
        """
        if self.labels.ndim == 1:
            return np.eye(self.n_classes)[self.labels.astype(int)], np.ones((len(self.labels), 1))
        return np.nan_to_num(self.labels), (~np.isnan(self.labels)).astype(float)

    @property
    def possible(self) -> np.ndarray:
        """Which classes it can decide for, (C,) bool."""
        several = self.labels.ndim == 2
        return np.isin(np.arange(self.n_classes), self.labels) | several

    def _shares(self, features: np.ndarray, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """(B, C) of the votes; where nobody has a say the smoothed base rate."""
        import torch

        from medbench.models.neighbours import TIE, nearest

        own, others = (
            torch.nn.functional.normalize(torch.as_tensor(of).double(), dim=1, eps=1e-300)
            for of in (features, self.images)
        )
        near, who = (found.numpy() for found in nearest(own, others, self.k))
        weight = np.exp(near / self.temperature) * (near >= near[:, self.k - 1, None] - TIE)
        for_it, cast = (np.einsum("bm,bmc->bc", weight, given[who]) for given in (values, known))
        base = np.broadcast_to((values.sum(0) + 1) / (known.sum(0) + 2), for_it.shape)
        shares: np.ndarray = np.where(
            cast > 0, np.minimum(for_it / np.maximum(cast, 1e-300), 1), base
        )
        return shares

    def arrays(self) -> Arrays:
        """Return images (N, D), labels, k (1,) and temperature (1,) by their names."""
        return {
            "images": self.images,
            "labels": self.labels,
            "k": np.array([self.k]),
            "temperature": np.array([self.temperature]),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> NeighbourHead:
        """Read the head.

        Raises ValueError for arrays that are no such head.
        """
        images, labels, k, temperature = (
            arrays[name] for name in ("images", "labels", "k", "temperature")
        )
        several = kind == "multilabel"
        expect(
            images.ndim == 2
            and labels.shape == ((len(images), n_classes) if several else (len(images),)),
            "shapes",
        )
        expect(
            k.shape == temperature.shape == (1,) and 0 < k[0] <= len(images) and temperature[0] > 0,
            "k",
        )
        expect(
            bool((np.isin(labels, range(2 if several else n_classes)) | np.isnan(labels)).all()),
            "labels",
        )
        return NeighbourHead(
            images.astype(np.float32), labels, int(k[0]), float(temperature[0]), n_classes
        )


@dataclass(frozen=True, eq=False)
class SupportHead(OnComponents):
    """The head of `svm`.

    RBF support vectors (S, K) in components, of classes in the order of `seen`, counts (c,) of
    each; dual (c - 1, S) and bias (c (c - 1) / 2,) of each two classes, as libsvm keeps them.
    Without vectors nothing was fitted.
    """

    name: ClassVar[str] = "svm"
    transform: Components
    vectors: np.ndarray
    dual: np.ndarray
    bias: np.ndarray
    counts: np.ndarray
    gamma: float
    sharpness: float
    seen: np.ndarray
    n_classes: int

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Return logits (M, c) of decision values (M, c)."""
        return self.sharpness * values

    def decide(self, x: np.ndarray) -> np.ndarray:
        """Return decision values (M, c) of components (M, K).

        For two classes 0 and the margin, for more the votes of each two, and their margins within a
        vote.
        """
        if not len(self.vectors):
            return np.zeros((len(x), len(self.seen)))
        squared = np.maximum(
            (x**2).sum(1)[:, None] - 2 * x @ self.vectors.T + (self.vectors**2).sum(1), 0
        )
        kernel = np.exp(-self.gamma * squared)
        ends = np.cumsum(self.counts)
        of = [slice(end - n, end) for end, n in zip(ends, self.counts, strict=True)]
        c, pair = len(self.seen), 0
        if c == 2:
            margin = kernel @ self.dual[0] + self.bias[0]
            return np.column_stack([np.zeros_like(margin), margin])
        votes, sums = np.zeros((len(x), c)), np.zeros((len(x), c))
        for i in range(c):
            for j in range(i + 1, c):
                margin = (
                    kernel[:, of[i]] @ self.dual[j - 1, of[i]]
                    + kernel[:, of[j]] @ self.dual[i, of[j]]
                    + self.bias[pair]
                )
                sums[:, i] += margin
                sums[:, j] -= margin
                votes[:, i] += margin > 0
                votes[:, j] += margin <= 0
                pair += 1
        # scikit-learn's: within a third of a vote
        made: np.ndarray = votes + sums / (3 * (np.abs(sums) + 1))
        return made

    def arrays(self) -> Arrays:
        """Name what it holds, with the transform's own names before it."""
        own = {name: np.asarray(getattr(self, name)) for name in _OWN}
        return {
            **self.transform.arrays(),
            **own,
            "gamma": np.array([self.gamma]),
            "sharpness": np.array([self.sharpness]),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], kind: Kind, n_classes: int) -> SupportHead:
        """Read the head.

        Raises ValueError for arrays that are no such head.
        """
        transform, seen, vectors = Components.of(arrays), arrays["seen"], arrays["vectors"]
        c = len(seen)
        expect(
            kind != "multilabel"
            and 0 < c == len(set(seen.tolist()))
            and bool(np.isin(seen, np.arange(n_classes)).all()),
            "seen",
        )
        expect(
            vectors.ndim == 2 and arrays["gamma"].shape == arrays["sharpness"].shape == (1,),
            "shapes",
        )
        if len(vectors):
            shapes = [arrays[name].shape for name in ("counts", "dual", "bias")]
            expect(
                shapes == [(c,), (c - 1, len(vectors)), (c * (c - 1) // 2,)]
                and vectors.shape[1] == transform.out,
                "shapes",
            )
            expect(
                bool((arrays["counts"] >= 0).all()) and int(arrays["counts"].sum()) == len(vectors),
                "counts",
            )
        vectors, dual, bias, counts = (
            arrays[name] for name in ("vectors", "dual", "bias", "counts")
        )
        gamma, sharpness = (float(arrays[name][0]) for name in ("gamma", "sharpness"))
        return SupportHead(
            transform, vectors, dual, bias, counts, gamma, sharpness, seen, n_classes
        )


_OWN = ("vectors", "dual", "bias", "counts", "seen")
NEIGHBOUR_NAMES = frozenset(("images", "labels", "k", "temperature"))
SUPPORT_NAMES = frozenset((*_OWN, "gamma", "sharpness"))
