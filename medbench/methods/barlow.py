"""Barlow Twins (Zbontar et al. 2021).

Over a batch, each value of one view's embedding goes with itself in the other view and with no
other.
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


def barlow(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """Cross-correlation towards the identity.

    The views are brought together first: lightly's own way normalises by each process's share.
    """
    from lightly.loss import BarlowTwinsLoss

    from medbench.models.pretrain.heads import mlp
    from medbench.models.pretrain.objective import Objective, each_view, whole_batch

    hyper = recipe.hyper
    head = mlp([dim, hyper["hidden"], hyper["hidden"], hyper["width"]])
    loss = BarlowTwinsLoss(hyper["redundancy"])

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        return each_view(backbone, head, views)

    def criterion(outputs: list[torch.Tensor], position: Position) -> torch.Tensor:
        value: torch.Tensor = loss(*map(whole_batch, outputs))
        return value

    return Objective(
        {"backbone": backbone, "head": head},
        project,
        criterion,
        chance=lambda batch: float(hyper["width"]),
    )


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """Return the one stage of Barlow Twins, as `Method.recipes` takes it."""
    # the authors' code, ImageNet's: facebookresearch/barlowtwins, main.py; the paper has 0.005, and
    # a weight decay of 1.5e-6
    hyper = {"redundancy": 0.0051}
    common = Recipe(barlow, augment.byol_views(modality), 0, 0)
    if budget != "paper":
        # ours: correlations of 64 images are too noisy for 8,192 x 8,192 of them
        return (
            common.having(
                views=budgeted(budget, n_images),
                hyper={**hyper, "hidden": 512, "width": 512},
                **gentle(source),
            ),
        )
    epochs = 1000
    # correlations are those of a part; the paper loses little with batches of 256
    batch, parts = step_of(2048, 256, n_images)
    lr = 0.2 * batch / 256
    return (
        common.having(
            views=epochs * 2 * n_images,
            batch=batch,
            accumulate=parts,
            optimiser="lars",
            lr=lr,
            final_lr=0.001 * lr,
            bias_lr=0.0048 / 0.2,
            warmup=10 / epochs,
            weight_decay=(1e-6, 1e-6),
            hyper={**hyper, "hidden": 8192, "width": 8192},
        ),
    )


BARLOW = Method(
    "barlow",
    version=1,
    title="Barlow Twins",
    sources=SOURCES,
    weights=starting("barlow"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    default=False,
    citation="Zbontar et al. 2021, arXiv:2103.03230",
)
