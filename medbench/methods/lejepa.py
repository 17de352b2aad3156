"""LeJEPA (Balestriero and LeCun 2025).

All views of an image get one embedding, and over images embeddings are spread as an isotropic
Gaussian.
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


def lejepa(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """Distance of each view from the mean of the large ones, and SIGReg.

    The Epps-Pulley test of normality along directions drawn anew each time.
    """
    import warnings

    import torch
    from lightly.loss.lejepa_loss import LeJEPALoss

    from medbench.models.pretrain.heads import mlp
    from medbench.models.pretrain.objective import Objective, embed

    hyper = recipe.hyper
    large = sum(crop.count for crop in recipe.crops if crop.size == 1)
    total = sum(crop.count for crop in recipe.crops)
    head = mlp([dim, hyper["hidden"], hyper["hidden"], hyper["width"]], last_bias=True)
    loss = LeJEPALoss(
        hyper["normality"], gather_distributed=True, sigreg_num_vectors=hyper["directions"]
    )

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        return list(head(embed(backbone, views)).chunk(total))

    def criterion(outputs: list[torch.Tensor], position: Position) -> torch.Tensor:
        with warnings.catch_warnings():
            # lightly's
            warnings.filterwarnings(
                "ignore", "torch.distributed.nn.functional.all_reduce is deprecated", FutureWarning
            )
            value: torch.Tensor = loss(
                global_proj=torch.stack(outputs[:large]), local_proj=torch.stack(outputs[large:])
            )
        return value

    # of outputs that are all zero, which of constant ones have the least loss
    constant = hyper["normality"] * float(
        ((1 - loss.sigreg.phi).square() * loss.sigreg.weights).sum()
    )
    return Objective(
        {"backbone": backbone, "head": head, "loss": loss},
        project,
        criterion,
        chance=lambda batch: constant * batch,
    )


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """Return the one stage of LeJEPA, as `Method.recipes` takes it."""
    crops = augment.lejepa_views(modality)
    if budget != "paper":
        # ours, after the authors' small example (rbalestr-lab/lejepa, MINIMAL.md: 16 values, 256
        # directions)
        hyper = {"normality": 0.05, "hidden": 512, "width": 16, "directions": 256}
        return (
            Recipe(lejepa, crops, budgeted(budget, n_images), 0, hyper=hyper).having(
                **gentle(source)
            ),
        )
    # the authors', ImageNet's: rbalestr-lab/lejepa, README.md and MINIMAL.md; the weight decay is a
    # ViT's, a ResNet's is 5e-4
    epochs = 100
    batch, parts = step_of(256, 256, n_images)
    lr = 5e-4 * batch / 256
    return (
        Recipe(
            lejepa,
            crops,
            round(epochs * n_images * sum(crop.count * crop.size**2 for crop in crops)),
            batch=batch,
            accumulate=parts,
            optimiser="adamw",
            lr=lr,
            final_lr=0.001 * lr,
            warmup=1 / epochs,
            warmup_lr=0.01 * lr,
            weight_decay=(0.05, 0.05),
            hyper={"normality": 0.05, "hidden": 2048, "width": 128, "directions": 1024},
        ),
    )


LEJEPA = Method(
    "lejepa",
    version=1,
    title="LeJEPA",
    sources=SOURCES,
    weights=starting("lejepa"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    default=False,
    citation="Balestriero and LeCun 2025, arXiv:2511.08544",
)
