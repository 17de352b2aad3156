"""Gated attention over the images of a case, on frozen features.

After Ilse, Tomczak and Welling 2018. Features are standardised by the labelled cases' images. The
weight of an image in its case is the softmax of w . (tanh(V h) * sigmoid(U h)) over the case's
images, with `HIDDEN` rows in V and U; a linear layer judges the weighted mean of the images'
features. Ours: it starts as `case-mean`, w at 0 and the layer at the linear probe of the mean
features, as fine-tuning starts at a probe (Kumar et al. 2022, arXiv:2202.10054): drawn at random,
the layer and attention fit a hundred cases by heart before they find the sign that all images of a
case share. V and U are drawn as PyTorch draws a layer. Adam at a constant rate, one of `RATES` by
the number of a layer's inputs, so that a step moves what a layer gives alike whatever the width;
batches of `BATCH` cases without replacement. Cross-entropy; several labels: binary cross-entropy
over the labels that are known, one attention for all.

Rate and number of steps, from 0, are those of the lowest log-loss of the held-out cases, over the
folds of `linear` (`splits.cross_validation`), each from the fit by which the probe's penalty was
chosen, and looked at every `EVERY` steps; then all labelled cases are trained on, so long and at
that rate. So where attention finds nothing its answer is that
of `case-mean`, and so it is where a budget leaves too few cases to hold out. Held-out scores are of
the folds. Start, steps and rates were chosen on drawn cases; `benchmarks/cases.py` says which.

Images of a case are told apart by their features alone: their order means nothing. A class without
a labelled case gets probability 0; a label of which only one value was seen its smoothed base rate
(positives + 1) / (known + 2). Ordinal classes are treated as nominal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medbench.protocols import linear
from medbench.protocols._features import BLOCK_VALUES, MAX_FOLDS, check_finite, sent
from medbench.protocols._networks import (
    CONSTANT,
    batches,
    class_probabilities,
    layer_drawn,
    layer_of,
    standardiser,
)
from medbench.schema import KINDS, Bags, HeldOut, Kind, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medbench.models.logistic import Model


HIDDEN = 64
STEPS = 120
EVERY = 10  # steps between two looks at the held-out cases
BATCH = 32
RATES = (0.03, 0.1)  # divided by the inputs of a layer


@dataclass(frozen=True, eq=False)
class _Shown:
    """F times B cases with all their images (F, P, D), those of a case one after another.

    nth (F, B * K): places of a case's images among the P, where it has so many. there (F, B, K).
    """

    images: torch.Tensor
    nth: torch.Tensor
    there: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Cases:
    """M cases: images (N, D), standardised, on the device.

    rows (N,): the images case by case, first (M,): where each case begins there, size (M,): how
    many it has; on the CPU, where no device is waited for.
    """

    images: torch.Tensor
    rows: torch.Tensor
    first: torch.Tensor
    size: torch.Tensor

    def take(self, which: torch.Tensor) -> _Shown:
        """Return the cases at `which` (F, B), on the CPU."""
        import torch

        first, size = self.first[which], self.size[which]
        end = size.cumsum(1)
        start = end - size
        place = torch.arange(int(end[:, -1].max())).expand(len(which), -1).contiguous()
        # a row that has fewer images is filled with some that no case has a place for
        case = torch.searchsorted(end, place, right=True).clamp(max=which.shape[1] - 1)
        row = (first - start).gather(1, case) + place
        nth = torch.arange(int(size.max()))
        there = nth < size[..., None]
        nth = (start[..., None] + nth).masked_fill(~there, 0).flatten(1)
        device = self.images.device
        rows = sent(self.rows[row.clamp(max=len(self.rows) - 1)], device)
        return _Shown(self.images[rows], sent(nth, device), sent(there, device))

    def means(self) -> torch.Tensor:
        """Return (M, D): the mean of each case's images."""
        import torch

        device = self.images.device
        ordered, size = self.images[sent(self.rows, device)], sent(self.size, device)
        means: torch.Tensor = torch.segment_reduce(ordered, "mean", lengths=size)
        return means


