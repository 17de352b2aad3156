"""LARS (You et al. 2017) in operations on all tensors together.

lightly's asks the GPU for two norms of each tensor, and waits for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

TRUST, EPS = 0.001, 1e-8  # lightly's, and the SimCLR code's trust coefficient


class LARS(torch.optim.Optimizer):
    """The steps of `lightly.utils.lars.LARS`, bit for bit on a CPU.

    Tensors without weight decay are not scaled. Groups: lr, momentum, weight_decay.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step of the optimiser. closure is not asked: gradients are there already."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            changes: Any = [p.grad for p in params]
            if group["weight_decay"] != 0:
                changes = _scaled(params, changes, group["weight_decay"])
            if group["momentum"] != 0:
                changes = self._moving(params, changes, group["momentum"])
            torch._foreach_add_(params, changes, alpha=-group["lr"])

    def _moving(
        self, params: list[torch.Tensor], changes: list[torch.Tensor], momentum: float
    ) -> list[torch.Tensor]:
        """Return the buffer of each tensor; one without a buffer begins with its change."""
        known = [
            (self.state[p]["momentum_buffer"], change)
            for p, change in zip(params, changes, strict=True)
            if self.state[p]
        ]
        for p, change in zip(params, changes, strict=True):
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = change.clone()
        if known:
            before, now = (list(part) for part in zip(*known, strict=True))
            torch._foreach_mul_(before, momentum)
            torch._foreach_add_(before, now)
        return [self.state[p]["momentum_buffer"] for p in params]


def _scaled(
    params: list[torch.Tensor], gradients: list[torch.Tensor], decay: float
) -> list[torch.Tensor]:
    """Gradients with weight decay, each in proportion to its tensor.

    A tensor of zeros learns unscaled, one without gradient does not decay.
    """
    size, slope = (torch.stack(torch._foreach_norm(tensors)) for tensors in (params, gradients))
    rate = size / (slope + size * decay + EPS) * TRUST
    rate = torch.where(size == 0, 1, torch.where(slope == 0, 0, rate))
    changes: Any = torch._foreach_add(gradients, params, alpha=decay)
    torch._foreach_mul_(changes, list(rate.unbind()))
    return changes  # type: ignore[no-any-return]
