"""Linear probe: L2-penalised logistic regression on frozen features.

The penalty is chosen inside the labelled subset. Features are standardised, the penalty is chosen
by grouped, stratified cross-validation on the labelled images alone (pooled log-loss of the
held-out images; ties to the stronger penalty), then the whole subset is fitted again. The path of
penalties is searched from its strong end (`logistic.search`): on a path whose loss has one valley,
as all that were looked at, the choice is that of the whole path. Whether anything is held out is
the budget's to say (`splits.divides`); where nothing is, the penalty is the constant
`FIXED_PENALTY`. Of five folds each trains on every class: one of a single group is never held out
(`splits.held_out_fold`).

A class without a labelled image gets probability 0. A label (or a binary task) of which only one
value was seen gets the smoothed base rate (positives + 1) / (known + 2). Held-out probabilities are
those of the cross-validation at the chosen penalty; an image whose class its fold's training part
lacks has none. `models.logistic` states the objective and the accuracy of its solution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medbench.protocols._features import MAX_FOLDS, check_finite, on_device
from medbench.schema import KINDS, HeldOut, Kind, Protocol, Scores, Train

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medbench.models.logistic import Block, Model, Pool

Folds = Sequence[tuple["np.ndarray", "np.ndarray"]]  # training and held-out positions in a draw
Choice = dict[str, Any]  # the penalty, and how it was chosen
#: 1e-3 to 1e3, four a decade. On HAM10000 (1280 features) the optimum lies near 0.1 with 7,000
#: images, 0.6 with 700 and 6 with 70 or less.
PENALTIES = tuple(10.0 ** (i / 4) for i in range(-12, 13))
#: The value of the path with the lowest log-loss and the highest AUC (mean of 8 draws) on the
#: validation part of HAM10000 (10 % of the lesions; supervised features of tf_efficientnet_lite0 at
#: 112 px), both at 1 % (70 images) and at 5 a class (36 images).
FIXED_PENALTY = PENALTIES[15]
TIE = 1e-6  # nats an image: two penalties this close are one, and the stronger is taken
TOLERANCE = (
    # gradient norm of a cross-validation's members (times min(1, sqrt(penalty))) and of a final
    # fit's first iterations, float32
    1e-4
)
FINAL_TOLERANCE = 1e-7  # of the final fit, float64
MAX_ITERATIONS = 3000  # a cap; the certificate shows a fit that reached it
# a feature whose deviation is below this share of its mean is rounding, and set to zero
CONSTANT = 1e-6


def evaluate(
    train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]
) -> Iterator[dict[str, Scores]]:
    """Yield the scores of every target, draw after draw, from features (M, D) float32.

    See `Protocol`; features float32, any labels of `schema.Split`. Raises UserError for features
    that are not finite.

    Small draws are solved in blocks, each with all its folds, in shapes that depend on the draw's
    own size alone and with as many places as a full block: the other draws change no bit of it. A
    run that was killed between two draws, or asks for more of them, gives the rows of one that was
    not.
    """
    import numpy as np

    check_finite({"training": train.features, **targets})
    # all draws score the same images
    places = {name: on_device(images, train.device) for name, images in targets.items()}
    for model, held_out in fitted(train, draws):
        scores = {}
        for name, images in places.items():
            probabilities, decisions = model.score(images)
            scores[name] = Scores(
                probabilities.astype(np.float32),
                decisions,
                model.chosen,
                model.certificate,
                held_out,
            )
        yield scores


def fitted(train: Train, draws: Sequence[np.ndarray]) -> Iterator[tuple[Model, HeldOut | None]]:
    """Yield the model that `evaluate` scores with, and held-out probabilities, draw after draw.

    draws: (n,) int64 each. None in place of the second where nothing was held out. Raises UserError
    for features that are not finite.
    """
    import torch

    from medbench.models.logistic import FEW, TOGETHER, Pool

    check_finite({"training": train.features})
    features = torch.as_tensor(train.features, device=train.device)
    basis = _shared_basis(features, max(map(len, draws), default=0))
    pool = Pool(features, train.labels, train.groups, train.kind, train.n_classes, basis)
    divided = train.divided or [None] * len(draws)
    parts = [
        _folds(pool, draw, MAX_FOLDS, asked) for draw, asked in zip(draws, divided, strict=True)
    ]
    few, together = FEW[features.device.type], TOGETHER[features.device.type]
    solved: dict[int, tuple[Model, HeldOut | None]] = {}
    for i in range(len(draws)):
        if i not in solved:
            block = [i]
            if len(draws[i]) <= few:
                block = _block(
                    i,
                    [j for j in range(i, len(draws)) if j not in solved and len(draws[j]) <= few],
                    draws,
                    parts,
                )[:together]
            full = [*block, *[i] * (together - len(block))] if len(draws[i]) <= few else block
            found = _learn_block(
                pool, [draws[j] for j in full], [parts[j] for j in full], PENALTIES, FIXED_PENALTY
            )
            solved.update(zip(block, found, strict=False))
        yield solved.pop(i)


def _block(
    first: int, left: Sequence[int], draws: Sequence[np.ndarray], parts: Sequence[Folds]
) -> list[int]:
    """Which of the draws that are left can be solved with the first: the next ones of its shape."""
    shape = _shape(draws[first], parts[first])
    return [i for i in left if _shape(draws[i], parts[i]) == shape]


def _shape(draw: np.ndarray, folds: Folds) -> tuple[int, ...]:
    """Return what a draw is padded to: of its size and its folds' alone."""
    from medbench.models.logistic import aligned

    return (
        aligned(len(draw)),
        len(folds),
        *(aligned(max(len(fold[i]) for fold in folds)) for i in (0, 1) if folds),
    )


