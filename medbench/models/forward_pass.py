"""An encoder over batch after batch, at its own speed.

The device is never waited for, and a batch that does not fit is halved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from medbench.models.encoder_checks import check_vectors
from medbench.schema import Encoder, UserError
from medbench.system import memory
from medbench.system.precision import autocast, products
from medbench.system.transfer import Fetched


@dataclass
class Division:
    """In how many parts a batch goes through the encoder: as few as fit into memory.

    Another number changes the last bits of a feature.
    """

    parts: int = 1
    largest: int = 0  # images of a part, where batches were divided


def encoded(
    net: torch.nn.Module,
    batches: Iterable[torch.Tensor],
    encoder: Encoder,
    device: str,
    precision: str,
    division: Division,
) -> Iterator[np.ndarray]:
    """Yield (B, D) float32 arrays of features, each one batch late.

    It is fetched while the device works on the next. Raises UserError where the width D differs
    between batches.
    """
    net = net.to(device).to(memory_format=torch.channels_last)
    for parameter in net.parameters():
        # autocast keeps the rounded weights of a pass where they could learn, and rounds them anew
        # for each batch where they could not
        parameter.requires_grad_(precision == "bf16" and parameter.is_floating_point())
    pending: Fetched | None = None
    with _without_gradients(precision), products(precision), autocast(device, precision):
        for batch in batches:
            values = _divided(net, batch, encoder, division).detach()
            # a function may give the same memory again
            coming = Fetched(
                values.float() if values.is_cuda else values.to(torch.float32, copy=True)
            )
            if pending is not None and pending.shape[1] != coming.shape[1]:
                raise UserError(
                    f"{encoder.name} gives images vectors of {pending.shape[1]} and of {coming.shape[1]} values."
                )
            if pending is not None:
                yield pending.array()
            pending = coming
        if pending is not None:
            yield pending.array()


def _without_gradients(precision: str) -> AbstractContextManager[object]:
    """Inference mode has no place for weights that autocast keeps."""
    return torch.no_grad() if precision == "bf16" else torch.inference_mode()


def _divided(
    net: torch.nn.Module, batch: torch.Tensor, encoder: Encoder, division: Division
) -> torch.Tensor:
    """(B, D) of a batch, in parts of half the size where it does not fit."""
    while True:
        parts = [batch] if division.parts == 1 else list(batch.chunk(division.parts))
        found = _fitting(net, parts, encoder)
        if found is not None:
            return found[0] if len(found) == 1 else torch.cat(found)
        division.parts, division.largest = (
            2 * division.parts,
            -(-len(batch) // (2 * division.parts)),
        )
        memory.release()


def _fitting(
    net: torch.nn.Module, parts: list[torch.Tensor], encoder: Encoder
) -> list[torch.Tensor] | None:
    """Return what each part gives.

    None where one does not fit and could be smaller.
    """
    try:
        found = []
        for part in parts:
            found.append(net(part))
            check_vectors(found[-1], len(part), encoder)
        return found
    except RuntimeError as error:
        if len(parts[0]) == 1 or not memory.ran_out(error):
            raise
        return None  # what the error holds of the parts that were made is free when this returns
