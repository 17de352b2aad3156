"""Stages of a pretraining, step by step.

All chance in a step comes from (seed, stage, step), so that a killed run can go on exactly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medbench.images.augment import FUSED_FROM
from medbench.models.pretrain import batch_order, looks
from medbench.models.pretrain.batches import Data, positions_of, views_of
from medbench.models.pretrain.checkpointing import CheckpointWriter, DistributedContext, locked
from medbench.models.pretrain.objective import Objective, encoder_alone, fit_sizes
from medbench.models.pretrain.optimizer import freeze, make_optimiser, set_rates, train_mode
from medbench.models.pretrain.position import Position
from medbench.models.pretrain.recipe import Recipe
from medbench.models.pretrain.stages import Stage, Training, plan_stages
from medbench.system import memory
from medbench.system.precision import autocast, products

LOOKS = 4  # at the held-out images in a stage, its end among them, for the first stage its start
ADVICE = "Take a smaller --size or encoder, or free the GPU of other work: a batch belongs to the method, and is not made smaller."


def train_stages(
    data: Data,
    build: Callable[[], torch.nn.Module],
    recipes: Sequence[Recipe],
    *,
    seed: int,
    folder: Path,
    device: str,
    precision: str,
    stage: str,
) -> None:
    """Train the stages one after another; see `models.pretrain.pretrain`."""
    world = DistributedContext.here()
    stages = plan_stages(data, recipes, world)
    total = round(stages[-1].views + stages[-1].steps * stages[-1].views_a_step)
    place = torch.device(device)
    with (
        locked(folder, world) as wanted,
        products(precision),
        torch.random.fork_rng(devices=[place] if place.type == "cuda" else []),
    ):
        if not wanted:
            return
        diary = CheckpointWriter(folder, world, device, total, stage)
        saved = diary.load()
        for planned in stages[saved["stage"] if saved else 0 :]:
            torch.manual_seed(_seed(seed, planned.number))  # for the heads
            training = _prepare(planned, build, data, world, diary, seed, device, precision, saved)
            saved = _train(
                training,
                saved if saved and saved.get("step") and saved["stage"] == planned.number else None,
            )
        assert saved is not None, "a pretraining has at least one stage"
        diary.finish(encoder_alone(saved["objective"], saved["exported"]))


def _prepare(
    stage: Stage,
    build: Callable[[], torch.nn.Module],
    data: Data,
    world: DistributedContext,
    diary: CheckpointWriter,
    seed: int,
    device: str,
    precision: str,
    saved: dict[str, Any] | None,
) -> Training:
    """Build the networks of a stage with what `saved` holds for them.

    All of it, where the objective is the same as before, heads included.
    """
    recipe = stage.recipe
    backbone = build().to(device).to(memory_format=torch.channels_last)
    dim = fit_sizes(backbone, [crop.pixels(data.size) for crop in recipe.crops], device)
    if saved is not None and saved["kind"] != _kind(recipe):
        backbone.load_state_dict(encoder_alone(saved["objective"], saved["exported"]))
    objective = (recipe.objective or _nothing)(backbone, dim, recipe).to(device)
    if saved is not None and saved["kind"] == _kind(recipe):
        objective.load_state_dict(saved["objective"])
    freeze(objective, recipe)
    wrapped = world.wrap(objective, device) if recipe.objective else objective
    return Training(
        stage,
        objective,
        wrapped,
        make_optimiser(recipe, objective),
        data,
        world,
        diary,
        seed,
        device,
        precision,
    )


def _nothing(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """Return the objective of a stage that learns nothing."""
    return Objective(
        {"backbone": backbone},
        lambda views, position: [],
        lambda outputs, position: torch.zeros(()),
        lambda batch: 0.0,
    )


def _kind(recipe: Recipe) -> str:
    settings = recipe.settings()
    return json.dumps([settings["objective"], settings["hyper"]], sort_keys=True)


def _train(training: Training, saved: dict[str, Any] | None) -> dict[str, Any]:
    """All steps of a stage, or those that `saved` has left.

    Returns what the next stage starts from.
    """
    stage, objective, diary = training.stage, training.objective, training.diary
    start, epoch, batch = (saved["step"], saved["epoch"], saved["batch"]) if saved else (0, 0, 0)
    if saved and "optimiser" in saved:
        training.optimiser.load_state_dict(saved["optimiser"])
    made = {"exported": objective.exported, "kind": _kind(stage.recipe)}
    if stage.recipe.objective is None:
        _estimate_norms(training)
    else:
        looked_at = set(np.linspace(0, stage.steps, LOOKS).astype(int).tolist()) - {
            stage.steps,
            0 if stage.number else -1,
        }
        # to read a loss, a GPU must be waited for
        every = max(1 if training.device == "cpu" else 20, stage.steps // 1000)
        losses: list[torch.Tensor] = []
        coming, later = tee(_batches(training, epoch, batch))
        pixels = training.data.ahead(
            _positions(training, islice(later, stage.steps - start)), training.device
        )
        for step in range(start, stage.steps):
            if step in looked_at:
                looks.look(training, step)
            epoch, batch, pairs = next(coming)
            with memory.advised(f"A step of {stage.batch} images", ADVICE):
                losses.append(_step(training, step, pairs, pixels))
            if step % every == every - 1 or step == stage.steps - 1:
                looks.log_steps(training, step, pairs, losses)
                losses.clear()
                if diary.due():
                    here = {
                        "stage": stage.number,
                        "step": step + 1,
                        "epoch": epoch,
                        "batch": batch + 1,
                    }
                    diary.save(
                        {
                            **made,
                            **here,
                            "objective": objective.state_dict(),
                            "optimiser": training.optimiser.state_dict(),
                        }
                    )
        looks.look(training, stage.steps)
    done = {**made, "stage": stage.number + 1, "objective": objective.state_dict()}
    diary.save(done)
    return done


def _batches(training: Training, epoch: int, batch: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(epoch, batch, pairs (B, 2) of positions in Data.index), from there on, without end."""
    stage, data = training.stage, training.data
    bags, groups = (
        np.unique(names[stage.train], return_inverse=True)[1] for names in (data.bags, data.groups)
    )
    while True:
        rng = np.random.default_rng([training.seed, stage.number, epoch])
        table = batch_order.epoch(bags, groups, stage.batch, rng, paired=stage.recipe.paired)
        for b in range(batch, len(table)):
            yield epoch, b, stage.train[table[b]]
        epoch, batch = epoch + 1, 0


