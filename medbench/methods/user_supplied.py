"""What the user brings.

An encoder of the hub, weights for a timm one, FILE.py:NAME, or features:FILE that were computed
elsewhere (an API). A method of its own, so that an encoder that somebody else trained has a place
in the cell's `method`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.models import user_encoder, weights
from medbench.models.hub import named
from medbench.schema import Encoder, Method, Weights

if TYPE_CHECKING:
    import torch


def _weights(encoder: Encoder, source: str, pretrain_seed: int, cache_dir: Path) -> Weights:
    if encoder.kind == "weights":
        return weights.own(encoder, cache_dir)
    if encoder.kind == "hub":
        return named.weights(encoder)
    if encoder.kind == "function":
        return Weights(encoder.name, user_encoder.module_hash(encoder), encoder.trained_on, None)
    assert encoder.file is not None, "features have a file"
    return Weights(encoder.name, weights.sha256(encoder.file), encoder.trained_on, encoder.file)


def _encoder(encoder: Encoder, start: Weights, pretrain_seed: int) -> torch.nn.Module:
    """Build a module of its own at each call, the user's too.

    It is moved and trained, and the next draw must not begin where this one ended.
    """
    if encoder.kind == "weights":
        return weights.build_encoder(encoder, start, pretrain_seed)
    if encoder.kind == "hub":
        from medbench.models.hub import vision_tower

        return vision_tower.build(encoder, start)
    return copy.deepcopy(user_encoder.module(encoder))


GIVEN = Method(
    "given",
    version=2,
    title="The user's own: an encoder of the hub, --weights FILE, FILE.py:NAME, or features:FILE",
    sources=("given",),
    weights=_weights,
    encoder=_encoder,
    seeded=False,
    encoders=("weights", "hub", "function", "features"),
)