def case_attention(
    train: Train, targets: Mapping[str, Bags], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from features of cases' images.

    See `Protocol`. draws: (n,) int64 each, of cases. Raises UserError for features that are not
    finite.
    """
    check_finite(
        {"training": train.features, **{name: bags.images for name, bags in targets.items()}}
    )
    asked = zip(train.seeds or [0] * len(draws), train.divided or [None] * len(draws), strict=True)
    for draw, (seed, divided) in zip(draws, asked, strict=True):
        yield _of_draw(train, targets, draw, seed, divided)


def _of_draw(
    train: Train, targets: Mapping[str, Bags], draw: np.ndarray, seed: int, divided: bool | None
) -> dict[str, Scores]:
    import numpy as np

    from medbench.stats import metrics

    assert train.case is not None, "a protocol that judges cases is told of them"
    place = np.full(len(train.labels), -1)
    place[draw] = np.arange(len(draw))
    rows = np.flatnonzero(place[train.case] >= 0)
    standardised = standardiser(train.features[rows], train.device)
    cases = _cases(Bags(train.features[rows], place[train.case[rows]]), standardised)
    subset = _Subset(
        cases, train.labels[draw], train.groups[draw], train.kind, train.n_classes, seed
    )
    probe, folds = linear.learn_with_folds(
        cases.means(), subset.labels, subset.groups, train.kind, train.n_classes, divided
    )
    chosen, held_out = _choice(subset, folds)
    training = _Training(subset, [(np.arange(len(draw)), probe)], (chosen["rate"],))
    loss = training.run(chosen["steps"])
    found = {}
    for name, bags in targets.items():
        logits = _logits(training, _cases(bags, standardised), train.n_classes)
        probabilities = class_probabilities(logits, subset.labels)
        decisions = metrics.decided(probabilities, subset.labels.ndim == 2)
        found[name] = Scores(
            probabilities.astype(np.float32), decisions, chosen, {"last_loss": loss}, held_out
        )
    return found


@dataclass(frozen=True, eq=False)
class _Subset:
    """Labelled cases. labels, groups: of each."""

    cases: _Cases
    labels: np.ndarray
    groups: np.ndarray
    kind: Kind
    n_classes: int
    seed: int


def _choice(
    subset: _Subset, folds: Sequence[tuple[np.ndarray, np.ndarray, Model]]
) -> tuple[dict[str, Any], HeldOut | None]:
    """Choose the rate and the number of steps by folds.

    Beside them what the folds say of the cases that they hold out.
    """
    import numpy as np
    import torch

    from medbench.stats import splits

    if not folds:
        return {"rate": RATES[0], "steps": 0, "rule": splits.UNDIVIDED, "cv_log_loss": None}, None
    held = [out for _, out, _ in folds]
    which, there = _padded([torch.as_tensor(out) for out in held])
    shown, counts = subset.cases.take(which), torch.tensor([len(out) for out in held])
    training = _Training(subset, [(inside, probe) for inside, _, probe in folds], RATES)
    looks = range(0, STEPS + 1, EVERY)
    losses = np.zeros((len(RATES), len(looks)))
    logits: dict[tuple[int, int], torch.Tensor] = {}
    for j, steps in enumerate(looks):
        training.run(steps)
        for i in range(len(RATES)):
            with torch.no_grad():
                found = training.logits(i, shown)
                each = training.losses(found, which, there)
            losses[i, j] = float((each.cpu() * counts).sum())
            logits[i, j] = found.double().cpu()
    i, j = divmod(int(losses.argmin()), len(looks))
    index = np.concatenate(held)
    scores = [
        _held(found[: len(out)], subset.labels[inside])
        for found, (inside, out, _) in zip(logits[i, j], folds, strict=True)
    ]
    order = np.argsort(index)
    chosen = {
        "rate": RATES[i],
        "steps": looks[j],
        "rule": f"{len(folds)}-fold grouped CV",
        "cv_log_loss": float(losses.min() / len(index)),
    }
    return chosen, HeldOut(index[order], np.concatenate(scores)[order].astype(np.float32))


def _held(logits: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """Return probabilities of held-out cases.

    NaN for a label of which the fold's training part, with these labels, has one value alone.
    """
    import numpy as np

    probabilities = class_probabilities(logits, labels)
    if labels.ndim == 1:
        return probabilities
    both = (labels == 1).any(0) & (labels == 0).any(0)
    fitted: np.ndarray = np.where(both, probabilities, np.nan)
    return fitted


class _Training:
    """Trainings side by side, F of them at each of some rates, that can be looked at on their way.

    All rates see the same cases at the same step, so these are fetched once. What is drawn hangs on
    the seed alone.
    """

    def __init__(
        self, subset: _Subset, members: Sequence[tuple[np.ndarray, Model]], rates: Sequence[float]
    ):
        """Set up the members that are trained together.

        members: of each, positions in the subset that it is trained on, and the probe that it
        starts from.
        """
        import numpy as np
        import torch

        self.cases, like = subset.cases, subset.cases.images
        self.labels = torch.as_tensor(subset.labels, device=like.device)
        self.seen = (
            torch.as_tensor(np.unique(subset.labels), device=like.device)
            if subset.labels.ndim == 1
            else None
        )
        width = like.shape[1]
        # on the CPU: alike on every device
        generators = [torch.Generator().manual_seed(subset.seed) for _ in members]
        wide, narrow = [], []
        for generator, (_, probe) in zip(generators, members, strict=True):
            (v, v_bias), (u, u_bias) = (layer_drawn(width, HIDDEN, generator, like) for _ in "VU")
            weight, bias = (
                part.to(like) for part in layer_of(probe, subset.kind, subset.n_classes, width)
            )
            wide.append(torch.cat([v, u, weight]))
            narrow.append(torch.cat([v_bias, u_bias, torch.zeros(HIDDEN).to(like), bias]))
        # of each rate: (F, 2 * HIDDEN + C, D), what is multiplied with images, and the rest
        self.weights = [
            [torch.stack(part).detach().clone().requires_grad_() for part in (wide, narrow)]
            for _ in rates
        ]
        self.optimisers = [
            torch.optim.Adam(
                [
                    {"params": [products], "lr": rate / width},
                    {"params": [others], "lr": rate / HIDDEN},
                ],
                fused=True,
            )
            for rate, (products, others) in zip(rates, self.weights, strict=True)
        ]
        self.inside = [torch.as_tensor(index) for index, _ in members]
        self.orders = [
            batches(len(index), BATCH, STEPS, generator)
            for (index, _), generator in zip(members, generators, strict=True)
        ]
        self.steps = 0

    def run(self, steps: int) -> float | None:
        """Go on to so many steps in all. Returns the last loss, the mean over trainings."""
        loss = None
        for _ in range(steps - self.steps):
            which, there = _padded(
                [index[next(order)] for index, order in zip(self.inside, self.orders, strict=True)]
            )
            shown = self.cases.take(which)
            for i, optimiser in enumerate(self.optimisers):
                optimiser.zero_grad()
                loss = self.losses(self.logits(i, shown), which, there)
                loss.sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        self.steps = steps
        return None if loss is None else float(loss.detach().mean())

    def losses(
        self, logits: torch.Tensor, which: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """(F,) the mean log-loss of the cases at `which` (F, B), on the CPU, that are there."""
        from torch.nn import functional

        device = logits.device
        given, there = self.labels[sent(which, device)], sent(there, device)
        if self.seen is not None:
            target = given.flatten()
            places = (target[:, None] == self.seen).int().argmax(1)
            each = functional.cross_entropy(
                logits.flatten(0, 1)[:, self.seen], places, reduction="none"
            ).view(given.shape)
            return (each * there).sum(1) / there.sum(1)
        known = ~given.isnan() & there[..., None]
        each = functional.binary_cross_entropy_with_logits(
            logits, given.nan_to_num(0.0).to(logits.dtype), reduction="none"
        )
        return (each * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)

    def logits(self, i: int, shown: _Shown) -> torch.Tensor:
        """Logits (F, B, C) by the trainings at rate i.

        The layer judges each image, and the weighted mean is of what it says: the same as what it
        says of the weighted mean, in one product.
        """
        wide, narrow = self.weights[i]
        classes = wide.shape[1] - 2 * HIDDEN
        v_bias, u_bias, w, bias = narrow.split_with_sizes([HIDDEN, HIDDEN, HIDDEN, classes], 1)
        v, u, each = (shown.images @ wide.mT).split_with_sizes([HIDDEN, HIDDEN, classes], 2)
        gated = (v + v_bias[:, None]).tanh() * (u + u_bias[:, None]).sigmoid()
        attention = (gated @ w[..., None])[..., 0].gather(1, shown.nth).view(shown.there.shape)
        shares = attention.masked_fill(~shown.there, -float("inf")).softmax(2)
        judged = each.gather(1, shown.nth[..., None].expand(-1, -1, classes))
        mean: torch.Tensor = (judged.view(*shown.there.shape, classes) * shares[..., None]).sum(2)
        return mean + bias[:, None]


def _padded(index: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(F, B) positions, the first of each again where a row is shorter, and (F, B) bool.

    Which are there. All on the CPU.
    """
    import torch

    most = max(map(len, index))
    whole = torch.stack([torch.cat([row, row[:1].expand(most - len(row))]) for row in index])
    return whole, torch.arange(most)[None] < torch.tensor([[len(row)] for row in index])


def _cases(bags: Bags, standardised: Callable[[np.ndarray], torch.Tensor]) -> _Cases:
    import numpy as np
    import torch

    size = np.bincount(bags.case, minlength=len(bags))
    rows = np.argsort(bags.case, kind="stable")
    return _Cases(
        standardised(bags.images), *map(torch.as_tensor, (rows, np.cumsum(size) - size, size))
    )


def _logits(training: _Training, cases: _Cases, n_classes: int) -> torch.Tensor:
    """(M, C) float64 on the CPU, of a training alone."""
    import torch

    logits = torch.empty(len(cases.size), n_classes, dtype=torch.float64)
    most = int(cases.size.max()) * cases.images.shape[1]
    step = max(1, BLOCK_VALUES[cases.images.device.type] // most)
    with torch.no_grad():
        for start in range(0, len(logits), step):
            which = torch.arange(start, min(start + step, len(logits)))
            logits[which] = training.logits(0, cases.take(which[None]))[0].double().cpu()
    return logits


CASE_ATTENTION = Protocol(
    name="case-attention",
    version=2,
    title="Gated attention over a case's image features, rate and number of steps by grouped cross-validation on the labelled cases",
    kinds=KINDS,
    evaluate=case_attention,
    seeded=True,
    settings={
        "hidden": HIDDEN,
        "steps": STEPS,
        "every": EVERY,
        "batch": BATCH,
        "rates": RATES,
        "max_folds": MAX_FOLDS,
        "constant": CONSTANT,
        "start": {**linear.LINEAR.settings, "version": linear.LINEAR.version},
        "optimiser": "Adam",
    },
    citation="Ilse, Tomczak and Welling, Attention-based deep multiple instance learning, ICML 2018, arXiv:1802.04712",
    cases=True,
)
