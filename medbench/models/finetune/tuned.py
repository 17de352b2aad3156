"""A labelled subset -> a network trained on it, with rate and rank chosen, and its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medbench.models.finetune.loop import FineTuning, LinearLayer, hold_out
from medbench.models.finetune.network import Net
from medbench.models.finetune.recipe import FineTuneRecipe
from medbench.models.finetune.state import State, choice_name
from medbench.schema import HeldOut, Scores, Train
from medbench.stats import metrics
from medbench.system.precision import products


@contextmanager
def settings_of(train: Train) -> Iterator[None]:
    """Compute as the network of `train` asks while inside.

    Its precision; torch's generators are left as they are.
    """
    network = train.network
    assert network is not None, "a protocol that needs images gets a network"
    devices = [train.device] if train.device != "cpu" else []
    with products(network.precision), torch.random.fork_rng(devices=devices):
        yield


@dataclass(frozen=True, eq=False)
class Tuned:
    """A network trained on a labelled subset.

    held: positions of the validation part in the subset. rank: of the adapters that are merged into
    it; 0: none. searched: what each choice of rank and rate reached.
    """

    job: FineTuning
    net: Net
    state: State
    held: np.ndarray
    rate: float
    rank: int
    searched: Mapping[str, float]

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return (M, C) float32 probabilities of (M, S, S, 3) uint8 pixels."""
        return self.job.predict(self.net, pixels)

    def scores(self, targets: Mapping[str, np.ndarray]) -> dict[str, Scores]:
        """Return the scores of every target, by its name.

        targets: name -> (M, S, S, 3) uint8 pixels. Held-out scores are those of the validation
        part, which chose the rate and the weights.
        """
        job, state, recipe = self.job, self.state, self.job.recipe
        found = {name: self.predict(pixels) for name, pixels in targets.items()}
        n, held_out = len(self.held), None
        if n:
            held_out = HeldOut(self.held, job.predict(self.net, job.train_.features, job.val))
        chosen = {
            "rate": self.rate,
            "rule": f"{recipe.watch} of {n} held-out images"
            if n
            else "too few images to hold out: the middle rate, all steps",
            "steps": state.best_step if n else state.step,
            "validation": state.best_score if n else None,
            "searched": self.searched,
        }
        if self.rank:
            chosen["rank"] = self.rank
        extra = {
            "recipe": recipe.name,
            "trained_on": len(job.fit),
            "held_out": n,
            "steps_run": state.step,
            "curve": state.curve,
        }
        if job.told:
            extra["adapters"] = job.told
        several = job.train_.kind == "multilabel"
        return {
            name: Scores(p, metrics.decided(p, several), chosen, extra, held_out)
            for name, p in found.items()
        }


def tuned(
    train: Train,
    draw: np.ndarray,
    seed: int,
    folder: Path,
    recipe: FineTuneRecipe,
    linear_layer: LinearLayer,
    requested: int | None = None,
    chosen: tuple[int, float] | None = None,
) -> Tuned:
    """Train the network on the images at `draw`, (n,) index, inside `settings_of`.

    chosen: rank and rate, where an earlier search has found them; what is trained is the same.
    Where the budget, which asks for `requested` images, leaves too few to hold out
    (`splits.validation_part`) the subset is trained whole: with the middle rate, for all steps.
    """
    network = train.network
    assert network is not None, "a protocol that needs images gets a network"
    fit, held = hold_out(train.labels[draw], train.groups[draw], recipe.held_out, requested)
    fit, val = draw[fit], draw[held]
    job = FineTuning(train, network, recipe, fit, val, seed, folder, linear_layer)
    rates, ranks = job.rates(), job.ranks()
    choices = [(rank, rate) for rank in ranks for rate in rates]
    searched: dict[str, float] = {}
    if chosen:
        rank, rate = chosen
    elif len(choices) > 1 and len(val):
        searched = {
            choice_name(rank, rate): job.train(rate, recipe.search, rank).best_score
            for rank, rate in choices
        }
        rank, rate = max(
            choices, key=lambda choice: (searched[choice_name(*choice)], -choice[0], -choice[1])
        )
    else:
        rank, rate = ranks[0], rates[len(rates) // 2]
    net, state = job.network_and_state(rate, 1.0, rank)
    return Tuned(job, net, state, held, rate, rank, searched)
