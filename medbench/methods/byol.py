"""BYOL (Grill et al. 2020).

From one view of an image, what a slowly following copy of the network gives for the other is
predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medbench.images import augment
from medbench.models import weights
from medbench.models.pretrain.initial_weights import SOURCES, starting
from medbench.models.pretrain.position import Position
from medbench.models.pretrain.recipe import Recipe, gentle, step_of
from medbench.schema import Method
from medbench.schema.methods import budgeted

if TYPE_CHECKING:
    import torch

    from medbench.models.pretrain.objective import Objective


def byol(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """Squared distance of unit vectors, in both directions.

    Constant outputs have the least loss: the predictor keeps the networks from them.
    """
    import math

    import torch
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead

    from medbench.models.pretrain.heads import follower, following
    from medbench.models.pretrain.objective import Objective, each_view

    hyper = recipe.hyper
    head = BYOLProjectionHead(dim, hyper["hidden"], hyper["width"])
    predictor = BYOLPredictionHead(hyper["width"], hyper["hidden"], hyper["width"])
    target, target_head = follower(backbone), follower(head)
    opposite = NegativeCosineSimilarity()

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        with torch.no_grad():
            targets = each_view(target, target_head, views)
        return [*targets, *map(predictor, each_view(backbone, head, views))]

    def criterion(outputs: list[torch.Tensor], position: Position) -> torch.Tensor:
        first_target, second_target, first, second = outputs
        value: torch.Tensor = 4 + 2 * (
            opposite(first, second_target) + opposite(second, first_target)
        )
        return value

    return Objective(
        {
            "backbone": backbone,
            "head": head,
            "predictor": predictor,
            "target_backbone": target,
            "target_head": target_head,
        },
        project,
        criterion,
        chance=lambda batch: math.inf,
        after_step=following({backbone: target, head: target_head}, hyper["momentum"]),
    )


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """Return the one stage of BYOL, as `Method.recipes` takes it."""
    common = Recipe(byol, augment.byol_views(modality), 0, 0)
    if budget != "paper":
        # ours: a short run needs a target that follows sooner
        hyper = {"hidden": 512, "width": 128, "momentum": {"quick": 0.9, "standard": 0.99}[budget]}
        return (common.having(views=budgeted(budget, n_images), hyper=hyper, **gentle(source)),)
    epochs = 1000  # the paper's, ImageNet's: sections 3.2 and 3.3
    batch, parts = step_of(4096, 256, n_images)
    return (
        common.having(
            views=epochs * 2 * n_images,
            batch=batch,
            accumulate=parts,
            optimiser="lars",
            lr=0.2 * batch / 256,
            warmup=10 / epochs,
            weight_decay=(1.5e-6, 1.5e-6),
            hyper={"hidden": 4096, "width": 256, "momentum": 0.996},
        ),
    )


BYOL = Method(
    "byol",
    version=1,
    title="BYOL",
    sources=SOURCES,
    weights=starting("byol"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    default=False,
    citation="Grill et al. 2020, arXiv:2006.07733",
)
