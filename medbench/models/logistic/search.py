"""The penalty with the lowest held-out loss, found on a path without solving all of it.

From the strong end in waves. The first solves every `COARSE`-th of the strongest penalties; each
later one goes on beside the best so far: two steps to either side, then one, until both neighbours
of the best are known. So weak penalties, which take most iterations, are entered only where the
held-out loss still falls. On a path with one valley the answer is that of the whole path. A member
starts from its neighbours' solutions, on a line in the logarithm of the penalty.

All that a wave does has one shape: folds, members, images, columns. It depends on a subset's own
size alone, so that what else is solved changes no bit of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from medbench.models.logistic import products
from medbench.models.logistic.fitting import ClassTargets, Fits, pack, start, unpack, with_members
from medbench.models.logistic.lbfgs import LOW, solve
from medbench.models.logistic.spaces import framing, rotate, shares

COARSE, FIRST = 4, 4  # the first wave: so many penalties, each so many steps from the last
WIDTH = 2  # members of a fold in each later wave
#: Subsets of at most so many images share a block, of so many subsets: products of a single one are
#: too small to be fast.
FEW, TOGETHER = {"cpu": 256, "cuda": 1024}, {"cpu": 5, "cuda": 16}
# of the folds' tolerance, to which a final fit goes in float32: an evaluation takes a third to a
# fifth of one in float64, and rounding stops it at about .01
ROUGH = 0.03
ALIGNED = 16  # images and columns are padded to a multiple of it: parts lie alike in memory

Fold = tuple[torch.Tensor, torch.Tensor]  # training and held-out images, indices into the pool
Linear = tuple[torch.Tensor, torch.Tensor]  # weight (T, c, D) and bias (T, c), of features as given


def proposed(losses: Mapping[int, float], count: int, tie: float) -> list[int]:
    """Return which of `count` ascending penalties to solve next, by their places.

    losses: place -> held-out loss of those that are solved. tie: see `lowest`. [] where the search
    is over.
    """
    if not losses:
        return list(range(count - 1, -1, -COARSE))[:FIRST]
    best = lowest(losses, tie)
    gaps = {side: _gap(losses, best, side, count) for side in (1, -1)}
    for step in (2, 1):
        asked = [best + side * step for side, gap in gaps.items() if gap > step]
        if asked:
            return asked
    return []


def _gap(losses: Mapping[int, float], best: int, side: int, count: int) -> int:
    """Count the steps from `best` to the next solved penalty, or past the end of the path."""
    return next(
        i
        for i in range(1, count + 1)
        if best + side * i in losses or not 0 <= best + side * i < count
    )


def lowest(losses: Mapping[int, float], tie: float) -> int:
    """Return the place of the strongest penalty within `tie` of the lowest held-out loss."""
    bound = min(losses.values()) + tie
    return max(i for i, loss in losses.items() if loss <= bound)


def start_from(solved: Mapping[int, torch.Tensor], i: int) -> torch.Tensor | None:
    """Extrapolate a solution at the penalty at place i on the line through two that are solved.

    Those around it, else the two next to it. solved: place -> weights, all of one shape. None where
    none is solved.
    """
    stronger, weaker = (
        sorted(j for j in solved if j > i),
        sorted((j for j in solved if j < i), reverse=True),
    )
    near = [*stronger[:1], *weaker[:1]] if weaker and stronger else [*stronger[:2], *weaker[:2]]
    if len(near) < 2:
        return solved[near[0]] if near else None
    one, other = near
    share = (i - one) / (other - one)
    return solved[one] + share * (solved[other] - solved[one])


class Block:
    """Labelled subsets of one shape, whose folds are solved together.

    subsets: of each its folds, as many in all. What is found of each: `losses`, penalty's place on
    the path -> mean held-out loss; `solutions`, the same -> (F, T, c, q) of its folds.
    """

    def __init__(
        self,
        features: torch.Tensor,
        target: ClassTargets,
        subsets: Sequence[Sequence[Fold]],
        penalties: torch.Tensor,
        constant: float,
        basis: torch.Tensor | None,
    ):
        self.penalties, self.folds = penalties, len(subsets[0])
        parts = [fold for folds in subsets for fold in folds]
        framed = framing([rows for rows, _ in parts], features.shape[1], target.outputs)
        spaces = each_once(
            parts, lambda part: rotate(features[part[0]], torch.float32, constant, basis, framed)
        )
        training, truth = ([target.take(part[i]) for part in parts] for i in (0, 1))
        shape = padded(features, [rows for rows, _ in parts])
        problems, self.spaces = pack(spaces, training, *shape)
        self.problems = replace(problems, across=products.across(problems.x))
        self.zero = start(with_members(self.problems, penalties.new_ones(len(parts), 1)))
        self._hold_out([features[out] for _, out in parts], training, truth)
        self.losses: list[dict[int, float]] = [{} for _ in subsets]
        self.solutions: list[dict[int, torch.Tensor]] = [{} for _ in subsets]

    def _hold_out(
        self,
        outside: Sequence[torch.Tensor],
        training: Sequence[ClassTargets],
        truths: Sequence[ClassTargets],
    ) -> None:
        """Keep the held-out images as the solver sees them, their targets, and who counts.

        Images are (B, M, q) float64.
        """
        size, most, q = len(outside), aligned(max(map(len, outside))), self.problems.x.shape[2]
        self.softmax, self.held, self.fitted = (
            training[0].softmax,
            [len(images) for images in outside],
            [one.fitted() for one in training],
        )
        labels, classes = training[0].values.shape[:2]
        self.outside = torch.zeros(
            size, most, q, dtype=torch.float64, device=self.problems.x.device
        )
        self.values, self.counts = (
            self.outside.new_zeros(size, labels, classes, most),
            self.outside.new_zeros(size, labels, 1, most),
        )
        for b, (images, space, target, truth) in enumerate(
            zip(outside, self.spaces, training, truths, strict=True)
        ):
            seen = space.seen(images)
            self.outside[b, : len(images), : seen.shape[1]], self.outside[b, : len(images), -1] = (
                seen,
                1,
            )
            self.values[b, ..., : len(images)] = truth.values
            known = (
                (truth.values * target.fitted()).sum(1, keepdim=True)
                if self.softmax
                else truth.known * target.fitted()
            )
            self.counts[b, ..., : len(images)] = known

    def search(self, tolerance: float, max_iterations: int, tie: float) -> list[int]:
        """Return the place on the path of each subset's penalty.

        tolerance: of the gradient's norm at a penalty of 1 and above; below, times the penalty's
        root, so that the objective of all lies as near its minimum. With one tolerance for all the
        held-out loss of the weakest was off by up to 2e-3 nats, now by 3e-5. tie: see `lowest`.
        """
        width = FIRST
        while any(asked := [proposed(losses, len(self.penalties), tie) for losses in self.losses]):
            self._wave(asked, width, tolerance, max_iterations)
            width = WIDTH
        return [lowest(losses, tie) for losses in self.losses]

    def _wave(
        self, asked: Sequence[Sequence[int]], width: int, tolerance: float, max_iterations: int
    ) -> None:
        """Solve of each subset the penalties asked for, at most `width`."""
        at = torch.tensor(
            [[*places, *[0] * (width - len(places))] for places in asked],
            device=self.penalties.device,
        )
        live = torch.tensor(
            [[k < len(places) for k in range(width)] for places in asked],
            device=self.penalties.device,
        )
        labels = self.zero.shape[1]
        w = self.zero[:, None].repeat(1, width, 1, 1, 1)
        for s, places in enumerate(asked):
            for k, i in enumerate(places):
                guess = start_from(self.solutions[s], i)
                if guess is not None:
                    w[s * self.folds : (s + 1) * self.folds, k] = guess
        problems = with_members(self.problems, self.penalties[at].repeat_interleave(self.folds, 0))
        members = live.repeat_interleave(self.folds, 0).repeat_interleave(labels, 1)
        exact = tolerance * problems.ridge[:, :, 0, 0].sqrt().clamp_max(1)
        w, _ = solve(
            problems, w.flatten(1, 2), exact, max_iterations, members, compact=len(asked) == 1
        )
        w = w.view(len(w), width, labels, *w.shape[2:])
        counts = self.counts.sum((1, 2, 3)).view(len(asked), -1).sum(1)
        losses = self._losses(w).view(len(asked), -1, width).sum(1) / counts[:, None].clamp_min(1)
        found = losses.tolist()
        for s, places in enumerate(asked):
            mine = slice(s * self.folds, (s + 1) * self.folds)
            for k, i in enumerate(places):
                self.losses[s][i] = found[s][k]
                self.solutions[s][i] = w[mine, k]

    def held_out(self, s: int, i: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return what was held out of a subset's folds at one penalty.

        Probabilities (M, T * c) float64 of the held-out images, and (M,) bool, whom they serve.

        softmax: 0 for a class that the fold lacks; an image of such a class is not served.
        Otherwise NaN for a label that it cannot fit.
        """
        found, served = [], []
        for f, w in enumerate(self.solutions[s][i]):
            b, m = s * self.folds + f, self.held[s * self.folds + f]
            logits = (self._turned(w) @ self.outside[b, :m].T).masked_fill(
                self.problems.absent[b], LOW
            )
            unfit = ~self.fitted[b]
            probabilities = (
                logits.masked_fill(unfit, -torch.inf).softmax(1)
                if self.softmax
                else logits.sigmoid().masked_fill(unfit, torch.nan)
            )
            found.append(probabilities.flatten(0, 1).T)
            served.append(
                self.counts[b, 0, 0, :m] > 0
                if self.softmax
                else torch.ones(m, dtype=torch.bool, device=w.device)
            )
        return found, served

    def average(self, s: int, i: int) -> Linear:
        """Return the mean of what a subset's folds learnt at one penalty: weight and bias.

        Where the fit of the whole subset starts. s: the subset's place. i: the penalty's.
        """
        weights, biases = [], []
        for f, w in enumerate(self.solutions[s][i]):
            space = self.spaces[s * self.folds + f]
            weight = space.weight(w[..., : len(space.spread)]) * space.scale
            weights.append(weight)
            biases.append(w[..., -1].double() - weight @ space.mean)
        return torch.stack(weights).mean(0), torch.stack(biases).mean(0)

    def fits(self, i: int) -> Fits:
        """Return what the folds of a block of one subset learnt at one penalty."""
        problems = with_members(self.problems, self.penalties[i].expand(self.folds, 1))
        w = self.solutions[0][i]
        never = torch.zeros(w.shape[:2], dtype=torch.int64, device=w.device)
        return unpack(problems, self.spaces, w, never, 1)

    def _logits(self, w: torch.Tensor) -> torch.Tensor:
        """(B, K, T, c, M) float64 of the held-out images, from w (B, K, T, c, q)."""
        logits: torch.Tensor = torch.bmm(self._turned(w).flatten(1, 3), self.outside.mT).view(
            *w.shape[:4], -1
        )
        return logits.masked_fill_(self.problems.absent[:, None], LOW) if self.softmax else logits

    def _turned(self, w: torch.Tensor) -> torch.Tensor:
        frame = self.problems.frame
        return w.double() if frame is None else w.double() @ frame.double()

    def _losses(self, w: torch.Tensor) -> torch.Tensor:
        """(B, K) float64: log-loss summed over the held-out images (x labels)."""
        logits, values = self._logits(w), self.values[:, None]
        each = (
            -logits.log_softmax(3) * values
            if self.softmax
            else torch.nn.functional.softplus(logits) - values * logits
        )
        loss = each.sum(3, keepdim=True)
        return (loss * self.counts[:, None]).sum((2, 3, 4))


