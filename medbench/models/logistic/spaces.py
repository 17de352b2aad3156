"""Standardised features of a set of images, in the coordinates in which they are solved for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

_RANK = 1e-12  # eigenvalues of a float64 Gram matrix below this share of the largest are rounding


@dataclass(frozen=True, eq=False)
class Space:
    """Standardised features x of n images in r <= min(n, D) rotated dimensions: rotated (n, r) = x @ basis, basis (D, r) orthonormal.

    With n <= D images basis = x.T @ inner, which is never formed.
    """

    rotated: torch.Tensor
    spread: torch.Tensor  # (r,) mean square of each rotated column; float64, like all below
    mean: torch.Tensor  # (D,)
    scale: torch.Tensor  # (D,) 1 / standard deviation; 0 for a constant feature
    inner: torch.Tensor  # (n, r), or basis itself
    x: torch.Tensor | None = None  # (n, D)

    @property
    def limit(self) -> float:
        """Standard deviations that no training image can lie beyond: see `Fits`."""
        return math.sqrt(max(len(self.rotated) - 1, 1))

    def weight(self, w: torch.Tensor) -> torch.Tensor:
        """(..., D) float64 of standardised features, from w (..., r) of the rotated ones."""
        inside = w.double().flatten(0, -2) @ self.inner.T
        return (inside if self.x is None else inside @ self.x).reshape(*w.shape[:-1], len(self.mean))

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        """(..., r) float64: standardised features, or weights of them, x (..., D) in the rotated dimensions."""
        return (x if self.x is None else x @ self.x.T) @ self.inner

    def seen(self, features: torch.Tensor) -> torch.Tensor:
        """(M, r) float64: other images in the rotated dimensions, limited as they are scored."""
        return self.turned(((features.double() - self.mean) * self.scale).clamp(-self.limit, self.limit))


def eigenbasis(features: torch.Tensor, constant: float) -> torch.Tensor:
    """(D, D) float64 of the Gram matrix. Orthonormal, so exact for any images; only the preconditioner is then approximate."""
    x = _standardise(features, constant)[0].float()
    basis: torch.Tensor = torch.linalg.eigh((x.T @ x).double())[1]
    return basis


def _standardise(features: torch.Tensor, constant: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = features.to(torch.float64, copy=True)
    mean = x.mean(0)
    deviation = x.sub_(mean).square().mean(0).sqrt()
    varies = deviation > constant * mean.abs()
    scale = torch.where(varies, 1 / torch.where(varies, deviation, 1), 0)
    return x.mul_(scale), mean, scale


def rotate(features: torch.Tensor, dtype: torch.dtype, constant: float, basis: torch.Tensor | None) -> Space:
    """The space of all images given. basis: `eigenbasis` of some like these, for more than D images."""
    x, mean, scale = _standardise(features, constant)
    if basis is not None and len(x) > x.shape[1]:
        rotated = x.to(dtype) @ basis.to(dtype)
        return Space(rotated, rotated.square().mean(0).double(), mean, scale, basis)
    spread, left = torch.linalg.eigh(x @ x.T / len(x))
    keep = spread > _RANK * spread[-1].clamp_min(_RANK)
    spread, left = spread[keep], left[:, keep]
    singular = (spread * len(x)).sqrt()
    return Space((left * singular).to(dtype), spread, mean, scale, left / singular, x)
