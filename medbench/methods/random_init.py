"""The control: the architecture alone, as timm initialises it. What a pretrained encoder must beat."""

from __future__ import annotations

from medbench.models import weights
from medbench.schema import Encoder, Method, Weights, fingerprint


def _weights(encoder: Encoder, source: str, pretrain_seed: int, cache_dir: object) -> Weights:
    drawn = fingerprint("random", encoder.architecture, encoder.size, pretrain_seed)
    return Weights(f"random, seed {pretrain_seed}", drawn, (), None)


RANDOM = Method(
    "random", version=1, title="Random weights (control)", sources=("none",), weights=_weights, encoder=weights.build_encoder, seeded=True
)
