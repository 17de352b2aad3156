"""Training on random views.

End to end with the suite's own recipe and those of two papers, and the papers' last layers alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from medbench.models.finetune import (
    MODERN,
    NIELSEN2023,
    NIELSEN2023_LAST_LAYER,
    TRUONG2021,
    TRUONG2021_LINEAR,
    FineTuneRecipe,
)
from medbench.schema import KINDS, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medbench.models.finetune.tuned import Tuned
    from medbench.schema import Kind, Network


def evaluate(
    train: Train,
    targets: Mapping[str, np.ndarray],
    draws: Sequence[np.ndarray],
    *,
    recipe: FineTuneRecipe,
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from (N, S, S, 3) uint8 pixels.

    See `Protocol`. draws: (n,) int64 each. What a killed run needs lies in `train.folders`.
    """
    from medbench.models.finetune.tuned import settings_of

    for i, draw in enumerate(draws):
        with settings_of(train):
            found = fitted(train, draw, recipe, i).scores(targets)
        yield found


def fitted(
    train: Train,
    draw: np.ndarray,
    recipe: FineTuneRecipe,
    i: int = 0,
    chosen: tuple[int, float] | None = None,
) -> Tuned:
    """Train on the i-th of the draws that `train` is for, inside the loop's `settings_of`.

    chosen: rank and rate, where they need not be searched.

    draw: (n,) int64, its places in the pool.
    """
    from medbench.models.finetune.tuned import tuned

    requested = train.requested[i] if train.requested else None
    divided = train.divided[i] if train.divided else None
    layer = partial(linear_layer, divided=divided)
    return tuned(train, draw, train.seeds[i], train.folders[i], recipe, layer, requested, chosen)


def recipe_of(protocol: Protocol) -> FineTuneRecipe | None:
    """Return the recipe of a protocol that fine-tunes; None of another."""
    run = protocol.evaluate
    if not isinstance(run, partial) or run.func is not evaluate:
        return None
    recipe: FineTuneRecipe = run.keywords["recipe"]
    return recipe


def linear_layer(
    features: torch.Tensor,
    labels: np.ndarray,
    groups: np.ndarray,
    kind: Kind,
    outputs: int,
    divided: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `linear` protocol's solution for features as they are.

    weight (outputs, D), bias (outputs,) float32. See `layer_of`.
    """
    from medbench.protocols import linear
    from medbench.protocols._features import MAX_FOLDS
    from medbench.protocols._networks import layer_of

    model = linear.learn(
        features,
        labels,
        groups,
        kind,
        outputs,
        linear.PENALTIES,
        linear.FIXED_PENALTY,
        MAX_FOLDS,
        divided,
    )
    return layer_of(model, kind, outputs, features.shape[1])


def trial(
    network: Network, kind: Kind, classes: int, device: str, *, recipe: FineTuneRecipe
) -> float:
    """Return the seconds of a view that is trained on, from a few steps on drawn pixels."""
    from medbench.models.finetune.training_trial import seconds_a_view

    return seconds_a_view(network, kind, classes, device, recipe=recipe)


def _protocol(
    name: str, version: int, title: str, recipe: FineTuneRecipe, citation: str = ""
) -> Protocol:
    run = partial(evaluate, recipe=recipe)
    kinds: tuple[Kind, ...] = tuple(
        kind for kind in KINDS if kind != "multilabel" or not recipe.oversampled
    )
    return Protocol(
        name,
        version,
        title,
        kinds,
        run,
        seeded=True,
        settings=recipe.settings(),
        citation=citation,
        needs="images",
        passes=recipe.passes,
        trial=partial(trial, recipe=recipe),
    )


FINETUNE = _protocol(
    "finetune", 1, "Fine-tuning: AdamW, layer-wise decay, rate searched inside the subset", MODERN
)
_TRUONG, _OURS = (
    "Truong et al. 2021, PMLR 158:54-74",
    "views of a modality and validation part of our own",
)
FINETUNE_TRUONG2021 = _protocol(
    "finetune-truong2021",
    3,
    f"Fine-tuning after Truong et al. 2021, {_OURS}",
    TRUONG2021,
    _TRUONG,
)
FINETUNE_TRUONG2021_OVERSAMPLED = _protocol(
    "finetune-truong2021-oversampled",
    1,
    f"Fine-tuning after Truong et al. 2021 with rare classes oversampled, as for their NIH images, {_OURS}",
    replace(TRUONG2021, name="truong2021-oversampled", oversampled=True),
    _TRUONG,
)
LINEAR_TRUONG2021 = _protocol(
    "linear-truong2021",
    1,
    f"A linear layer, of DVME its head, over frozen encoders on random views after Truong et al. 2021, {_OURS}",
    TRUONG2021_LINEAR,
    _TRUONG,
)
LINEAR_TRUONG2021_OVERSAMPLED = _protocol(
    "linear-truong2021-oversampled",
    1,
    f"A linear layer, of DVME its head, as linear-truong2021 with rare classes oversampled, as for their NIH images, {_OURS}",
    replace(TRUONG2021_LINEAR, name="truong2021-linear-oversampled", oversampled=True),
    _TRUONG,
)
FINETUNE_NIELSEN2023 = _protocol(
    "finetune-nielsen2023",
    3,
    "Fine-tuning after the DL baseline of Nielsen et al. 2023, views and number of steps of our own",
    NIELSEN2023,
    "Nielsen et al. 2023, Bioengineering 10(8):895",
)
LAST_LAYER_NIELSEN2023 = _protocol(
    "last-layer-nielsen2023",
    1,
    "The head and the last norm trained after the last-layer classifier of Nielsen et al. 2023, views and number of steps of our own",
    NIELSEN2023_LAST_LAYER,
    "Nielsen et al. 2023, Bioengineering 10(8):895",
)
