"""Products of a few rows with matrices of many images, in the layout in which a CPU is fast.

A member of the search has as many rows as classes: 1 to 28 stand against thousands of images. There
torch's own product (MKL) copies the whole matrix before each multiplication. oneDNN, which torch
brings along and calls for compiled models, reads it where it lies: 2.5 to 3 times as fast with 7
rows, twice with 28 (7 rows, 5,616 x 1,296 values: 85 to 91 G operations a second against 29 to 33).
It has no float64; there rows of zeros are added until MKL's kernel is full, which halves its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

SMALL = 2**17  # values of a matrix: below, a call costs more than it saves, and a batch is faster
LARGE = 2**27  # values of all matrices, half a GiB: beyond, no second copy of them is made
GRAM = 128  # rows of a Gram matrix that are computed together
FULL = 4  # rows of MKL's float64 kernel: 3 take as long as 7, and 8 less than either


def times(
    rows: torch.Tensor, matrices: torch.Tensor, which: Sequence[int] | None = None
) -> torch.Tensor:
    """Multiply rows (B, r, k) by matrices (B, k, n), each by its own: (B, r, n).

    which: of each its matrix, where there are more of them and `one_by_one` says so; None: in
    order. It is fastest where a matrix lies row after row.
    """
    if one_by_one(matrices):
        places = range(len(matrices)) if which is None else which
        return torch.stack([_by_onednn(r, matrices[i]) for r, i in zip(rows, places, strict=True)])
    count = rows.shape[1]
    if rows.dtype == torch.float64 and not rows.is_cuda and count % FULL and count > 1:
        rows = torch.nn.functional.pad(rows, (0, 0, 0, FULL - count % FULL))
        return torch.bmm(rows, matrices)[:, :count]
    return torch.bmm(rows, matrices)


def product(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Multiply rows (..., k) by one matrix (k, n): (..., n)."""
    if one_by_one(matrix):
        return _by_onednn(rows.flatten(0, -2), matrix).reshape(*rows.shape[:-1], -1)
    return rows @ matrix


def gram(x: torch.Tensor) -> torch.Tensor:
    """Multiply x (n, k) by its transpose: (n, n), of which eigh reads the lower triangle.

    On a CPU nothing else is computed of it but the blocks on the diagonal: six tenths of the time.
    """
    if x.is_cuda:
        return x @ x.T
    found = x.new_zeros(len(x), len(x))
    for i in range(0, len(x), GRAM):
        torch.mm(x[i : i + GRAM], x[: i + GRAM].T, out=found[i : i + GRAM, : i + GRAM])
    return found


def one_by_one(matrices: torch.Tensor) -> bool:
    """Return whether each of such matrices is multiplied by a call of its own.

    Without a copy. matrices: (..., n, m).
    """
    return (
        matrices.device.type == "cpu"
        and matrices.dtype == torch.float32
        and matrices.shape[-2] * matrices.shape[-1] >= SMALL
        and _has_onednn()
    )


def across(x: torch.Tensor) -> torch.Tensor | None:
    """Copy images (B, n, q) to (B, q, n), as `times` is fast with it.

    None where it needs no copy, or one that is too large.
    """
    if not one_by_one(x) or x.numel() > LARGE:
        return None
    found = x.new_empty(x.mT.shape)
    for target, images in zip(found, x, strict=True):  # one by one: torch copies these in blocks
        target.copy_(images.T)
    return found


def _by_onednn(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, matrix.mT, None, "none", [], "")
    return found


@cache
def _has_onednn() -> bool:
    """Say whether torch is built with it, which on some platforms it is not."""
    backends: Any = torch.backends  # torch has no types for it
    return bool(backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
