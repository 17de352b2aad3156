"""From an encoder's last layer to one vector an image.

Its own pooling, class token, mean over patches, both, last four class tokens.
"""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import nn

LAST = 4  # blocks of `last4`


class NoReadout(ValueError):
    """A model has nothing to take that readout from."""


class Readout(nn.Module):
    """Take the feature vector out of a timm model without classifier: (B, 3, H, W) -> (B, D).

    Class token and patches are taken after the final norm.

    cls: the first prefix token. mean: over patch tokens, prefix tokens (class, registers) left out,
    or over the positions of a convolutional map. cls+mean: both, concatenated. last4: the class
    tokens of the last four blocks, each after the final norm, oldest first (DINO's linear
    evaluation of ViT-S; Truong et al. 2021 use the same 1,536 values).
    """

    def __init__(self, model: Any, readout: str):
        super().__init__()
        self.model = model
        self.readout = readout

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the vectors (B, D) of images (B, 3, H, W).

        Raises NoReadout where the model has nothing to take them from.
        """
        model, prefix = self.model, getattr(self.model, "num_prefix_tokens", None)
        holder = getattr(model, "embeds", model)  # NaFlexViT's tokens lie in a module of their own
        has_cls = bool(prefix) and getattr(holder, "cls_token", None) is not None
        if self.readout == "last4":
            if (
                not has_cls
                or "return_prefix_tokens" not in signature(model.forward_intermediates).parameters
            ):
                raise NoReadout("this model has no class token after each block")
            blocks = model.forward_intermediates(
                images,
                indices=LAST,
                return_prefix_tokens=True,
                norm=True,
                output_fmt="NLC",
                intermediates_only=True,
            )
            return torch.cat([prefix[:, 0] for _, prefix in blocks], 1)
        tokens = model.forward_features(images)
        if not isinstance(tokens, torch.Tensor) or tokens.ndim not in (3, 4):
            raise NoReadout("this model's last layer is neither a map nor a row of tokens")
        if self.readout != "mean" and (tokens.ndim == 4 or not has_cls):
            raise NoReadout("this model has no class token")
        if tokens.ndim == 4:
            return tokens.mean((2, 3) if tokens.shape[1] == model.num_features else (1, 2))
        if prefix is None:
            raise NoReadout("this model does not say which of its tokens are patches")
        cls, mean = tokens[:, 0], tokens[:, prefix:].mean(1)
        if self.readout == "cls+mean":
            return torch.cat([cls, mean], 1)
        return cls if self.readout == "cls" else mean


def with_readout(model: nn.Module, readout: str) -> nn.Module:
    """Return the model with that readout.

    `pool` is the model itself, with its own pooling and whatever its head does before the
    classifier.
    """
    return model if readout == "pool" else Readout(model, readout)


@cache
def exists(architecture: str, readout: str) -> bool:
    """Return whether the architecture has that readout.

    Built and tried on the meta device, where nothing is stored or computed.
    """
    import timm

    with torch.device("meta"):
        model: Any = timm.create_model(architecture, num_classes=0)
        images = torch.empty(2, *model.pretrained_cfg["input_size"])
        try:
            out: torch.Tensor = with_readout(model, readout).eval()(images)
        except NoReadout:
            return False
    return out.ndim == 2
