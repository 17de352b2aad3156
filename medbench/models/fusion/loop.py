"""The fused head trained on frozen features, draw after draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medbench.models.fusion.draw_state import (
    BLOCK,
    DrawState,
    attention_map,
    losses,
    prepare,
    score_held_out,
    score_target,
)
from medbench.models.fusion.recipe import TRUONG2021, FusionRecipe, Tokens
from medbench.schema import Kind, Scores, UserError

if TYPE_CHECKING:
    import torch

    from medbench.models.fusion.attention_head import Head


def head(dims: Sequence[int], n_outputs: int, *, tokens: Tokens = "source") -> Head:
    """Build the DVME head for sources of `dims` features.

    forward(k tensors (B, d_i)) -> logits (B, n_outputs); attention(...) -> (B, k, k). tokens:
    `scalar` as in the paper's listing, k width tokens of dimension 1 (its parameter count fits no
    other reading); `source`, one token a source, as its prose and figure F1 suggest; `none`, its
    ablation without attention. Weights are drawn from torch's generator.
    """
    from medbench.models.fusion.attention_head import Head

    return Head(dims, n_outputs, tokens, TRUONG2021.width, TRUONG2021.dropout)


def fit_predict(
    train_sources: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    kind: Kind,
    n_classes: int,
    targets: Mapping[str, Sequence[np.ndarray]],
    draws: Sequence[np.ndarray],
    seeds: Sequence[int],
    *,
    requested: Sequence[int | None] = (),
    tokens: Tokens = "source",
    device: str = "cpu",
    recipe: FusionRecipe = TRUONG2021,
) -> Iterator[tuple[dict[str, Scores], np.ndarray | None]]:
    """Train draw after draw: the scores of every target, and the mean attention map.

    The map is (k, k) float64, over the draw's labelled images. train_sources: k arrays (N, d_i)
    float of the pool; labels, groups as in `schema.Split`. targets: name -> k arrays (M, d_i).
    draws: index arrays into the pool; seeds: one a draw, for initial weights, order of images, and
    dropout; requested: as in `Train`. Each draw is trained by itself, so that the others change no
    bit of it. The map is None for tokens="none". A class without a labelled image gets probability
    0; a label (multilabel) of which one value was seen, the smoothed base rate (positives + 1) /
    (known + 2). Raises UserError for features that are not finite, ValueError for shapes that do
    not fit.
    """
    _check(train_sources, labels, targets, draws, seeds)
    pool = pool_of(train_sources, device)
    asked = requested or [None] * len(draws)
    for draw, seed, own in zip(draws, seeds, asked, strict=True):
        model, learner = fitted(
            pool, labels, groups, kind, n_classes, draw, seed, own, tokens, recipe
        )
        found = None if tokens == "none" else attention_map(model, learner, pool)
        held = score_held_out(model, learner, pool)
        yield (
            {name: score_target(model, learner, target, held) for name, target in targets.items()},
            found,
        )


def pool_of(sources: Sequence[np.ndarray], device: str) -> list[torch.Tensor]:
    """Put k arrays (N, d_i) on the device, float32."""
    import torch

    return [torch.as_tensor(np.asarray(x, np.float32), device=device) for x in sources]


def fitted(
    pool: Sequence[torch.Tensor],
    labels: np.ndarray,
    groups: np.ndarray,
    kind: Kind,
    n_classes: int,
    draw: np.ndarray,
    seed: int,
    requested: int | None,
    tokens: Tokens,
    recipe: FusionRecipe = TRUONG2021,
) -> tuple[Head, DrawState]:
    """Train the head of one draw; return it in eval mode with the draw's state.

    See `fit_predict`. pool: as `pool_of` gives it.
    """
    outputs = 2 if kind == "binary" else n_classes
    rates = sorted(recipe.rates)
    trials = [
        prepare(pool, labels, groups, kind, outputs, draw, seed, recipe, rate, requested)
        for rate in rates
    ]
    if not len(trials[0].held):  # nothing chooses between rates
        trials = trials[:1]
    learner = _race(trials, pool, outputs, tokens, recipe)
    return learner.model(pool, outputs, tokens, recipe), learner


def _race(
    trials: Sequence[DrawState],
    pool: Sequence[torch.Tensor],
    outputs: int,
    tokens: Tokens,
    recipe: FusionRecipe,
) -> DrawState:
    """Train the rate that wins to its end and return its state.

    Each rate is tried for some checks, then the one with the best of them goes on alone.
    """
    running = [(trial, _checks(trial, pool, outputs, tokens, recipe)) for trial in trials]
    for _, checks in running:
        for _ in zip(range(recipe.trial), checks, strict=False):
            pass
    # the smaller rate of two equal ones
    best, checks = max(running, key=lambda one: max(one[0].history))
    for _ in checks:
        pass
    return best


def _checks(
    learner: DrawState,
    pool: Sequence[torch.Tensor],
    outputs: int,
    tokens: Tokens,
    recipe: FusionRecipe,
) -> Iterator[None]:
    """Train the head of one draw at one rate, from one check to the next.

    The state has its `best` parameters so far.
    """
    import torch

    model = learner.model(pool, outputs, tokens, recipe)
    optimiser = torch.optim.Adam(model.parameters(), learner.rate, fused=True)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, mode="max", factor=recipe.factor, patience=recipe.plateau
    )
    going = True
    while going:
        for _ in range(learner.steps):
            batch = learner.next_batch()
            logits = model(
                [x[None] for x in learner.images(pool, batch)], keep=learner.keep(recipe)[None]
            )
            loss = losses(logits, learner.truth[batch][None], learner.usable[None]).sum()
            for parameter, gradient in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.grad = gradient
            optimiser.step()
        going = _goes_on(learner, model, plateau, pool, recipe)
        yield


def _goes_on(
    learner: DrawState,
    model: Head,
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau,
    pool: Sequence[torch.Tensor],
    recipe: FusionRecipe,
) -> bool:
    """Look at the validation part.

    Keep the weights if they are the best so far, lower the rate, or stop.
    """
    import torch

    value = 0.0
    if len(learner.held):
        with torch.no_grad():
            value = learner.judge(
                torch.cat(
                    [
                        model(learner.images(pool, block))
                        for block in torch.split(learner.held, BLOCK)
                    ]
                )
            )
        plateau.step(value)
    if not learner.history or value > max(learner.history):
        learner.best = [parameter.detach().clone() for parameter in model.parameters()]
    learner.history.append(value)
    since = len(learner.history) - 1 - int(np.argmax(learner.history))
    return (
        len(learner.held) > 0 and len(learner.history) < recipe.epochs and since < recipe.patience
    )


def _check(
    sources: Sequence[np.ndarray],
    labels: np.ndarray,
    targets: Mapping[str, Sequence[np.ndarray]],
    draws: Sequence[np.ndarray],
    seeds: Sequence[int],
) -> None:
    if len(draws) != len(seeds) or any(len(x) != len(labels) for x in sources):
        raise ValueError(
            f"{len(draws)} draws, {len(seeds)} seeds; {len(labels)} labels, sources of {[len(x) for x in sources]}"
        )
    widths = [x.shape[1] for x in sources]
    for name, given in {"training": sources, **targets}.items():
        if [x.shape[1] for x in given] != widths or len({len(x) for x in given}) != 1:
            raise ValueError(
                f"the {name} sources are {[x.shape for x in given]}, the training sources have {widths} features"
            )
        for i, x in enumerate(given):
            bad = np.flatnonzero(~np.isfinite(x).all(1))
            if len(bad):
                raise UserError(f"The {name} features of source {i} are not finite for {len(bad)} of {len(x)} images (first: image {bad[0]}): "
                                "the encoder's weights do not fit the images or the precision.", then="run it with --precision fp32")  # fmt: skip
