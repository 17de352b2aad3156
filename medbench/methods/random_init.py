"""The control: the architecture alone, as timm initialises it.

Its residual branches are switched on. A pretrained encoder must beat it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from medbench.models import weights
from medbench.models.encoders import EMBEDDED
from medbench.models.timm_answers import kept
from medbench.schema import Encoder, Method, Weights, fingerprint

if TYPE_CHECKING:
    import torch


def _options(encoder: Encoder) -> dict[str, bool]:
    """Return the options that keep each residual branch on at the start.

    timm switches the last layer of each residual branch of a ResNet, and of some other families,
    off at first: good for a training, but frozen it would be a stem and its shortcuts. torchvision
    does not.
    """
    if encoder.architecture == EMBEDDED:  # is none of them, and a plan for it asks no timm
        return {}
    return {"zero_init_last": False} if kept(_switches_branches_off, encoder.architecture) else {}


def _switches_branches_off(architecture: str) -> bool:
    import timm
    import torch

    with torch.device("meta"):
        model = timm.create_model(architecture, pretrained=False)
    return "zero_init_last" in inspect.signature(type(model)).parameters


def _weights(encoder: Encoder, source: str, pretrain_seed: int, cache_dir: object) -> Weights:
    drawn = fingerprint(
        "random", encoder.architecture, encoder.size, pretrain_seed, *_options(encoder)
    )
    return Weights(f"random, seed {pretrain_seed}", drawn, (), None)


def _encoder(encoder: Encoder, weights_: Weights, seed: int) -> torch.nn.Module:
    return weights.build_encoder(encoder, weights_, seed, **_options(encoder))


RANDOM = Method(
    "random",
    version=1,
    title="Random weights (control)",
    sources=("none",),
    weights=_weights,
    encoder=_encoder,
    seeded=True,
)
