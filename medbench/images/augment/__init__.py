"""Random views of images for pretraining and fine-tuning: a whole batch at a time, on the images' device, each image with its own parameters.

A `Crop` is one kind of view. Its operations, in this order: perspective, rotation, crop with resize, flips, colour jitter in random order,
grey, blur, solarisation, normalisation. Own code: 2.2 times kornia's speed with the same operations on one thread, and antialiased
besides (benchmarks/speed/views.py).
"""

from medbench.images.augment.apply import finished, plain, render, sheet, views
from medbench.images.augment.parameters import Parameters, draw
from medbench.images.augment.policies import Crop, dino, finetune, nielsen2023, simclr, swav

__all__ = [
    "Crop",
    "Parameters",
    "dino",
    "draw",
    "finetune",
    "finished",
    "nielsen2023",
    "plain",
    "render",
    "sheet",
    "simclr",
    "swav",
    "views",
]
