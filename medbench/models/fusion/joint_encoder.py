"""Several encoders as one network, so that a fusion can be trained end to end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

Colour = tuple[float, float, float]


class JointEncoder(nn.Module):
    """Several encoders side by side: images (B, 3, S, S) -> (B, sum of the members' D).

    Images are normalised by `mean` and `std`. Each member gets them at its own size (resized
    bicubically where it is another one) and with its own normalisation.
    """

    means: torch.Tensor
    stds: torch.Tensor

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        sizes: Sequence[int],
        means: Sequence[Colour],
        stds: Sequence[Colour],
        mean: Colour,
        std: Colour,
    ):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.sizes = tuple(sizes)
        self.register_buffer(
            "means", torch.tensor([*means, mean]).view(-1, 3, 1, 1), persistent=False
        )
        self.register_buffer("stds", torch.tensor([*stds, std]).view(-1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raw = images * self.stds[-1] + self.means[-1]
        return torch.cat([net(self._as(raw, i)).float() for i, net in enumerate(self.encoders)], 1)

    def _as(self, raw: torch.Tensor, i: int) -> torch.Tensor:
        size = self.sizes[i]
        sized = (
            raw
            if raw.shape[-1] == size
            else F.interpolate(raw, (size, size), mode="bicubic", antialias=True)
        )
        return (sized - self.means[i]) / self.stds[i]


class FlatHead(nn.Module):
    """A head over k tensors as one over their columns: (B, sum of widths) -> (B, outputs)."""

    def __init__(self, head: nn.Module, widths: Sequence[int]):
        super().__init__()
        self.head = head
        self.widths = list(widths)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.split(features, self.widths, 1))
        return logits
