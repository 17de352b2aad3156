"""Standardised features of a set of images, in the coordinates in which they are solved for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from medbench.models.logistic import products, spectrum

# of the columns: parts of more images take a basis that is given instead of one of their own, which
# costs n ** 3
SHARE = 2 / 3
SAMPLE = 640  # rotated images, at least, of a framed space
# of the weights of a part, there and back, in the search of a penalty: 90 to 150 evaluations
ROTATIONS = 300
ROWS = 3  # of weights: with fewer, a product takes as long, since reading the basis bounds it
LARGE = (
    2**28
)  # values: float64 copies of so many images, a few of them, fill a machine or a GPU; they are standardised and rotated in blocks
BLOCK = 2**24  # values of one
_RANK = 1e-12  # eigenvalues of a float64 Gram matrix below this share of the largest are rounding


@dataclass(frozen=True, eq=False)
class Space:
    """Standardised features of n images, which are solved for in r <= min(n, D) rotated dimensions.

    Basis (D, r) orthonormal.

    With n <= D images basis = x.T @ inner, which is never formed. With many more, rotating weights
    takes less than rotating images: then `framed`, and only a `sample` of the images is rotated,
    for the preconditioner.
    """

    given: torch.Tensor  # (n, r) rotated images; framed: (n, D) as standardised
    sample: torch.Tensor  # (m, r) rotated images
    spread: torch.Tensor  # (r,) mean square of each rotated column; float64, like all below
    mean: torch.Tensor  # (D,)
    scale: torch.Tensor  # (D,) 1 / standard deviation; 0 for a constant feature
    inner: torch.Tensor  # (n, r), or basis itself
    x: torch.Tensor | None = None  # (n, D)
    framed: int = 0  # each how-manieth image is in the sample; 0: all are rotated

    @property
    def limit(self) -> float:
        """Standard deviations that no training image can lie beyond: see `Fits`."""
        return math.sqrt(max(len(self.given) - 1, 1))

    def emptied(self) -> Space:
        """Return the space without its rotated images."""
        given = self.given.new_empty(len(self.given), 0)
        return replace(self, given=given, sample=given[:0])

    def weight(self, w: torch.Tensor) -> torch.Tensor:
        """Return (..., D) float64 of standardised features, from w (..., r) of the rotated ones."""
        inside = w.double().flatten(0, -2) @ self.inner.T
        return (inside if self.x is None else inside @ self.x).reshape(
            *w.shape[:-1], len(self.mean)
        )

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        """Rotate standardised features, or weights of them: (..., r) float64.

        x is (..., D).
        """
        return (x if self.x is None else x @ self.x.T) @ self.inner

    def seen(self, features: torch.Tensor) -> torch.Tensor:
        """Return other images as `given` has the training images: (M, r or D) float64.

        Limited as they are scored.
        """
        x = ((features.double() - self.mean) * self.scale).clamp(-self.limit, self.limit)
        return x if self.framed else self.turned(x)


def eigenbasis(features: torch.Tensor, constant: float) -> torch.Tensor:
    """Return (D, D) float64 of the Gram matrix.

    Orthonormal, so exact for any images; only the preconditioner is then approximate.
    """
    if features.numel() > LARGE:
        mean, scale = _moments(features, constant)
        gram = sum(
            products.product(x.T, x).double()
            for x in _standard_blocks(features, mean, scale, torch.float32)
        )
        return spectrum.eigh(gram)[1]  # type: ignore[arg-type]
    x = _standardise(features, constant)[0].float()
    return spectrum.eigh(products.product(x.T, x).double())[1]


def _standardise(
    features: torch.Tensor, constant: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = features.to(torch.float64, copy=True)
    mean = x.mean(0)
    deviation = torch.linalg.vector_norm(x.sub_(mean), dim=0) / len(x) ** 0.5  # one reading of x
    varies = deviation > constant * mean.abs()
    scale = torch.where(varies, 1 / torch.where(varies, deviation, 1), 0)
    return x.mul_(scale), mean, scale


def rotate(
    features: torch.Tensor,
    dtype: torch.dtype,
    constant: float,
    basis: torch.Tensor | None,
    framed: int = 0,
) -> Space:
    """Build the space of all images given.

    basis: `eigenbasis` of some like these, where `shares` says so. framed: what `framing` says.
    """
    if basis is not None and features.numel() > LARGE and shares(*features.shape):
        return _rotated_in_blocks(features, dtype, constant, basis, framed)
    x, mean, scale = _standardise(features, constant)
    if basis is not None and shares(len(x), x.shape[1]):
        given = x.to(dtype)
        sample = products.product(given[:: framed or 1], basis.to(dtype))
        return Space(
            given if framed else sample,
            sample,
            sample.square().mean(0).double(),
            mean,
            scale,
            basis,
            framed=framed,
        )
    spread, left = spectrum.eigh(products.gram(x) / len(x))
    keep = spread > _RANK * spread[-1].clamp_min(_RANK)
    spread, left = spread[keep], left[:, keep]
    singular = (spread * len(x)).sqrt()
    rotated = (left * singular).to(dtype)
    return Space(rotated, rotated, spread, mean, scale, left / singular, x)


def _rotated_in_blocks(
    features: torch.Tensor, dtype: torch.dtype, constant: float, basis: torch.Tensor, framed: int
) -> Space:
    """`rotate` of many images: beside what is given, one copy of them in `dtype`."""
    mean, scale = _moments(features, constant)
    turn, stride = basis.to(dtype), framed or 1
    given = features.new_empty(features.shape, dtype=dtype)
    sample = (
        features.new_empty((-(-len(features) // stride), features.shape[1]), dtype=dtype)
        if framed
        else given
    )
    at = 0
    for block in _standard_blocks(features, mean, scale, dtype):
        rows, first = slice(at, at + len(block)), -at % stride
        given[rows] = block if framed else block @ turn
        if framed and first < len(block):
            kept = block[first::stride] @ turn
            sample[(at + first) // stride :][: len(kept)] = kept
        at += len(block)
    spread = sum(part.double().square().sum(0) for part in sample.split(_rows(features))) / len(  # type: ignore[no-untyped-call]
        sample
    )
    return Space(given, sample, spread, mean, scale, basis, framed=framed)  # type: ignore[arg-type]


def _rows(features: torch.Tensor) -> int:
    return max(1, BLOCK // features.shape[1])


def _moments(features: torch.Tensor, constant: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale, as `_standardise` gives them."""
    blocks = torch.split(features, _rows(features))
    mean: torch.Tensor = sum(block.double().sum(0) for block in blocks) / len(features)  # type: ignore[assignment]
    deviation = (
        sum((block.double() - mean).square().sum(0) for block in blocks) / len(features)
    ) ** 0.5
    varies = deviation > constant * mean.abs()
    return mean, torch.where(varies, 1 / torch.where(varies, deviation, 1), 0)


def _standard_blocks(
    features: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    for block in torch.split(features, _rows(features)):
        yield ((block.double() - mean) * scale).to(dtype)


def shares(images: int, columns: int) -> bool:
    """Return whether a part of so many images is rotated by the basis of all."""
    return images > SHARE * columns


def framing(parts: Sequence[torch.Tensor], columns: int, outputs: int) -> int:
    """Return how parts that are solved together are framed.

    Each how-manieth image is rotated, 0 for all of them.

    It pays where each has more images than columns, and than rows of weights to rotate on the way
    to a solution.

    parts: (n,) int64 each.
    """
    fewest = min(map(len, parts))
    rows = ROTATIONS * max(outputs, ROWS)
    return max(1, fewest // SAMPLE) if fewest > max(columns, rows) else 0
