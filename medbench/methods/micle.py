"""MICLe (Azizi et al. 2021): SimCLR, then SimCLR on pairs of images of one bag.

A bag is a lesion or a study. Both stages stand in this method's own recipes: together they see
SimCLR's views, and no method needs another's weights.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from medbench.images import augment
from medbench.methods.simclr import augmented
from medbench.methods.simclr import recipes as simclr_recipes
from medbench.models import weights
from medbench.models.pretrain.initial_weights import starting
from medbench.models.pretrain.recipe import Recipe
from medbench.schema import Encoder, Method, Split


def recipes(
    modality: str, budget: str, n_images: int, source: str, views: str = augment.RECIPES[0]
) -> tuple[Recipe, ...]:
    """Return half of SimCLR's views each for SimCLR and for bag pairs.

    So both together see what SimCLR sees. The head stays between them.
    """
    (whole,) = simclr_recipes(modality, budget, n_images, source, views)
    first = whole.having(views=whole.views // 2)
    return first, first.having(paired=True)


def _refuses(pool: Split, encoder: Encoder) -> str:
    several = np.unique(pool.bags, return_counts=True)[1] > 1
    return (
        ""
        if several.any()
        else "no bag (lesion, study) of the training part has two images: there is nothing to pair"
    )


MICLE = Method(
    "micle",
    version=2,
    title="MICLe",
    sources=("imagenet+task", "task"),
    weights=starting("simclr"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    refuses=_refuses,
    augmented=partial(augmented, made_by=recipes),
    citation="Azizi et al. 2021, arXiv:2101.05224",
)
