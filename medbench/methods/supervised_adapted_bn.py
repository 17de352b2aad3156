"""A control: supervised ImageNet with batch statistics estimated anew on the training images.

What of a pretraining is adaptation alone?
"""

from __future__ import annotations

from medbench.images.augment import Crop
from medbench.methods.supervised import SUPERVISED
from medbench.models import weights
from medbench.models.pretrain.recipe import Recipe
from medbench.schema import Encoder, Method, Split


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """One pass over the training images as they are, nothing learnt.

    Modality and budget change nothing.
    """
    return (Recipe(None, (Crop(scale=(1, 1), ratio=(1, 1), flip=0),), n_images, batch=128),)


def _refuses(pool: Split, encoder: Encoder) -> str:
    import timm
    import torch

    with torch.device("meta"):
        model = timm.create_model(encoder.architecture, num_classes=0)
    norms = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    return "" if norms else "it has no batch norm, so there are no batch statistics to estimate"


SUPERVISED_BN = Method(
    "supervised-bn",
    version=1,
    title="Supervised ImageNet, batch statistics of the task (control)",
    sources=("imagenet+task",),
    weights=SUPERVISED.weights,
    encoder=weights.build_encoder,
    seeded=False,
    recipes=recipes,
    refuses=_refuses,
    default=False,
)
