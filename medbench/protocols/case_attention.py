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
folds of `linear` (`splits.cross_validation`) and looked at every `EVERY` steps; then all labelled
cases are trained on, so long and at that rate. So where attention finds nothing its answer is that
of `case-mean`, and so it is where a budget leaves too few cases to hold out. Held-out scores are of
the folds.

Images of a case are told apart by their features alone: their order means nothing. A class without
a labelled case gets probability 0; a label of which only one value was seen its smoothed base rate
(positives + 1) / (known + 2). Ordinal classes are treated as nominal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
class _Cases:
    """M cases: images (N, D), standardised.

    Table (M, K), the rows of each case's images, 0 where it has fewer; there (M, K) bool.
    """

    images: torch.Tensor
    table: torch.Tensor
    there: torch.Tensor

    def take(self, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (F, B, K, D) of the cases at `which` (F, B), and which are there."""
        most = int(self.there[which].sum(2).max())
        table, there = self.table[which][..., :most], self.there[which][..., :most]
        return self.images[table] * there[..., None], there


def case_attention(
    train: Train, targets: Mapping[str, Bags], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Scores of every target, draw after draw.

    See `Protocol`. Raises UserError on features that are not finite.
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
    cases = _cases(Bags(train.features[rows], place[train.case[rows]]), standardised, train.device)
    subset = _Subset(
        cases, train.labels[draw], train.groups[draw], train.kind, train.n_classes, seed
    )
    probe = linear.learn(
        subset.means(),
        subset.labels,
        subset.groups,
        train.kind,
        train.n_classes,
        linear.PENALTIES,
        linear.FIXED_PENALTY,
        MAX_FOLDS,
        divided,
    )
    chosen, held_out = _choice(subset, probe.chosen["penalty"], divided)
    training = _Training(subset, [(np.arange(len(draw)), probe)], chosen["rate"])
    loss = training.run(chosen["steps"])
    found = {}
    for name, bags in targets.items():
        logits = _logits(training, _cases(bags, standardised, train.device), train.n_classes)
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

    def take(self, index: np.ndarray) -> _Subset:
        return replace(
            self,
            cases=_only(self.cases, index),
            labels=self.labels[index],
            groups=self.groups[index],
        )

    def means(self) -> torch.Tensor:
        """(n, D): the mean features of each case."""
        import torch

        rows = torch.arange(len(self.labels), device=self.cases.table.device)
        each = [
            images[0].sum(1) / there[0].sum(1, keepdim=True)
            for images, there in map(self.cases.take, torch.split(rows[None], BATCH, 1))
        ]
        return torch.cat(each)


def _choice(
    subset: _Subset, penalty: float, divided: bool | None
) -> tuple[dict[str, Any], HeldOut | None]:
    """Choose the rate and the number of steps by folds.

    Beside them what the folds say of the cases that they hold out. penalty: of the probe that all
    start from.
    """
    import numpy as np
    import torch

    from medbench.stats import splits

    parts = splits.cross_validation(subset.labels, subset.groups, MAX_FOLDS, divided)
    if not parts:
        return {"rate": RATES[0], "steps": 0, "rule": splits.UNDIVIDED, "cv_log_loss": None}, None
    folds = [(inside, _probe(subset.take(inside), penalty)) for inside, _ in parts]
    held = [out for _, out in parts]
    looks = range(0, STEPS + 1, EVERY)
    losses = np.zeros((len(RATES), len(looks)))
    logits: dict[tuple[int, int], list[torch.Tensor]] = {}
    for i, rate in enumerate(RATES):
        training = _Training(subset, folds, rate)
        for j, steps in enumerate(looks):
            training.run(steps)
            which, there = _padded(
                [torch.as_tensor(out) for out in held], subset.cases.table.device
            )
            with torch.no_grad():
                found = training.pooled(*subset.cases.take(which))
                each = training.losses(found, which, there)
            losses[i, j] = float((each.cpu() * torch.tensor([len(out) for out in held])).sum())
            logits[i, j] = [
                of_fold[: len(out)].double().cpu() for of_fold, out in zip(found, held, strict=True)
            ]
    i, j = divmod(int(losses.argmin()), len(looks))
    index = np.concatenate(held)
    scores = [
        _held(found, subset.labels[inside])
        for found, (inside, _) in zip(logits[i, j], parts, strict=True)
    ]
    order = np.argsort(index)
    chosen = {
        "rate": RATES[i],
        "steps": looks[j],
        "rule": f"{len(parts)}-fold grouped CV",
        "cv_log_loss": float(losses.min() / len(index)),
    }
    return chosen, HeldOut(index[order], np.concatenate(scores)[order].astype(np.float32))


def _probe(fold: _Subset, penalty: float) -> Model:
    """Fit the linear probe of the mean features at a penalty that was chosen already."""
    means = fold.means()
    return linear.learn(
        means,
        fold.labels,
        fold.groups,
        fold.kind,
        fold.n_classes,
        (penalty,),
        penalty,
        MAX_FOLDS,
        divided=False,
    )


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
    """Trainings side by side at one rate, F of them, that can be looked at on their way.

    What each draws hangs on the seed alone.
    """

    def __init__(self, subset: _Subset, members: Sequence[tuple[np.ndarray, Model]], rate: float):
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
        drawn = [
            [part for _ in "VU" for part in layer_drawn(width, HIDDEN, generator, like)]
            for generator in generators
        ]
        starts = [layer_of(probe, subset.kind, subset.n_classes, width) for _, probe in members]
        gates = [torch.stack([weights[i] for weights in drawn]) for i in range(4)]
        layer = [torch.stack([start[i] for start in starts]).to(like.device) for i in range(2)]
        self.weights = [
            part.detach().requires_grad_()
            for part in (*gates, torch.zeros(len(members), HIDDEN).to(like), *layer)
        ]
        v, v_bias, u, u_bias, w, weight, bias = self.weights
        wide, narrow = (
            {"params": [v, u, weight], "lr": rate / width},
            {"params": [v_bias, u_bias, w, bias], "lr": rate / HIDDEN},
        )
        self.optimiser = torch.optim.Adam([wide, narrow], fused=True)
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
            shown = [
                index[next(order)] for index, order in zip(self.inside, self.orders, strict=True)
            ]
            which, there = _padded(shown, self.labels.device)
            self.optimiser.zero_grad()
            loss = self.losses(self.pooled(*self.cases.take(which)), which, there)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        self.steps = steps
        return None if loss is None else float(loss.detach().mean())

    def losses(
        self, logits: torch.Tensor, which: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """(F,) the mean log-loss of the cases at `which` (F, B) that are there."""
        from torch.nn import functional

        given = self.labels[which]
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

    def pooled(self, images: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Logits (F, B, C) of images (F, B, K, D), of which some are there (F, B, K)."""
        v, v_bias, u, u_bias, w, weight, bias = self.weights
        f, b, k, width = images.shape
        flat = images.view(f, b * k, width)
        gated = (flat @ v.mT + v_bias[:, None]).tanh() * (flat @ u.mT + u_bias[:, None]).sigmoid()
        attention = (gated @ w[..., None]).view(f, b, k)
        shares = attention.masked_fill(~there, -float("inf")).softmax(2)
        mean = (shares[:, :, None] @ images)[:, :, 0]
        return mean @ weight.mT + bias[:, None]


def _padded(
    index: Sequence[torch.Tensor], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(F, B) positions, the first of each again where a row is shorter, and (F, B) bool.

    Which are there.
    """
    import torch

    most = max(map(len, index))
    whole = torch.stack([torch.cat([row, row[:1].expand(most - len(row))]) for row in index])
    there = torch.arange(most)[None] < torch.tensor([[len(row)] for row in index])
    return sent(whole, device), sent(there, device)


def _cases(bags: Bags, standardised: Callable[[np.ndarray], torch.Tensor], device: str) -> _Cases:
    import numpy as np
    import torch

    size = np.bincount(bags.case, minlength=len(bags))
    order = np.argsort(bags.case, kind="stable")
    nth = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    table, there = (
        np.zeros((len(size), size.max()), np.int64),
        np.zeros((len(size), size.max()), bool),
    )
    table[bags.case[order], nth], there[bags.case[order], nth] = order, True
    return _Cases(
        standardised(bags.images),
        *(torch.as_tensor(array, device=device) for array in (table, there)),
    )


def _only(cases: _Cases, index: np.ndarray) -> _Cases:
    return _Cases(cases.images, cases.table[index], cases.there[index])


def _logits(training: _Training, cases: _Cases, n_classes: int) -> torch.Tensor:
    """(M, C) float64 on the CPU, of a training alone."""
    import torch

    logits = torch.empty(len(cases.table), n_classes, dtype=torch.float64)
    step = max(
        1, BLOCK_VALUES[cases.images.device.type] // (cases.table.shape[1] * cases.images.shape[1])
    )
    with torch.no_grad():
        for start in range(0, len(logits), step):
            which = torch.arange(start, min(start + step, len(logits)))
            logits[which] = (
                training.pooled(*cases.take(which[None].to(cases.table.device)))[0].double().cpu()
            )
    return logits


CASE_ATTENTION = Protocol(
    name="case-attention",
    version=1,
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
