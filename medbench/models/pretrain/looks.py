"""What a pretraining writes into its history: losses and ranks of steps, and looks at the encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from medbench.images.augment import FUSED_FROM
from medbench.models.pretrain import monitor
from medbench.models.pretrain.batches import views_of
from medbench.models.pretrain.position import Position
from medbench.models.pretrain.stages import Training
from medbench.schema import registry
from medbench.system.precision import autocast

# images a look: one for 25 views of the stage, which makes a twentieth of its work
_LOOK_SHARE, _LOOK_MOST = 25, 2_500


def log_steps(
    training: Training, step: int, pairs: np.ndarray, losses: Sequence[torch.Tensor]
) -> None:
    """Add a line on the last steps to the history.

    pairs: (B, 2) of the last step's images. losses: one number each. Raises monitor.Collapsed where
    the features do.
    """
    stage, seen = training.stage, training.seen
    features = training.objective.features
    assert features is not None, "a step has been made"
    rank = torch.tensor(monitor.effective_rank(features[: monitor.RANKED]), device=training.device)
    seen["step"].append(step + 1)
    seen["loss"].append(training.world.mean(torch.stack(list(losses)).mean()))
    seen["rank"].append(training.world.mean(rank))
    now = {name: values[-1] for name, values in seen.items()}
    chance = training.objective.chance(stage.batch // stage.parts)
    if math.isfinite(chance):
        now["chance"] = chance
    if stage.recipe.paired:
        now["from_two_images"] = float((pairs[:, 0] != pairs[:, 1]).mean())
    note(training, step + 1, {**now, "lr": training.optimiser.param_groups[0]["lr"]})
    try:
        monitor.check_collapse(
            seen["step"], seen["loss"], seen["rank"], chance, stage.warmup, stage.steps
        )
    except monitor.Collapsed as error:
        training.diary.write_history()
        own = registry.own_place(stage.recipe.objective) if stage.recipe.objective else ""
        if own:
            raise monitor.Collapsed(f"{error} ({own})") from error
        raise


def note(training: Training, steps: int, record: dict[str, Any]) -> None:
    """Add a record to the training's history, at the views seen after `steps` of its stage."""
    stage = training.stage
    training.diary.note(stage.views + steps * stage.views_a_step, {"stage": stage.number, **record})


@torch.no_grad()
def look(training: Training, step: int) -> None:
    """Look at the encoder as it is now, and add to the history what is seen.

    Rank and kNN AUC of the features of a few images, and the loss on held-out images, each with
    views of its own.
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
    bank = rng.permutation(stage.train)[: max(n - len(held), monitor.SMALLEST_BANK)]
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
        vectors = embedded(training, encoder, chunks)
        record["look_rank"] = monitor.effective_rank(vectors[: len(bank)])
        if data.labels is not None and len(held):
            values = vectors.cpu().numpy()
            record["knn_images"] = len(held)
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
    note(training, step, record)


def embedded(
    training: Training, encoder: torch.nn.Module, chunks: Sequence[np.ndarray]
) -> torch.Tensor:
    """Embed the images at these positions: (n, D) float32, on the device.

    Each process embeds some of the chunks.
    """
    world, device = training.world, training.device
    mine = chunks[world.rank :: world.size]
    found = [encoder(images).float() for images in training.data.plain(mine, device)]
    if world.size > 1:
        shares = world.gathered([one.cpu() for one in found])
        found = [shares[i % world.size][i // world.size].to(device) for i in range(len(chunks))]
    return torch.cat(found)
