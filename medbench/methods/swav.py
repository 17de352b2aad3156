"""SwAV (Caron et al. 2020).

The cluster of one view is predicted from the others, clusters being kept of equal size by Sinkhorn.
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


def swav(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """Swap predictions between multi-crop views.

    The prototypes are a linear layer without bias as in the authors' code (lightly's have one).
    """
    import math

    import torch
    from lightly.loss import SwaVLoss
    from lightly.models.modules.heads import SwaVProjectionHead
    from lightly.models.utils import normalize_weight

    from medbench.models.pretrain.feature_queue import Queue
    from medbench.models.pretrain.objective import Objective, embed

    hyper = recipe.hyper
    large = sum(crop.count for crop in recipe.crops if crop.size == 1)
    total = sum(crop.count for crop in recipe.crops)
    head = SwaVProjectionHead(dim, hyper["hidden"], hyper["width"])
    prototypes = torch.nn.Linear(hyper["width"], hyper["prototypes"], bias=False)
    normalize_weight(prototypes.weight)
    queue = Queue(large, hyper["queue"], hyper["width"])
    loss = SwaVLoss(
        hyper["temperature"],
        hyper["sinkhorn_iterations"],
        hyper["epsilon"],
        sinkhorn_gather_distributed=True,
    )

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        return list(head(embed(backbone, views)).chunk(total))

    def criterion(outputs: list[torch.Tensor], position: Position) -> torch.Tensor:
        unit = [torch.nn.functional.normalize(output, dim=1) for output in outputs]
        scores = [prototypes(output) for output in unit]
        with torch.no_grad():
            stored = (
                [prototypes(old) for old in queue.mine()]
                if position.share >= hyper["queue_from"] and queue.full()
                else None
            )
            if queue.training:
                queue.push(torch.stack(unit[:large]))
        value: torch.Tensor = loss(scores[:large], scores[large:], stored)
        return value.squeeze()

    def before_step(position: Position) -> None:
        if position.share < hyper["frozen_until"]:
            prototypes.weight.grad = None

    return Objective(
        {"backbone": backbone, "head": head, "prototypes": prototypes, "queue": queue},
        project,
        criterion,
        chance=lambda batch: math.log(hyper["prototypes"]),
        before_step=before_step,
        after_step=lambda position: normalize_weight(prototypes.weight),
    )


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """Return the stages of SwAV, as `Method.recipes` takes them."""
    crops = augment.swav_views(modality)
    # the paper's, ImageNet's: facebookresearch/swav, main_swav.py and its 800-epoch script
    hyper = {
        "temperature": 0.1,
        "epsilon": 0.05,
        "sinkhorn_iterations": 3,
        "hidden": 2048,
        "width": 128,
        "prototypes": 3000,
    }
    if budget != "paper":
        # ours: equal clusters of a batch of 64 need fewer prototypes, and a queue of older
        # embeddings; frozen and without queue at first
        small = {
            "prototypes": {"quick": 100, "standard": 300}[budget],
            "hidden": 512,
            "queue": 512,
            "queue_from": 0.3,
            "frozen_until": 0.1,
        }
        return (
            Recipe(swav, crops, budgeted(budget, n_images), 0, hyper={**hyper, **small}).having(
                **gentle(source)
            ),
        )
    epochs = 800
    batch, parts = step_of(4096, 256, n_images)
    share = batch / 4096
    return (
        Recipe(
            swav,
            crops,
            round(epochs * n_images * sum(crop.count * crop.size**2 for crop in crops)),
            batch=batch,
            accumulate=parts,
            optimiser="lars",
            lr=4.8 * share,
            final_lr=0.0048 * share,
            warmup=10 / epochs,
            warmup_lr=0.3 * share,
            weight_decay=(1e-6, 1e-6),
            momentum=0.9,
            scale_all=True,  # its LARC wraps one group of all parameters
            # prototypes frozen for the first epoch. A part of the batch has 256 images: the queue
            # brings the 4,096 among which the paper keeps its clusters equal. Of 256 alone none
            # could give more than 256 / 3,000 of itself to one of 3,000 clusters.
            hyper={**hyper, "queue": 4096 - 256, "queue_from": 0.0, "frozen_until": 1 / epochs},
        ),
    )


SWAV = Method(
    "swav",
    version=1,
    title="SwAV",
    sources=SOURCES,
    weights=starting("swav"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    citation="Caron et al. 2020, arXiv:2006.09882",
)
