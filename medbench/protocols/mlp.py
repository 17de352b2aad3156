"""One hidden layer on frozen features, trained by a fixed recipe.

Nothing is chosen, and all labelled images are trained on.

Features are standardised by the labelled subset (one that does not vary is zero; what lies beyond
sqrt(n - 1) deviations, where no labelled image can lie, is held there). `HIDDEN` rectified units,
then a linear layer; PyTorch's usual uniform initialisation. `STEPS` updates of AdamW at rate
`RATE`, falling to 0 along half a cosine, weight decay `DECAY`, batches of `BATCH` images without
replacement, of all images where there are no more. Cross-entropy, classes weighted as they come;
several labels: binary cross-entropy over the labels that are known.

Every number above is a constant, the same for every task, budget and method, and none was tuned on
any of the tasks: a budget that chooses its own (`linear`) may well be better. Its probabilities are
too sure: on the validation part of HAM10000 (supervised features at 64 px, 5 draws) AUC and ECE at
5 a class, 1 % and 10 % are .67, .69, .79 and .41, .27, .20; those of `linear` .67, .70, .81 and
.08, .05, .04. Initialisation and order of images hang on the cell's seed alone, and each draw is
trained by itself.

A class without a labelled image gets probability 0. A label of which only one value was seen gets
the smoothed base rate (positives + 1) / (known + 2). Ordinal classes are treated as nominal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from medbench.protocols._features import blocks, check_finite, sent
from medbench.protocols._networks import (
    CONSTANT,
    batches,
    class_probabilities,
    layer_drawn,
    loss_of_labels,
    standardiser,
)
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


def mlp(
    train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from features (M, D).

    See `Protocol`. Raises UserError on features that are not finite.
    """
    import numpy as np
    import torch

    check_finite({"training": train.features, **targets})
    for draw, seed in zip(draws, train.seeds or [0] * len(draws), strict=True):
        features, labels = train.features[draw], train.labels[draw]
        standardised = standardiser(features, train.device)
        network, loss = _trained(standardised(features), labels, train.n_classes, seed)
        scores = {}
        for name, images in targets.items():
            logits = torch.empty(len(images), train.n_classes, dtype=torch.float64)
            with torch.no_grad():
                for rows in blocks(len(images), max(images.shape[1], HIDDEN), train.device):
                    logits[rows] = network(standardised(images[rows])).double().cpu()
            probabilities = class_probabilities(logits, labels)
            decisions = (
                (probabilities >= 0.5).astype(np.int64)
                if labels.ndim == 2
                else probabilities.argmax(1)
            )
            scores[name] = Scores(
                probabilities.astype(np.float32),
                decisions,
                {"rule": "fixed recipe"},
                {"last_loss": loss},
            )
        yield scores


def _trained(
    features: torch.Tensor, labels: np.ndarray, n_classes: int, seed: int
) -> tuple[Network, float]:
    """Train the network; return it and its loss at the last update.

    features (n, D) standardised; labels as in `Train`.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)  # on the CPU: alike on every device
    layers = [
        *layer_drawn(features.shape[1], HIDDEN, generator, features),
        *layer_drawn(HIDDEN, n_classes, generator, features),
    ]

    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(
            torch.nn.functional.linear(images, *layers[:2]).relu(), *layers[2:]
        )

    answers = torch.as_tensor(labels, device=features.device)
    loss_of = loss_of_labels(labels, features.device)
    optimiser = torch.optim.AdamW(layers, lr=RATE, weight_decay=DECAY, fused=True)
    for step, rows in enumerate(batches(len(features), BATCH, STEPS, generator)):
        optimiser.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
        shown = sent(rows, features.device)
        optimiser.zero_grad()
        loss = loss_of(network(features[shown]), answers[shown])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network, float(loss.detach())


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
