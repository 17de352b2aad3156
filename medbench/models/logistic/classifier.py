"""From labelled images to what the engine solves for, and back.

From its solution to probabilities and decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medbench.models.logistic.fitting import ClassTargets, Fits
from medbench.schema import Kind

#: Images scored at a time: a float64 copy of them stays in a CPU's cache, where all of its passes
#: take a tenth of the time.
BLOCK_VALUES = {"cpu": 2**18, "cuda": 2**23}


@dataclass(frozen=True, eq=False)
class Pool:
    """Labelled images that subsets are drawn from.

    features (N, D) float, finite, on the device that solves; labels, groups as in `schema.Split`.
    basis: `eigenbasis` of the features, where a subset has more images than features.
    """

    features: torch.Tensor
    labels: np.ndarray
    groups: np.ndarray
    kind: Kind
    n_classes: int
    basis: torch.Tensor | None

    def target(self) -> tuple[ClassTargets, np.ndarray]:
        """Its labels as what the engine solves for, and the columns (K,) of these, see `encode`."""
        return encode(self.labels, self.kind, str(self.features.device))


@dataclass(frozen=True, eq=False)
class Model:
    """What was learnt from one labelled subset.

    fits: one set of images and one penalty. columns: the classes (or labels) that it has a column
    for. base (C,), binary (1,): the probabilities of what could not be fitted. chosen: the penalty
    and how it was chosen.
    """

    fits: Fits
    columns: np.ndarray
    base: np.ndarray
    kind: Kind
    chosen: dict[str, Any]

    @property
    def certificate(self) -> dict[str, Any]:
        """How exactly the fit was solved, as JSON values: the worst of its labels.

        iterations, gradient, largest, gap and bias_gradient, see `Fits`; {} where there was nothing
        to fit.
        """
        if self.fits.gap.numel() == 0:
            return {}
        whole = {"iterations": int(self.fits.iterations.max())}
        return whole | {
            name: float(getattr(self.fits, name).max())
            for name in ("gradient", "largest", "gap", "bias_gradient")
        }

    def as_given(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weight (T, c, D) and bias (T, c) of features as they are, not standardised."""
        weight = self.fits.weight[0, 0] * self.fits.scale[0]
        shift = (weight.flatten(0, 1) @ self.fits.mean[0]).view_as(self.fits.bias[0, 0])
        return weight, self.fits.bias[0, 0] - shift

    def logits(self, images: np.ndarray | torch.Tensor) -> np.ndarray:
        """Return (M, columns) float64 of images (M, D)."""
        place = self.fits.bias.device
        logits = torch.empty(len(images), len(self.columns), dtype=torch.float64, device=place)
        step = max(1, BLOCK_VALUES[place.type] // max(1, images.shape[1]))
        for i in range(0, len(images), step):
            block = torch.as_tensor(images[i : i + step], device=place)
            logits[i : i + step] = self.fits.logits(block)[0].flatten(0, 1).T
        found: np.ndarray = logits.cpu().numpy()
        return found

    def score(self, images: np.ndarray | torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities (M, C) float64 and decisions (M,), multi-label (M, C), int64.

        The images are (M, D), which may lie on the device already.
        """
        logits = self.logits(images)
        out = np.tile(self.base, (len(images), 1))
        if self.kind in ("binary", "multilabel"):
            out[:, self.columns] = torch.from_numpy(logits).sigmoid().numpy()
            decisions = (out >= 0.5).astype(np.int64)
            return (
                (out, decisions)
                if self.kind == "multilabel"
                else (np.column_stack([1 - out, out]), decisions[:, 0])
            )
        out[:, self.columns] = torch.from_numpy(logits).softmax(1).numpy()
        return out, self.columns[logits.argmax(1)]


def encode(labels: np.ndarray, kind: Kind, device: str = "cpu") -> tuple[ClassTargets, np.ndarray]:
    """Encode labels; return what the engine solves for and its classes (or labels).

    It has a column for those present, or with both values known.

    labels: (N,) int, or (N, C) float with NaN. The columns are (K,) int64.
    """
    if kind == "multilabel" or kind == "binary":
        matrix = np.asarray(labels, float).reshape(len(labels), -1)
        positive, negative = (matrix == 1).any(0), (matrix == 0).any(0)
        columns = np.flatnonzero(positive & negative)
        values = torch.tensor(matrix[:, columns].T[:, None], dtype=torch.float64, device=device)
        known = ~values.isnan()
        return ClassTargets(values.nan_to_num(0.0), known.double(), softmax=False), columns
    columns, index = np.unique(labels, return_inverse=True)
    values = torch.tensor(
        index[None, None] == np.arange(len(columns))[None, :, None],
        dtype=torch.float64,
        device=device,
    )
    return ClassTargets(values, torch.ones_like(values[:, :1]), softmax=True), columns


def model(
    pool: Pool, draw: np.ndarray, fits: Fits, columns: np.ndarray, chosen: dict[str, Any]
) -> Model:
    """Build the model of the images of a pool at `draw` (n,) int.

    fits: solved for the `columns` of the pool, of which the subset may lack some.
    """
    labels, softmax = pool.labels[draw], pool.kind not in ("binary", "multilabel")
    own = encode(labels, pool.kind)[1]
    places = torch.as_tensor(np.searchsorted(columns, own), device=fits.bias.device)
    base = base_rate(labels, pool.kind, pool.n_classes)
    return Model(fits.take(places, softmax), own, base, pool.kind, chosen)


def base_rate(labels: np.ndarray, kind: Kind, n_classes: int) -> np.ndarray:
    """Return the smoothed base rates, (C,) float64, binary (1,).

    Smoothed share of positives of each label; 0 for the classes of a softmax.
    """
    if kind not in ("binary", "multilabel"):
        return np.zeros(n_classes)
    matrix = labels.reshape(len(labels), -1)
    positive, negative = (matrix == 1).sum(0), (matrix == 0).sum(0)
    rate: np.ndarray = (positive + 1) / (positive + negative + 2)
    return rate
