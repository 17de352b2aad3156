"""Linear probe: L2-penalised logistic regression on frozen features, the penalty chosen inside the labelled subset.

Features are standardised, the penalty is chosen by grouped, stratified cross-validation on the labelled images alone (pooled log-loss of the
held-out images; ties to the stronger penalty), then the whole subset is fitted again. k = min(5, the smallest number of groups that a class
has). With fewer than two groups of a class nothing can be held out, and the penalty is the constant `FIXED_PENALTY`. A multi-label task has
one penalty for all its labels; a label of which positives or negatives lie in fewer than two groups has no say in k.

A class without a labelled image gets probability 0. A label (or a binary task) of which only one value was seen gets the smoothed base rate
(positives + 1) / (known + 2). Held-out probabilities are those of the cross-validation at the chosen penalty; an image whose class its fold's
training part lacks has none. `medbench.probe` states the objective and the accuracy of its solution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medbench.spec import KINDS, HeldOut, Kind, Protocol, Scores, Train, UserError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medbench.probe import Fits, Target

Choice = dict[str, Any]  # the penalty, and how it was chosen
#: 1e-3 to 1e3, four a decade. On HAM10000 (1280 features) the optimum lies near 0.1 with 7,000 images, 0.6 with 700 and 6 with 70 or less.
PENALTIES = tuple(10.0 ** (i / 4) for i in range(-12, 13))
#: The value of the path with the lowest log-loss and the highest AUC (mean of 8 draws) on the validation part of HAM10000 (10 % of the
#: lesions; supervised features of tf_efficientnet_lite0 at 112 px), both at 1 % (70 images) and at 5 a class (36 images).
FIXED_PENALTY = PENALTIES[15]
MAX_FOLDS = 5
TIE = 1e-6  # nats an image: two penalties this close are one, and the stronger is taken
TOLERANCE = 1e-4  # gradient norm of a cross-validation's members, float32
FINAL_TOLERANCE = 1e-7  # of the final fit, float64
MAX_ITERATIONS = 3000  # a cap; the certificate shows a fit that reached it
CONSTANT = 1e-6  # a feature whose deviation is below this share of its mean is rounding, and set to zero
TOGETHER = (
    1024  # images of the draws that choose their penalties in one batch; on one CPU thread that gains little, with more images nothing
)
BLOCK = 4096  # target images scored at a time


def evaluate(train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]) -> Iterator[dict[str, Scores]]:
    """Scores of every target, draw after draw. See `Protocol`; features float32, any labels of `spec.Split`. Raises UserError.

    Small draws of like size choose their penalties together, when the first of them is due; `extra["chosen_together"]` tells how many.
    Held-out losses depend on what is solved beside them by what `TOLERANCE` leaves open; given the penalty, scores do not depend on it.
    """
    import numpy as np
    import torch

    for name, given in {"training": train.features, **targets}.items():
        check_finite(name, given)
    pool = torch.as_tensor(train.features, device=train.device)
    basis = _shared_basis(pool, max(map(len, draws), default=0))
    ready: dict[int, tuple[Choice, HeldOut | None, int]] = {}
    for i, draw in enumerate(draws):
        if i not in ready:
            batch = _like(draws, i, set(ready))
            together = [draws[j] for j in batch]
            choices = choose(
                pool, train.labels, train.groups, train.kind, train.n_classes, together, PENALTIES, FIXED_PENALTY, MAX_FOLDS, basis
            )
            ready |= {j: (choice, held, len(batch)) for j, (choice, held) in zip(batch, choices, strict=True)}
        choice, held_out, n_together = ready.pop(i)
        model = settle(pool[torch.as_tensor(draw, device=train.device)], train.labels[draw], train.kind, train.n_classes, choice, basis)
        scores = {}
        for name, images in targets.items():
            probabilities, decisions = model.score(images)
            extra = {**model.certificate, "chosen_together": n_together}
            scores[name] = Scores(probabilities.astype(np.float32), decisions, model.chosen, extra, held_out)
        yield scores


def _like(draws: Sequence[np.ndarray], i: int, done: set[int]) -> list[int]:
    """Draw i, and those after it of like size that are still to do, while all have `TOGETHER` images at most."""
    size = len(draws[i])
    like = [j for j in range(i + 1, len(draws)) if j not in done and 0.8 * size <= len(draws[j]) <= 1.25 * size]
    return [i, *like[: max(TOGETHER // size - 1, 0)]]


def _shared_basis(pool: torch.Tensor, most: int) -> torch.Tensor | None:
    """Of all images of the pool, where a draw has more images than features."""
    from medbench.probe import eigenbasis

    return eigenbasis(pool, CONSTANT) if most > pool.shape[1] else None


@dataclass(frozen=True, eq=False)
class Model:
    """What was learnt from one labelled subset.

    fits: one set of images and one penalty. columns: the classes (or labels) that it has a column for. base (C,), binary (1,): the
    probabilities of what could not be fitted. chosen: the penalty and how it was chosen.
    """

    fits: Fits
    columns: np.ndarray
    base: np.ndarray
    kind: Kind
    chosen: dict[str, Any]

    @property
    def certificate(self) -> dict[str, Any]:
        """How exactly the fit was solved: the worst of its labels. Empty where there was nothing to fit."""
        if self.fits.gap.numel() == 0:
            return {}
        whole = {"iterations": int(self.fits.iterations.max())}
        return whole | {name: float(getattr(self.fits, name).max()) for name in ("gradient", "largest", "gap", "bias_gradient")}

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(M, columns) float64 of images (M, D)."""
        import numpy as np
        import torch

        logits: np.ndarray = np.empty((len(images), len(self.columns)))
        for i in range(0, len(images), BLOCK):
            block = torch.as_tensor(images[i : i + BLOCK], device=self.fits.bias.device)
            logits[i : i + BLOCK] = self.fits.logits(block)[0].flatten(0, 1).T.cpu().numpy()
        return logits

    def score(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (M, C) float64 and decisions (M,), multi-label (M, C), int64 of images (M, D)."""
        import numpy as np
        import torch

        logits = self.logits(images)
        out = np.tile(self.base, (len(images), 1))
        if self.kind in ("binary", "multilabel"):
            out[:, self.columns] = torch.from_numpy(logits).sigmoid().numpy()
            decisions = (out >= 0.5).astype(np.int64)
            return (out, decisions) if self.kind == "multilabel" else (np.column_stack([1 - out, out]), decisions[:, 0])
        out[:, self.columns] = torch.from_numpy(logits).softmax(1).numpy()
        return out, self.columns[logits.argmax(1)]


def learn(
    features: torch.Tensor,
    labels: np.ndarray,
    groups: np.ndarray,
    kind: Kind,
    n_classes: int,
    penalties: Sequence[float],
    fixed_penalty: float,
    max_folds: int,
) -> Model:
    """Choose the penalty (of an ascending path) on a labelled subset and fit it. features (n, D) float, finite."""
    import numpy as np

    basis = _shared_basis(features, len(features))
    ((choice, _),) = choose(features, labels, groups, kind, n_classes, [np.arange(len(labels))], penalties, fixed_penalty, max_folds, basis)
    return settle(features, labels, kind, n_classes, choice, basis)


def settle(features: torch.Tensor, labels: np.ndarray, kind: Kind, n_classes: int, choice: Choice, basis: torch.Tensor | None) -> Model:
    """The whole subset at the chosen penalty, in float64. It starts from zero: what was solved beside it in the choice changes no digit."""
    import torch

    from medbench import probe as engine

    target, columns = encode(labels, kind, str(features.device))
    one = torch.tensor([choice["penalty"]], dtype=torch.float64, device=features.device)
    fits = engine.fit(features, target, one, tolerance=FINAL_TOLERANCE, max_iterations=MAX_ITERATIONS, constant=CONSTANT, basis=basis)
    return Model(fits, columns, _base_rate(labels, kind, n_classes), kind, choice)


def encode(labels: np.ndarray, kind: Kind, device: str = "cpu") -> tuple[Target, np.ndarray]:
    """What the engine solves for, and the classes (or labels) that it has a column for: those present, or with both values known."""
    import numpy as np
    import torch

    from medbench.probe import Target

    if kind == "multilabel" or kind == "binary":
        matrix = np.asarray(labels, float).reshape(len(labels), -1)
        positive, negative = (matrix == 1).any(0), (matrix == 0).any(0)
        columns = np.flatnonzero(positive & negative)
        values = torch.tensor(matrix[:, columns].T[:, None], dtype=torch.float64, device=device)
        known = ~values.isnan()
        return Target(values.nan_to_num(0.0), known.double(), softmax=False), columns
    columns, index = np.unique(labels, return_inverse=True)
    values = torch.tensor(index[None, None] == np.arange(len(columns))[None, :, None], dtype=torch.float64, device=device)
    return Target(values, torch.ones_like(values[:, :1]), softmax=True), columns


def choose(
    pool: torch.Tensor,
    labels: np.ndarray,
    groups: np.ndarray,
    kind: Kind,
    n_classes: int,
    draws: Sequence[np.ndarray],
    penalties: Sequence[float],
    fixed_penalty: float,
    max_folds: int,
    basis: torch.Tensor | None,
) -> list[tuple[Choice, HeldOut | None]]:
    """The penalty of each draw (indices into the pool), how it was chosen, and the held-out probabilities at it; the folds of all draws are
    solved together."""
    import numpy as np

    from medbench import sampling

    folds = []
    for draw in draws:
        k = n_folds(labels[draw], groups[draw], max_folds)
        fold = sampling.folds(labels[draw], groups[draw], k) if k >= 2 else None
        folds.append([] if fold is None else [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)])
    parts = [(draw[inside], draw[out]) for draw, of_draw in zip(draws, folds, strict=True) for inside, out in of_draw]
    lengths = [len(of_draw) for of_draw in folds if of_draw]
    if parts:
        fits, found = cross_validate(pool, labels, kind, penalties, parts, lengths, basis)
    losses, first = iter(found if parts else ()), 0
    chosen: list[tuple[Choice, HeldOut | None]] = []
    for draw, of_draw in zip(draws, folds, strict=True):
        if not of_draw:
            chosen.append((_choice(len(draw), [fixed_penalty], None, "fixed: a class has one group"), None))
            continue
        choice = _choice(len(draw), penalties, next(losses), f"{len(of_draw)}-fold grouped CV")
        at = fits.at(penalties.index(choice["penalty"]))
        chosen.append((choice, _held_out(at, first, pool, labels, kind, n_classes, draw, of_draw)))
        first += len(of_draw)
    return chosen


def _held_out(
    fits: Fits,
    first: int,
    pool: torch.Tensor,
    labels: np.ndarray,
    kind: Kind,
    n_classes: int,
    draw: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
) -> HeldOut:
    """Of one draw, whose folds (training and held-out positions in it) are the parts of `fits` from `first` on."""
    import numpy as np
    import torch

    from medbench import probe as engine

    target, columns = encode(labels, kind, str(pool.device))
    index, found = [], []
    for part, (inside, out) in enumerate(folds, first):
        rows, outside = (torch.as_tensor(draw[where], device=pool.device) for where in (inside, out))
        probabilities, served = engine.held_out_probabilities(fits, pool, target, rows, outside, part)
        index.append(out[served.cpu().numpy()])
        found.append(probabilities[served].cpu().numpy())
    order = np.argsort(np.concatenate(index))
    solved = np.concatenate(found)[order]
    if kind == "binary":
        whole = np.column_stack([1 - solved, solved])
    else:
        whole = np.full((len(solved), n_classes), np.nan if kind == "multilabel" else 0.0)
        whole[:, columns] = solved
    return HeldOut(np.concatenate(index)[order], whole.astype(np.float32))


def _choice(n: int, penalties: Sequence[float], losses: torch.Tensor | None, rule: str) -> Choice:
    best = 0 if losses is None else int((losses <= losses.min() + TIE).nonzero()[-1])  # the path ascends
    return {
        "penalty": penalties[best],
        "C": 1 / (n * penalties[best]),
        "rule": rule,
        "cv_log_loss": None if losses is None else float(losses[best]),
        "at_edge": losses is not None and best in (0, len(penalties) - 1),
    }


def cross_validate(
    pool: torch.Tensor,
    labels: np.ndarray,
    kind: Kind,
    penalties: Sequence[float],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    lengths: Sequence[int],
    basis: torch.Tensor | None,
) -> tuple[Fits, list[torch.Tensor]]:
    """Every penalty (P,) on every part, in float32, and (P,) the mean held-out log-loss of each run of `lengths` parts.

    A part: its training and its held-out images, indices into the pool.
    """
    import torch

    from medbench import probe as engine

    target, _ = encode(labels, kind, str(pool.device))
    training, held = ([torch.as_tensor(part[i], device=pool.device) for part in parts] for i in (0, 1))
    path = torch.tensor(penalties, dtype=torch.float64, device=pool.device)
    fits = engine.fit(
        pool,
        target,
        path,
        training,
        dtype=torch.float32,
        tolerance=TOLERANCE,
        max_iterations=MAX_ITERATIONS,
        constant=CONSTANT,
        basis=basis,
    )
    totals, counts = engine.held_out_loss(fits, pool, target, training, held)
    runs = (torch.split(sums, list(lengths)) for sums in (totals, counts))
    return fits, [total.sum(0) / count.sum().clamp_min(1) for total, count in zip(*runs, strict=True)]


def n_folds(labels: np.ndarray, groups: np.ndarray, most: int = MAX_FOLDS) -> int:
    """min(`most`, the smallest number of groups of a class present); 1 where a class has one group or is alone.

    Multi-label: the smallest over positives and negatives of the labels that have two groups of both; 1 where no label has.
    """
    import numpy as np

    if labels.ndim == 1:
        sizes = [len(set(groups[labels == c])) for c in np.unique(labels)]
        return min(most, *sizes) if len(sizes) > 1 else 1
    pairs = [min(len(set(groups[column == value])) for value in (0, 1)) for column in labels.T]
    return min([most, *(size for size in pairs if size >= 2)]) if max(pairs) >= 2 else 1


def _base_rate(labels: np.ndarray, kind: Kind, n_classes: int) -> np.ndarray:
    """(C,) float64, binary (1,): smoothed share of positives of each label; 0 for the classes of a softmax."""
    import numpy as np

    if kind not in ("binary", "multilabel"):
        return np.zeros(n_classes)
    matrix = labels.reshape(len(labels), -1)
    positive, negative = (matrix == 1).sum(0), (matrix == 0).sum(0)
    rate: np.ndarray = (positive + 1) / (positive + negative + 2)
    return rate


def check_finite(name: str, features: np.ndarray) -> None:
    import numpy as np

    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if len(bad):
        raise UserError(f"The {name} features of {len(bad)} of {len(features)} images are not finite (first: image {bad[0]}): "
                        "the encoder's weights do not fit the images or the precision.", then="run it with --precision fp32")  # fmt: skip


LINEAR = Protocol(
    name="linear",
    version=2,
    title="Linear probe: logistic regression on frozen features, penalty by grouped cross-validation on the labelled images",
    kinds=KINDS,
    evaluate=evaluate,
    seeded=False,
    settings={
        "penalties": PENALTIES,
        "fixed_penalty": FIXED_PENALTY,
        "max_folds": MAX_FOLDS,
        "tie": TIE,
        "tolerance": TOLERANCE,
        "final_tolerance": FINAL_TOLERANCE,
        "max_iterations": MAX_ITERATIONS,
        "constant": CONSTANT,
        "limit": "sqrt(n - 1) standard deviations",
    },
    citation="Alain and Bengio, Understanding intermediate layers using linear classifier probes, ICLR workshop 2017, arXiv:1610.01644",
)