def _folds(pool: Pool, draw: np.ndarray, max_folds: int, divided: bool | None) -> Folds:
    """Training and held-out positions in the draw, of each fold.

    divided: see `splits.held_out_fold`.
    """
    from medbench.stats import splits

    return splits.cross_validation(pool.labels[draw], pool.groups[draw], max_folds, divided)


def _shared_basis(features: torch.Tensor, most: int) -> torch.Tensor | None:
    """Of all images of the pool, where the largest draw takes it."""
    from medbench.models.logistic import eigenbasis, shares

    return eigenbasis(features, CONSTANT) if shares(most, features.shape[1]) else None


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
    """Choose the penalty on a labelled subset, fit it, and return the model.

    features: (n, D) float, finite. labels: (n,) int, or (n, C) float with NaN. groups: (n,).
    penalties: an ascending path. fixed_penalty: taken where nothing can be held out. divided: see
    `splits.held_out_fold`.
    """
    import numpy as np

    pool = _pool(features, labels, groups, kind, n_classes)
    draw = np.arange(len(labels))
    ((model, _),) = _learn_block(
        pool, [draw], [_folds(pool, draw, max_folds, divided)], penalties, fixed_penalty
    )
    return model


def learn_with_folds(
    features: torch.Tensor,
    labels: np.ndarray,
    groups: np.ndarray,
    kind: Kind,
    n_classes: int,
    divided: bool | None = None,
) -> tuple[Model, list[tuple[np.ndarray, np.ndarray, Model]]]:
    """Learn as this protocol does, and return its folds, too.

    A fold is its training and held-out positions and the model by which the penalty was chosen.

    features: (N, D). labels: (N,) int, or (N, C) float with NaN. groups: (N,).
    """
    import numpy as np

    from medbench.models import logistic

    pool = _pool(features, labels, groups, kind, n_classes)
    draw = np.arange(len(labels))
    folds = _folds(pool, draw, MAX_FOLDS, divided)
    if not folds:
        ((model, _),) = _learn_block(pool, [draw], [folds], PENALTIES, FIXED_PENALTY)
        return model, []
    searched = _searched(pool, [draw], [folds], PENALTIES)
    ((model, _),) = _learn_block(pool, [draw], [folds], PENALTIES, FIXED_PENALTY, searched)
    block, (place,) = searched
    _, columns = pool.target()
    fits = block.fits(place)
    return model, [
        (inside, out, logistic.model(pool, inside, fits.of(f), columns, model.chosen))
        for f, (inside, out) in enumerate(folds)
    ]


def _pool(
    features: torch.Tensor, labels: np.ndarray, groups: np.ndarray, kind: Kind, n_classes: int
) -> Pool:
    from medbench.models.logistic import Pool

    basis = _shared_basis(features, len(features))
    return Pool(features, labels, groups, kind, n_classes, basis)


