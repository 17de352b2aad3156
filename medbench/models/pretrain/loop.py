"""Stages of a pretraining, step by step.

All chance in a step comes from (seed, stage, step), so that a killed run can go on exactly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medbench.images.augment import FUSED_FROM
from medbench.models.pretrain import batch_order, monitor
from medbench.models.pretrain.batches import Data, positions_of, views_of
from medbench.models.pretrain.checkpointing import CheckpointWriter, DistributedContext, locked
from medbench.models.pretrain.objective import Objective, encoder_alone, fit_sizes
from medbench.models.pretrain.optimizer import freeze, make_optimiser, set_rates, train_mode
from medbench.models.pretrain.position import Position
from medbench.models.pretrain.recipe import Recipe, fitted
from medbench.schema import UserError
from medbench.system import memory
from medbench.system.precision import autocast, products

LOOKS = 4  # at the held-out images in a stage, its end among them, for the first stage its start
ADVICE = "Take a smaller --size or encoder, or free the GPU of other work: a batch belongs to the method, and is not made smaller."
# images a look: one for 25 views of the stage, which makes a twentieth of its work
_LOOK_SHARE, _LOOK_MOST = 25, 2_500


@dataclass(frozen=True, eq=False)
class Stage:
    """What a recipe comes to on a data set.

    batch: images a step, of all processes, in `parts` one after another. views: of the stages
    before.

    train, held: positions in Data.index that are learnt from, and that are not.
    """

    number: int
    recipe: Recipe
    train: np.ndarray
    held: np.ndarray
    batch: int
    parts: int
    steps: int
    views: float
    views_a_step: float

    @property
    def warmup(self) -> int:
        return round(self.recipe.warmup * self.steps)


@dataclass(eq=False)
class Training:
    """A stage at work. wrapped: the objective, or its DDP."""

    stage: Stage
    objective: Objective
    wrapped: torch.nn.Module
    optimiser: torch.optim.Optimizer
    data: Data
    world: DistributedContext
    diary: CheckpointWriter
    seed: int
    device: str
    precision: str
    seen: dict[str, list[float]] = field(
        default_factory=lambda: {"step": [], "loss": [], "rank": []}
    )


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


def plan_stages(data: Data, recipes: Sequence[Recipe], world: DistributedContext) -> list[Stage]:
    """Work out what each recipe comes to on these images.

    Raises UserError where they are too few.
    """
    stages: list[Stage] = []
    views = 0.0
    for number, asked in enumerate(recipes):
        recipe = fitted(asked, data.bags, data.groups)
        held = (
            batch_order.monitored_part(data.groups)
            if recipe.objective
            else np.zeros(len(data.index), bool)
        )
        train = np.flatnonzero(~held)
        most = batch_order.largest_batch(data.bags[train], data.groups[train], paired=recipe.paired)
        parts = max(1, min(recipe.accumulate, most // (2 * world.size)))
        batch = min(recipe.batch, most) // (parts * world.size) * parts * world.size
        if batch < 2 * parts * world.size:
            n = len(np.unique(data.groups))
            raise UserError(
                f"{len(data.index)} training images in {n} groups are too few to pretrain on with {world.size} processes."
            )
        cost = batch * recipe.views_an_image(data.size)
        stage = Stage(
            number,
            recipe,
            train,
            np.flatnonzero(held),
            batch,
            parts,
            max(1, int(recipe.views / cost)),
            views,
            cost,
        )
        views += stage.steps * cost
        stages.append(stage)
    return stages


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
        looks = set(np.linspace(0, stage.steps, LOOKS).astype(int).tolist()) - {
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
            if step in looks:
                _look(training, step)
            epoch, batch, pairs = next(coming)
            with memory.advised(f"A step of {stage.batch} images", ADVICE):
                losses.append(_step(training, step, pairs, pixels))
            if step % every == every - 1 or step == stage.steps - 1:
                _log(training, step, pairs, losses)
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
        _look(training, stage.steps)
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


def _log(training: Training, step: int, pairs: np.ndarray, losses: Sequence[torch.Tensor]) -> None:
    """Write a line of the history for the last steps. Raises watch.Collapsed."""
    stage, seen = training.stage, training.seen
    features = training.objective.features
    assert features is not None, "a step has been made"
    rank = torch.tensor(monitor.effective_rank(features[: monitor.RANKED]), device=training.device)
    seen["step"].append(step + 1)
    seen["loss"].append(training.world.mean(torch.stack(list(losses)).mean()))
    seen["rank"].append(training.world.mean(rank))
    now = {name: values[-1] for name, values in seen.items()}
    if stage.recipe.paired:
        now["from_two_images"] = float((pairs[:, 0] != pairs[:, 1]).mean())
    _note(training, step + 1, {**now, "lr": training.optimiser.param_groups[0]["lr"]})
    try:
        chance = training.objective.chance(stage.batch // stage.parts)
        monitor.check_collapse(
            seen["step"], seen["loss"], seen["rank"], chance, stage.warmup, stage.steps
        )
    except monitor.Collapsed:
        training.diary.write_history()
        raise


def _note(training: Training, steps: int, record: dict[str, Any]) -> None:
    stage = training.stage
    training.diary.note(stage.views + steps * stage.views_a_step, {"stage": stage.number, **record})


@torch.no_grad()
def _look(training: Training, step: int) -> None:
    """Embed a few images with the exported encoder as it is now: rank, kNN.

    And the loss on held-out images, each with views of its own.
    """
    stage, data, objective, device = (
        training.stage,
        training.data,
        training.objective,
        training.device,
    )
    n = min(_LOOK_MOST, int(stage.steps * stage.views_a_step) // _LOOK_SHARE)
    rng = np.random.default_rng(0)  # the same images and views at every look
    held = rng.permutation(stage.held)[: max(n // 4, monitor.NEIGHBOURS)]
    bank = rng.permutation(stage.train)[: max(n - len(held), monitor.NEIGHBOURS)]
    objective.eval()
    # for the masks and directions that an objective draws; each step sets its own
    torch.manual_seed(0)
    record: dict[str, Any] = {"step": step}
    with autocast(training.device, training.precision):
        encoder = objective.parts[objective.exported]
        chunks = [
            chunk
            for part in (bank, held)
            for chunk in np.array_split(part, 1 + len(part) // 128)
            if len(chunk)
        ]
        embedded = _embedded(training, encoder, chunks)
        record["look_rank"] = monitor.effective_rank(embedded[: len(bank)])
        if data.labels is not None and len(held):
            values = embedded.cpu().numpy()
            record["knn_auc"] = monitor.knn_auc(
                values[: len(bank)], data.labels[bank], values[len(bank) :], data.labels[held]
            )
        share = min(len(held), stage.batch // stage.parts) // training.world.size
        if share >= 2:
            members = np.stack([held[: share * training.world.size]] * 2, 1)
            mine = training.world.share(len(members))
            fuse = stage.steps >= FUSED_FROM
            views = views_of(
                data,
                stage.recipe.crops,
                members,
                mine,
                device,
                torch.Generator().manual_seed(0),
                paired=False,
                fuse=fuse,
            )
            record["held_out_loss"] = training.world.mean(
                objective(views, Position(step, stage.steps))
            )
    _note(training, step, record)


def _embedded(
    training: Training, encoder: torch.nn.Module, chunks: Sequence[np.ndarray]
) -> torch.Tensor:
    """(n, D) float32 of the images at these positions, on the device.

    Each process embeds some of the chunks.
    """
    world, device = training.world, training.device
    mine = chunks[world.rank :: world.size]
    found = [encoder(images).float() for images in training.data.plain(mine, device)]
    if world.size > 1:
        shares = world.gathered([one.cpu() for one in found])
        found = [shares[i % world.size][i // world.size].to(device) for i in range(len(chunks))]
    return torch.cat(found)


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
    _note(training, stage.steps, {"step": stage.steps})


def _seed(*numbers: int) -> int:
    """One seed from several, independent of any other combination."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
