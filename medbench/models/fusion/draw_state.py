"""One draw of the labelled subset.

Its split, its features as the head sees them, its batches, its best weights and its scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.models.fusion.recipe import FusionRecipe, Tokens
from medbench.schema import PRIMARY, HeldOut, Kind, Scores
from medbench.stats import metrics, splits
from medbench.system.transfer import sent

if TYPE_CHECKING:
    import torch

    from medbench.models.fusion.attention_head import Head

BLOCK = 1024  # images scored at a time
# batches of a subset smaller than a batch are filled up to a multiple of this, so that draws of
# like size share a shape
ROUND = 16


@dataclass(eq=False)
class DrawState:
    """Hold one draw of the labelled subset, and its training as far as it is.

    rows (n,): its images in the pool; train, held: positions among them, held empty where nothing
    can be held out. truth (n,) int64, or (n, C) float32 with NaN; usable (C,): classes, or labels,
    that can be learnt; base (C,): the probability of others. batch: images a step. steps: between
    two checks, or in all where nothing is held out. limit, centre, scale: of the standardisation.
    seed: of the initial weights; generator: of the order of images (`queue`: what is left of it)
    and of dropout. best: the parameters that are scored. history: validation score at each check.
    rate: of learning.
    """

    rows: torch.Tensor
    train: torch.Tensor
    held: torch.Tensor
    truth: torch.Tensor
    usable: torch.Tensor
    base: np.ndarray
    kind: Kind
    batch: int
    steps: int
    limit: float
    centre: list[torch.Tensor]
    scale: list[float]
    seed: int
    generator: torch.Generator
    queue: torch.Tensor
    rate: float
    best: list[torch.Tensor] = field(default_factory=list)
    history: list[float] = field(default_factory=list)

    def standard(self, sources: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the members' features, each centred, scaled and clipped to `limit`.

        sources: (B, D_i) of each member; returns the same shapes.
        """
        return [
            ((x - c) * s).clamp(-self.limit, self.limit)
            for x, c, s in zip(sources, self.centre, self.scale, strict=True)
        ]

    def images(self, pool: Sequence[torch.Tensor], which: torch.Tensor) -> list[torch.Tensor]:
        """Return the standardised features of some of the draw's images.

        pool: of each member (N, D). which: (n,) int64, places in the draw. Returns (n, D) of each
        member.
        """
        rows = self.rows[which]
        return self.standard([x[rows] for x in pool])

    def next_batch(self) -> torch.Tensor:
        """Return positions (batch,) of the next images.

        One random order of the training images after the other, cut into equal pieces.
        """
        import torch

        while len(self.queue) < self.batch:
            order = torch.randperm(len(self.train), generator=self.generator)
            self.queue = torch.cat([self.queue, order])
        taken, self.queue = self.queue[: self.batch], self.queue[self.batch :]
        return self.train[sent([taken], self.train.device)[0]]

    def keep(self, recipe: FusionRecipe) -> torch.Tensor:
        """Draw a dropout mask (batch, width), already divided by the share that is kept."""
        import torch

        kept = torch.rand(self.batch, recipe.width, generator=self.generator) >= recipe.dropout
        return sent([kept / (1 - recipe.dropout)], self.rows.device)[0]

    def model(
        self, pool: Sequence[torch.Tensor], outputs: int, tokens: Tokens, recipe: FusionRecipe
    ) -> Head:
        """Return the untrained head of this draw's seed, or the best one once there is one.

        pool: of each member (N, D).
        """
        import torch

        from medbench.models.fusion.attention_head import Head

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            model = Head([x.shape[1] for x in pool], outputs, tokens, recipe.width, recipe.dropout)
        model.to(self.rows.device)
        if self.best:
            for parameter, value in zip(model.parameters(), self.best, strict=True):
                parameter.data = value
        return model.eval()

    def chosen(self) -> dict[str, Any]:
        """Which rate and steps were chosen, by what rule, as `Scores.chosen` keeps it."""
        if not len(self.held):
            return {
                "rule": "fixed: too few images to hold out",
                "rate": self.rate,
                "steps": self.steps,
                "validation": None,
            }
        best = int(np.argmax(self.history))
        about = f"best {PRIMARY[self.kind]} of {len(self.held)} held-out images"
        return {
            "rule": about,
            "rate": self.rate,
            "steps": (best + 1) * self.steps,
            "checks": len(self.history),
            "validation": self.history[best],
        }

    def judge(self, logits: torch.Tensor) -> float:
        """Return the primary metric on the held-out images, larger is better.

        Where it is not defined there, minus the loss. logits: (n, outputs), of the n held-out
        images.
        """
        import torch

        truth, several = self.truth[self.held], self.kind == "multilabel"
        found = (
            logits.sigmoid() if several else logits.masked_fill(~self.usable, -torch.inf).softmax(1)
        )
        probabilities = found.cpu().numpy()
        decisions = metrics.decided(probabilities, several)
        value = metrics.score(truth.cpu().numpy(), probabilities, decisions, self.kind).values[
            PRIMARY[self.kind]
        ]
        return (
            float(value)
            if np.isfinite(value)
            else -float(losses(logits[None], truth[None], self.usable[None]))
        )


