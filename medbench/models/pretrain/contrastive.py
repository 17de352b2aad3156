"""Losses as lightly computes them, bit for bit on a CPU.

They do without a mask as an index, for which a GPU is waited for, forward and backward.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from medbench.models.pretrain.checkpointing import DistributedContext
from medbench.models.pretrain.objective import whole_batch


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute NT-Xent (Chen et al. 2020), a scalar.

    first, second: (B, K), the embeddings of two views of each image; temperature > 0. Each finds
    the other among all views of the batch, of all processes.
    """
    first, second = functional.normalize(first, dim=1), functional.normalize(second, dim=1)
    b, rank = len(first), DistributedContext.here().rank
    own = torch.arange(b, device=first.device) + rank * b  # its place in the whole batch
    all_first, all_second = whole_batch(first), whole_batch(second)
    same_first, across, back, same_second = (
        torch.einsum("nc,mc->nm", some, every) / temperature
        for some, every in (
            (first, all_first),
            (first, all_second),
            (second, all_first),
            (second, all_second),
        )
    )
    places = torch.arange(len(all_first) - 1, device=first.device)
    others = places + (places >= own[:, None]).long()  # every view but itself
    logits = torch.cat(
        [
            torch.cat([across, same_first.gather(1, others)], 1),
            torch.cat([back, same_second.gather(1, others)], 1),
        ]
    )
    return functional.cross_entropy(logits, own.repeat(2))


def off_diagonal_square(x: torch.Tensor) -> torch.Tensor:
    """Compute VICReg's covariance term (Bardes et al. 2022), scalar, of embeddings (B, K).

    The squares of all covariances of two columns, over K.
    """
    centred = x - x.mean(0)
    (b, k) = centred.shape
    covariance = torch.einsum("bc,bd->cd", centred, centred) / (b - 1)
    # each row's end and the next one's start, without the diagonal
    apart = covariance.flatten()[:-1].view(k - 1, k + 1)[:, 1:].flatten()
    return apart.pow(2).sum(-1) / k