def _learn_block(
    pool: Pool,
    draws: Sequence[np.ndarray],
    parts: Sequence[Folds],
    penalties: Sequence[float],
    fixed_penalty: float,
    searched: tuple[Block, list[int]] | None = None,
) -> list[tuple[Model, HeldOut | None]]:
    """Fit draws of one shape; return what each gives, and its held-out probabilities.

    parts: their folds. penalties: the path. fixed_penalty: what is taken without folds. searched:
    what `_searched` found, where it is known already: its caller holds the folds' images then.
    """
    import torch

    from medbench.models import logistic
    from medbench.stats import splits

    target, columns = pool.target()
    device, basis = pool.features.device, pool.basis
    index = list(logistic.each_once(draws, lambda draw: torch.as_tensor(draw, device=device)))
    held_out: list[HeldOut | None] = [None] * len(draws)
    guesses: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(draws)
    if parts[0]:
        block, places = searched or _searched(pool, draws, parts, penalties)
        rule = f"{len(parts[0])}-fold grouped CV"
        choices = [
            _choice(len(draws[s]), penalties, i, block.losses[s][i], rule)
            for s, i in enumerate(places)
        ]
        held_out = [
            _held_out(pool, columns, parts[s], *block.held_out(s, i)) for s, i in enumerate(places)
        ]
        guesses = [block.average(s, i) for s, i in enumerate(places)]
        del block  # and the folds' images, before the whole subset's are made
    else:
        choices = [_choice(len(draw), [fixed_penalty], 0, None, splits.UNDIVIDED) for draw in draws]
    chosen = torch.tensor(
        [choice["penalty"] for choice in choices], dtype=torch.float64, device=device
    )
    fits = logistic.settle(
        pool.features,
        target,
        index,
        chosen,
        guesses,
        CONSTANT,
        basis,
        TOLERANCE,
        FINAL_TOLERANCE,
        MAX_ITERATIONS,
    )
    models = [
        logistic.model(pool, draw, fits.of(s), columns, choice)
        for s, (draw, choice) in enumerate(zip(draws, choices, strict=True))
    ]
    return list(zip(models, held_out, strict=True))


def _searched(
    pool: Pool,
    draws: Sequence[np.ndarray],
    parts: Sequence[Folds],
    penalties: Sequence[float],
) -> tuple[Block, list[int]]:
    """Solve the folds of draws of one shape; return them and each draw's place on the path."""
    import torch

    from medbench.models.logistic import Block, each_once

    device, (target, _) = pool.features.device, pool.target()
    path = torch.tensor(penalties, dtype=torch.float64, device=device)
    folds_of = {id(draw): of_draw for draw, of_draw in zip(draws, parts, strict=True)}

    def torn(draw: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
        rows = torch.as_tensor(draw, device=device)
        return [(rows[inside], rows[out]) for inside, out in folds_of[id(draw)]]

    folds = list(each_once(draws, torn))
    block = Block(pool.features, target, folds, path, CONSTANT, pool.basis)
    return block, block.search(TOLERANCE, MAX_ITERATIONS, TIE)


def _held_out(
    pool: Pool,
    columns: np.ndarray,
    folds: Folds,
    probabilities: Sequence[torch.Tensor],
    served: Sequence[torch.Tensor],
) -> HeldOut:
    """Of one draw, from what each fold gives its held-out images and whom it serves."""
    import numpy as np

    index = np.concatenate(
        [out[who.cpu().numpy()] for (_, out), who in zip(folds, served, strict=True)]
    )
    order = np.argsort(index)
    solved = np.concatenate(
        [found[who].cpu().numpy() for found, who in zip(probabilities, served, strict=True)]
    )[order]
    if pool.kind == "binary":
        whole = np.column_stack([1 - solved, solved])
    else:
        whole = np.full((len(solved), pool.n_classes), np.nan if pool.kind == "multilabel" else 0.0)
        whole[:, columns] = solved
    return HeldOut(index[order], whole.astype(np.float32))


def _choice(
    n: int, penalties: Sequence[float], place: int, loss: float | None, rule: str
) -> Choice:
    return {
        "penalty": penalties[place],
        "C": 1 / (n * penalties[place]),
        "rule": rule,
        "cv_log_loss": loss,
        "at_edge": loss is not None and place in (0, len(penalties) - 1),
    }


LINEAR = Protocol(
    name="linear",
    version=3,
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
