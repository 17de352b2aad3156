"""Whether a pretraining goes well.

Rank of the embedding, a kNN score on the training labels, loss on held-out training images;
collapse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from medbench.stats.mean_ranks import mean_ranks

NEIGHBOURS = 20  # Wu et al. 2018 and the DINO code use 20 among others; cosine similarity
#: A vote of the 20 nearest is one of all images where there are no more, and tells nothing: a fifth
#: of the bank votes at most.
SMALLEST_BANK = 5 * NEIGHBOURS
NEAR_ONE = 1.1  # effective rank at which all embeddings point one way
AT_CHANCE = 0.995  # of the loss of constant outputs
RANKED = 128  # embeddings that a rank is taken over
_LOOKS = 5  # a collapse lasts: so many measurements in a row
# steps at chance after the warm-up, or a quarter of all: a teacher that moves by 0.0005 a step is
# at its start for a thousand
_STUCK = 200


class Collapsed(RuntimeError):
    """The encoder gives every image the same embedding.

    It is also raised where the loss never left that of constant outputs, or is no number.
    """


def effective_rank(features: torch.Tensor) -> float:
    """Return the effective rank in [1, min(B, D)] of (B, D) features of length one.

    exp of the entropy of the singular values (Roy & Vetterli 2007). Not centred: 1 means that all
    point one way.
    """
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def knn_auc(
    bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, labels: np.ndarray
) -> float | None:
    """Return the mean one-against-rest AUC in [0, 1] of the vote of the 20 nearest by cosine.

    Of a bank of less than 100 a fifth votes.

    None where no class has both kinds of query.

    bank (N, D), queries (M, D) float; labels (N,) and (M,) int, or (N, C) and (M, C) of 0, 1 and
    NaN, which votes for neither.
    """
    bank, queries = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (bank, queries)
    )
    voters = min(NEIGHBOURS, max(1, len(bank) * NEIGHBOURS // SMALLEST_BANK))
    near = np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :voters]
    if labels.ndim == 1:
        classes = np.unique(bank_labels)
        bank_labels, labels = (x[:, None] == classes for x in (bank_labels, labels))
    votes = np.nan_to_num(bank_labels.astype(float), nan=0.5)[near].mean(1)
    areas = []
    for vote, truth in zip(votes.T, labels.astype(float).T, strict=True):
        vote, truth = vote[~np.isnan(truth)], truth[~np.isnan(truth)]
        positives = int(truth.sum())
        if 0 < positives < len(truth):
            area = mean_ranks(vote)[truth == 1].sum() - positives * (positives + 1) / 2
            areas.append(area / (positives * (len(truth) - positives)))
    return float(np.mean(areas)) if areas else None


def check_collapse(
    steps: Sequence[float],
    losses: Sequence[float],
    ranks: Sequence[float],
    chance: float,
    warmup: int,
    planned: int,
) -> None:
    """Raise Collapsed where the features of a pretraining collapse.

    steps, losses, ranks: measured so far in this stage, in order; warmup: its steps of rising
    learning rate; planned: all.
    """
    step, loss = int(steps[-1]), losses[-1]
    if not math.isfinite(loss):
        raise Collapsed(f"the loss is {loss} at step {step}: a smaller learning rate may help")
    late = step >= warmup + _STUCK
    # the embeddings of some random networks point one way before they learn
    fallen = max(ranks) > 2 * NEAR_ONE
    if (fallen or late) and len(ranks) >= _LOOKS and max(ranks[-_LOOKS:]) < NEAR_ONE:
        raise Collapsed(
            f"all embeddings point one way at step {step} (effective rank {ranks[-1]:.2f}, loss {loss:.3f})"
        )
    patience = max(_STUCK, planned // 4)
    after = [
        value for at, value in zip(steps, losses, strict=True) if at >= max(warmup, step - patience)
    ]
    if step >= warmup + patience and min(after) >= AT_CHANCE * chance:
        raise Collapsed(
            f"the loss has stayed at that of constant outputs, {chance:.3f}, for {patience} steps until step {step}"
        )
