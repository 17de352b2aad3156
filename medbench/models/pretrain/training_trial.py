"""How long a view of a pretraining takes: steps of it on drawn pixels. For forecasts alone."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import tee
from pathlib import Path

import numpy as np
import torch

from medbench.models.pretrain import loop
from medbench.models.pretrain.batches import Data
from medbench.models.pretrain.checkpointing import CheckpointWriter, DistributedContext
from medbench.models.pretrain.recipe import Recipe
from medbench.models.pretrain.stages import plan_stages
from medbench.schema import Encoder
from medbench.system.precision import products

#: Steps that are timed, after one to warm up, and views embedded in the time that one may take,
#: in seconds: a batch is made smaller where the encoder is slow, since what surrounds it is little
#: then.
STEPS, SECONDS = 2, 2.0
LEAST = 16  # images of a batch
#: Looks at the encoder and at held-out images take a twentieth of a pretraining (`looks`).
LOOKS = 1.05


def seconds_a_view(
    build: Callable[[], torch.nn.Module],
    encoder: Encoder,
    recipe: Recipe,
    device: str,
    precision: str,
    speed: float,
) -> float:
    """Return the seconds that a view of this recipe takes, from a few steps on drawn pixels.

    build() -> the encoder. speed: images a second that the encoder embeds, by which the trial's
    batch is chosen. Looks at the encoder are included.
    """
    affordable = int(SECONDS * speed / recipe.views_an_image(encoder.size))
    batch = min(recipe.batch, max(LEAST, affordable))
    views = round((STEPS + 2) * batch * recipe.views_an_image(encoder.size))
    tried = recipe.having(batch=batch, accumulate=1, views=views)
    n = 2 * batch  # of which some are held out
    names = np.arange(n).astype(str)
    shape = (n, encoder.size, encoder.size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    look = (tuple(encoder.mean), tuple(encoder.std), encoder.size)
    data, world = Data(pixels, np.arange(n), names, names, None, *look), DistributedContext(0, 1)
    with (
        tempfile.TemporaryDirectory() as place,
        products(precision),
        torch.random.fork_rng(devices=[device] if device != "cpu" else []),
    ):
        (stage,) = plan_stages(data, [tried], world)
        writer = CheckpointWriter(Path(place), world, device, views, "trial")
        training = loop._prepare(stage, build, data, world, writer, 0, device, precision, None)
        order, later = tee(loop._batches(training, 0, 0))
        coming = data.ahead(loop._positions(training, later), device)
        start = 0.0
        for step in range(STEPS + 1):
            if step == 1:
                start = time.perf_counter()
            loop._step(training, step, next(order)[2], coming).item()  # a GPU has done it
        taken = time.perf_counter() - start
    return LOOKS * taken / (STEPS * stage.views_a_step)
