"""Single steps of the trainings, for the scripts beside this one.

The loops' own code, set up once.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medbench.models.finetune import MODERN
from medbench.models.finetune import loop as finetuning
from medbench.models.finetune.network import optimiser_of
from medbench.models.pretrain import Recipe, loop
from medbench.models.pretrain.batches import Data
from medbench.models.pretrain.checkpointing import CheckpointWriter, DistributedContext
from medbench.models.pretrain.optimizer import train_mode
from medbench.protocols.finetune import linear_layer
from medbench.schema import Network, Train
from medbench.system.precision import autocast, products

HALF = (0.5, 0.5, 0.5)
CLASSES = 7
Build = Callable[[], torch.nn.Module]


def pixels_of(n: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (n, size, size, 3), np.uint8)


def pretraining(
    method: Any,
    build: Build,
    size: int,
    batch: int,
    device: str,
    precision: str,
    n: int = 512,
) -> tuple[Recipe, loop.Training, Any]:
    """The quick recipe of a method with this batch, its training set up, and a function that makes
    one step."""
    names = np.arange(n).astype(str)
    data = Data(pixels_of(n, size), np.arange(n), names, names, None, HALF, HALF, size)
    recipe = method.recipes("dermoscopy", "quick", n, "imagenet+task")[0].having(
        batch=batch, accumulate=1, views=10**8
    )
    world = DistributedContext.here()
    (stage,) = loop.plan_stages(data, [recipe], world)
    writer = CheckpointWriter(Path(tempfile.mkdtemp()), world, device, 1, "benchmark")
    with products(precision):
        training = loop._prepare(stage, build, data, world, writer, 0, device, precision, None)
    order, later = itertools.tee(loop._batches(training, 0, 0))
    pixels = data.ahead(loop._positions(training, later), device)

    def step() -> None:
        with products(precision):
            loop._step(training, 5, next(order)[2], pixels)

    return recipe, training, step


def bare_pretraining(
    training: loop.Training, recipe: Recipe, size: int, batch: int
) -> Callable[[], None]:
    """Forward and backward of the network alone, in the same precision, on fixed views of the
    recipe's sizes; its batch statistics stay as they are where the recipe says so."""
    net = training.objective.parts["backbone"]
    groups: dict[int, int] = {}
    for crop in recipe.crops:
        groups[crop.pixels(size)] = groups.get(crop.pixels(size), 0) + crop.count * batch
    fixed = [
        torch.randn(n, 3, s, s, device=training.device).contiguous(
            memory_format=torch.channels_last
        )
        for s, n in groups.items()
    ]

    def work() -> None:
        train_mode(training.objective, recipe)
        with products(training.precision):
            with autocast(training.device, training.precision):
                loss = sum(net(views).float().square().mean() for views in fixed)
            loss.backward()  # type: ignore[union-attr]
            net.zero_grad()

    return work


def fine_tuning(
    build: Build, size: int, batch: int, device: str, precision: str, n: int = 512
) -> tuple[Any, Any, Callable[[], None]]:
    """Network, optimiser, and a function that makes one step."""
    network = Network(build, None, size, HALF, HALF, "dermoscopy", precision)
    labels, names = np.arange(n) % CLASSES, np.arange(n).astype(str)
    given = Train(pixels_of(n, size), labels, names, "multiclass", CLASSES, device, network=network)
    recipe = replace(MODERN, batch=batch, probe=False)
    nobody = np.array([], np.int64)
    job = finetuning.FineTuning(
        given, network, recipe, np.arange(n), nobody, 0, Path(tempfile.mkdtemp()), linear_layer
    )
    net, state = job.start(), finetuning.State()
    optimiser = optimiser_of(net, recipe, 1e-4)
    order, later = itertools.tee(job.order.rows(step) for step in itertools.count())
    pixels = job.pixels.ahead(later)

    def step() -> None:
        with products(precision):
            job._step(net, optimiser, state, 1e-4, 1000, next(order), next(pixels))
        state.step += 1

    return net, optimiser, step


def bare_fine_tuning(
    net: Any, optimiser: torch.optim.Optimizer, size: int, batch: int, device: str, precision: str
) -> Callable[[], None]:
    """Forward, backward and update of the same network on one fixed batch, in the same
    precision."""
    images = torch.randn(batch, 3, size, size, device=device).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.arange(batch, device=device) % CLASSES

    def work() -> None:
        net.train()
        with products(precision), autocast(device, precision):
            loss = torch.nn.functional.cross_entropy(net(images).float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return work
