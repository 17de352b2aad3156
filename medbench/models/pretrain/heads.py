"""Projection heads that several methods share, and networks that follow another one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from lightly.models.modules.heads import ProjectionHead
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import nn

from medbench.models.pretrain.position import Position


def mlp(
    sizes: Sequence[int], *, last_bias: bool = False, last_norm: bool = False
) -> ProjectionHead:
    """Make linear layers of these sizes with batch norm and ReLU between them.

    As VICReg, Barlow Twins, MoCo v3 and LeJEPA have them. last_norm: batch norm without scale and
    shift behind the last layer (MoCo v3).
    """
    hidden = [
        (before, after, nn.BatchNorm1d(after), nn.ReLU()) for before, after in pairwise(sizes[:-1])
    ]
    last = (
        sizes[-2],
        sizes[-1],
        nn.BatchNorm1d(sizes[-1], affine=False) if last_norm else None,
        None,
        last_bias,
    )
    return ProjectionHead([*hidden, last])


def follower(network: nn.Module) -> nn.Module:
    """Copy a network so that no gradient reaches the copy."""
    return copy.deepcopy(network).requires_grad_(False)


def following(pairs: Mapping[nn.Module, nn.Module], momentum: float) -> Callable[[Position], None]:
    """Make `Objective.after_step` of networks that follow others: follower -> whom it follows.

    Its parameters become a moving average of the other's; momentum goes from `momentum` to 1,
    cosine.
    """

    def after_step(position: Position) -> None:
        now = cosine_schedule(position.step, position.steps, momentum, 1.0)
        for network, other in pairs.items():
            update_momentum(network, other, now)

    return after_step
