"""What a fine-tuning lowers, and what its held-out part may be watched by."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def batch_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, *, several: bool
) -> torch.Tensor:
    """Return the mean loss of a batch, a scalar.

    logits: (n, C) float32. labels: (n,) int64, or where there are several an image (n, C) with NaN
    = uncertain, which takes no part. weights: (C,) of the classes, None: all alike.
    """
    if not several:
        return nn.functional.cross_entropy(logits, labels, weights)
    known = ~labels.isnan()
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num().float(), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp(min=1)


def class_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return (classes,) float32 that make up for the frequency of each class; 1 on average.

    labels (n,) int64.
    """
    counts = torch.bincount(labels, minlength=classes).float()
    weights = torch.where(
        counts > 0, counts.sum() / counts.clamp(min=1), torch.zeros(()).to(counts)
    )
    return weights / weights[counts > 0].mean()


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean log-loss over the known labels, in nats.

    labels: (N,) int, or (N, C) float with NaN. probabilities: (N, C) in [0, 1].
    """
    p = np.clip(probabilities.astype(float), 1e-7, 1 - 1e-7)
    if labels.ndim == 1:
        return float(-np.log(p[np.arange(len(labels)), labels]).mean())
    return float(-np.nanmean(labels * np.log(p) + (1 - labels) * np.log(1 - p)))
