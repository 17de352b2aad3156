"""Batched L-BFGS for B problems of K members each, all in one set of matrix products.

What is minimised: `models.logistic`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from medbench.models.logistic import products, spectrum

MEMORY = 6  # pairs that L-BFGS keeps
RESCALED = (8, 20, 40, 80, 160)  # iterations at which the preconditioner is made anew
LOOK = 8  # iterations of a GPU between two looks at who has converged, for which it is waited for
LOW = -1e30  # logit of a class without training images; finite, so that 0 * logit stays 0


@dataclass(frozen=True, eq=False)
class Problems:
    """B problems with K = P * T members each.

    Padded to n images and q = r + 1 columns (the last is the bias).
    """

    x: torch.Tensor  # (B, n, q)
    values: torch.Tensor  # (B, K or 1, c, n)
    # (B, K or 1, 1, n): 1 / number of known images; 0 for padding, and for labels that cannot be
    # fitted
    weight: torch.Tensor
    absent: torch.Tensor  # (B, 1, c, 1) bool
    spread: torch.Tensor  # (B, 1, 1, q)
    ridge: torch.Tensor  # (B, K, 1, q): the penalty; 0 for the bias
    softmax: bool
    sample: torch.Tensor  # (B, m, q): images, rotated as w is, of which the diagonal is taken
    sampled: int  # each how-manieth image of x they are
    # (q, q): x is of columns that w @ frame speaks of; None: of those of w
    frame: torch.Tensor | None = None
    across: torch.Tensor | None = None  # (B, q, n): x the other way round, where that is kept
    # of each problem its place in x and in what is as large, after some have left; None: all are
    # there
    which: tuple[int, ...] | None = None

    def to(self, dtype: torch.dtype) -> Problems:
        """Return these problems with their numbers in another floating-point type."""
        each = ("x", "values", "weight", "spread", "ridge", "sample", "frame")
        return replace(
            self,
            **{
                name: getattr(self, name).to(dtype)
                for name in each
                if getattr(self, name) is not None
            },
            across=None,
        )

    def evaluate(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute objective (B, K) and gradient (B, K, c, q) at w (B, K, c, q)."""
        a = self._logits(w)
        if self.softmax:
            a -= a.amax(2, keepdim=True)
            chosen = (a * self.values).sum(2, keepdim=True)
            total = a.exp_().sum(2, keepdim=True)
            a /= total
            loss = total.log_() - chosen
        else:
            loss = torch.nn.functional.softplus(a) - self.values * a
            a.sigmoid_()
        value = (loss * self.weight).sum((2, 3)) + (w * w * self.ridge).sum((2, 3)) / 2
        a -= self.values
        a *= self.weight
        gradient = products.times(a.flatten(1, 2), self.x, self.which).reshape(w.shape)
        if self.frame is not None:
            gradient = products.product(gradient, self.frame.mT)
        return value, gradient.add_(w * self.ridge)

    def covariance(self, w: torch.Tensor) -> torch.Tensor:
        """Return the covariance of the class indicators under the model: (B, K, c, c).

        A mean over images.
        """
        p = self._logits(w).softmax(2) if self.softmax else self._logits(w).sigmoid()
        weighted = p * self.weight
        if not self.softmax:
            return (weighted * (1 - p)).sum(3, keepdim=True)
        return torch.diag_embed(weighted.sum(3)) - weighted @ p.mT

    def diagonal(self, w: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        """Return the diagonal of the loss's Hessian at w: (B, K, c, q).

        Its classes turned by turn (B, K, c, c).
        """
        sample = self.sample if self.which is None else self.sample[list(self.which)]
        logits = self._absent(torch.bmm(w.flatten(1, 2), sample.mT).reshape(*w.shape[:3], -1))
        p = logits.softmax(2) if self.softmax else logits.sigmoid()
        weight = self.weight[..., :: self.sampled]
        weight = weight * (
            self.weight.sum(3, keepdim=True) / weight.sum(3, keepdim=True).clamp_min(1e-30)
        )
        variance = turn.mT.square() @ p - (turn.mT @ p).square()
        variance = variance.clamp_min_(0).mul_(weight).flatten(1, 2)
        return torch.stack([v @ x.square() for v, x in zip(variance, sample, strict=True)]).reshape(
            w.shape
        )

    def _logits(self, w: torch.Tensor) -> torch.Tensor:
        turned = w if self.frame is None else products.product(w, self.frame)
        images = self.x.mT if self.across is None else self.across
        logits = products.times(turned.flatten(1, 2), images, self.which)
        return self._absent(logits.reshape(*w.shape[:3], self.x.shape[1]))

    def _absent(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.masked_fill_(self.absent, LOW) if self.softmax else logits


def solve(
    problems: Problems,
    w: torch.Tensor,
    tolerance: float | torch.Tensor,
    max_iterations: int,
    live: torch.Tensor | None = None,
    *,
    compact: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run batched L-BFGS from w (B, K, c, q); return solutions and iterations (B, K) int64.

    An iteration is one evaluation; each member has its own step length. tolerance: of the
    gradient's norm, one, or (B, K). live (B, K) bool: the members to solve; None: all. compact:
    members that have converged leave the batch, which changes its shape and so the bits of the
    others.

    It walks in the preconditioned coordinates u, w = turn @ (u * scale), in which the approximate
    Hessian is the identity. The objective is convex, so a step after which the slope along the
    direction is still negative has gone down: that is tested on the gradient, which is exact where
    differences of objectives drown in rounding. A direction that fails is dropped with its history
    for the preconditioned gradient; where that fails too, rounding lets the member go no further.
    """
    size, members, classes, q = w.shape
    out, iterations = w.clone(), torch.zeros(size, members, dtype=torch.long, device=w.device)
    curvature, turn = spectrum.eigh(problems.covariance(w).double())
    curvature = curvature.clamp_min(1e-6).maximum(1e-4 * curvature[..., -1:])
    m = {
        "turn": turn.to(w.dtype),
        "scale": (curvature.to(w.dtype)[..., None] * problems.spread + problems.ridge).rsqrt(),
    }
    m["u"] = (m["turn"].mT @ w) / m["scale"]
    m["value"], m["gradient"], m["norm"] = _evaluate(problems, m, m["u"])
    m["direction"] = -m["gradient"]
    m["slope"] = -m["gradient"].square().sum((2, 3))
    m["step"] = torch.ones_like(m["slope"])
    m["history"] = w.new_zeros(size, members, 2 * MEMORY, classes * q)
    m["products"] = torch.zeros(
        size, members, 2 * MEMORY, 2 * MEMORY, dtype=torch.float64, device=w.device
    )
    m["gamma"] = torch.ones(size, members, dtype=torch.float64, device=w.device)
    rows, ids = (
        torch.arange(size, device=w.device),
        torch.arange(members, device=w.device).expand(size, members),
    )
    m["tolerance"] = torch.as_tensor(tolerance, dtype=w.dtype, device=w.device).expand_as(m["norm"])
    live = (m["norm"] > m["tolerance"]) if live is None else live & (m["norm"] > m["tolerance"])
    look = LOOK if w.is_cuda else 1
    most, ended = 0, torch.zeros_like(live)  # and not in `out` yet: they stay where they are
    for iteration in range(max_iterations):
        most = int(live.sum(1).max()) if iteration % look == 0 else most
        if most == 0:
            break
        if (
            iteration % look == 0
            and compact
            and (most <= 0.85 * live.shape[1] or not bool(live.any(1).all()))
        ):
            kept = live.any(1).nonzero()[:, 0]
            first = live[kept].to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
            problems = _keep(problems, kept, first)
            m = {name: _pick(value, kept, first) for name, value in m.items()}
            rows, ids, live = rows[kept], _pick(ids, kept, first), _pick(live, kept, first)
            ended = torch.zeros_like(live)
        iterations[rows[:, None], ids] += live.long()
        if iteration in RESCALED:
            _rescale(problems, m)
        stuck = _advance(problems, m, live, iteration % MEMORY, blind=look > 1)
        goes_on = live & ~stuck & (m["norm"] > m["tolerance"])
        done = iteration + 1
        ended = ended | (live & ~goes_on if done < max_iterations else live)
        # before the coordinates of all change, or members leave; where looking costs nothing, at
        # once
        if done % look == 0 or done in RESCALED or done == max_iterations:
            if look > 1 or bool(ended.any()):
                out[rows[:, None], ids] = torch.where(
                    ended[..., None, None], _outward(m, m["u"]), out[rows[:, None], ids]
                )
            ended = torch.zeros_like(live)
        live = goes_on
    return out, iterations


def _evaluate(
    problems: Problems, m: dict[str, torch.Tensor], u: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the objective (B, K), its gradient in u, and the norm of its gradient in w.

    The gradient is (B, K, c, q), the norm (B, K).
    """
    value, gradient = problems.evaluate(_outward(m, u))
    return value, (m["turn"].mT @ gradient).mul_(m["scale"]), gradient.flatten(2).norm(dim=2)


def _outward(m: dict[str, torch.Tensor], u: torch.Tensor) -> torch.Tensor:
    return m["turn"] @ (u * m["scale"])


def _rescale(problems: Problems, m: dict[str, torch.Tensor]) -> None:
    """Change to coordinates in which the Hessian's diagonal at the present point is 1.

    The history is of the same steps and stays.
    """
    w = _outward(m, m["u"])
    diagonal = problems.diagonal(w, m["turn"])
    least = (1e-4 * diagonal[..., -1:].amax(2, keepdim=True)).clamp_min(1e-6)
    scale = (diagonal.maximum(least * problems.spread) + problems.ridge).rsqrt()
    ratio, m["scale"] = m["scale"] / scale, scale
    m["u"], m["direction"], m["gradient"] = (
        m["u"] * ratio,
        m["direction"] * ratio,
        m["gradient"] / ratio,
    )
    moved, bent = m["history"][:, :, :MEMORY], m["history"][:, :, MEMORY:]
    moved *= ratio.flatten(2)[:, :, None]
    bent /= ratio.flatten(2)[:, :, None]
    m["products"] = (m["history"] @ m["history"].mT).double()


def _advance(
    problems: Problems,
    m: dict[str, torch.Tensor],
    live: torch.Tensor,
    slot: int,
    *,
    blind: bool = False,
) -> torch.Tensor:
    """One evaluation, in place: live members accept the step and turn, or shorten it.

    Returns (B, K) bool: no step goes down. blind: ask for no value.
    """
    u = torch.addcmul(m["u"], m["step"][..., None, None], m["direction"])
    value, gradient, norm = _evaluate(problems, m, u)
    slope = (gradient * m["direction"]).sum((2, 3))
    down = live & (slope <= 1e-4 * m["slope"]) | live & (
        value <= m["value"] + 1e-4 * m["step"] * m["slope"]
    )
    took = down[..., None, None]
    u, gradient = torch.where(took, u, m["u"]), torch.where(took, gradient, m["gradient"])
    moved, bent = (u - m["u"]).flatten(2), (gradient - m["gradient"]).flatten(2)
    m["u"], m["gradient"] = u, gradient
    m["value"], m["norm"] = torch.where(down, value, m["value"]), torch.where(down, norm, m["norm"])
    exhausted = live & ~down & (m["step"] < 1e-8)
    stuck = exhausted
    if blind or exhausted.any():
        stuck = exhausted & ~m["history"].flatten(2).any(2)
        m["history"].masked_fill_(exhausted[..., None, None], 0)
        m["products"].masked_fill_(exhausted[..., None, None], 0)
        m["gamma"] = m["gamma"].masked_fill(exhausted, 1)
    direction = _quasi_newton(m, moved, bent, gradient.flatten(2), slot).neg_().reshape(u.shape)
    turned = down | exhausted
    m["direction"] = torch.where(turned[..., None, None], direction, m["direction"])
    m["step"] = torch.where(turned, 1, 0.3 * m["step"])
    m["slope"] = (gradient * m["direction"]).sum((2, 3))
    return stuck


def _quasi_newton(
    m: dict[str, torch.Tensor], moved: torch.Tensor, bent: torch.Tensor, u: torch.Tensor, slot: int
) -> torch.Tensor:
    """(B, K, c * q): inverse Hessian times u, after the pair (moved, bent) has gone into its slot.

    A pair of zeros counts for nothing.
    """
    history, products = m["history"], m["products"]
    history[:, :, slot], history[:, :, MEMORY + slot] = moved, bent
    dots = (torch.stack([moved, bent, u], 2) @ history.mT).double()
    for column, at in enumerate((slot, MEMORY + slot)):
        products[..., at] = products[:, :, at] = dots[:, :, column]
    both, pairs, back = _orders(u.device)[slot]
    ordered = products.flatten(2).index_select(2, pairs).view_as(products)
    on_u = dots[:, :, 2].index_select(2, both)
    cross, bent_bent = ordered[:, :, :MEMORY, MEMORY:], ordered[:, :, MEMORY:, MEMORY:]
    curved = cross.diagonal(dim1=2, dim2=3)
    empty = curved <= 0
    fresh = ~empty[..., -1]
    m["gamma"] = torch.where(
        fresh, curved[..., -1] / torch.where(fresh, bent_bent[..., -1, -1], 1), m["gamma"]
    )
    gamma = m["gamma"][..., None]
    upper = cross.triu().masked_fill(empty[..., None] | empty[..., None, :], 0) + torch.diag_embed(
        empty.double()
    )
    on_moved, on_bent = on_u[..., :MEMORY].masked_fill(empty, 0), on_u[..., MEMORY:]
    v = torch.linalg.solve_triangular(upper, on_moved[..., None], upper=True)
    right = curved * v[..., 0] + gamma * ((bent_bent @ v)[..., 0] - on_bent)
    first = torch.linalg.solve_triangular(
        upper.mT, right.masked_fill(empty, 0)[..., None], upper=False
    )[..., 0]
    weights = torch.cat([first, -gamma * v[..., 0]], -1).index_select(2, back)
    return gamma.to(u.dtype) * u + (weights[:, :, None].to(u.dtype) @ history)[:, :, 0]


@cache
def _orders(device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For the slot that was written last, the slots of both kinds of pair, oldest first.

    Of each its slots (2 MEMORY,), their products in a flat matrix (4 MEMORY ** 2,), and the way
    back (2 MEMORY,), int64.
    """
    orders = []
    for slot in range(MEMORY):
        order = [(slot + 1 + i) % MEMORY for i in range(MEMORY)]
        both = torch.tensor([*order, *(MEMORY + i for i in order)], device=device)
        pairs = (both[:, None] * 2 * MEMORY + both).flatten()
        orders.append((both, pairs, both.argsort()))
    return orders


def _pick(value: torch.Tensor, kept: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Problems `kept`, and of each the members `first` (len(kept), k)."""
    return value[kept[:, None], first]


def _keep(problems: Problems, kept: torch.Tensor, first: torch.Tensor) -> Problems:
    each: dict[str, Any] = {
        name: value[kept] if value.shape[1] == 1 else _pick(value, kept, first)
        for name, value in (("values", problems.values), ("weight", problems.weight))
    }
    if len(kept) < len(problems.absent):
        names = ["absent", "spread"]
        if products.one_by_one(problems.x):  # the features are large: no copy without need
            places = problems.which or range(len(problems.x))
            each["which"] = tuple(places[i] for i in kept.tolist())
        else:
            names += ["x", "sample"]
            each["across"] = None
        each |= {name: getattr(problems, name)[kept] for name in names}
    return replace(problems, ridge=_pick(problems.ridge, kept, first), **each)


def settle_bias(problems: Problems, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Take at most three Newton steps on the bias alone, kept where they help.

    Returns w and its gradient. Makes the duality gap exact. w: (B, K, c, q), the bias last.
    """
    gradient = problems.evaluate(w)[1]
    rounding = 8 * torch.finfo(w.dtype).eps
    for _ in range(3):
        # of each member alone: the others change no bit of it
        open_ = (gradient[..., -1].abs() > rounding).any(2)
        if not open_.any():
            break
        inverse = spectrum.pseudoinverse(problems.covariance(w).double(), 1e-9)
        trial = w.clone()
        trial[..., -1] -= (inverse @ gradient[..., -1:].double())[..., 0].to(w.dtype)
        moved = problems.evaluate(trial)[1]
        better = (open_ & (moved.flatten(2).norm(dim=2) < gradient.flatten(2).norm(dim=2)))[
            ..., None, None
        ]
        w, gradient = torch.where(better, trial, w), torch.where(better, moved, gradient)
    return w, gradient
