"""The fine-tuning loop: one labelled subset in, a trained network out.

A killed run goes on from its last checkpoint with the same trajectory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medbench.images import augment
from medbench.models.finetune import adapters
from medbench.models.finetune.batch_order import BatchOrder, by_class
from medbench.models.finetune.losses import batch_loss, class_weights, log_loss
from medbench.models.finetune.network import (
    Net,
    freeze_but,
    is_transformer,
    optimiser_of,
    train_mode,
    width,
)
from medbench.models.finetune.pixel_batches import TrainingPixels, normalised
from medbench.models.finetune.recipe import FineTuneRecipe
from medbench.models.finetune.state import State, choice_name, state_name, weights_of
from medbench.schema import PRIMARY, Kind, Network, Train
from medbench.stats import metrics, splits
from medbench.system import atomic_write, memory
from medbench.system.cache_folder import archive_is_whole
from medbench.system.precision import autocast, products
from medbench.system.progress_listener import report_progress
from medbench.system.transfer import array_sent

#: (features (n, D), labels, groups, kind, outputs) -> weight (outputs, D) and bias (outputs,) of
#: the linear probe
LinearLayer = Callable[
    [torch.Tensor, np.ndarray, np.ndarray, Kind, int], tuple[torch.Tensor, torch.Tensor]
]
EVERY = 30.0  # seconds between checkpoints
ADVICE = "Take a smaller --size or encoder, or free the GPU of other work: a batch belongs to the protocol, and is not made smaller."


def hold_out(
    labels: np.ndarray, groups: np.ndarray, share: float, requested: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return which images of a subset are fitted and which are held out, (n,) int64 each.

    labels: (N,) int, or (N, C) float with NaN. groups: (N,). Whole groups, stratified. Nothing may
    be held out, see `splits.validation_part`, which says what `share` and `requested` are.
    """
    held = splits.validation_part(labels, groups, share, "finetune", requested)
    return np.flatnonzero(~held), np.flatnonzero(held)


