"""Optimiser, rates, and what of the networks moves."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medbench.models.pretrain.lars import LARS
from medbench.models.pretrain.objective import Objective
from medbench.models.pretrain.position import Position
from medbench.models.pretrain.recipe import Recipe


def make_optimiser(recipe: Recipe, objective: Objective) -> torch.optim.Optimizer:
    """Make the optimiser of all parameters that have a gradient, in two groups.

    Biases and norms (one dimension) have no weight decay, and LARS leaves them unscaled, as the
    SimCLR and DINO codes do. With `Recipe.scale_all` they are decayed and scaled, too, as SwAV's
    code does: then lightly's LARS is apex's LARC with `clip=False` around SGD. Rates are set before
    each step, see `set_rates`.
    """
    moving = [p for p in objective.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in moving if recipe.scale_all or p.ndim > 1], "decays": True},
        {
            "params": [p for p in moving if not recipe.scale_all and p.ndim <= 1],
            "decays": False,
            "weight_decay": 0.0,
        },
    ]
    if recipe.optimiser == "adamw":
        # on a CPU the fused one rounds otherwise; on a GPU it alone keeps its count of steps there,
        # which else is waited for after a resume
        return torch.optim.AdamW(
            groups, lr=recipe.lr, betas=recipe.betas, fused=moving[0].is_cuda or None
        )
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return LARS(groups, recipe.lr, recipe.momentum)


def set_rates(optimiser: torch.optim.Optimizer, recipe: Recipe, position: Position) -> float:
    """Set learning rate and weight decay of a step, and return the first."""
    from lightly.utils.scheduler import cosine_schedule, cosine_warmup_schedule

    step, steps = position.step, position.steps
    warmup = round(recipe.warmup * steps)
    rate: float = cosine_warmup_schedule(
        step, steps, recipe.lr, recipe.final_lr, warmup, recipe.warmup_lr
    )
    decay = cosine_schedule(step, steps, *recipe.weight_decay)
    for group in optimiser.param_groups:
        group["lr"] = rate if group["decays"] else rate * recipe.bias_lr
        group["weight_decay"] = decay if group["decays"] else 0.0
    return rate


def freeze(objective: Objective, recipe: Recipe) -> None:
    """Stop the gradient of the first `recipe.frozen` of the encoder's parameter tensors.

    In the order of its definition.
    """
    tensors = list(objective.parts["backbone"].parameters())
    for tensor in tensors[: round(recipe.frozen * len(tensors))]:
        tensor.requires_grad_(False)


def train_mode(objective: Objective, recipe: Recipe) -> None:
    """Set networks to training; their encoders' batch statistics stay where the recipe says so."""
    objective.train()
    if recipe.freeze_norm:
        for backbone in objective.backbones():
            for module in backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