def _parts(stage: Stage, pairs: np.ndarray) -> list[np.ndarray]:
    """Divide a step's members (B, 2) into the parts that go through the network one by one."""
    n = stage.batch // stage.parts
    return [pairs[part * n : (part + 1) * n] for part in range(stage.parts)]


def _positions(
    training: Training, coming: Iterable[tuple[int, int, np.ndarray]]
) -> Iterator[np.ndarray]:
    """Of the pixels that this process's steps take, in that order."""
    for _, _, pairs in coming:
        for members in _parts(training.stage, pairs):
            yield from positions_of(
                members, training.world.share(len(members)), training.stage.recipe.paired
            )


def _step(
    training: Training, step: int, pairs: np.ndarray, pixels: Iterator[torch.Tensor]
) -> torch.Tensor:
    """One step of the optimiser.

    Returns the loss, still on the device, of this process's share. pixels: at `_positions` of this
    step, and on.
    """
    from timm.utils.clip_grad import dispatch_clip_grad

    stage, recipe, world, device = (
        training.stage,
        training.stage.recipe,
        training.world,
        training.device,
    )
    position = Position(step, stage.steps)
    # one for the views; torch's own for drop path
    generator = torch.Generator().manual_seed(_seed(training.seed, stage.number, step))
    torch.manual_seed(_seed(training.seed, stage.number, step, 1 + world.rank))
    set_rates(training.optimiser, recipe, position)
    train_mode(training.objective, recipe)
    total = torch.zeros((), device=device)
    for part, members in enumerate(_parts(stage, pairs)):
        own = {
            "sources": list(islice(pixels, 1 + recipe.paired)),
            "fuse": stage.steps >= FUSED_FROM,
        }
        mine = world.share(len(members))
        views = views_of(
            training.data,
            recipe.crops,
            members,
            mine,
            device,
            generator,
            paired=recipe.paired,
            **own,  # type: ignore[arg-type]
        )
        alone = part < stage.parts - 1 and world.size > 1
        with training.wrapped.no_sync() if alone else nullcontext():  # type: ignore[operator]
            with autocast(training.device, training.precision):
                loss = training.wrapped(views, position)
            (loss / stage.parts).backward()
        total += loss.detach() / stage.parts
    moving = [p for p in training.objective.parameters() if p.grad is not None]
    if recipe.clip is not None:
        dispatch_clip_grad(moving, recipe.clip, mode=recipe.clip_mode)
    training.objective.before_step(position)
    training.optimiser.step()
    training.optimiser.zero_grad()
    training.objective.after_step(position)
    return total


def _estimate_norms(training: Training) -> None:
    """Estimate mean and variance of every batch norm anew.

    As averages over batches of the training images as they are.
    """
    from torch.optim.swa_utils import update_bn

    stage = training.stage
    positions = np.random.default_rng([training.seed, stage.number]).permutation(stage.train)
    chunks = np.array_split(positions, -(-len(positions) // stage.batch))
    with autocast(training.device, training.precision):
        update_bn(
            training.data.plain(chunks, training.device), training.objective.parts["backbone"]
        )
    looks.note(training, stage.steps, {"step": stage.steps})


def _seed(*numbers: int) -> int:
    """One seed from several, independent of any other combination."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
