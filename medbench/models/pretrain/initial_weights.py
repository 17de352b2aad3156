"""The weights that a pretraining starts from.

For the source `imagenet` it is an official checkpoint of the method itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medbench.models import checkpoints, weights
from medbench.schema import Encoder, UserError, Weights, fingerprint

SOURCES = ("imagenet+task", "task", "imagenet")


def starting(method: str) -> Callable[[Encoder, str, int, Path], Weights]:
    """Return `Method.weights` of a self-supervised method.

    Source `task`: random weights, those of the control `random`. `imagenet+task`: the method's own
    official checkpoint where one is listed for the architecture, else the supervised one, as
    Nielsen et al. 2023 do. `imagenet`: the official checkpoint. What is returned downloads what
    lacks, and raises UserError where it cannot be had.
    """

    def start(encoder: Encoder, source: str, pretrain_seed: int, cache_dir: Path) -> Weights:
        if source == "task":
            drawn = fingerprint("random", encoder.architecture, encoder.size, pretrain_seed)
            return Weights(f"random, seed {pretrain_seed}", drawn, (), None)
        official = checkpoints.default_checkpoint(method, encoder.architecture)
        if official is not None:
            return checkpoints.weights(official, cache_dir)
        if source == "imagenet":
            what = f"No official {method} checkpoint is listed for encoder '{encoder.name}'."
            raise UserError(what, then=f"medbench list checkpoints, or --source {SOURCES[0]}")
        return weights.supervised(encoder, cache_dir)

    return start
