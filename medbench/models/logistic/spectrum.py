"""Eigenvalues of many small symmetric matrices, or of one large, on whichever device.

Asked for so that no library gives a wrong answer.
"""

from __future__ import annotations

import torch

TOGETHER = 2**14  # matrices a call: cuSOLVER's batched solver refuses more than some 32,000
ORTHONORMAL = 1e-9  # largest entry of V'V - 1 in float64; LAPACK's is below 1e-12


def eigh(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute torch.linalg.eigh of (..., n, n) float64, of which it reads the lower triangles.

    What a GPU gives is checked with one product: solutions are certified in the basis, so that a
    wrong one would be a wrong solution with a clean certificate. Where it is none, the CPU's LAPACK
    answers.
    """
    # of a binary task, or one label: the number itself, thousands of times
    if matrices.shape[-1] == 1:
        return matrices[..., 0], torch.ones_like(matrices)
    if not matrices.is_cuda:
        found: tuple[torch.Tensor, torch.Tensor] = torch.linalg.eigh(matrices)
        return found
    flat = matrices.flatten(0, -3) if matrices.ndim > 2 else matrices[None]
    several = [_checked(part) for part in torch.split(flat, TOGETHER)]
    values, vectors = (torch.cat(parts) for parts in zip(*several, strict=True))
    return values.view(matrices.shape[:-1]), vectors.view(matrices.shape)


def _checked(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(matrices)
    one = torch.eye(matrices.shape[-1], dtype=vectors.dtype, device=vectors.device)
    if float((vectors.mT @ vectors - one).abs().max()) < ORTHONORMAL:  # not so for NaN
        return values, vectors
    values, vectors = torch.linalg.eigh(matrices.cpu())
    return values.to(matrices.device), vectors.to(matrices.device)


def pseudoinverse(matrices: torch.Tensor, rtol: float) -> torch.Tensor:
    """Invert symmetric (..., n, n) float64, without eigenvalues below `rtol` of the largest."""
    if matrices.shape[-1] == 1:
        return torch.where(matrices != 0, 1 / torch.where(matrices != 0, matrices, 1), 0)
    if not matrices.is_cuda:
        inverse: torch.Tensor = torch.linalg.pinv(matrices, hermitian=True, rtol=rtol)
        return inverse
    values, vectors = eigh(matrices)
    kept = values.abs() > rtol * values.abs().amax(-1, keepdim=True)
    return (
        vectors * torch.where(kept, 1 / torch.where(kept, values, 1), 0)[..., None, :]
    ) @ vectors.mT
