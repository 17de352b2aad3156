"""Where a fine-tuning stands, and the names under which that is kept."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class State:
    """Where one training stands; everything but the network and the optimiser.

    `best` holds copies, not references.
    """

    step: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    since: int = 0  # evaluations without a better score
    bad: int = 0  # the same, since the rate was lowered
    cooling: int = 0
    factor: float = 1.0  # of the plateau schedule
    curve: list[tuple[int, float]] = field(default_factory=list)


def weights_of(net: nn.Module, *, learned: bool = False) -> dict[str, torch.Tensor]:
    """Return a copy of a network's weights: name -> tensor, on its device.

    learned: without those that stay as they are.
    """
    kept = {name for name, weight in net.named_parameters() if weight.requires_grad}
    return copy.deepcopy(
        {name: value for name, value in net.state_dict().items() if not learned or name in kept}
    )


def state_name(rank: int, rate: float, share: float) -> str:
    """Name the file of a training in its folder."""
    return f"{choice_name(rank, rate)}-{share:g}.pth"


def choice_name(rank: int, rate: float) -> str:
    """Name a choice as rows and files do: `0.001`, with adapters `0.001 rank 4`."""
    return f"{rate:g} rank {rank}" if rank else f"{rate:g}"
