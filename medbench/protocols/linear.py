"""Linear probe: L2-penalised logistic regression on frozen features, the penalty chosen inside the labelled subset.

Features are standardised, the penalty is chosen by grouped, stratified cross-validation on the labelled images alone (pooled log-loss of the
held-out images; ties to the stronger penalty), then the whole subset is fitted again. Whether anything is held out is the budget's to say
(`splits.divides`); where nothing is, the penalty is the constant `FIXED_PENALTY`. Of five folds each trains on every class: one of
a single group is never held out (`splits.held_out_fold`).

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


def evaluate(train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]) -> Iterator[dict[str, Scores]]:
    """Scores of every target, draw after draw. See `Protocol`; features float32, any labels of `schema.Split`. Raises UserError.

    Each draw is solved by itself, all its folds and penalties together, so that the other draws change no bit of it: a run that was killed
    between two draws, or asks for more of them, gives the rows of one that was not. (Draws in one batch took .93 to 1.0 of the CPU time.)
    """
    import numpy as np
    import torch

    from medbench.models.logistic import Pool

    check_finite({"training": train.features, **targets})
    features = torch.as_tensor(train.features, device=train.device)
    basis = _shared_basis(features, max(map(len, draws), default=0))
    pool = Pool(features, train.labels, train.groups, train.kind, train.n_classes, basis)
    for draw, divided in zip(draws, train.divided or [None] * len(draws), strict=True):
        choice, held_out = choose_penalty(pool, draw, PENALTIES, FIXED_PENALTY, MAX_FOLDS, divided)
        model = settle(pool.take(draw), choice)
        scores = {}
        for name, images in targets.items():
            probabilities, decisions = model.score(images)
            scores[name] = Scores(probabilities.astype(np.float32), decisions, model.chosen, model.certificate, held_out)
        yield scores


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
    divided: bool | None = None,
) -> Model:
    """Choose the penalty (of an ascending path) on a labelled subset and fit it. features (n, D) float, finite. divided: see `splits.held_out_fold`."""
    import numpy as np

    from medbench.models.logistic import Pool

    pool = Pool(features, labels, groups, kind, n_classes, _shared_basis(features, len(features)))
    choice, _ = choose_penalty(pool, np.arange(len(labels)), penalties, fixed_penalty, max_folds, divided)
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


def choose_penalty(
    pool: Pool, draw: np.ndarray, penalties: Sequence[float], fixed_penalty: float, max_folds: int, divided: bool | None = None
) -> tuple[Choice, HeldOut | None]:
    """The penalty of a draw (indices into the pool), how it was chosen, and the held-out probabilities at it. divided: see `splits.held_out_fold`."""
    from medbench.stats import splits

    folds = splits.cross_validation(pool.labels[draw], pool.groups[draw], max_folds, divided)
    if not folds:
        return _choice(len(draw), [fixed_penalty], None, splits.UNDIVIDED), None
    fits, losses = cross_validate(pool, penalties, [(draw[inside], draw[out]) for inside, out in folds])
    choice = _choice(len(draw), penalties, losses, f"{len(folds)}-fold grouped CV")
    return choice, _held_out(pool, fits.at(penalties.index(choice["penalty"])), draw, folds)


def _held_out(pool: Pool, fits: Fits, draw: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> HeldOut:
    """Of one draw, whose folds are given as training and held-out positions in it."""
    import numpy as np
    import torch

    from medbench.models import logistic

    target, columns = pool.target()
    index, found = [], []
    for part, (inside, out) in enumerate(folds):
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


def cross_validate(pool: Pool, penalties: Sequence[float], parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Fits, torch.Tensor]:
    """Every penalty (P,) on every part, in float32, and (P,) the mean log-loss of the images held out of them.

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
    return fits, totals.sum(0) / counts.sum().clamp_min(1)


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