def settle(
    features: torch.Tensor,
    target: ClassTargets,
    subsets: Sequence[torch.Tensor],
    penalties: torch.Tensor,
    guesses: Sequence[Linear | None],
    constant: float,
    basis: torch.Tensor | None,
    rough: float,
    tolerance: float,
    max_iterations: int,
) -> Fits:
    """Fit whole subsets (index arrays), each at its penalty (S,), in float64: B = S, P = 1.

    Those of one block have one shape, as in `Block`.

    The first iterations, to a gradient norm of `ROUGH` times `rough`, are in float32. guesses:
    where each starts; None: from the class frequencies.
    """
    framed = framing(subsets, features.shape[1], target.outputs)
    rotated = each_once(
        subsets, lambda rows: rotate(features[rows], torch.float64, constant, basis, framed)
    )
    of = [target.take(rows) for rows in subsets]
    packed, spaces = pack(rotated, of, *padded(features, subsets))
    problems = with_members(packed, penalties[:, None])
    w = start(problems)
    for b, (space, guess) in enumerate(zip(spaces, guesses, strict=True)):
        if guess is not None:
            weight, bias = guess
            w[b, ..., : len(space.spread)] = space.turned(
                weight / torch.where(space.scale > 0, space.scale, torch.inf)
            )
            w[b, ..., -1] = bias + weight @ space.mean
    compact = len(subsets) == 1
    quick, taken = solve(
        problems.to(torch.float32), w.float(), ROUGH * rough, max_iterations, compact=compact
    )
    w, iterations = solve(problems, quick.double(), tolerance, max_iterations, compact=compact)
    return unpack(problems, spaces, w, iterations + taken, 1)


