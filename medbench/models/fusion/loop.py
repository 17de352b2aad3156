"""The fused head trained on frozen features for all draws of a unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medbench.models.fusion.draw_state import BLOCK, DrawState, attention_map, losses, prepare, score_held_out, score_target
from medbench.models.fusion.recipe import TRUONG2021, FusionRecipe, Tokens
from medbench.schema import Kind, Scores, UserError

if TYPE_CHECKING:
    import torch

    from medbench.models.fusion.attention_head import Head

#: Draws trained at the same time, by kind of device; one by one where it was not measured. Two threads: a tenth to a fifth faster than one by
#: one (60 to 120 images, three sources of 1280), one thread: the same; 76 MB a draw then.
TOGETHER = {"cpu": 4}


def head(dims: Sequence[int], n_outputs: int, *, tokens: Tokens = "source") -> Head:
    """The DVME head for sources of `dims` features: forward(k tensors (B, d_i)) -> logits (B, n_outputs); attention(...) -> (B, k, k).

    tokens: `scalar` as in the paper's listing, k width tokens of dimension 1 (its parameter count fits no other reading); `source`, one
    token a source, as its prose and figure F1 suggest; `none`, its ablation without attention. Weights are drawn from torch's generator.
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
    tokens: Tokens = "source",
    device: str = "cpu",
    recipe: FusionRecipe = TRUONG2021,
    together: int | None = None,
) -> Iterator[tuple[dict[str, Scores], np.ndarray | None]]:
    """Draw after draw: the scores of every target, and the mean attention map (k, k) float64 over the draw's labelled images.

    train_sources: k arrays (N, d_i) float of the pool; labels, groups as in `schema.Split`. targets: name -> k arrays (M, d_i). draws: index
    arrays into the pool; seeds: one a draw, for initial weights, order of images, and dropout. together: draws trained at the same time
    at most; on a CPU it changes no bit of a result (not checked on a GPU, where the default is 1). The map is None for tokens="none".

    A class without a labelled image gets probability 0; a label (multilabel) of which one value was seen, the smoothed base rate
    (positives + 1) / (known + 2). Raises UserError for features that are not finite, ValueError for shapes that do not fit.
    """
    import torch

    _check(train_sources, labels, targets, draws, seeds)
    pool = [torch.as_tensor(np.asarray(x, np.float32), device=device) for x in train_sources]
    outputs = 2 if kind == "binary" else n_classes
    most = together or TOGETHER.get(torch.device(device).type, 1)
    waiting = list(zip(draws, seeds, strict=True))

    def learners(rate: float) -> list[DrawState]:
        return [prepare(pool, labels, groups, kind, outputs, d, s, recipe, rate) for d, s in waiting[:most]]

    while waiting:
        first = learners(min(recipe.rates))
        alike = next(n for n in range(len(first), 0, -1) if len({(x.batch, x.steps) for x in first[:n]}) == 1)
        trials = [first[:alike]]
        if len(first[0].held):  # a draw without a validation part has steps of its own, and is never alike to one with
            trials += [learners(rate)[:alike] for rate in sorted(recipe.rates)[1:]]
        for trial in trials:
            _train(trial, pool, outputs, tokens, recipe)
        for candidates in zip(*trials, strict=True):
            learner = max(candidates, key=lambda x: max(x.history))
            model = learner.model(pool, outputs, tokens, recipe)
            found = None if tokens == "none" else attention_map(model, learner, pool)
            held = score_held_out(model, learner, pool)
            yield {name: score_target(model, learner, target, held) for name, target in targets.items()}, found
        waiting = waiting[alike:]


