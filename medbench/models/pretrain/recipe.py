"""What one stage of a pretraining is made of.

Light: the method files that the registry walks import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from medbench.images.augment import Crop
from medbench.models.pretrain import batch_order
from medbench.schema.errors import check_choices
from medbench.schema.ingredients import later, stated

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medbench.models.pretrain.objective import Objective

#: Learning rates of AdamW. From pretrained weights it must be gentle: a larger rate unlearns more
#: than a short run can teach.
ADAPT_LR, SCRATCH_LR = 1e-4, 1e-3


@dataclass(frozen=True)
class Recipe:
    """One stage of a pretraining.

    objective: (backbone giving (B, D), D, recipe) -> Objective; None: nothing is learnt, the batch
    statistics are estimated anew on the training images. crops: the views of an image. views: seen
    in all; a small crop counts by its share of the full view's pixels, so that methods are compared
    at equal work (a teacher sees a view that its student sees too: it counts once). batch: images
    an optimiser step, in `accumulate` parts one after another; a contrastive loss knows no
    negatives beyond its part. warmup: linear, share of the steps, from warmup_lr; then cosine from
    lr to final_lr. weight_decay: from, to, cosine; biases and norms have none, but see scale_all.
    clip: of the gradient, by norm or adaptive (Brock et al. 2021); None: not clipped. paired: the
    two views come from two images of a bag, and a batch has at most one bag of a group, see
    `batch_order.epoch` and `fitted`. freeze_norm: the encoder's batch statistics stay as they are.
    frozen: share of the encoder's parameter tensors, counted from the input, that stay as they are.
    hyper: the objective's own numbers. scale_all: weight decay, and the scaling of LARS, are of
    biases and norms, too. betas: AdamW's. bias_lr: the rate of biases and norms, as a share of the
    others'.
    """

    objective: Callable[[torch.nn.Module, int, Recipe], Objective] | None
    crops: tuple[Crop, ...]
    views: int
    batch: int
    optimiser: Literal["adamw", "lars", "sgd"] = "adamw"
    lr: float = 0.0
    final_lr: float = 0.0
    warmup: float = 0.0
    warmup_lr: float = 0.0
    weight_decay: tuple[float, float] = (0.0, 0.0)
    momentum: float = 0.9
    clip: float | None = None
    clip_mode: Literal["norm", "agc"] = "norm"
    accumulate: int = 1
    paired: bool = False
    freeze_norm: bool = False
    frozen: float = 0.0
    hyper: Mapping[str, Any] = field(default_factory=dict)
    scale_all: bool = later(False)
    betas: tuple[float, float] = later((0.9, 0.999))
    bias_lr: float = later(1.0)

    def __post_init__(self) -> None:
        check_choices("Recipe", "optimiser", self.optimiser, ("adamw", "lars", "sgd"))
        check_choices("Recipe", "clip_mode", self.clip_mode, ("norm", "agc"))

    def having(self, **changes: Any) -> Recipe:
        """Return a copy with these fields changed."""
        return replace(self, **changes)

    def settings(self) -> dict[str, Any]:
        """Return its fields as JSON values, as fingerprints hold them.

        The objective by its name, crops by their fields; what was added later only where it is not
        at its default.
        """
        return {
            **stated(self),
            "objective": self.objective.__name__ if self.objective else None,
            "crops": [stated(crop) for crop in self.crops],
            "weight_decay": list(self.weight_decay),
            "hyper": dict(self.hyper),
        }

    def views_an_image(self, size: int) -> float:
        """Return what one image in a batch costs, in full views of `size` pixels."""
        return sum(crop.count * (crop.pixels(size) / size) ** 2 for crop in self.crops)


def of_views(recipes: tuple[Recipe, ...], views: int) -> tuple[Recipe, ...]:
    """Return the stages as long as `views` in all, each with its share of them.

    A stage that learns nothing stays as it is.
    """
    total = sum(recipe.views for recipe in recipes if recipe.objective)
    return tuple(
        recipe.having(views=views * recipe.views // total) if recipe.objective else recipe
        for recipe in recipes
    )


def step_of(batch: int, part: int, n_images: int) -> tuple[int, int]:
    """Return how many images a step has, and in how many parts it is computed.

    batch: a paper's; fewer where n_images without the twentieth that may be held out allow no more.
    part: images of a part at most. A recipe's rate goes with its batch, as the papers' codes have
    it.
    """
    fits = min(batch, n_images - n_images // 20)
    return fits, -(-fits // part)


def fitted(recipe: Recipe, bags: np.ndarray, groups: np.ndarray) -> Recipe:
    """Fit a paired recipe's batch to what these training images allow, one bag per group.

    Any other recipe stays as it is. Rates of LARS go with the batch, as the papers' codes have it.
    Those of AdamW are our own, and the same for every batch. Several processes may round the batch
    further.

    bags, groups: (N,), of the training images.
    """
    if not recipe.paired:
        return recipe
    train = ~batch_order.monitored_part(groups)
    most = batch_order.largest_batch(bags[train], groups[train], paired=True)
    parts = max(1, min(recipe.accumulate, most // 2))
    batch = min(recipe.batch, most) // parts * parts
    share = batch / recipe.batch if recipe.optimiser == "lars" else 1.0
    rates = {name: getattr(recipe, name) * share for name in ("lr", "final_lr", "warmup_lr")}
    return recipe.having(batch=batch, accumulate=parts, **rates)


def gentle(source: str) -> dict[str, Any]:
    """Return the optimiser of a quick or standard pretraining, the same for every method.

    AdamW; our own settings, of no paper.
    """
    adapting = source != "task"
    return {
        "batch": 64,
        "optimiser": "adamw",
        "lr": ADAPT_LR if adapting else SCRATCH_LR,
        "warmup": 0.1,
        "weight_decay": (0.05, 0.05),
        "clip": 1.0,
        "freeze_norm": adapting,
    }
