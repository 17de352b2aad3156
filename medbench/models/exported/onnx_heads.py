"""Heads as modules that torch writes as ONNX.

Features (N, D) float32 -> probabilities (N, C) float64, as `score` of the head gives them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from medbench.models.exported.head import ComponentHead, Head, LinearHead
from medbench.models.exported.trained_heads import FusedHead, LayerHead
from medbench.models.exported.training_vectors import NeighbourHead, SupportHead
from medbench.models.neighbours import TIE
from medbench.schema import Kind

if TYPE_CHECKING:
    from medbench.models.exported.components import Components


def scoring_head(head: Head, kind: Kind, n_classes: int) -> nn.Module:
    """Build the module of a head, which torch writes as ONNX.

    Features (M, D) -> probabilities (M, C).
    """
    if isinstance(head, LinearHead):
        return _Linear(head, kind, n_classes)
    if isinstance(head, ComponentHead):
        return _Component(head)
    if isinstance(head, NeighbourHead):
        return _Neighbour(head)
    if isinstance(head, SupportHead):
        return _Support(head)
    if isinstance(head, LayerHead):
        return _Layer(head)
    assert isinstance(head, FusedHead), "there are no other heads"
    return _Fused(head)


class _Constants(nn.Module):
    """Holds arrays as float64 buffers by name, others as they are."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **arrays: Any):
        super().__init__()
        for name, value in arrays.items():
            made = torch.as_tensor(np.asarray(value))
            self.register_buffer(name, made.double() if made.is_floating_point() else made)


def _placed(columns: np.ndarray, n: int) -> np.ndarray:
    """(c, n): what puts c values at their columns."""
    made = np.zeros((len(columns), n))
    made[np.arange(len(columns)), columns] = 1
    return made


class _Linear(_Constants):
    def __init__(self, head: LinearHead, kind: Kind, n_classes: int):
        arrays, base = head.arrays(), np.array(head.model.base, float)
        base[arrays["columns"]] = 0
        super().__init__(
            weight=arrays["weight"].reshape(-1, head.width),
            bias=arrays["bias"].ravel(),
            mean=arrays["mean"],
            scale=arrays["scale"],
            base=base,
            spread=_placed(arrays["columns"], len(base)),
        )
        self.limit, self.several = float(arrays["limit"][0]), kind in ("binary", "multilabel")
        self.one_score = len(base) == 1 and n_classes == 2

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = ((features.double() - self.mean) * self.scale).clamp(-self.limit, self.limit)
        logits = x @ self.weight.T + self.bias
        own = logits.sigmoid() if self.several else logits.softmax(1)
        p: torch.Tensor = own @ self.spread + self.base
        return torch.cat([1 - p, p], 1) if self.one_score else p


class _Transform(_Constants):
    """`components.Components`."""

    def __init__(self, of: Components):
        side, exponents = np.sign(of.power.centre), of.power.exponents
        super().__init__(
            used=np.flatnonzero(of.varies),
            reach=of.reach,
            side=side,
            exponents=exponents,
            column=np.where(side < 0, 2 - exponents, exponents),
            middle=np.abs(of.power.centre),
            mean=of.power.mean,
            deviation=of.power.deviation,
            centre=of.centre,
            components=of.components,
        )
        self.limit = of.limit

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = features.double().index_select(1, self.used)
        x = torch.minimum(torch.maximum(x, -self.reach), self.reach)
        made = (self._shifted(x) - self.mean) / self.deviation
        out: torch.Tensor = (made.clamp(-self.limit, self.limit) - self.centre) @ self.components.T
        return out

    def _shifted(self, x: torch.Tensor) -> torch.Tensor:
        """`models.power_transform._shifted`."""
        one, length = torch.ones_like(x), x.abs().log1p()
        free, negative = self.side == 0, x < 0
        turned = torch.where(negative, 2 - self.exponents, self.exponents + 0 * x)
        own = torch.where(free, turned, self.column)
        sign = torch.where(free, torch.where(negative, -one, one), self.side)
        made = sign * _grown(own, length - self.middle)
        value = _grown(2 - self.column, length) + _grown(self.column, self.middle)
        other = -self.side * value * (-self.column * self.middle).exp()
        found: torch.Tensor = torch.where(x * self.side < 0, other, made)
        return found


