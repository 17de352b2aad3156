"""What the protocols share that train a small network on frozen features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medbench.models.logistic import Model
    from medbench.schema import Kind

ABSENT = -20.0  # a logit that no other falls below
# a feature whose deviation is below this share of its mean is rounding, and set to zero
CONSTANT = 1e-6


def standardiser(features: np.ndarray, device: str) -> Callable[[np.ndarray], torch.Tensor]:
    """Return the function that standardises images (M, D) by the labelled ones (n, D).

    It gives (M, D) float32 on the device, cut at sqrt(n - 1) standard deviations; what varies by
    rounding alone is not divided.
    """
    import numpy as np
    import torch

    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    varies = deviation > CONSTANT * np.abs(mean)
    divisor, limit = np.where(varies, deviation, 1.0), math.sqrt(max(1, len(features) - 1))

    def standardised(images: np.ndarray) -> torch.Tensor:
        values = np.where(varies, (images - mean) / divisor, 0.0).clip(-limit, limit)
        return torch.as_tensor(values.astype(np.float32), device=device)

    return standardised


def layer_drawn(
    inputs: int, outputs: int, generator: torch.Generator, like: torch.Tensor
) -> list[torch.Tensor]:
    """Draw weights (outputs, inputs) and biases (outputs,) as `torch.nn.Linear` does.

    Uniform to 1 / sqrt(inputs); on the device of `like`, with gradients.
    """
    import torch

    bound = 1 / math.sqrt(inputs)
    drawn = [
        torch.empty(shape).uniform_(-bound, bound, generator=generator)
        for shape in ((outputs, inputs), (outputs,))
    ]
    return [values.to(like.device).requires_grad_() for values in drawn]


def layer_of(
    model: Model, kind: Kind, outputs: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a linear probe's solution for features as they are.

    weight (outputs, width), bias (outputs,) float32. A class that the labelled images do not show
    gets a logit below all others, a label of one value its smoothed base rate.
    """
    import torch

    weight = torch.zeros(outputs, width)
    bias = (
        torch.full((outputs,), ABSENT)
        if kind != "multilabel"
        else torch.logit(torch.from_numpy(model.base)).float()
    )
    if len(model.columns):
        rows, shift = (part.flatten(0, 1) for part in model.as_given())
        columns = torch.tensor([1]) if kind == "binary" else torch.from_numpy(model.columns)
        weight[columns], bias[columns] = rows.to(weight), shift.to(bias)
        if kind == "binary":
            bias[0] = 0.0
    return weight, bias


def batches(n: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield `steps` index arrays into n examples, (batch,) int64 each.

    All of them where n is at most `batch`, else `batch` without replacement until too few are left.
    """
    import torch

    order = torch.arange(n)
    at = n
    for _ in range(steps):
        if n > batch and at + batch > n:
            order, at = torch.randperm(n, generator=generator), 0
        yield order[at : at + batch] if n > batch else order
        at += batch


def loss_of_labels(
    labels: np.ndarray, device: torch.device
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the function that is minimised, of logits (B, C) and the labels beside them.

    labels: of the subset, for the classes that it has. Cross-entropy over these; of several labels,
    the mean over known ones.
    """
    import numpy as np
    import torch
    from torch.nn import functional

    if labels.ndim == 2:

        def binary(logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
            known = ~given.isnan()
            each = functional.binary_cross_entropy_with_logits(
                logits, given.nan_to_num(0.0).to(logits.dtype), reduction="none"
            )
            return (each * known).sum() / known.sum().clamp(min=1)

        return binary
    seen = torch.as_tensor(np.unique(labels), device=device)

    def exclusive(logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(
            logits[:, seen], torch.searchsorted(seen, given.contiguous())
        )

    return exclusive


def class_probabilities(logits: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """Turn logits (M, C) into probabilities (M, C) float64.

    labels: of the subset. A class that it lacks gets 0; a label of which it lacks a value gets its
    smoothed rate, (positives + 1) / (known + 2).
    """
    import numpy as np

    if labels.ndim == 2:
        positive, negative = (labels == 1).sum(0), (labels == 0).sum(0)
        rate = (positive + 1) / (positive + negative + 2)
        learnt: np.ndarray = np.where(
            (positive > 0) & (negative > 0), logits.sigmoid().numpy(), rate
        )
        return learnt
    spread: np.ndarray = np.zeros(logits.shape)
    seen = np.unique(labels)
    spread[:, seen] = logits[:, seen].softmax(1).numpy()
    return spread
