"""The public face of the engine.

Targets, solutions, and the way from features to problems that the solver takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from medbench.models.logistic.lbfgs import LOW, MEMORY, Problems, settle_bias, solve
from medbench.models.logistic.spaces import Space, eigenbasis, framing, rotate, shares

#: Parts are solved together while all that they need fits in this: beyond, a batch gains nothing on
#: a CPU, whose cache is full.
BATCH_BYTES = {"cpu": 2**26, "cuda": 2**32}
# and while the smallest has this share of the largest's images: a batch is padded to its largest
ALIKE = 0.8


@dataclass(frozen=True, eq=False)
class ClassTargets:
    """What is to be predicted, for T problems of c classes on n images.

    values: (T, c, n) float 0/1. known: (T, 1, n) float 0/1. softmax: T = 1 and c classes. Otherwise
    T labels, each with a logistic loss of its own: c = 1, `known` is 0 for uncertain labels.
    """

    values: torch.Tensor
    known: torch.Tensor
    softmax: bool

    def take(self, rows: torch.Tensor) -> ClassTargets:
        """Return the targets of the images at `rows`, (n,) int64."""
        return ClassTargets(self.values[..., rows], self.known[..., rows], self.softmax)

    @property
    def outputs(self) -> int:
        """The number of logits that an image gets: T x c."""
        return self.values.shape[0] * self.values.shape[1]

    def fitted(self) -> torch.Tensor:
        """Return which classes can be fitted: (T, c, 1) bool.

        Those that have an image; of labels those that have both values among the known images.
        """
        positive = (self.values * self.known).sum(2, keepdim=True)
        return (
            positive > 0
            if self.softmax
            else (positive > 0) & (positive < self.known.sum(2, keepdim=True))
        )


@dataclass(frozen=True, eq=False)
class Fits:
    """Solutions for B sets of images and P penalties, float64.

    weight (B, P, T, c, D) of standardised features and bias (B, P, T, c). mean, scale (B, D): the
    standardisation (scale is 0 for a constant feature). limit (B,): sqrt(n - 1) standard
    deviations; no training image can lie further out (Samuelson 1968), and others are scored as if
    they lay there: a unit that is silent on all training images but one must not outweigh all
    others. The certificate, each (B, P, T): iterations, gradient (Euclidean norm of the whole
    gradient), largest (its largest entry), gap (bound on objective - minimum), bias_gradient (what
    is left of the bias's; the gap holds where it is 0).
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
        """Return (P, T, c, M) float64 of features (M, D), from the solutions of one part."""
        limit = float(self.limit[part])
        x = features.to(torch.float64, copy=True).sub_(self.mean[part]).mul_(self.scale[part])
        x.clamp_(-limit, limit)
        bias = self.bias[part]
        return (self.weight[part].flatten(0, 2) @ x.T).reshape(*bias.shape, len(features)) + bias[
            ..., None
        ]

    def of(self, part: int) -> Fits:
        """Return the solutions of one part: B = 1."""
        return Fits(*(getattr(self, name)[part : part + 1] for name in self.__dataclass_fields__))

    def take(self, columns: torch.Tensor, softmax: bool) -> Fits:
        """Return the fits of some classes, or of some labels with what is certified of them.

        columns: (k,) int64.
        """
        if softmax:
            return replace(self, weight=self.weight[..., columns, :], bias=self.bias[..., columns])
        of_labels = ("weight", "bias", "iterations", "gradient", "largest", "gap", "bias_gradient")
        return replace(self, **{name: getattr(self, name)[:, :, columns] for name in of_labels})


def fit(
    features: torch.Tensor,
    target: ClassTargets,
    penalties: torch.Tensor,
    parts: list[torch.Tensor] | None = None,
    *,
    tolerance: float = 1e-7,
    dtype: torch.dtype = torch.float64,
    basis: torch.Tensor | None = None,
    max_iterations: int = 3000,
    constant: float = 1e-6,
) -> Fits:
    """Solve every penalty (P,) on every part.

    Parts are index arrays into the N images, of any subsets of them; None: all images, B = 1.
    features (N, D) float, finite. tolerance: of the gradient's norm. dtype: of the products;
    float32 reaches about 1e-6, below that a member stops where rounding lets it go no further, and
    its certificate says so. basis: `eigenbasis` of some images like these, for parts with more
    images than `shares` says; None: it is computed here. constant: a feature whose deviation is at
    most this share of its mean holds rounding alone, and is set to zero.
    """
    parts = [torch.arange(len(features), device=features.device)] if parts is None else parts
    if basis is None and shares(max(map(len, parts)), features.shape[1]):
        basis = eigenbasis(features, constant)
    order = sorted(range(len(parts)), key=lambda i: len(parts[i]))
    chunks = []
    for batch in _batches(
        order, [len(part) for part in parts], features, target, len(penalties), dtype
    ):
        framed = framing([parts[i] for i in batch], features.shape[1], target.outputs)
        spaces = [rotate(features[parts[i]], dtype, constant, basis, framed) for i in batch]
        most = max(len(s.given) for s in spaces), max(len(s.spread) for s in spaces) + 1
        packed, spaces = pack(spaces, [target.take(parts[i]) for i in batch], *most)
        problems = with_members(packed, penalties.expand(len(batch), -1))
        w, iterations = solve(problems, start(problems), tolerance, max_iterations)
        chunks.append(unpack(problems, spaces, w, iterations, len(penalties)))
    back = torch.tensor(order, device=features.device).argsort()
    return Fits(
        *(
            torch.cat([getattr(chunk, name) for chunk in chunks])[back]
            for name in Fits.__dataclass_fields__
        )
    )


def _batches(
    order: list[int],
    sizes: list[int],
    features: torch.Tensor,
    target: ClassTargets,
    penalties: int,
    dtype: torch.dtype,
) -> Iterator[list[int]]:
    """Yield parts in batches of like size whose problems and state take `BATCH_BYTES`.

    They come in ascending order of their sizes.
    """
    logits = penalties * target.values.shape[0] * target.values.shape[1]
    batch: list[int] = []
    for i in order:
        rank = min(sizes[i], features.shape[1]) + 1
        needs = dtype.itemsize * (
            sizes[i] * rank + logits * (3 * sizes[i] + (2 * MEMORY + 8) * rank)
        )
        if batch and (
            (len(batch) + 1) * needs > BATCH_BYTES[features.device.type]
            or sizes[batch[0]] < ALIKE * sizes[i]
        ):
            yield batch
            batch = []
        batch.append(i)
    yield batch


def held_out_loss(
    fits: Fits,
    features: torch.Tensor,
    target: ClassTargets,
    parts: list[torch.Tensor],
    held: list[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-loss summed over the images held out of each part, and over how many.

    (B, P) and (B,) float64; images x labels. features: (N, D). parts, held: of each part, the
    places of its training and of its held-out images. An image whose class the part's training
    images lack costs every penalty the same infinity: it is left out.
    """
    total = torch.zeros(fits.bias.shape[:2], dtype=torch.float64, device=features.device)
    count = total.new_zeros(len(parts))
    for b, (rows, outside) in enumerate(zip(parts, held, strict=True)):
        fitted, truth = target.take(rows).fitted(), target.take(outside)
        logits = fits.logits(features[outside], b)
        if target.softmax:
            known = (truth.values * fitted).sum(1, keepdim=True)
            loss = -(logits.masked_fill(~fitted, LOW).log_softmax(2) * truth.values).sum(
                2, keepdim=True
            )
        else:
            known = truth.known * fitted
            loss = torch.nn.functional.softplus(logits) - truth.values * logits
        total[b] = (loss * known).sum((1, 2, 3))
        count[b] = known.sum()
    return total, count


def pack(
    spaces: Iterable[Space], targets: Sequence[ClassTargets], rows: int, columns: int
) -> tuple[Problems, list[Space]]:
    """Return parts as problems without members yet, padded to `rows` images and `columns`.

    Also returns the spaces without their images, which the problems hold from here on: spaces that
    are made one after another are never there twice.
    """
    coming = iter(spaces)
    space = next(coming)
    labels, classes = targets[0].values.shape[:2]
    dtype, device = space.given.dtype, space.given.device
    size, n, q = len(targets), rows, columns
    x = torch.zeros(size, n, q, dtype=dtype, device=device)
    values, weight = x.new_zeros(size, labels, classes, n), x.new_zeros(size, labels, 1, n)
    spread = x.new_zeros(size, 1, 1, q)
    absent = torch.zeros(size, 1, classes, 1, dtype=torch.bool, device=device)
    stride = space.framed or 1
    sample = x.new_zeros(size, -(-n // stride), q) if space.framed else x
    left: list[Space] = []
    for b, target in enumerate(targets):
        space = next(coming) if b else space
        images, rank = space.given.shape
        x[b, :images, :rank], x[b, :images, -1] = space.given, 1
        if space.framed:
            m, r = space.sample.shape
            sample[b, :m, :r], sample[b, :m, -1] = space.sample, 1
        spread[b, 0, 0, :rank], spread[b, 0, 0, -1] = space.spread.to(dtype), 1
        values[b, ..., :images] = target.values
        usable = target.known if target.softmax else target.known * target.fitted()
        weight[b, ..., :images] = usable / usable.sum(2, keepdim=True).clamp_min(1)
        if target.softmax:
            absent[b] = ~target.fitted()
        space = space.emptied()
        left.append(space)
    frame = None
    if space.framed:
        frame = torch.eye(q, dtype=dtype, device=device)
        frame[: len(space.inner), : len(space.inner)] = space.inner.T
    ridge, softmax = x.new_zeros(size, 0, 1, q), targets[0].softmax
    problems = Problems(x, values, weight, absent, spread, ridge, softmax, sample, stride, frame)
    return problems, left


def with_members(problems: Problems, penalties: torch.Tensor) -> Problems:
    """Return the problems of `pack` at penalties (B, P), a member for each and each label."""
    labels = problems.values.shape[1]
    ridge = (
        penalties.to(problems.x.dtype)
        .repeat_interleave(labels, 1)[..., None, None]
        .repeat(1, 1, 1, problems.x.shape[2])
    )
    ridge[..., -1] = 0
    values, weight = problems.values, problems.weight
    if labels > 1:
        values, weight = (t.repeat(1, penalties.shape[1], 1, 1) for t in (values, weight))
    return replace(problems, values=values, weight=weight, ridge=ridge)


def start(problems: Problems) -> torch.Tensor:
    """Return (B, K, c, q): zero weights with the bias of the class frequencies."""
    size, members = problems.ridge.shape[:2]
    w = problems.x.new_zeros(size, members, problems.values.shape[2], problems.x.shape[2])
    share = (problems.values * problems.weight).sum(3)
    bias = share.log() if problems.softmax else torch.logit(share)
    w[..., -1] = torch.where(bias.isfinite(), bias, 0)
    return w


def unpack(
    problems: Problems,
    spaces: list[Space],
    w: torch.Tensor,
    iterations: torch.Tensor,
    penalties: int,
) -> Fits:
    """Return what was solved as fits of each part.

    w: (B, K, c, q), the bias last. iterations: (B, K).
    """
    w, gradient = settle_bias(problems, w)
    size, members, classes = w.shape[:3]
    weight = torch.stack([s.weight(w[b, ..., : len(s.spread)]) for b, s in enumerate(spaces)])
    mean, scale = torch.stack([s.mean for s in spaces]), torch.stack([s.scale for s in spaces])
    limit = torch.tensor([s.limit for s in spaces], dtype=torch.float64, device=w.device)
    flat = gradient.flatten(2)
    # 0 where no feature varies
    gap = (gradient[..., :-1].double().square() / (2 * problems.ridge[..., :-1].double())).sum(
        (2, 3)
    )
    certificate = (
        iterations,
        flat.norm(dim=2),
        flat.abs().amax(2),
        gap,
        gradient[..., -1].abs().amax(2),
    )
    shape = (size, penalties, members // penalties)
    weight, bias = (
        weight.reshape(*shape, classes, weight.shape[-1]),
        w[..., -1].double().reshape(*shape, classes),
    )
    return Fits(weight, bias, mean, scale, limit, *(c.reshape(shape) for c in certificate))
