"""One hidden layer on frozen features, trained by a fixed recipe: nothing is chosen, and all labelled images are trained on.

Features are standardised by the labelled subset (one that does not vary is zero; what lies beyond sqrt(n - 1) deviations, where no labelled image can
lie, is held there). `HIDDEN` rectified units, then a linear layer; PyTorch's usual uniform initialisation. `STEPS` updates of AdamW at rate `RATE`,
falling to 0 along half a cosine, weight decay `DECAY`, batches of `BATCH` images without replacement, of all images where there are no more.
Cross-entropy, classes weighted as they come; several labels: binary cross-entropy over the labels that are known.

Every number above is a constant, the same for every task, budget and method, and none was tuned on any of the tasks: a budget that chooses
its own (`linear`) may well be better. Its probabilities are too sure: on the validation part of HAM10000 (supervised features at 64 px, 5
draws) AUC and ECE at 5 a class, 1 % and 10 % are .67, .69, .79 and .41, .27, .20; those of `linear` .67, .70, .81 and .08, .05, .04.
Initialisation and order of images hang on the cell's seed alone, and each draw is trained by itself.

A class without a labelled image gets probability 0. A label of which only one value was seen gets the smoothed base rate
(positives + 1) / (known + 2). Ordinal classes are treated as nominal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from medbench.protocols._features import blocks, check_finite
from medbench.schema import KINDS, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

    Network = Callable[[torch.Tensor], torch.Tensor]  # standardised features (M, D) -> (M, C)

HIDDEN = 256
STEPS = 200
BATCH = 256
RATE = 1e-3
DECAY = 1e-2
CONSTANT = 1e-6  # a feature whose deviation is below this share of its mean is rounding, and set to zero


def mlp(train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]) -> Iterator[dict[str, Scores]]:
    """Scores of every target, draw after draw. See `Protocol`. Raises UserError on features that are not finite."""
    import numpy as np
    import torch

    check_finite({"training": train.features, **targets})
    for draw, seed in zip(draws, train.seeds or [0] * len(draws), strict=True):
        features, labels = train.features[draw], train.labels[draw]
        standardised = _standardiser(features, train.device)
        network, loss = _trained(standardised(features), labels, train.n_classes, seed)
        scores = {}
        for name, images in targets.items():
            logits = torch.empty(len(images), train.n_classes, dtype=torch.float64)
            with torch.no_grad():
                for rows in blocks(len(images), max(images.shape[1], HIDDEN)):
                    logits[rows] = network(standardised(images[rows])).double().cpu()
            probabilities = _probabilities(logits, labels)
            decisions = (probabilities >= 0.5).astype(np.int64) if labels.ndim == 2 else probabilities.argmax(1)
            scores[name] = Scores(probabilities.astype(np.float32), decisions, {"rule": "fixed recipe"}, {"last_loss": loss})
        yield scores


def _standardiser(features: np.ndarray, device: str) -> Callable[[np.ndarray], torch.Tensor]:
    """Return a function that standardises images (M, D) by the labelled ones (n, D).

    It gives float32 on the device.
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


def _trained(features: torch.Tensor, labels: np.ndarray, n_classes: int, seed: int) -> tuple[Network, float]:
    """Train the network; return it and its loss at the last update.

    features (n, D) standardised; labels as in `Train`.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)  # on the CPU: alike on every device
    layers = [*_layer(features.shape[1], HIDDEN, generator, features), *_layer(HIDDEN, n_classes, generator, features)]

    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(torch.nn.functional.linear(images, *layers[:2]).relu(), *layers[2:])

    answers = torch.as_tensor(labels, device=features.device)
    loss_of = _loss(labels, features.device)
    optimiser = torch.optim.AdamW(layers, lr=RATE, weight_decay=DECAY, fused=True)
    for step, rows in enumerate(_batches(len(features), generator)):
        optimiser.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
        shown = rows.to(features.device)
        optimiser.zero_grad()
        loss = loss_of(network(features[shown]), answers[shown])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network, float(loss.detach())


def _layer(inputs: int, outputs: int, generator: torch.Generator, like: torch.Tensor) -> list[torch.Tensor]:
    """Weights and biases of a linear layer, uniform to 1 / sqrt(inputs), as `torch.nn.Linear` draws them."""
    import torch

    bound = 1 / math.sqrt(inputs)
    drawn = [torch.empty(shape).uniform_(-bound, bound, generator=generator) for shape in ((outputs, inputs), (outputs,))]
    return [values.to(like.device).requires_grad_() for values in drawn]


def _batches(n: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield `STEPS` index arrays into n images.

    All of them, or `BATCH` without replacement until too few are left.
    """
    import torch

    order = torch.arange(n)
    at = n
    for _ in range(STEPS):
        if n > BATCH and at + BATCH > n:
            order, at = torch.randperm(n, generator=generator), 0
        yield order[at : at + BATCH] if n > BATCH else order
        at += BATCH


def _loss(labels: np.ndarray, device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return what is minimised of logits (B, C) and the labels beside them.

    labels: of the subset, for the classes that it has.
    """
    import numpy as np
    import torch
    from torch.nn import functional

    if labels.ndim == 2:

        def binary(logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
            known = ~given.isnan()
            each = functional.binary_cross_entropy_with_logits(logits, given.nan_to_num(0.0).to(logits.dtype), reduction="none")
            return (each * known).sum() / known.sum().clamp(min=1)

        return binary
    seen = torch.as_tensor(np.unique(labels), device=device)

    def exclusive(logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits[:, seen], torch.searchsorted(seen, given.contiguous()))

    return exclusive


def _probabilities(logits: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """(M, C) float64 of logits (M, C). labels: of the subset, which lacks a class or one value of a label here and there."""
    import numpy as np

    if labels.ndim == 2:
        positive, negative = (labels == 1).sum(0), (labels == 0).sum(0)
        rate = (positive + 1) / (positive + negative + 2)
        learnt: np.ndarray = np.where((positive > 0) & (negative > 0), logits.sigmoid().numpy(), rate)
        return learnt
    spread: np.ndarray = np.zeros(logits.shape)
    seen = np.unique(labels)
    spread[:, seen] = logits[:, seen].softmax(1).numpy()
    return spread


MLP = Protocol(
    name="mlp",
    version=1,
    title=f"One hidden layer of {HIDDEN} units on frozen features, a fixed recipe: nothing is chosen",
    kinds=KINDS,
    evaluate=mlp,
    seeded=True,
    settings={
        "hidden": HIDDEN,
        "steps": STEPS,
        "batch": BATCH,
        "rate": RATE,
        "decay": DECAY,
        "constant": CONSTANT,
        "optimiser": "AdamW, cosine",
    },
    citation="Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019, arXiv:1711.05101",
    divides=False,
)
