"""Low-rank adapters (LoRA) instead of fine-tuning all weights.

The suite's own recipe, rank and rate searched inside the subset.

An adapter is put beside each linear layer in attention, of a network without attention beside each
ungrouped convolution, and alone is trained, with the head. Of ranks 1, 2, 4 and 8 the two largest
are tried that train at most 2 % of the weights, at each of three rates, for a fifth of the steps;
the best on the held-out fifth is trained in full. All else is as in `finetune`: views, steps, the
head's start at the linear probe (at a tenth of the adapters' rate), and whether anything is held
out. Where nothing is, the smaller rank and the middle rate are taken. The scored network is the
merged one. An encoder without such layers is refused by name, and so is one of which rank 1 is more
than 2 %.

A row's provenance keeps how many weights were trained and what share of the memory of full
fine-tuning weights, gradients and Adam's state take.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from medbench.models.finetune import MODERN
from medbench.protocols.finetune import evaluate, trial
from medbench.schema import KINDS, Protocol

RECIPE = replace(
    MODERN,
    name="lora",
    rates=(3e-4, 1e-3, 3e-3),
    weight_decay=0.0,
    first_layer=1.0,
    head=0.1,
    adapters=(1, 2, 4, 8),
)

LORA = Protocol(
    name="lora",
    version=1,
    title="Low-rank adapters: at most 2 % of the weights trained, rank and rate searched inside the subset",
    kinds=KINDS,
    evaluate=partial(evaluate, recipe=RECIPE),
    seeded=True,
    settings=RECIPE.settings(),
    citation="Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022, arXiv:2106.09685",
    needs="images",
    passes=RECIPE.passes,
    trial=partial(trial, recipe=RECIPE),
    package=("peft", "lora"),
)