class FineTuning:
    """Train on one labelled subset, and keep what its trainings share.

    fit, val: index arrays into the subset, of the images that are fitted and held out. trained:
    whether any of it was not finished before.
    """

    def __init__(
        self,
        train: Train,
        network: Network,
        recipe: FineTuneRecipe,
        fit: np.ndarray,
        val: np.ndarray,
        seed: int,
        folder: Path,
        linear_layer: LinearLayer,
    ):
        self.train_, self.network, self.recipe, self.seed, self.folder = (
            train,
            network,
            recipe,
            seed,
            folder,
        )
        self.fit, self.val = fit, val
        self.told: dict[str, float] = {}
        self.trained = False
        self.device = torch.device(train.device)
        self.outputs = train.n_classes
        self.labels = torch.as_tensor(train.labels[fit], device=self.device)
        self.pixels = TrainingPixels(train.features, fit, self.device)
        self.crops = recipe.crops(network.modality)
        encoder = network.build().to(self.device).eval()  # frozen: whatever it was handed over as
        self.width = width(encoder, network.size, self.device)
        self.transformer = recipe.transformer if is_transformer(encoder) else None
        batch = self.transformer[1] if self.transformer else recipe.batch
        self.batch = min(batch, len(fit))
        self.order = BatchOrder(
            len(fit), self.batch, seed, by_class(train.labels[fit]) if recipe.oversampled else ()
        )
        self.weights = (
            class_weights(self.labels, self.outputs)
            if recipe.class_weights and train.kind != "multilabel"
            else None
        )
        self.layer = (
            self._linear_layer(encoder, linear_layer)
            if recipe.probe and network.head is None
            else None
        )

    def ranks(self) -> tuple[int, ...]:
        """Return the ranks of adapters that are tried; (0,) where all weights learn instead."""
        if not self.recipe.adapters:
            return (0,)
        net = self.start()
        return adapters.allowed_ranks(net.encoder, net.head, self.recipe.adapters)

    def rates(self) -> tuple[float, ...]:
        """Return the learning rates that are tried."""
        return (self.transformer[0],) if self.transformer else self.recipe.rates

    def network_and_state(self, rate: float, share: float, rank: int = 0) -> tuple[Net, State]:
        """Return the trained network with its best weights, in eval mode, and its state.

        Adapters are merged into the layers. rate, share, rank: as of `train`.
        """
        state = self.train(rate, share, rank)
        net = self.start(rank)
        net.load_state_dict(state.best, strict=not rank)
        if rank:
            self.told = adapters.told(net, rank)
            adapters.merged(net)
        return net.eval(), state

    def start(self, rank: int = 0) -> Net:
        """Return the untrained network, the same at every call.

        rank: of the adapters that learn instead of all weights; 0: none.
        """
        torch.manual_seed(self.seed)
        encoder = self.network.build()
        encoder.requires_grad_(True)
        encoder.to(self.device)
        head = (
            self.network.head(self.outputs)
            if self.network.head
            else nn.Linear(self.width, self.outputs)
        )
        net = Net(encoder, head).to(self.device)
        if self.recipe.trained or self.recipe.frozen:
            freeze_but(encoder, self.recipe.trained)
        if rank:
            adapters.with_adapters(net.encoder, rank)
        net.to(memory_format=torch.channels_last)
        if self.layer is not None:
            net.head.load_state_dict(dict(zip(("weight", "bias"), self.layer, strict=True)))
        return net

    def train(self, rate: float, share: float, rank: int = 0) -> State:
        """Train for `share` of the steps, from the start or from a checkpoint; return the state.

        rate: of learning. rank: of adapters, 0: none. The state of a finished training is kept and
        not run again.
        """
        file = self.folder / state_name(rank, rate, share)
        net, state = self.start(rank), State()
        optimiser = optimiser_of(net, self.recipe, rate)
        whole = archive_is_whole(file, "training from the start", kept=False)
        saved = torch.load(file, map_location="cpu", weights_only=True) if whole else None
        # else another medbench kept it: from the start
        if saved and saved["state"].keys() == vars(state).keys():
            state = State(**saved["state"])
            if saved["done"]:
                return state
            net.load_state_dict(saved["net"])
            optimiser.load_state_dict(saved["optimiser"])
        self.trained = True
        total = self.steps(share)
        every = self._every(total)
        name = f"fine-tuning, seed {self.seed}, {len(self.fit) + len(self.val)} images, rate {choice_name(rank, rate)}"
        kept = time.monotonic()
        coming, later = tee(self.order.rows(step) for step in range(state.step, total))
        pixels = self.pixels.ahead(later)
        if len(self.val) and self.layer is not None and state.step == 0:
            self._evaluate(net, state)
        while state.step < total and not self._stopped(state):
            with memory.advised(f"A batch of {self.batch} images", ADVICE):
                self._step(net, optimiser, state, rate, total, next(coming), next(pixels))
            state.step += 1
            if len(self.val) and (state.step % every == 0 or state.step == total):
                self._evaluate(net, state)
            if time.monotonic() - kept > EVERY:
                self._keep(file, net, optimiser, state, done=False)
                kept = time.monotonic()
            report_progress(name, state.step, total, "steps")
        report_progress(name, total, total, "steps")
        if not len(self.val):
            state.best = weights_of(net, learned=bool(self.recipe.adapters))
        self._keep(file, net, optimiser, state, done=True)
        return state

    def steps(self, share: float) -> int:
        """Return the optimiser steps of this share in (0, 1] of the training, 1 at least."""
        whole = max(
            self.recipe.steps, math.ceil(self.recipe.epochs * self.order.length / self.batch)
        )
        return max(1, round(share * whole))

    def predict(self, net: Net, pixels: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Return probabilities (M, C) float32 of pixels (M, S, S, 3) uint8.

        net: is set to eval mode. rows: which of them, (n,) int; None: all.
        """
        net.eval()
        found = []
        with torch.inference_mode():
            for images in normalised(pixels, self.network, self.device, rows):
                with autocast(self.device, self.network.precision):
                    logits = net(images).float()
                found.append(
                    torch.sigmoid(logits)
                    if self.train_.kind == "multilabel"
                    else torch.softmax(logits, 1)
                )
        probabilities: np.ndarray = torch.cat(found).cpu().numpy()
        return probabilities

    def _step(
        self,
        net: Net,
        optimiser: torch.optim.Optimizer,
        state: State,
        rate: float,
        total: int,
        index: np.ndarray,
        pixels: torch.Tensor,
    ) -> None:
        """One update, by the images at `index` in the training part and their pixels.

        Its randomness depends on the seed and the step alone, so that nothing of it must be saved.
        """
        torch.manual_seed(self.seed * 1_000_003 + state.step)  # dropout
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + state.step)
        with products("fp32"):
            look = (self.network.size, self.network.mean, self.network.std)
            (images,) = augment.views(
                pixels, self.crops, *look, generator, fuse=self.steps(1.0) >= augment.FUSED_FROM
            )
        scale = self._schedule(state, total)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"] * scale
        train_mode(net, self.recipe)
        with autocast(self.device, self.network.precision):
            loss = batch_loss(
                net(images).float(),
                self.labels[array_sent(index, self.device)],
                self.weights,
                several=self.train_.kind == "multilabel",
            )
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(net.parameters(), self.recipe.clip)
        if self.recipe.adaptive_clip:
            from timm.utils.agc import adaptive_clip_grad

            adaptive_clip_grad(net.parameters(), self.recipe.adaptive_clip)  # type: ignore[no-untyped-call]
        optimiser.step()

    def _schedule(self, state: State, total: int) -> float:
        warm = self.recipe.warmup * total
        if state.step < warm:
            return (state.step + 1) / (warm + 1)
        if self.recipe.schedule == "plateau":
            return state.factor
        return 0.5 * (1 + math.cos(math.pi * (state.step - warm) / max(1.0, total - warm)))

    def _evaluate(self, net: Net, state: State) -> None:
        """Score the held-out images, and keep the best weights so far.

        Lower the rate on a plateau.
        """
        score = self.score(self.predict(net, self.train_.features, self.val))
        state.curve.append((state.step, score))
        if score > state.best_score:
            state.best_score, state.best_step, state.best, state.since, state.bad = (
                score,
                state.step,
                weights_of(net, learned=bool(self.recipe.adapters)),
                0,
                0,
            )
        else:
            state.since, state.bad = state.since + 1, state.bad + 1
        if state.cooling:
            state.cooling, state.bad = state.cooling - 1, 0
        if self.recipe.schedule == "plateau" and state.bad > self.recipe.patience:
            state.factor *= self.recipe.factor
            state.cooling, state.bad = self.recipe.cooldown, 0

    def score(self, probabilities: np.ndarray) -> float:
        """Return how good probabilities of the held-out part are, larger is better.

        probabilities: (n, C) in [0, 1], of the n held-out images. By `recipe.watch`, which chooses
        weights and rate; minus the log-loss where that is not defined.
        """
        labels, kind = self.train_.labels[self.val], self.train_.kind
        if self.recipe.watch == "log_loss":
            return -log_loss(labels, probabilities)
        name = PRIMARY[kind] if self.recipe.watch == "primary" else self.recipe.watch
        value = metrics.score(
            labels, probabilities, metrics.decided(probabilities, kind == "multilabel"), kind
        ).values[name]
        return float(value) if np.isfinite(value) else -log_loss(labels, probabilities)

    def _stopped(self, state: State) -> bool:
        return (
            bool(len(self.val)) and self.recipe.stop is not None and state.since >= self.recipe.stop
        )

    def _every(self, total: int) -> int:
        """Return the steps between two looks at the held-out images.

        Where the rate does not hang on them they cost a fifth of the training at most.
        """
        if self.recipe.evaluations:
            cheap = (
                math.ceil(len(self.val) / (0.6 * self.batch))
                if self.recipe.schedule == "cosine"
                else 1
            )
            return max(cheap, total // self.recipe.evaluations)
        return math.ceil(self.order.length / self.batch)

    def _linear_layer(
        self, encoder: nn.Module, solve: LinearLayer
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fit the linear probe of the frozen features of the images that are trained on."""
        with torch.no_grad():
            blocks = normalised(self.train_.features, self.network, self.device, self.fit)
            features = torch.cat([encoder(block).float() for block in blocks])
        train = self.train_
        with products("fp32"):  # the solver needs it, whatever the encoder makes do with
            return solve(
                features, train.labels[self.fit], train.groups[self.fit], train.kind, self.outputs
            )

    def _keep(
        self, file: Path, net: Net, optimiser: torch.optim.Optimizer, state: State, *, done: bool
    ) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        record: dict[str, Any] = {"state": vars(state), "done": done}
        if not done:
            record |= {"net": net.state_dict(), "optimiser": optimiser.state_dict()}
        atomic_write.archive(file, lambda opened: torch.save(record, opened))