def _grown(exponent: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """expm1(a t) / a; t where a is 0. ONNX has no expm1: near 0 three terms of its series."""
    at = exponent * length
    small = at.abs() < 1e-4
    divisor = torch.where(exponent == 0, torch.ones_like(exponent), exponent)
    return torch.where(small, length * (1 + at / 2 + at * at / 6), (at.exp() - 1) / divisor)


class _Component(_Constants):
    def __init__(self, head: ComponentHead):
        spread = _placed(head.seen, head.n_classes)
        super().__init__(coef=head.coef, intercept=head.intercept, spread=spread)
        self.transform = _Transform(head.transform)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        values = self.transform(features) @ self.coef.T + self.intercept
        p: torch.Tensor = values.softmax(1) @ self.spread
        return p


class _Support(_Constants):
    """Of each two classes one margin, a column of `dual`."""

    def __init__(self, head: SupportHead):
        c, ends = len(head.seen), np.cumsum(head.counts).astype(int)
        pairs = [(i, j) for i in range(c) for j in range(i + 1, c)]
        dual = np.zeros((len(head.vectors), len(pairs)))
        if len(head.vectors):
            of = [slice(end - n, end) for end, n in zip(ends, head.counts.astype(int), strict=True)]
            for k, (i, j) in enumerate(pairs):
                if c == 2:
                    dual[:, k] = head.dual[0]
                else:
                    dual[of[i], k], dual[of[j], k] = head.dual[j - 1, of[i]], head.dual[i, of[j]]
        first, second = (np.array([pair[k] for pair in pairs], int) for k in (0, 1))
        super().__init__(
            vectors=head.vectors,
            dual=dual,
            bias=head.bias,
            first=_placed(first, c),
            second=_placed(second, c),
            spread=_placed(head.seen, head.n_classes),
        )
        self.transform, self.gamma, self.sharpness = (
            _Transform(head.transform),
            head.gamma,
            head.sharpness,
        )
        self.classes, self.fitted = c, len(head.vectors) > 0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        nothing = features.double()[:, :1].repeat(1, self.classes) * 0
        values = self._decided(self.transform(features)) if self.fitted else nothing
        p: torch.Tensor = (self.sharpness * values).softmax(1) @ self.spread
        return p

    def _decided(self, x: torch.Tensor) -> torch.Tensor:
        squared = (x**2).sum(1, keepdim=True) - 2 * x @ self.vectors.T + (self.vectors**2).sum(1)
        margin = (-self.gamma * squared.clamp(min=0)).exp() @ self.dual + self.bias
        if self.classes == 2:
            return torch.cat([torch.zeros_like(margin), margin], 1)
        won = (margin > 0).double()
        votes = won @ self.first + (1 - won) @ self.second
        sums = margin @ (self.first - self.second)
        found: torch.Tensor = votes + sums / (3 * (sums.abs() + 1))
        return found


class _Neighbour(_Constants):
    """All images weighed, those that are farther than the k-th by nothing."""

    def __init__(self, head: NeighbourHead):
        values, known = head.votes()
        length = np.linalg.norm(head.images.astype(float), axis=1, keepdims=True)
        super().__init__(
            images=head.images / np.maximum(length, 1e-300),
            values=values,
            known=np.broadcast_to(known, values.shape).copy(),
            base=(values.sum(0) + 1) / (known.sum(0) + 2),
        )
        self.k, self.temperature = head.k, head.temperature

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        own = features.double()
        own = own / (own**2).sum(1, keepdim=True).sqrt().clamp(min=1e-300)
        near = own @ self.images.T
        last = near.topk(self.k, dim=1).values[:, -1:]
        weight = (near / self.temperature).exp() * (near >= last - TIE).double()
        cast = weight @ self.known
        shares = (weight @ self.values / cast.clamp(min=1e-300)).clamp(max=1)
        p: torch.Tensor = torch.where(cast > 0, shares, self.base)
        return p


class _Layer(_Constants):
    def __init__(self, head: LayerHead):
        super().__init__(weight=head.weight, bias=head.bias)
        self.several = head.several

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = features.double() @ self.weight.T + self.bias
        p: torch.Tensor = logits.sigmoid() if self.several else logits.softmax(1)
        return p


class _Fused(_Constants):
    def __init__(self, head: FusedHead):
        usable = np.array(head.usable, float)
        super().__init__(
            usable=usable,
            base=np.where(head.usable, 0.0, head.base),
            centre=head.centre,
            scale=np.repeat(head.scale, head.widths),
        )
        self.net, self.widths = head.net, head.widths
        self.limit, self.several = head.limit, head.several

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = ((features.double() - self.centre) * self.scale).clamp(-self.limit, self.limit).float()
        logits: torch.Tensor = self.net(x.split(self.widths, 1)).double()
        if self.several:
            p: torch.Tensor = logits.sigmoid() * self.usable + self.base
            return p
        shown = torch.where(self.usable > 0, logits, torch.full_like(logits, -1e30))
        return shown.softmax(1)
