"""DINO (Caron et al. 2021).

A student matches a teacher that is its own moving average, small views to large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.images import augment
from medbench.models import weights
from medbench.models.pretrain.initial_weights import SOURCES, starting
from medbench.models.pretrain.position import Position
from medbench.models.pretrain.recipe import Recipe, gentle, step_of
from medbench.schema import Encoder, Method, Weights
from medbench.schema.methods import budgeted

if TYPE_CHECKING:
    import torch

    from medbench.models.pretrain.objective import Objective


def dino(backbone: torch.nn.Module, dim: int, recipe: Recipe) -> Objective:
    """Cross-entropy of student and teacher, whose outputs are centred.

    The teacher is what is kept, as in the authors' evaluation.
    """
    import copy
    import math

    import torch
    from lightly.loss import DINOLoss
    from lightly.models.utils import update_momentum
    from lightly.utils.scheduler import cosine_schedule

    from medbench.models.pretrain.objective import Objective, embed

    hyper = recipe.hyper
    large = sum(crop.count for crop in recipe.crops if crop.size == 1)
    total = sum(crop.count for crop in recipe.crops)
    head, teacher_head = (_head(dim, recipe) for _ in range(2))
    teacher_head.load_state_dict(head.state_dict())
    teacher = copy.deepcopy(backbone)
    for module in (teacher, teacher_head):
        module.requires_grad_(False)
    # the centre moves with every part of a batch
    momentum = hyper["centre_momentum"] ** (1 / recipe.accumulate)
    loss = DINOLoss(
        hyper["prototypes"], student_temp=hyper["student_temperature"], center_momentum=momentum
    )

    def project(views: Sequence[torch.Tensor], position: Position) -> list[torch.Tensor]:
        with torch.no_grad():
            targets = teacher_head(embed(teacher, views[:large])).chunk(large)
        return [*targets, *head(embed(backbone, views)).chunk(total)]

    def criterion(outputs: list[torch.Tensor], position: Position) -> torch.Tensor:
        centre = loss.center.clone()
        value: torch.Tensor = loss(
            outputs[:large], outputs[large:], teacher_temp=_teacher_temperature(recipe, position)
        )
        if not loss.training:  # lightly moves the centre at every call
            loss.center.copy_(centre)
        return value

    def before_step(position: Position) -> None:
        if position.share < hyper["frozen_until"]:
            for parameter in head.last_layer.parameters():
                parameter.grad = None

    def after_step(position: Position) -> None:
        momentum = cosine_schedule(position.step, position.steps, hyper["momentum"], 1.0)
        update_momentum(backbone, teacher, momentum)
        update_momentum(head, teacher_head, momentum)

    parts = {
        "backbone": backbone,
        "head": head,
        "teacher_backbone": teacher,
        "teacher_head": teacher_head,
        "loss": loss,
    }
    return Objective(
        parts,
        project,
        criterion,
        chance=lambda batch: math.log(hyper["prototypes"]),
        exported="teacher_backbone",
        before_step=before_step,
        after_step=after_step,
    )


def _head(dim: int, recipe: Recipe) -> Any:
    """Return lightly's head, with as many more hidden layers as `layers` asks for.

    Lightly's has three layers before the prototypes.
    """
    import warnings

    import torch
    from lightly.models.modules.heads import DINOProjectionHead

    hidden = recipe.hyper["hidden"]
    with warnings.catch_warnings():
        # lightly uses a form of weight norm that torch calls old
        warnings.simplefilter("ignore", FutureWarning)
        head = DINOProjectionHead(dim, hidden, recipe.hyper["width"], recipe.hyper["prototypes"])
    for _ in range(recipe.hyper.get("layers", 3) - 3):
        more = torch.nn.Linear(hidden, hidden)
        head._init_weights(more)
        head.layers.insert(2, torch.nn.GELU())
        head.layers.insert(2, more)
    return head


def _teacher_temperature(recipe: Recipe, position: Position) -> float:
    """Rising in a straight line, by step; the authors' code does it by epoch."""
    low, high = map(float, recipe.hyper["teacher_temperature"])
    until: float = recipe.hyper["temperature_until"]
    return high if position.share >= until else low + (high - low) * position.share / until


def recipes(modality: str, budget: str, n_images: int, source: str) -> tuple[Recipe, ...]:
    """Return the one stage of DINO, as `Method.recipes` takes it."""
    hyper = {"hidden": 2048, "width": 256, "student_temperature": 0.1, "centre_momentum": 0.9}
    if budget != "paper":
        # ours: a short run needs a teacher that follows sooner, and has neither time nor images for
        # 65,536 outputs
        prototypes, momentum = {"quick": (1024, 0.9), "standard": (4096, 0.99)}[budget]
        small = {
            "prototypes": prototypes,
            "momentum": momentum,
            "hidden": 512,
            "teacher_temperature": (0.04, 0.04),
            "temperature_until": 0.0,
        }
        crops = augment.dino_views(modality)
        one = Recipe(
            dino,
            crops,
            budgeted(budget, n_images),
            0,
            hyper={**hyper, **small, "frozen_until": 0.1},
        )
        return (one.having(**gentle(source)).having(weight_decay=(0.04, 0.4)),)
    # Nielsen et al. 2023, who pretrain in-domain (sparsam's dino_config.yml over its defaults);
    # views by modality where theirs do not fit
    crops = (
        augment.nielsen2023_views()
        if modality in ("dermoscopy", "endoscopy", "cytology")
        else augment.dino_views(modality)
    )
    epochs = 500
    batch, parts = step_of(256, 128, n_images)
    return (
        Recipe(
            dino,
            crops,
            round(epochs * n_images * sum(crop.count * crop.size**2 for crop in crops)),
            batch=batch,
            accumulate=parts,
            optimiser="adamw",
            lr=5e-4 * batch / 256,
            warmup=2 / epochs,
            weight_decay=(0.04, 0.4),
            clip=0.32,
            clip_mode="agc",
            hyper={
                **hyper,
                "layers": 4,
                "prototypes": 65_536,
                "momentum": 0.9995,
                "teacher_temperature": (0.02, 0.04),
                "temperature_until": 10 / epochs,
                "frozen_until": 1 / epochs,
            },
        ),
    )


def nielsen2023_start(
    encoder: Encoder, source: str, pretrain_seed: int, cache_dir: Path
) -> Weights:
    """Return the encoder's supervised ImageNet weights on Nielsen's pixel scale, [-1, 1]."""
    half = (0.5, 0.5, 0.5)
    return replace(weights.supervised(encoder, cache_dir), mean=half, std=half)


DINO = Method(
    "dino",
    version=1,
    title="DINO",
    sources=SOURCES,
    weights=starting("dino"),
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    citation="Caron et al. 2021, arXiv:2104.14294",
)
DINO_NIELSEN2023 = Method(
    "dino-nielsen2023",
    version=1,
    title="DINO as Nielsen et al. 2023 start it: from supervised ImageNet weights, pixels on [-1, 1]",
    sources=("imagenet+task",),
    weights=nielsen2023_start,
    encoder=weights.build_encoder,
    seeded=True,
    recipes=recipes,
    default=False,
    citation="Nielsen et al. 2023, Bioengineering 10(8):895",
)