def _train(learners: Sequence[DrawState], pool: Sequence[torch.Tensor], outputs: int, tokens: Tokens, recipe: FusionRecipe) -> None:
    """Train draws with equal `batch` and `steps` at the same time; each ends with its own `best`.

    A member's parameters are views into one stack, so that a product serves all members and each has an optimiser and a rate of its own.
    """
    import torch

    models = [x.model(pool, outputs, tokens, recipe) for x in learners]
    optimisers = [torch.optim.Adam(m.parameters(), x.rate, fused=True) for m, x in zip(models, learners, strict=True)]
    plateaus = [
        torch.optim.lr_scheduler.ReduceLROnPlateau(o, mode="max", factor=recipe.factor, patience=recipe.plateau) for o in optimisers
    ]
    active, stack = list(range(len(learners))), _stack(models)
    while active:
        now = [learners[i] for i in active]
        usable, steps = torch.stack([x.usable for x in now]), now[0].steps
        for _ in range(steps):
            batches = [x.next_batch() for x in now]
            sources = [torch.stack(s) for s in zip(*(x.images(pool, b) for x, b in zip(now, batches, strict=True)), strict=True)]
            truth = torch.stack([x.truth[b] for x, b in zip(now, batches, strict=True)])
            logits = stack(sources, keep=torch.stack([x.keep(recipe) for x in now]))
            gradients = torch.autograd.grad(losses(logits, truth, usable).sum(), list(stack.parameters()))
            for place, i in enumerate(active):
                for parameter, gradient in zip(models[i].parameters(), gradients, strict=True):
                    parameter.grad = gradient[place : place + 1]
                optimisers[i].step()
        going = [i for i in active if _goes_on(learners[i], models[i], plateaus[i], pool, recipe)]
        if going and len(going) < len(active):
            stack = _stack([models[i] for i in going])
        active = going


def _goes_on(
    learner: DrawState, model: Head, plateau: torch.optim.lr_scheduler.ReduceLROnPlateau, pool: Sequence[torch.Tensor], recipe: FusionRecipe
) -> bool:
    """Look at the validation part: keep the weights if they are the best so far, lower the rate, or stop."""
    import torch

    value = 0.0
    if len(learner.held):
        with torch.no_grad():
            value = learner.judge(torch.cat([model(learner.images(pool, block)) for block in torch.split(learner.held, BLOCK)]))
        plateau.step(value)
    if not learner.history or value > max(learner.history):
        learner.best = [parameter.detach().clone() for parameter in model.parameters()]
    learner.history.append(value)
    since = len(learner.history) - 1 - int(np.argmax(learner.history))
    return len(learner.held) > 0 and len(learner.history) < recipe.epochs and since < recipe.patience


def _stack(models: Sequence[Head]) -> Head:
    """One head of all members, whose parameters then are views into its."""
    import copy

    import torch

    stack = copy.deepcopy(models[0])
    for whole, *parts in zip(stack.parameters(), *(m.parameters() for m in models), strict=True):
        whole.data = torch.cat([part.detach() for part in parts])
        for place, part in enumerate(parts):
            part.data = whole.detach()[place : place + 1]
    return stack


def _check(
    sources: Sequence[np.ndarray],
    labels: np.ndarray,
    targets: Mapping[str, Sequence[np.ndarray]],
    draws: Sequence[np.ndarray],
    seeds: Sequence[int],
) -> None:
    if len(draws) != len(seeds) or any(len(x) != len(labels) for x in sources):
        raise ValueError(f"{len(draws)} draws, {len(seeds)} seeds; {len(labels)} labels, sources of {[len(x) for x in sources]}")
    widths = [x.shape[1] for x in sources]
    for name, given in {"training": sources, **targets}.items():
        if [x.shape[1] for x in given] != widths or len({len(x) for x in given}) != 1:
            raise ValueError(f"the {name} sources are {[x.shape for x in given]}, the training sources have {widths} features")
        for i, x in enumerate(given):
            bad = np.flatnonzero(~np.isfinite(x).all(1))
            if len(bad):
                raise UserError(f"The {name} features of source {i} are not finite for {len(bad)} of {len(x)} images (first: image {bad[0]}): "
                                "the encoder's weights do not fit the images or the precision.", then="run it with --precision fp32")  # fmt: skip
