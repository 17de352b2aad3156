"""MoCo v3 (Chen et al. 2021).

One view is told from all images of the batch as a slowly following copy of the network sees their
other views.
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


def mocov3(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """Compare queries with keys of the same batch, in both directions.

    lightly has no such loss: its NT-Xent takes queries for negatives, too. The projection of pixels
    to patches of a ViT stays as it began, which the paper finds to be what keeps a ViT's training
    stable.
    """
    import math

    import torch
    from torch.nn import functional

    from medbench.models.pretrain.checkpointing import DistributedContext
    from medbench.models.pretrain.heads import follower, following, mlp
    from medbench.models.pretrain.objective import Objective, each_view, whole_batch

    hyper = recipe.hyper
    temperature = hyper["temperature"]
    patches = getattr(getattr(backbone, "patch_embed", None), "proj", None)
    if isinstance(patches, torch.nn.Conv2d):
        patches.requires_grad_(False)
    head = mlp([dim, hyper["hidden"], hyper["hidden"], hyper["width"]], last_norm=True)
    predictor = mlp([hyper["width"], hyper["hidden"], hyper["width"]], last_norm=True)
    target, target_head = follower(backbone), follower(head)

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        with torch.no_grad():
            keys = each_view(target, target_head, views)
        return [*keys, *map(predictor, each_view(backbone, head, views))]

    def contrast(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        logits = (
            functional.normalize(queries, dim=1) @ whole_batch(functional.normalize(keys, dim=1)).T
        )
        own = torch.arange(
            len(queries), device=queries.device
        ) + DistributedContext.here().rank * len(queries)
        value: torch.Tensor = 2 * temperature * functional.cross_entropy(logits / temperature, own)
        return value

    def criterion(outputs: list[torch.Tensor], position: Position) -> torch.Tensor:
        first_keys, second_keys, first, second = outputs
        return contrast(first, second_keys) + contrast(second, first_keys)

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
        chance=lambda batch: 4 * temperature * math.log(batch),
        after_step=following({backbone: target, head: target_head}, hyper["momentum"]),
    )


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """Return the one stage of MoCo v3, as `Method.recipes` takes it."""
    common = Recipe(mocov3, augment.byol_views(modality), 0, 0)
    hyper = {"temperature": 0.2, "width": 256}
    if budget != "paper":
        # ours: a short run needs keys that follow sooner
        small = {"hidden": 512, "momentum": {"quick": 0.9, "standard": 0.99}[budget]}
        return (
            common.having(
                views=budgeted(budget, n_images), hyper={**hyper, **small}, **gentle(source)
            ),
        )
    # the authors', for a ViT on ImageNet: facebookresearch/moco-v3, CONFIG.md. Theirs for a
    # ResNet-50 (LARS, temperature 1) is not offered: a recipe does not know the encoder
    epochs = 300
    batch, parts = step_of(4096, 256, n_images)  # a query knows no negatives beyond its part
    return (
        common.having(
            views=epochs * 2 * n_images,
            batch=batch,
            accumulate=parts,
            optimiser="adamw",
            lr=1.5e-4 * batch / 256,
            warmup=40 / epochs,
            weight_decay=(0.1, 0.1),
            hyper={**hyper, "hidden": 4096, "momentum": 0.99},
        ),
    )


MOCOV3 = Method(
    "mocov3",
    version=1,
    title="MoCo v3",
    sources=SOURCES,
    weights=starting("mocov3"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    default=False,
    citation="Chen, Xie and He 2021, arXiv:2104.02057",
)