def each_once(items: Sequence[Any], make: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield what `make` makes of each item; of one that stands again, to fill a block, only once.

    Nothing is kept but what comes again.
    """
    left = Counter(map(id, items))
    kept: dict[int, Any] = {}
    for item in items:
        made = kept.pop(id(item)) if id(item) in kept else make(item)
        left[id(item)] -= 1
        if left[id(item)]:
            kept[id(item)] = made
        yield made
        del made  # before the next is made: the images of one part alone are there


def aligned(n: int) -> int:
    """Return to how many images a part of n is padded.

    A little more than it needs, so that draws of one budget, whose sizes differ a little, share a
    shape.
    """
    return -(-(n + n // ALIGNED) // ALIGNED) * ALIGNED


def padded(features: torch.Tensor, parts: Sequence[torch.Tensor]) -> tuple[int, int]:
    """Return how many images and columns the problems of such parts have.

    The columns follow from the padded images: a block's parts have one shape.

    features: (N, D). parts: (n,) int64 each.
    """
    most, columns = max(map(len, parts)), features.shape[1]
    rows = aligned(most) if most <= FEW[features.device.type] else -(-most // ALIGNED) * ALIGNED
    return rows, -(-((columns if shares(rows, columns) else rows) + 1) // ALIGNED) * ALIGNED
