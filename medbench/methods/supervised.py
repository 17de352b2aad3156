"""Supervised ImageNet classification.

The usual starting point, and the baseline of all three papers.
"""

from __future__ import annotations

from pathlib import Path

from medbench.models import weights
from medbench.schema import Encoder, Method, Weights


def _weights(encoder: Encoder, source: str, pretrain_seed: int, cache_dir: Path) -> Weights:
    return weights.supervised(encoder, cache_dir)


SUPERVISED = Method(
    "supervised",
    version=1,
    title="Supervised ImageNet",
    sources=("imagenet",),
    weights=_weights,
    encoder=weights.build_encoder,
    seeded=False,
)
