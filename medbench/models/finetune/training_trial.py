"""How long a view of a fine-tuning takes: a step of it on drawn pixels. For forecasts alone."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medbench.models.finetune.loop import FineTuning
from medbench.models.finetune.network import optimiser_of
from medbench.models.finetune.recipe import FineTuneRecipe
from medbench.models.finetune.state import State
from medbench.schema import Kind, Network, Train
from medbench.system.precision import products

#: Steps that are timed, after one to warm up.
STEPS = 2


def seconds_a_view(
    network: Network, kind: Kind, classes: int, device: str, *, recipe: FineTuneRecipe
) -> float:
    """Return the seconds that a view of this recipe takes, from a few steps on drawn pixels."""
    labels: np.ndarray = np.arange(recipe.batch) % classes
    if kind == "multilabel":
        labels = np.eye(classes)[labels]
    shape = (recipe.batch, network.size, network.size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rows = np.arange(recipe.batch)
    train = Train(pixels, labels, rows, kind, classes, device, network=network)
    with (
        products(network.precision),
        torch.random.fork_rng(devices=[device] if device != "cpu" else []),
    ):
        # the start of its head takes no part in a step
        one = replace(recipe, probe=False)
        job = FineTuning(train, network, one, rows, rows[:0], 0, Path(), lambda *_: (_ZERO, _ZERO))
        net, rate = job.start(job.ranks()[0]), job.rates()[0]
        optimiser, index = optimiser_of(net, recipe, rate), rows[: job.batch]
        batch = torch.as_tensor(pixels[index], device=job.device)
        start = 0.0
        for step in range(STEPS + 1):
            if step == 1:
                start = time.perf_counter()
            job._step(net, optimiser, State(step), rate, job.steps(1.0), index, batch)
            next(net.parameters()).sum().item()  # a GPU has done it
        return (time.perf_counter() - start) / (STEPS * job.batch)


_ZERO = torch.zeros(())