def prepare(
    pool: Sequence[torch.Tensor],
    labels: np.ndarray,
    groups: np.ndarray,
    kind: Kind,
    outputs: int,
    draw: np.ndarray,
    seed: int,
    recipe: FusionRecipe,
    rate: float,
    requested: int | None = None,
) -> DrawState:
    """Return the untrained state of a draw, on the pool's device.

    pool: the features (N, D_i) of each member. labels: (N,), or (N, C) with NaN. groups: (N,).
    outputs: logits of the head. draw: (n,) index into the pool. rate: of learning. requested: see
    `splits.validation_part`.
    """
    import torch

    device, own = pool[0].device, labels[draw]
    held = splits.validation_part(own, groups[draw], recipe.validation, "validation", requested)
    train = np.flatnonzero(~held)
    batch = min(recipe.batch, -(-len(train) // ROUND) * ROUND)
    steps = max(recipe.least_steps, -(-len(train) // batch)) if held.any() else recipe.fixed_steps
    if kind == "multilabel":
        positive, negative = (own == 1).sum(0), (own == 0).sum(0)
        usable, base = (positive > 0) & (negative > 0), (positive + 1) / (positive + negative + 2)
    else:
        usable, base = np.isin(np.arange(outputs), own), np.zeros(outputs)
    rows = torch.as_tensor(draw, device=device)
    weights_seed, order_seed = map(int, np.random.SeedSequence(seed).generate_state(2))
    centres = [x[rows].double().mean(0) for x in pool]
    spreads = [
        float((x[rows].double() - c).square().mean().sqrt())
        for x, c in zip(pool, centres, strict=True)
    ]
    return DrawState(
        rows=rows,
        train=torch.as_tensor(train, device=device),
        held=torch.as_tensor(np.flatnonzero(held), device=device),
        truth=torch.as_tensor(
            own.astype(np.float32 if kind == "multilabel" else np.int64), device=device
        ),
        usable=torch.as_tensor(usable, device=device),
        base=base,
        kind=kind,
        batch=batch,
        steps=steps,
        limit=max(math.sqrt(len(draw) - 1), 1.0),
        centre=[c.float() for c in centres],
        scale=[1 / spread if spread > 0 else 0.0 for spread in spreads],
        seed=weights_seed,
        generator=torch.Generator().manual_seed(order_seed),
        queue=torch.empty(0, dtype=torch.int64),
        rate=rate,
    )


def losses(logits: torch.Tensor, truth: torch.Tensor, usable: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of each of R members, (R,).

    logits: (R, b, C). truth: (R, b) int64 or (R, b, C) float with NaN. usable: (R, C) bool.
    """
    import torch
    from torch.nn import functional as F

    if truth.ndim == 2:
        logits = logits.masked_fill(~usable[:, None], -torch.inf)
        return (
            F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none")
            .view(truth.shape)
            .mean(1)
        )
    known = ~truth.isnan() & usable[:, None]
    each = F.binary_cross_entropy_with_logits(logits, truth.nan_to_num(0.0), reduction="none")
    return (each * known).sum((1, 2)) / known.sum((1, 2)).clamp_min(1)


def score_target(
    model: Head, learner: DrawState, target: Sequence[np.ndarray], held: HeldOut | None
) -> Scores:
    """Return a head's scores of a target.

    target: the features (M, D_i) of each member. held: what `score_held_out` gave, which is passed
    on.
    """
    import torch

    blocks = []
    with torch.no_grad():
        for i in range(0, len(target[0]), BLOCK):
            block = [
                torch.as_tensor(
                    np.asarray(x[i : i + BLOCK], np.float32), device=learner.rows.device
                )
                for x in target
            ]
            blocks.append(model(learner.standard(block)).double().cpu())
    logits, usable, several = torch.cat(blocks), learner.usable.cpu(), learner.kind == "multilabel"
    found = logits.sigmoid() if several else logits.masked_fill(~usable, -torch.inf).softmax(1)
    probabilities = np.where(usable.numpy(), found.numpy(), learner.base)
    return Scores(
        probabilities.astype(np.float32),
        metrics.decided(probabilities, several),
        learner.chosen(),
        held_out=held,
    )


def score_held_out(model: Head, learner: DrawState, pool: Sequence[torch.Tensor]) -> HeldOut | None:
    """Score the validation part, which chose the rate and the weights; None where there is none.

    pool: of each member (N, D). A label of which one value was seen is NaN.
    """
    import torch

    if not len(learner.held):
        return None
    with torch.no_grad():
        blocks = [
            model(learner.images(pool, block)).double().cpu()
            for block in torch.split(learner.held, BLOCK)
        ]
    logits, usable = torch.cat(blocks), learner.usable.cpu()
    several = learner.kind == "multilabel"
    found = (
        logits.sigmoid().masked_fill(~usable, torch.nan)
        if several
        else logits.masked_fill(~usable, -torch.inf).softmax(1)
    )
    return HeldOut(learner.held.cpu().numpy(), found.numpy().astype(np.float32))


def attention_map(model: Head, learner: DrawState, pool: Sequence[torch.Tensor]) -> np.ndarray:
    """Return what each member's features take of each other's, mean over a draw's images.

    (members, members) float64 in [0, 1], rows sum to 1. pool: of each member (N, D).
    """
    import torch

    whole = torch.arange(len(learner.rows), device=learner.rows.device)
    sums = [
        model.attention(learner.images(pool, block)).double().sum(0)
        for block in torch.split(whole, BLOCK)
    ]
    mean: np.ndarray = (torch.stack(sums).sum(0) / len(whole)).cpu().numpy()
    return mean
