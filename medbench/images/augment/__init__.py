"""Random views of images for pretraining and fine-tuning.

A whole batch at a time, on the images' device, each image with its own parameters.

A `Crop` is one kind of view. Its operations, in this order: perspective, rotation, crop with
resize, flips, colour jitter in random order, grey, blur, solarisation, normalisation. Own code: 2.2
times kornia's speed with the same operations on one thread, and antialiased besides
(benchmarks/speed/views.py).
"""

from medbench.images.augment.apply import (
    draw_views,
    finished,
    normalised_images,
    render_views,
    views,
)
from medbench.images.augment.parameters import Parameters, draw_parameters
from medbench.images.augment.policies import (
    RECIPES,
    Crop,
    byol_views,
    dino_views,
    finetune_views,
    lejepa_views,
    mae_views,
    nielsen2023_views,
    simclr_views,
    swav_views,
    truong2021_views,
)

#: An ingredient (`schema.ingredients`): how the parameters of views are drawn and applied.
CROPS = 2
#: Steps of a training from which on its views are fused on a GPU: compiling takes about as long as
#: so many steps gain.
FUSED_FROM = 500

__all__ = [
    "CROPS",
    "FUSED_FROM",
    "RECIPES",
    "Crop",
    "Parameters",
    "byol_views",
    "dino_views",
    "draw_parameters",
    "draw_views",
    "finetune_views",
    "finished",
    "lejepa_views",
    "mae_views",
    "nielsen2023_views",
    "normalised_images",
    "render_views",
    "simclr_views",
    "swav_views",
    "truong2021_views",
    "views",
]
