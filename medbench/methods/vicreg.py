"""VICReg (Bardes et al. 2022).

Two views of an image get the same embedding, each value of which varies over the batch and with no
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


def vicreg(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """Invariance, variance and covariance over an expander of three layers.

    Constant outputs cost the variance term alone.
    """
    from lightly.loss.vicreg_loss import invariance_loss, variance_loss

    from medbench.models.pretrain.contrastive import off_diagonal_square
    from medbench.models.pretrain.heads import mlp
    from medbench.models.pretrain.objective import Objective, each_view, whole_batch

    hyper = recipe.hyper
    head = mlp([dim, hyper["hidden"], hyper["hidden"], hyper["width"]])
    eps = 1e-4  # lightly's, of the variance

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        return each_view(backbone, head, views)

    def criterion(outputs: list[torch.Tensor], position: Position) -> torch.Tensor:
        first, second = map(whole_batch, outputs)
        alike: torch.Tensor = invariance_loss(x=first, y=second)
        varied = 0.5 * (variance_loss(x=first, eps=eps) + variance_loss(x=second, eps=eps))
        apart = off_diagonal_square(first) + off_diagonal_square(second)
        value: torch.Tensor = (
            hyper["invariance"] * alike + hyper["variance"] * varied + hyper["covariance"] * apart
        )
        return value

    constant = hyper["variance"] * (1 - eps**0.5)
    return Objective(
        {"backbone": backbone, "head": head}, project, criterion, chance=lambda batch: constant
    )


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """Return the one stage of VICReg, as `Method.recipes` takes it."""
    # the paper's, ImageNet's: facebookresearch/vicreg, main_vicreg.py and its README
    hyper = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}
    common = Recipe(vicreg, augment.byol_views(modality), 0, 0)
    if budget != "paper":
        # ours: 64 images vary in 63 directions at most, far from the 8,192 that should each vary by
        # itself
        return (
            common.having(
                views=budgeted(budget, n_images),
                hyper={**hyper, "hidden": 512, "width": 512},
                **gentle(source),
            ),
        )
    epochs = 1000
    batch, parts = step_of(2048, 256, n_images)  # variances and covariances are those of a part
    lr = 0.2 * batch / 256
    return (
        common.having(
            views=epochs * 2 * n_images,
            batch=batch,
            accumulate=parts,
            optimiser="lars",
            lr=lr,
            final_lr=0.001 * lr,
            warmup=10 / epochs,
            weight_decay=(1e-6, 1e-6),
            hyper={**hyper, "hidden": 8192, "width": 8192},
        ),
    )


VICREG = Method(
    "vicreg",
    version=1,
    title="VICReg",
    sources=SOURCES,
    weights=starting("vicreg"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    default=False,
    citation="Bardes, Ponce and LeCun 2022, arXiv:2105.04906",
)
