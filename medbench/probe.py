"""L2-penalised logistic regression for all penalties and folds of a labelled subset together, in batched matrix products.

A member is one penalty on one set of training images (a fold's, or the whole subset). Its objective, with features standardised by the
mean and standard deviation of its own n images, is

    mean over images of the cross-entropy  +  penalty / 2 * ||W||_F^2,        bias not penalised,

softmax over the classes (multiclass, ordinal), or one logistic loss a label (multi-label; binary is one label, which equals a softmax of
two classes at twice the penalty). scikit-learn's LogisticRegression has the same minimiser at C = 1 / (n * penalty).

How. Standardised features are rotated into the eigenbasis of their Gram matrix: the penalty does not change, and n < D images live in n
dimensions. Take the Hessian of the loss as (mean covariance of the class probabilities) x (Gram matrix), a Kronecker product: in both
eigenbases it is diagonal, for every penalty at once. (Boehning's bound, Ann. Inst. Statist. Math. 44, 1992, has the same form with the
first factor (I - 11'/C) / 2; it knows nothing of rare classes and took 1.6 to 2.1 times as many evaluations on HAM10000.) It preconditions a
batched L-BFGS (compact form: Byrd, Nocedal and Schnabel, Math. Programming 63, 1994, section 3). Folds can start from the whole subset's
solutions; members that have converged leave the batch.

When it stops. Euclidean norm of the gradient of the mean objective <= tolerance (scikit-learn's lbfgs bounds the largest entry: weaker).
Where the bias is optimal, the duality gap is exactly ||gradient in W||^2 / (2 * penalty): the objective lies no further above its minimum.
Cross-validation runs in float32, the final fit in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

MEMORY = 10  # pairs that L-BFGS keeps
BATCH_BYTES = 2**31  # folds are solved together while their features fit in this
_RANK = 1e-12  # eigenvalues of a float64 Gram matrix below this share of the largest are rounding
_LOW = -1e30  # logit of a class without training images; finite, so that 0 * logit stays 0


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be predicted. values: (T, c, n) float 0/1, known: (T, 1, n) float 0/1.

    softmax: T = 1 and c classes. Otherwise T labels, each with a logistic loss of its own: c = 1, `known` is 0 for uncertain labels.
    """

    values: torch.Tensor
    known: torch.Tensor
    softmax: bool

    def take(self, rows: torch.Tensor) -> Target:
        return Target(self.values[..., rows], self.known[..., rows], self.softmax)

    def fitted(self) -> torch.Tensor:
        """(T, c, 1) bool: classes that have an image; labels that have both values among the known images."""
        positive = (self.values * self.known).sum(2, keepdim=True)
        return positive > 0 if self.softmax else (positive > 0) & (positive < self.known.sum(2, keepdim=True))


@dataclass(frozen=True, eq=False)
class Fits:
    """Solutions for B sets of images and P penalties, float64.

    weight (B, P, T, c, D) of standardised features and bias (B, P, T, c). mean, scale (B, D): the standardisation (scale is 0 for a constant
    feature). limit (B,): sqrt(n - 1) standard deviations; no training image can lie further out (Samuelson 1968), and others are scored as
    if they lay there: a unit that is silent on all training images but one must not outweigh all others. The certificate, each (B, P, T):
    iterations, gradient (Euclidean norm of the whole gradient), largest (its largest entry), gap (bound on objective - minimum),
    bias_gradient (what is left of the bias's; the gap holds where it is 0).
    """

    weight: torch.Tensor
    bias: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    limit: torch.Tensor
    iterations: torch.Tensor
    gradient: torch.Tensor
    largest: torch.Tensor
    gap: torch.Tensor
    bias_gradient: torch.Tensor

    def logits(self, features: torch.Tensor, part: int = 0) -> torch.Tensor:
        """(P, T, c, M) float64 of features (M, D), from the solutions of one part."""
        limit = float(self.limit[part])
        x = ((features.double() - self.mean[part]) * self.scale[part]).clamp(-limit, limit)
        bias = self.bias[part]
        return (self.weight[part].flatten(0, 2) @ x.T).reshape(*bias.shape, len(features)) + bias[..., None]

    def at(self, penalty: int) -> Fits:
        """The solutions of one penalty of the path."""
        alone = {name: getattr(self, name)[:, penalty : penalty + 1] for name in Fits.__dataclass_fields__ if name not in _PER_PART}
        return replace(self, **alone)


_PER_PART = ("mean", "scale", "limit")


