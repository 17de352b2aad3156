"""Supervised ImageNet classification: the usual starting point, and the baseline of all three papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medbench import weights
from medbench.spec import Encoder, Method, Weights

if TYPE_CHECKING:
    import torch


def _weights(encoder: Encoder, source: str, pretrain_seed: int, cache_dir: Path) -> Weights:
    return weights.supervised(encoder, cache_dir)


def _encoder(encoder: Encoder, start: Weights, pretrain_seed: int) -> torch.nn.Module:
    return weights.build(encoder, start, pretrain_seed)


SUPERVISED = Method(
    "supervised",
    version=1,
    title="Supervised ImageNet",
    sources=("imagenet",),
    weights=_weights,
    encoder=_encoder,
    seeded=False,
)
