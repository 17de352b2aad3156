"""SimCLR (Chen et al. 2020).

Two views of an image are told from all other images of the batch by their similarity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from medbench.images import augment
from medbench.models import weights
from medbench.models.pretrain.initial_weights import SOURCES, starting
from medbench.models.pretrain.position import Position
from medbench.models.pretrain.recipe import Recipe, gentle, step_of
from medbench.schema import Method, UserError
from medbench.schema.methods import budgeted

if TYPE_CHECKING:
    import torch

    from medbench.models.pretrain.objective import Objective


def simclr(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """NT-Xent over a two-layer head.

    The head is REMEDIS's: D - D - 128, batch norm after both; lightly's own default has 2048 in the
    middle.
    """
    import math

    from lightly.models.modules.heads import SimCLRProjectionHead

    from medbench.models.pretrain.contrastive import nt_xent
    from medbench.models.pretrain.objective import Objective, embed

    head = SimCLRProjectionHead(
        dim, dim, recipe.hyper["width"], batch_norm=recipe.hyper["head_norm"]
    )

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        return list(head(embed(backbone, views)).chunk(2))

    return Objective(
        {"backbone": backbone, "head": head},
        project,
        lambda outputs, position: nt_xent(outputs[0], outputs[1], recipe.hyper["temperature"]),
        chance=lambda batch: math.log(2 * batch - 1),
    )


def recipes(
    modality: str, budget: str, n_images: int, source: str, views: str = augment.RECIPES[0]
) -> tuple[Recipe, ...]:
    """Return the one stage of SimCLR, as `Method.recipes` takes it.

    views: one of `augment.RECIPES`.
    """
    # temperature and width: SimCLR's and Azizi et al.'s; lightly's default temperature is 0.5
    common = Recipe(
        simclr,
        augment.simclr_views(modality, views),
        0,
        0,
        hyper={"temperature": 0.1, "width": 128, "head_norm": True},
    )
    if budget != "paper":
        return (common.having(views=budgeted(budget, n_images), **gentle(source)),)
    # Azizi et al.'s own were NOT FOUND; these are the defaults of the authors' later code
    # (google-research/medical-ai-research-foundations, run.py): LARS without norms and biases, 0.3
    # for 256 images, 10 of 100 epochs of warm-up. It adds the loss of both directions, of which
    # lightly takes the mean: LARS evens that out, norms and biases learn at half its rate
    batch, parts = step_of(512, 256, n_images)
    return (
        common.having(
            views=100 * 2 * n_images,
            batch=batch,
            accumulate=parts,
            optimiser="lars",
            lr=0.3 * batch / 256,
            warmup=0.1,
            weight_decay=(1e-6, 1e-6),
            momentum=0.9,
        ),
    )


def augmented(method: Method, views: str, made_by: Callable[..., tuple[Recipe, ...]]) -> Method:
    """Return the method with one of `augment.RECIPES` as its random views.

    views: the recipe's name; the first one is the method as it is. made_by: makes its recipes.
    Raises UserError for any other name.
    """
    if views not in augment.RECIPES:
        what = f"Unknown augmentation '{views}' of {method.name}."
        then = f"medbench run --methods {method.name} --augmentations {augment.RECIPES[-1]}"
        raise UserError(what, allowed=augment.RECIPES, given=views, then=then)
    if views == augment.RECIPES[0]:
        return method
    return replace(
        method,
        name=f"{method.name}:{views}",
        title=f"{method.title}, the views of Azizi et al. 2021 for {views}",
        # an official checkpoint has its own
        sources=tuple(source for source in method.sources if source != "imagenet"),
        recipes=partial(made_by, views=views),
        augmented=None,
        default=False,
    )


SIMCLR = Method(
    "simclr",
    version=1,
    title="SimCLR",
    sources=SOURCES,
    weights=starting("simclr"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    augmented=partial(augmented, made_by=recipes),
    citation="Chen et al. 2020, arXiv:2002.05709",
)
