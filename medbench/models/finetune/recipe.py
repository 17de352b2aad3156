"""How an encoder is fine-tuned: every number with its source.

`protocols/finetune.py` makes a protocol of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from medbench.images import augment
from medbench.schema.ingredients import later, stated

VERSION = 2  # of the loop
_VIEWS = {"suite": augment.finetune_views, "truong2021": augment.truong2021_views}


@dataclass(frozen=True)
class FineTuneRecipe:
    """One way of fine-tuning.

    rates: learning rates; of several each is tried for `search` of the steps, and the best on the
    validation part is trained in full. transformer: (rate, batch) for encoders made of attention
    blocks, where a paper gives them other values. first_layer: the rate of the first layer as a
    share of the last one's, the layers between in geometric steps (layer-wise decay, whatever the
    depth); head: the head's rate as a multiple of the last layer's. warmup: share of the steps.
    epochs: passes over the subset; at least `steps` steps, so that few labels get sensible
    training. The validation part is scored `evaluations` times, evenly (0: after every epoch).
    patience, cooldown, stop: in evaluations (plateau: the rate is multiplied by `factor` after
    `patience` evaluations without a better score; training ends after `stop`). held_out: share of
    the subset's images for validation, whole groups. watch: the score that chooses rate and weights
    there. freeze_norm: batch norms keep their statistics: those of a batch of 32 would move every
    feature under the head. probe: the head starts at the linear probe of the subset's frozen
    features (Kumar et al. 2022, arXiv:2202.10054), else as torch draws it; the start is then scored
    too, and can be the best. trained: parameters of modules with these names alone learn, and the
    head; (): all do. frozen: the head alone learns, and the encoder is in eval mode. views: the
    random views that are trained on. oversampled: a pass over the subset shows each class as often
    as its largest one. adapters: ranks of low-rank adapters, which with the head alone learn
    (`adapters.allowed_ranks` says which are tried); (): none.
    """

    name: str
    optimiser: Literal["adam", "adamw"]
    rates: tuple[float, ...]
    batch: int
    epochs: float
    steps: int
    schedule: Literal["cosine", "plateau"]
    held_out: float
    watch: Literal["log_loss", "primary", "balanced_accuracy"]
    transformer: tuple[float, int] | None = None
    weight_decay: float = 0.0
    first_layer: float = 1.0
    head: float = 1.0
    warmup: float = 0.0
    search: float = 0.0
    evaluations: int = 0
    factor: float = 0.1
    patience: int = 5
    cooldown: int = 0
    stop: int | None = None
    clip: float | None = None
    adaptive_clip: float | None = None
    class_weights: bool = False
    freeze_norm: bool = False
    probe: bool = False
    trained: tuple[str, ...] = later(())
    frozen: bool = later(False)
    views: Literal["suite", "truong2021"] = later("suite")
    oversampled: bool = later(False)
    adapters: tuple[int, ...] = later(())

    def crops(self, modality: str) -> tuple[augment.Crop, ...]:
        """Return the kinds of view of an image of this modality."""
        return _VIEWS[self.views](modality)

    def passes(self, images: int) -> tuple[float, float]:
        """Return the views that a fit to so many images trains on, and the images that it embeds.

        They hold for a training that does not end early, and for an encoder without attention.
        Where the encoder is frozen a view that is trained on is one that is embedded.
        """
        from medbench.stats.splits import MIN_HELD_OUT

        held = int(self.held_out * images)
        held = held if held >= MIN_HELD_OUT else 0
        batch = min(self.batch, images - held)
        steps = max(self.steps, math.ceil(self.epochs * (images - held) / batch))
        choices = len(self.rates) * min(len(self.adapters) or 1, 2)
        runs = 1.0 + (self.search * choices if held and choices > 1 else 0.0)
        looks = self.evaluations or math.ceil(steps * batch / (images - held))
        if self.schedule == "cosine":  # see `loop.FineTuning._every`
            looks = min(looks, steps // max(math.ceil(held / (0.6 * batch)), 1))
        embedded = held * (looks * runs + 1) + (images - held if self.probe else 0)
        trained = steps * batch * runs
        return (0.0, trained + embedded) if self.frozen else (trained, embedded)

    def settings(self) -> dict[str, Any]:
        """Return everything that can change a result, as JSON values, as fingerprints hold it."""
        return {"loop": VERSION, **stated(self)}


#: The default, ours: AdamW with layer-wise decay, warm-up and cosine, the rate searched inside the
#: subset.
MODERN = FineTuneRecipe(
    "modern",
    optimiser="adamw",
    rates=(1e-4, 3e-4, 1e-3),
    batch=32,
    epochs=10,
    steps=200,
    schedule="cosine",
    held_out=0.2,
    watch="log_loss",
    weight_decay=0.05,
    first_layer=0.1,
    warmup=0.1,
    search=0.2,
    evaluations=20,
    clip=1.0,
    freeze_norm=True,
    probe=True,
)
#: Truong et al. 2021 (PMLR 158:54-74): Adam 1e-3, batch 64, plateau x 0.1 with patience 5, early
#: stopping with patience 10, 30-50 epochs; DINO's ViT 1e-4 with batch 16. Weight decay, loss and
#: the share of the validation part are not stated: none, cross-entropy, a fifth, as of five folds.
TRUONG2021 = FineTuneRecipe(
    "truong2021",
    optimiser="adam",
    rates=(1e-3,),
    batch=64,
    epochs=50,
    steps=50,
    schedule="plateau",
    held_out=0.2,
    watch="primary",
    transformer=(1e-4, 16),
    factor=0.1,
    patience=5,
    stop=10,
    views="truong2021",
)
#: Their linear evaluation: a linear layer, of DVME its whole head, over frozen encoders; a ViT has
#: no rate and batch of its own there.
TRUONG2021_LINEAR = replace(TRUONG2021, name="truong2021-linear", transformer=None, frozen=True)
#: The "DL baseline" of Nielsen et al. 2023 (IPMI-ICNS-UKE/sparsam, reproduce_results.py and
#: configs): AdamW 1e-4, weight decay 0.05, inverse-frequency class weights, plateau x 0.5 with
#: patience and cooldown of 500 iterations, warm-up of 250, adaptive clipping 0.16, 30 % held out,
#: the best balanced accuracy kept; batches of min(256, images), as their script sets 256 over the
#: 64 of its machine file. Ours: their plateau is of the training loss, here of the balanced
#: accuracy, scored every 50 steps; they take 500 epochs at most (500 steps where the subset fills
#: one batch) and stop early, after 4,000 steps at the soonest, here 5,000 steps are taken to the
#: end; biases and norms do not decay here; and the views are the suite's
#: (`augment.finetune_views`), not theirs (several crops, perspective, any rotation, blur).
NIELSEN2023 = FineTuneRecipe(
    "nielsen2023",
    optimiser="adamw",
    rates=(1e-4,),
    batch=256,
    epochs=0,
    steps=5000,
    schedule="plateau",
    held_out=0.3,
    watch="balanced_accuracy",
    weight_decay=0.05,
    warmup=0.05,
    evaluations=100,
    factor=0.5,
    patience=10,
    cooldown=10,
    adaptive_clip=0.16,
    class_weights=True,
)
#: Their "last layer": the same training of the head and of the last norm alone (parameters with a
#: part of their name that is `head` or `norm`).
NIELSEN2023_LAST_LAYER = replace(
    NIELSEN2023, name="nielsen2023-last-layer", trained=("norm", "head")
)