def fit(
    features: torch.Tensor,
    target: Target,
    penalties: torch.Tensor,
    parts: list[torch.Tensor] | None = None,
    *,
    tolerance: float = 1e-7,
    dtype: torch.dtype = torch.float64,
    start: Fits | None = None,
    max_iterations: int = 3000,
    constant: float = 1e-6,
) -> Fits:
    """Solve every penalty (P,) on every part (index arrays into the n images; None: all images, B = 1).

    features (n, D) float, finite. tolerance: of the gradient's norm. dtype: of the products; float32 reaches about 1e-6, below that a
    member stops where rounding lets it go no further, and its certificate says so. start: a solution with B = 1 and the same penalties.
    constant: a feature whose deviation is at most this share of its mean holds rounding alone, and is set to zero.
    """
    parts = [torch.arange(len(features), device=features.device)] if parts is None else parts
    together = max(1, BATCH_BYTES // (len(features) * min(features.shape[1], len(features)) * dtype.itemsize))
    shared = _eigenbasis(features, dtype, constant) if min(map(len, parts)) > features.shape[1] else None
    chunks = []
    for i in range(0, len(parts), together):
        spaces = [_rotate(features[rows], dtype, constant, shared) for rows in parts[i : i + together]]
        problems = _pack(spaces, [target.take(rows) for rows in parts[i : i + together]], penalties.to(dtype))
        w, iterations = _solve(problems, _start(problems, spaces, start), tolerance, max_iterations)
        chunks.append(_unpack(problems, spaces, w, iterations, len(penalties)))
    return Fits(*(torch.cat([getattr(chunk, name) for chunk in chunks]) for name in Fits.__dataclass_fields__))


def held_out_loss(fits: Fits, features: torch.Tensor, target: Target, parts: list[torch.Tensor]) -> torch.Tensor:
    """(P,) float64: mean log-loss over the images (x labels) outside each part, pooled over parts.

    An image whose class the part's training images lack costs every penalty the same infinity: it is left out.
    """
    total, count = torch.zeros(fits.bias.shape[1], dtype=torch.float64, device=features.device), 0.0
    for b, rows in enumerate(parts):
        outside = torch.ones(len(features), dtype=torch.bool, device=features.device)
        outside[rows] = False
        fitted, held = target.take(rows).fitted(), target.take(outside.nonzero()[:, 0])
        logits = fits.logits(features[outside], b)
        if target.softmax:
            known = (held.values * fitted).sum(1, keepdim=True)
            loss = -(logits.masked_fill(~fitted, _LOW).log_softmax(2) * held.values).sum(2, keepdim=True)
        else:
            known = held.known * fitted
            loss = torch.nn.functional.softplus(logits) - held.values * logits
        total += (loss * known).sum((1, 2, 3))
        count += float(known.sum())
    return total / max(count, 1.0)


@dataclass(frozen=True, eq=False)
class _Space:
    """Standardised features of n images in r <= min(n, D) rotated dimensions: rotated (n, r) = (features - mean) * scale @ basis (D, r)."""

    rotated: torch.Tensor
    basis: torch.Tensor  # float64, like all below
    spread: torch.Tensor  # (r,) eigenvalues: mean square of each rotated column
    mean: torch.Tensor  # (D,)
    scale: torch.Tensor  # (D,) 1 / standard deviation; 0 for a constant feature


def _standardise(features: torch.Tensor, constant: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = features.double()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    varies = deviation > constant * mean.abs()
    scale = torch.where(varies, 1 / torch.where(varies, deviation, 1), 0)
    return (x - mean) * scale, mean, scale


def _eigenbasis(features: torch.Tensor, dtype: torch.dtype, constant: float) -> torch.Tensor:
    """(D, D) float64 of all n > D images. Orthonormal, so exact for any part of them; only the preconditioner is then approximate."""
    x = _standardise(features, constant)[0].to(dtype)
    basis: torch.Tensor = torch.linalg.eigh((x.T @ x).double())[1]
    return basis


def _rotate(features: torch.Tensor, dtype: torch.dtype, constant: float, basis: torch.Tensor | None) -> _Space:
    x, mean, scale = _standardise(features, constant)
    if basis is not None:
        rotated = x.to(dtype) @ basis.to(dtype)
        return _Space(rotated, basis, rotated.square().mean(0).double(), mean, scale)
    spread, left = torch.linalg.eigh(x @ x.T / len(x))
    keep = spread > _RANK * spread[-1].clamp_min(_RANK)
    spread, left = spread[keep], left[:, keep]
    singular = (spread * len(x)).sqrt()
    return _Space((left * singular).to(dtype), x.T @ (left / singular), spread, mean, scale)


@dataclass(frozen=True, eq=False)
class _Problems:
    """B problems with K = P * T members each, padded to n images and q = r + 1 columns (the last is the bias)."""

    x: torch.Tensor  # (B, n, q)
    values: torch.Tensor  # (B, K or 1, c, n)
    weight: torch.Tensor  # (B, K or 1, 1, n): 1 / number of known images; 0 for padding, and for labels that cannot be fitted
    absent: torch.Tensor  # (B, 1, c, 1) bool
    spread: torch.Tensor  # (B, 1, 1, q)
    ridge: torch.Tensor  # (B, K, 1, q): the penalty; 0 for the bias
    softmax: bool

    def evaluate(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """w (B, K, c, q) -> objective (B, K), gradient (B, K, c, q)."""
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
        gradient = torch.bmm(a.flatten(1, 2), self.x).reshape(w.shape)
        return value, gradient.add_(w * self.ridge)

    def covariance(self, w: torch.Tensor) -> torch.Tensor:
        """(B, K, c, c): mean over images of the covariance of the class indicators under the model."""
        p = self._logits(w).softmax(2) if self.softmax else self._logits(w).sigmoid()
        weighted = p * self.weight
        if not self.softmax:
            return (weighted * (1 - p)).sum(3, keepdim=True)
        return torch.diag_embed(weighted.sum(3)) - weighted @ p.mT

    def _logits(self, w: torch.Tensor) -> torch.Tensor:
        a: torch.Tensor = torch.bmm(w.flatten(1, 2), self.x.mT).reshape(*w.shape[:3], self.x.shape[1])
        return a.masked_fill_(self.absent, _LOW) if self.softmax else a


def _pack(spaces: list[_Space], targets: list[Target], penalties: torch.Tensor) -> _Problems:
    labels, classes = targets[0].values.shape[:2]
    dtype, device = spaces[0].rotated.dtype, spaces[0].rotated.device
    n, q = max(len(s.rotated) for s in spaces), max(len(s.spread) for s in spaces) + 1
    size = len(spaces)
    x = torch.zeros(size, n, q, dtype=dtype, device=device)
    values, weight = x.new_zeros(size, labels, classes, n), x.new_zeros(size, labels, 1, n)
    spread = x.new_zeros(size, 1, 1, q)
    absent = torch.zeros(size, 1, classes, 1, dtype=torch.bool, device=device)
    for b, (space, target) in enumerate(zip(spaces, targets, strict=True)):
        rows, rank = space.rotated.shape
        x[b, :rows, :rank], x[b, :rows, -1] = space.rotated, 1
        spread[b, 0, 0, :rank], spread[b, 0, 0, -1] = space.spread.to(dtype), 1
        values[b, ..., :rows] = target.values
        usable = target.known if target.softmax else target.known * target.fitted()
        weight[b, ..., :rows] = usable / usable.sum(2, keepdim=True).clamp_min(1)
        if target.softmax:
            absent[b] = ~target.fitted()
    ridge = penalties.repeat_interleave(labels)[None, :, None, None].repeat(size, 1, 1, q)
    ridge[..., -1] = 0
    if labels > 1:
        values, weight = (t.repeat(1, len(penalties), 1, 1) for t in (values, weight))
    return _Problems(x, values, weight, absent, spread, ridge, targets[0].softmax)


def _start(problems: _Problems, spaces: list[_Space], fits: Fits | None) -> torch.Tensor:
    """(B, K, c, q): the given solution in each problem's coordinates, or zero weights with the bias of the class frequencies."""
    size, members = problems.ridge.shape[:2]
    w = problems.x.new_zeros(size, members, problems.values.shape[2], problems.x.shape[2])
    if fits is None:
        share = (problems.values * problems.weight).sum(3)
        bias = share.log() if problems.softmax else torch.logit(share)
        w[..., -1] = torch.where(bias.isfinite(), bias, 0)
        return w
    weight, bias = fits.weight[0].flatten(0, 1), fits.bias[0].flatten(0, 1)
    for b, space in enumerate(spaces):
        w[b, :, :, : len(space.spread)] = (weight @ space.basis).to(w.dtype)
        w[b, :, :, -1] = bias.to(w.dtype)
    return w


def _solve(problems: _Problems, w: torch.Tensor, tolerance: float, max_iterations: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Batched L-BFGS from w (B, K, c, q): solutions and iterations (B, K). An iteration is one evaluation; each member has its own step length.

    The objective is convex, so a step after which the slope along the direction is still negative has gone down: that is tested on the
    gradient, which is exact where differences of objectives drown in rounding. A direction that fails is dropped with its history for the
    preconditioned gradient; where that fails too, rounding lets the member go no further.
    """
    size, members, classes, q = w.shape
    out, iterations = w.clone(), torch.zeros(size, members, dtype=torch.long, device=w.device)
    curvature, turn = torch.linalg.eigh(problems.covariance(w).double())
    curvature = curvature.clamp_min(1e-6).maximum(1e-4 * curvature[..., -1:])
    m = {"w": w, "turn": turn.to(w.dtype), "scale": (curvature.to(w.dtype)[..., None] * problems.spread + problems.ridge).rsqrt()}
    m["value"], m["gradient"] = problems.evaluate(w)
    m["direction"] = -_outward(m, _inward(m, m["gradient"]))
    m["slope"] = (m["gradient"] * m["direction"]).sum((2, 3))
    m["step"] = torch.ones_like(m["slope"])
    m["history"] = w.new_zeros(size, members, 2 * MEMORY, classes * q)
    m["products"] = torch.zeros(size, members, 2 * MEMORY, 2 * MEMORY, dtype=torch.float64, device=w.device)
    m["gamma"] = torch.ones(size, members, dtype=torch.float64, device=w.device)
    rows, ids = torch.arange(size, device=w.device), torch.arange(members, device=w.device).expand(size, members)
    live = m["gradient"].flatten(2).norm(dim=2) > tolerance
    for iteration in range(max_iterations + 1):
        most = int(live.sum(1).max())
        if most <= 0.85 * live.shape[1] or not live.any(1).all() or iteration == max_iterations:
            out[rows[:, None], ids] = m["w"]
            if most == 0:
                break
            kept = live.any(1).nonzero()[:, 0]
            first = live[kept].to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
            problems = _keep(problems, kept, first)
            m = {name: _pick(value, kept, first) for name, value in m.items()}
            rows, ids, live = rows[kept], _pick(ids, kept, first), _pick(live, kept, first)
        iterations[rows[:, None], ids] += live.long()
        stuck = _advance(problems, m, live, iteration % MEMORY)
        live = live & ~stuck & (m["gradient"].flatten(2).norm(dim=2) > tolerance)
    return out, iterations


def _advance(problems: _Problems, m: dict[str, torch.Tensor], live: torch.Tensor, slot: int) -> torch.Tensor:
    """One evaluation, in place: live members accept the step and turn, or shorten it. Returns (B, K) bool: no step goes down."""
    w = m["w"] + m["step"][..., None, None] * m["direction"]
    value, gradient = problems.evaluate(w)
    slope = (gradient * m["direction"]).sum((2, 3))
    down = live & (slope <= 1e-4 * m["slope"]) | live & (value <= m["value"] + 1e-4 * m["step"] * m["slope"])
    took = down[..., None, None]
    moved = torch.where(took, _inward(m, w - m["w"]) / m["scale"] ** 2, 0).flatten(2)
    bent = torch.where(took, _inward(m, gradient - m["gradient"]), 0).flatten(2)
    m["w"], m["gradient"] = torch.where(took, w, m["w"]), torch.where(took, gradient, m["gradient"])
    m["value"] = torch.where(down, value, m["value"])
    exhausted = live & ~down & (m["step"] < 1e-8)
    stuck = exhausted
    if exhausted.any():
        stuck = exhausted & ~m["history"].flatten(2).any(2)
        m["history"] = m["history"].masked_fill(exhausted[..., None, None], 0)
        m["products"] = m["products"].masked_fill(exhausted[..., None, None], 0)
        m["gamma"] = m["gamma"].masked_fill(exhausted, 1)
    direction = -_outward(m, _quasi_newton(m, moved, bent, _inward(m, m["gradient"]).flatten(2), slot))
    turned = down | exhausted
    m["direction"] = torch.where(turned[..., None, None], direction, m["direction"])
    m["step"] = torch.where(turned, 1, 0.3 * m["step"])
    m["slope"] = (m["gradient"] * m["direction"]).sum((2, 3))
    return stuck


def _quasi_newton(m: dict[str, torch.Tensor], moved: torch.Tensor, bent: torch.Tensor, u: torch.Tensor, slot: int) -> torch.Tensor:
    """(B, K, c * q): inverse Hessian times u, after the pair (moved, bent) has gone into its slot. A pair of zeros counts for nothing."""
    history, products = m["history"], m["products"]
    history[:, :, slot], history[:, :, MEMORY + slot] = moved, bent
    dots = (history @ torch.stack([moved, bent, u], -1)).double()
    for column, at in enumerate((slot, MEMORY + slot)):
        products[..., at] = products[:, :, at] = dots[..., column]
    order = [(slot + 1 + i) % MEMORY for i in range(MEMORY)]  # oldest first
    both = order + [MEMORY + i for i in order]
    ordered, on_u = products[:, :, both][..., both], dots[:, :, both, 2]
    cross, bent_bent = ordered[:, :, :MEMORY, MEMORY:], ordered[:, :, MEMORY:, MEMORY:]
    curved = cross.diagonal(dim1=2, dim2=3)
    empty = curved <= 0
    fresh = ~empty[..., -1]
    m["gamma"] = torch.where(fresh, curved[..., -1] / torch.where(fresh, bent_bent[..., -1, -1], 1), m["gamma"])
    gamma = m["gamma"][..., None]
    upper = cross.triu().masked_fill(empty[..., None] | empty[..., None, :], 0) + torch.diag_embed(empty.double())
    on_moved, on_bent = on_u[..., :MEMORY].masked_fill(empty, 0), on_u[..., MEMORY:]
    v = torch.linalg.solve_triangular(upper, on_moved[..., None], upper=True)
    right = curved * v[..., 0] + gamma * ((bent_bent @ v)[..., 0] - on_bent)
    first = torch.linalg.solve_triangular(upper.mT, right.masked_fill(empty, 0)[..., None], upper=False)[..., 0]
    weights = torch.zeros_like(on_u)
    weights[..., both] = torch.cat([first, -gamma * v[..., 0]], -1)
    return gamma.to(u.dtype) * u + (weights[:, :, None].to(u.dtype) @ history)[:, :, 0]


def _inward(m: dict[str, torch.Tensor], gradient: torch.Tensor) -> torch.Tensor:
    """A gradient (B, K, c, q) in the preconditioned coordinates, in which the approximate Hessian is the identity."""
    return (m["turn"].mT @ gradient) * m["scale"]


def _outward(m: dict[str, torch.Tensor], u: torch.Tensor) -> torch.Tensor:
    return m["turn"] @ (u.reshape(m["w"].shape) * m["scale"])


def _pick(value: torch.Tensor, kept: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Problems `kept`, and of each the members `first` (len(kept), k)."""
    return value[kept[:, None], first]


def _keep(problems: _Problems, kept: torch.Tensor, first: torch.Tensor) -> _Problems:
    each = {name: getattr(problems, name) for name in ("values", "weight")}
    each = {name: value[kept] if value.shape[1] == 1 else _pick(value, kept, first) for name, value in each.items()}
    if len(kept) < len(problems.x):  # the features are large: no copy without need
        each |= {name: getattr(problems, name)[kept] for name in ("x", "absent", "spread")}
    return replace(problems, ridge=_pick(problems.ridge, kept, first), **each)


def _unpack(problems: _Problems, spaces: list[_Space], w: torch.Tensor, iterations: torch.Tensor, penalties: int) -> Fits:
    w, gradient = _settle_bias(problems, w)
    size, members, classes = w.shape[:3]
    weight = torch.stack([w[b, ..., : len(s.spread)].double() @ s.basis.T for b, s in enumerate(spaces)])
    mean, scale = torch.stack([s.mean for s in spaces]), torch.stack([s.scale for s in spaces])
    limit = torch.tensor([max(len(s.rotated) - 1, 1) for s in spaces], dtype=torch.float64, device=w.device).sqrt()
    flat = gradient.flatten(2)
    gap = gradient[..., :-1].double().square().sum((2, 3)) / (2 * problems.ridge[:, :, 0, 0].double())
    certificate = (iterations, flat.norm(dim=2), flat.abs().amax(2), gap, gradient[..., -1].abs().amax(2))
    shape = (size, penalties, members // penalties)
    weight, bias = weight.reshape(*shape, classes, weight.shape[-1]), w[..., -1].double().reshape(*shape, classes)
    return Fits(weight, bias, mean, scale, limit, *(c.reshape(shape) for c in certificate))


def _settle_bias(problems: _Problems, w: torch.Tensor, steps: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Newton steps on the bias alone, kept where they help: w and its gradient. Makes the duality gap exact."""
    gradient = problems.evaluate(w)[1]
    for _ in range(steps):
        inverse = torch.linalg.pinv(problems.covariance(w).double(), hermitian=True, rtol=1e-9)
        trial = w.clone()
        trial[..., -1] -= (inverse @ gradient[..., -1:].double())[..., 0].to(w.dtype)
        moved = problems.evaluate(trial)[1]
        better = (moved.flatten(2).norm(dim=2) < gradient.flatten(2).norm(dim=2))[..., None, None]
        w, gradient = torch.where(better, trial, w), torch.where(better, moved, gradient)
    return w, gradient
