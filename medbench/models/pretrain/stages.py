"""What the recipes of a pretraining come to on a data set, and one of them at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from medbench.models.pretrain import batch_order
from medbench.models.pretrain.batches import Data
from medbench.models.pretrain.checkpointing import CheckpointWriter, DistributedContext
from medbench.models.pretrain.objective import Objective
from medbench.models.pretrain.recipe import Recipe, fitted
from medbench.schema import UserError


@dataclass(frozen=True, eq=False)
class Stage:
    """What a recipe comes to on a data set.

    number: from 0. batch: images a step, of all processes, in `parts` one after another. views: of
    the stages before. train, held: positions in Data.index that are learnt from, and that are not.
    """

    number: int
    recipe: Recipe
    train: np.ndarray
    held: np.ndarray
    batch: int
    parts: int
    steps: int
    views: float
    views_a_step: float

    @property
    def warmup(self) -> int:
        """The number of steps in which the rate rises."""
        return round(self.recipe.warmup * self.steps)


@dataclass(eq=False)
class Training:
    """A stage at work. wrapped: the objective, or its DDP."""

    stage: Stage
    objective: Objective
    wrapped: torch.nn.Module
    optimiser: torch.optim.Optimizer
    data: Data
    world: DistributedContext
    diary: CheckpointWriter
    seed: int
    device: str
    precision: str
    seen: dict[str, list[float]] = field(
        default_factory=lambda: {"step": [], "loss": [], "rank": []}
    )


def plan_stages(data: Data, recipes: Sequence[Recipe], world: DistributedContext) -> list[Stage]:
    """Work out what each recipe comes to on these images.

    Raises UserError where they are too few.
    """
    stages: list[Stage] = []
    views = 0.0
    for number, asked in enumerate(recipes):
        recipe = fitted(asked, data.bags, data.groups)
        held = (
            batch_order.monitored_part(data.groups)
            if recipe.objective
            else np.zeros(len(data.index), bool)
        )
        train = np.flatnonzero(~held)
        most = batch_order.largest_batch(data.bags[train], data.groups[train], paired=recipe.paired)
        parts = max(1, min(recipe.accumulate, most // (2 * world.size)))
        batch = min(recipe.batch, most) // (parts * world.size) * parts * world.size
        if batch < 2 * parts * world.size:
            n = len(np.unique(data.groups))
            raise UserError(
                f"{len(data.index)} training images in {n} groups are too few to pretrain on with {world.size} processes."
            )
        cost = batch * recipe.views_an_image(data.size)
        stage = Stage(
            number,
            recipe,
            train,
            np.flatnonzero(held),
            batch,
            parts,
            max(1, int(recipe.views / cost)),
            views,
            cost,
        )
        views += stage.steps * cost
        stages.append(stage)
    return stages
