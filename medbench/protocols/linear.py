"""Linear probe: L2-penalised logistic regression on frozen features, the penalty chosen inside the labelled subset.

Features are standardised, the penalty is chosen by grouped, stratified cross-validation on the labelled images alone (pooled log-loss of the
held-out images; ties to the stronger penalty), then the whole subset is fitted again. k = min(5, the smallest number of groups that a class
has). With fewer than two groups of a class nothing can be held out, and the penalty is the constant `FIXED_PENALTY`. A multi-label task has
one penalty for all its labels; a label of which positives or negatives lie in fewer than two groups has no say in k.

A class without a labelled image gets probability 0. A label (or a binary task) of which only one value was seen gets the smoothed base rate
(positives + 1) / (known + 2). Held-out probabilities are those of the cross-validation at the chosen penalty; an image whose class its fold's
training part lacks has none. `models.logistic` states the objective and the accuracy of its solution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medbench.protocols._features import MAX_FOLDS, check_finite
from medbench.schema import KINDS, HeldOut, Kind, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medbench.models.logistic import Fits, Model, Pool

Choice = dict[str, Any]  # the penalty, and how it was chosen
#: 1e-3 to 1e3, four a decade. On HAM10000 (1280 features) the optimum lies near 0.1 with 7,000 images, 0.6 with 700 and 6 with 70 or less.
PENALTIES = tuple(10.0 ** (i / 4) for i in range(-12, 13))
#: The value of the path with the lowest log-loss and the highest AUC (mean of 8 draws) on the validation part of HAM10000 (10 % of the
#: lesions; supervised features of tf_efficientnet_lite0 at 112 px), both at 1 % (70 images) and at 5 a class (36 images).
FIXED_PENALTY = PENALTIES[15]
TIE = 1e-6  # nats an image: two penalties this close are one, and the stronger is taken
TOLERANCE = 1e-4  # gradient norm of a cross-validation's members, float32
FINAL_TOLERANCE = 1e-7  # of the final fit, float64
MAX_ITERATIONS = 3000  # a cap; the certificate shows a fit that reached it
CONSTANT = 1e-6  # a feature whose deviation is below this share of its mean is rounding, and set to zero
#: Images of the draws that choose their penalties in one batch; on one CPU thread that gains little, with more images nothing.
TOGETHER = 1024


def evaluate(train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]) -> Iterator[dict[str, Scores]]:
    """Scores of every target, draw after draw. See `Protocol`; features float32, any labels of `schema.Split`. Raises UserError.

    Small draws of like size choose their penalties together, when the first of them is due; `extra["chosen_together"]` tells how many.
    Held-out losses depend on what is solved beside them by what `TOLERANCE` leaves open; given the penalty, scores do not depend on it.
    """
    import numpy as np
    import torch

    from medbench.models.logistic import Pool

    check_finite({"training": train.features, **targets})
    features = torch.as_tensor(train.features, device=train.device)
    basis = _shared_basis(features, max(map(len, draws), default=0))
    pool = Pool(features, train.labels, train.groups, train.kind, train.n_classes, basis)
    ready: dict[int, tuple[Choice, HeldOut | None, int]] = {}
    for i, draw in enumerate(draws):
        if i not in ready:
            batch = _like(draws, i, set(ready))
            choices = choose_penalties(pool, [draws[j] for j in batch], PENALTIES, FIXED_PENALTY, MAX_FOLDS)
            ready |= {j: (choice, held, len(batch)) for j, (choice, held) in zip(batch, choices, strict=True)}
        choice, held_out, n_together = ready.pop(i)
        model = settle(pool.take(draw), choice)
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


def _shared_basis(features: torch.Tensor, most: int) -> torch.Tensor | None:
    """Of all images of the pool, where a draw has more images than features."""
    from medbench.models.logistic import eigenbasis

    return eigenbasis(features, CONSTANT) if most > features.shape[1] else None


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

    from medbench.models.logistic import Pool

    pool = Pool(features, labels, groups, kind, n_classes, _shared_basis(features, len(features)))
    ((choice, _),) = choose_penalties(pool, [np.arange(len(labels))], penalties, fixed_penalty, max_folds)
    return settle(pool, choice)


def settle(subset: Pool, choice: Choice) -> Model:
    """The whole subset at the chosen penalty, in float64. It starts from zero: what was solved beside it in the choice changes no digit."""
    import torch

    from medbench.models import logistic

    target, columns = subset.target()
    features, basis = subset.features, subset.basis
    one = torch.tensor([choice["penalty"]], dtype=torch.float64, device=features.device)
    fits = logistic.fit(features, target, one, tolerance=FINAL_TOLERANCE, max_iterations=MAX_ITERATIONS, constant=CONSTANT, basis=basis)
    return logistic.Model(fits, columns, logistic.base_rate(subset.labels, subset.kind, subset.n_classes), subset.kind, choice)


def choose_penalties(
    pool: Pool, draws: Sequence[np.ndarray], penalties: Sequence[float], fixed_penalty: float, max_folds: int
) -> list[tuple[Choice, HeldOut | None]]:
    """The penalty of each draw (indices into the pool), how it was chosen, and the held-out probabilities at it; the folds of all draws are
    solved together."""

    from medbench.stats import splits

    folds = [splits.cross_validation(pool.labels[draw], pool.groups[draw], max_folds) for draw in draws]
    parts = [(draw[inside], draw[out]) for draw, of_draw in zip(draws, folds, strict=True) for inside, out in of_draw]
    lengths = [len(of_draw) for of_draw in folds if of_draw]
    if parts:
        fits, found = cross_validate(pool, penalties, parts, lengths)
    losses, first = iter(found if parts else ()), 0
    chosen: list[tuple[Choice, HeldOut | None]] = []
    for draw, of_draw in zip(draws, folds, strict=True):
        if not of_draw:
            chosen.append((_choice(len(draw), [fixed_penalty], None, "fixed: a class has one group"), None))
            continue
        choice = _choice(len(draw), penalties, next(losses), f"{len(of_draw)}-fold grouped CV")
        chosen.append((choice, _held_out(pool, fits.at(penalties.index(choice["penalty"])), first, draw, of_draw)))
        first += len(of_draw)
    return chosen


def _held_out(pool: Pool, fits: Fits, first: int, draw: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> HeldOut:
    """Of one draw, whose folds (training and held-out positions in it) are the parts of `fits` from `first` on."""
    import numpy as np
    import torch

    from medbench.models import logistic

    target, columns = pool.target()
    index, found = [], []
    for part, (inside, out) in enumerate(folds, first):
        rows, outside = (torch.as_tensor(draw[where], device=pool.features.device) for where in (inside, out))
        probabilities, served = logistic.held_out_probabilities(fits, pool.features, target, rows, outside, part)
        index.append(out[served.cpu().numpy()])
        found.append(probabilities[served].cpu().numpy())
    order = np.argsort(np.concatenate(index))
    solved = np.concatenate(found)[order]
    if pool.kind == "binary":
        whole = np.column_stack([1 - solved, solved])
    else:
        whole = np.full((len(solved), pool.n_classes), np.nan if pool.kind == "multilabel" else 0.0)
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
    pool: Pool, penalties: Sequence[float], parts: Sequence[tuple[np.ndarray, np.ndarray]], lengths: Sequence[int]
) -> tuple[Fits, list[torch.Tensor]]:
    """Every penalty (P,) on every part, in float32, and (P,) the mean held-out log-loss of each run of `lengths` parts.

    A part: its training and its held-out images, indices into the pool.
    """
    import torch

    from medbench.models import logistic

    target, _ = pool.target()
    features, device = pool.features, pool.features.device
    training, held = ([torch.as_tensor(part[i], device=device) for part in parts] for i in (0, 1))
    fits = logistic.fit(
        features,
        target,
        torch.tensor(penalties, dtype=torch.float64, device=device),
        training,
        dtype=torch.float32,
        tolerance=TOLERANCE,
        max_iterations=MAX_ITERATIONS,
        constant=CONSTANT,
        basis=pool.basis,
    )
    totals, counts = logistic.held_out_loss(fits, features, target, training, held)
    runs = (torch.split(sums, list(lengths)) for sums in (totals, counts))
    return fits, [total.sum(0) / count.sum().clamp_min(1) for total, count in zip(*runs, strict=True)]


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
