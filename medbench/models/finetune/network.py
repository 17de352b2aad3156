"""What is trained: encoder and head, and the rate at which each of their parameters learns."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from medbench.models.finetune.recipe import FineTuneRecipe


class Net(nn.Module):
    """Encoder and head: images (B, 3, S, S) -> logits (B, outputs).

    Images are float, normalised as the encoder expects. Logits are float32, but under autocast of
    its type: there the encoder computes in 16 bits, and its features (B, D) go to the head as
    float32.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.encoder(images).float())
        return logits


def width(encoder: nn.Module, size: int, device: torch.device) -> int:
    """Return the number of features that an encoder gives, from one pass of two black images.

    size: their side in pixels. The encoder must lie on `device`.
    """
    with torch.inference_mode():
        return int(encoder(torch.zeros(2, 3, size, size, device=device)).shape[1])


def is_transformer(encoder: nn.Module) -> bool:
    """Return whether attention blocks do the work.

    Truong et al. give their ViT another rate and batch than their ResNets.

    Most are called `...Attention`. Others (XCiT, CaiT, Twins) are known by their heads, where most
    weights lie outside convolutions: a ResNet with a layer of attention has heads, too.
    """
    modules = list(encoder.modules())
    if any(type(module).__name__.endswith("Attention") for module in modules):
        return True
    convolved = sum(
        p.numel()
        for module in modules
        if isinstance(module, nn.modules.conv._ConvNd)
        for p in module.parameters()
    )
    return any(hasattr(module, "num_heads") for module in modules) and 2 * convolved < sum(
        p.numel() for p in encoder.parameters()
    )


def freeze_but(encoder: nn.Module, names: Collection[str]) -> None:
    """Stop the gradient of all parameters but those of modules with one of these names.

    A name is one part of the parameter's dotted name.
    """
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not set(names).isdisjoint(name.split(".")))


def train_mode(net: Net, recipe: FineTuneRecipe) -> None:
    """Set the network to training.

    The encoder, or its batch statistics, stay as they are where the recipe says so.
    """
    net.train()
    net.encoder.train(not recipe.frozen)
    if recipe.freeze_norm:
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def optimiser_of(net: Net, recipe: FineTuneRecipe, rate: float) -> torch.optim.Optimizer:
    """Build the optimiser, each parameter with its share of the rate.

    Weights alone decay, biases and norms do not.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    shares = shares_by_depth(net.encoder, recipe.first_layer)
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        share = recipe.head if name.startswith("head.") else shares[name.removeprefix("encoder.")]
        groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    listed = [
        {
            "params": params,
            "share": share,
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "lr": rate,
        }
        for (share, decays), params in groups.items()
    ]
    return kind(listed, lr=rate, fused=True)


def shares_by_depth(encoder: nn.Module, first_layer: float) -> dict[str, float]:
    """Return parameter name -> share of the rate, by its depth.

    The depth is that which timm's own `group_matcher` gives it; 1 for modules that have none.
    """
    shares = {name: 1.0 for name, _ in encoder.named_parameters()}
    if first_layer == 1:
        return shares
    from timm.models import group_parameters

    found: list[str] = []
    for prefix, module in encoder.named_modules():
        if not hasattr(module, "group_matcher") or any(prefix.startswith(outer) for outer in found):
            continue
        found.append(f"{prefix}." if prefix else "")
        depth = group_parameters(module, module.group_matcher(coarse=False), reverse=True)
        last = max(max(depth.values()), 1)
        for name, layer in depth.items():
            shares[f"{found[-1]}{name}"] = first_layer ** (1 - layer / last)
    return shares
