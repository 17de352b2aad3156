"""A user's own labelled images -> learning curves, without a test set.

Nested budgets of what is there, scored by cross-validation inside it.

Whole groups are held out, fold after fold; budgets are drawn from what is left, as always; the
decisions on images that were held out are put together, and a metric is computed once, on all of
them; the AUC on pairs within a fold (`auc_within_folds`). A fold leaves four fifths of the images
to draw from, which the sizes of a curve say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medbench.run import planning, prepare
from medbench.run.units import Unit
from medbench.schema import (
    ALL,
    Grid,
    Kind,
    Note,
    ProgressCallback,
    Protocol,
    Scores,
    Split,
    Train,
    UserError,
    join_parts,
    parse_budget,
    registry,
)
from medbench.stats import group_weights, metrics, splits
from medbench.stats.extrapolation import FEWEST, ScoredCurve
from medbench.stats.winners_curse import optimism
from medbench.system import devices
from medbench.system.progress_listener import calling, report_progress

#: Percent of what a fold leaves.
SHARES = ("12.5", "25", "50", "100")
#: Draws of each but the last, of which there is one.
DRAWS = 5
_RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class OwnCurves:
    """Hold learning curves that were measured inside a user's own images.

    title: the images in words. curves: one for each method, encoder and protocol. luck: what the
    best of them owes to having been chosen among them by these scores, in the metric's own unit.
    notes: what a user must know of the images.
    """

    title: str
    curves: list[ScoredCurve]
    luck: float
    notes: list[Note]


def own_curves(
    grid: Grid,
    device: str = "auto",
    *,
    metric: str | None = None,
    progress: ProgressCallback | None = None,
) -> OwnCurves:
    """Measure the learning curves of a grid's lines inside the images of its one task.

    The lines are its methods, encoders and protocols. Every image of the task is labelled, whatever
    part it stands in. metric: None: the task's primary one. progress(stage, done, total): called
    while it works. Raises UserError for everything that `run.plan` refuses, and for what has no
    features, too few images, or no class that can be held out.
    """
    devices.check_device(device, grid.precision)
    _check_protocols(grid.protocols)
    with calling(progress):
        plan = planning.plan(grid)
        _check_units(plan.units)
        data, device = plan.tasks[0], devices.resolve(device)
        images, kind, classes = (
            join_parts(data.parts.values()),
            data.task.kind,
            len(data.task.classes),
        )
        chosen = metric or data.task.metric
        if chosen not in metrics.metric_names(kind):
            raise UserError(
                f"No metric '{chosen}' here.", allowed=metrics.metric_names(kind), given=chosen
            )
        _check_images(images)
        made = []
        for unit in plan.units:
            ready = (
                unit
                if prepare.have_features(plan, unit, device)
                else prepare.trained(plan, unit, device)
            )
            features = np.asarray(prepare.unit_features(plan, ready, device)[0].array)
            for protocol in plan.protocols.values():
                name = _name(unit, protocol, plan.units, len(plan.protocols))
                made.append(
                    curve_inside(
                        name, protocol, features, images, kind, classes, chosen, device=device
                    )
                )
    curves = [curve for curve, _ in made]
    covariance = np.atleast_2d(np.cov(np.stack([resampled for _, resampled in made])))
    luck = optimism([curve.sign * curve.scores[-1] for curve in curves], covariance)
    # no part of the plan is used
    notes = [note for note in plan.notes if note.kind not in ("split", "rare")]
    return OwnCurves(f"{data.task.title}, {len(images):,} labelled images", curves, luck, notes)


def _check_protocols(names: Sequence[str]) -> None:
    able = [name for name, protocol in registry.protocols().items() if protocol.needs == "features"]
    for name in names:
        if registry.protocol(name).needs != "features":
            what = f"Protocol '{name}' trains end to end: its curve comes from the rows of a study."
            raise UserError(
                what, allowed=able, then=f"medbench run --protocols {name} --labels 12.5,25,50,100"
            )


def _check_units(units: Sequence[Unit]) -> None:
    fused = [unit.method.name for unit in units if unit.members]
    if fused:
        what = f"'{fused[0]}' fuses several encoders: its curve comes from the rows of a study."
        raise UserError(what, then=f"medbench run --methods {fused[0]} --labels 12.5,25,50,100")


def _check_images(images: Split) -> None:
    """Check that something can be held out.

    Raises UserError.
    """
    if len(images) < FEWEST:
        raise UserError(
            f"{len(images)} labelled images are too few: the prediction was not tested below {FEWEST}.",
            then="label more",
        )
    if splits.held_out_fold(images.labels, images.groups, divided=True).max() < 1:
        raise UserError(
            "No two classes have two groups: nothing can be held out.",
            then="add images of other groups",
        )


def _name(unit: Unit, protocol: Protocol, units: Sequence[Unit], protocols: int) -> str:
    """Name a curve by its method, and what else tells the curves apart."""
    encoders = {other.encoder for other in units}
    return " ".join(
        [
            unit.method.name,
            *([unit.encoder.name] if len(encoders) > 1 else []),
            *([protocol.name] if protocols > 1 else []),
        ]
    )


def curve_inside(
    name: str,
    protocol: Protocol,
    features: np.ndarray,
    images: Split,
    kind: Kind,
    classes: int,
    metric: str,
    *,
    draws: int = DRAWS,
    device: str = "cpu",
) -> tuple[ScoredCurve, np.ndarray]:
    """Measure the curve of labelled images with features (N, D), by cross-validation.

    Also returns the last score on resamples of their groups, (R,).
    """
    fold = splits.held_out_fold(images.labels, images.groups, divided=True)
    count = [1 if parse_budget(share) == ALL else draws for share in SHARES]
    probabilities = np.zeros((len(SHARES), draws, len(images), classes), np.float32)
    decisions = np.zeros((len(SHARES), draws, *images.labels.shape), np.int64)
    sizes = np.zeros((len(SHARES), draws, fold.max() + 1))
    for f in range(fold.max() + 1):
        report_progress(f"folds of {name}", f, int(fold.max()) + 1, "folds")
        held = fold == f
        for (share, seed), drawn, scores in _of_fold(
            protocol, features, images, held, kind, classes, count, device
        ):
            sizes[share, seed, f] = drawn
            probabilities[share, seed, held], decisions[share, seed, held] = (
                scores.probabilities,
                scores.decisions,
            )
    report_progress(f"folds of {name}", int(fold.max()) + 1, int(fold.max()) + 1, "folds")
    scored = fold >= 0

    def value(share: int, seed: int, weights: np.ndarray | None = None) -> Any:
        p, d = probabilities[share, seed][scored], decisions[share, seed][scored]
        if metric == "auc":
            return auc_within_folds(images.labels[scored], p, fold[scored], kind, weights)
        return metrics.score(images.labels[scored], p, d, kind, weights).values[metric]

    values = [[value(share, seed) for seed in range(n)] for share, n in enumerate(count)]
    resampled: np.ndarray = value(
        len(SHARES) - 1, 0, group_weights(images.groups[scored], _RESAMPLES)
    )
    errors = np.array(
        [np.std(each, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan for each in values]
    )
    means, drawn_ = (
        np.array([np.mean(each) for each in values]),
        np.array([sizes[i, :n].mean() for i, n in enumerate(count)]),
    )
    # of few images two budgets come to the same
    kept = np.flatnonzero(np.append(np.diff(drawn_) > 0, True) & ~np.isnan(means))
    shared = float(np.nan_to_num(np.nanstd(resampled)))
    given = (drawn_[kept], means[kept], errors[kept], np.array(count, float)[kept])
    return ScoredCurve(name, metric, *given, shared, float(len(images))), np.nan_to_num(
        resampled, nan=float(means[-1])
    )


def auc_within_folds(
    labels: np.ndarray,
    probabilities: np.ndarray,
    fold: np.ndarray,
    kind: Kind,
    weights: np.ndarray | None = None,
) -> Any:
    """Compute the AUC of `metrics.score` over pairs of images that one model scored.

    In each class, all such pairs count once; then the mean over classes.

    Pairs across folds compare two models. Each knows a little less of the class that its fold holds
    more of, so that they stand in the wrong order: on 60 images of HAM10000 the AUC of all pairs
    was .50 and the truth .69 (Airola et al. 2011, doi:10.1016/j.csda.2010.11.018, on pooling).

    Parameters
    ----------
    labels, probabilities, kind, weights : as `metrics.score` takes them.
    fold : (N,), which model scored an image.

    Returns
    -------
    float, or (R,) with weights; NaN where no class has a pair.
    """
    columns = [1] if kind == "binary" else range(probabilities.shape[1])
    found = []
    for c in columns:
        truth = labels[:, c] if kind == "multilabel" else (labels == c).astype(float)
        right, pairs = 0.0, 0.0
        for f in np.unique(fold):
            here = (fold == f) & ~np.isnan(truth)
            y, p = (
                truth[here].astype(np.int64),
                np.clip(probabilities[here, c], 0.0, 1.0).astype(float),
            )
            w = np.ones((here.sum(), 1), np.uint8) if weights is None else weights[here]
            n = (w * y[:, None]).sum(0, dtype=float) * (w * (1 - y)[:, None]).sum(0, dtype=float)
            if not n.any():
                continue
            auc = metrics.score(
                y, np.column_stack([1 - p, p]), (p > 0.5).astype(np.int64), "binary", w
            ).values["auc"]
            right, pairs = right + np.where(n > 0, auc, 0.0) * n, pairs + n
        if np.any(pairs):
            found.append(
                np.divide(
                    right, pairs, out=np.full(np.shape(pairs), np.nan), where=np.asarray(pairs) > 0
                )
            )
    each = np.array(found) if found else np.full((1, 1), np.nan)
    known = (~np.isnan(each)).sum(0)
    whole = np.divide(
        np.nansum(each, axis=0), known, out=np.full(len(known), np.nan), where=known > 0
    )
    return float(whole[0]) if weights is None else whole


def _of_fold(
    protocol: Protocol,
    features: np.ndarray,
    images: Split,
    held: np.ndarray,
    kind: Kind,
    classes: int,
    count: Sequence[int],
    device: str,
) -> Iterator[tuple[tuple[int, int], int, Scores]]:
    """Score the images of one fold by fits on nested draws of the others.

    ((share, seed), images drawn, scores).
    """
    pool = np.flatnonzero(~held)
    labels, groups = images.labels[pool], images.groups[pool]
    asked, drawn, divided, requested = [], [], [], []
    for place, (share, n) in enumerate(zip(SHARES, count, strict=True)):
        budget = parse_budget(share)
        asked += [(place, seed) for seed in range(n)]
        drawn += splits.draws(labels, groups, budget, range(n))
        divided += [splits.divides(labels, groups, budget)] * n
        requested += [splits.requested(labels, budget)] * n
    seeds = [seed for _, seed in asked]
    train = Train(
        features[pool],
        labels,
        groups,
        kind,
        classes,
        device,
        seeds=seeds,
        requested=requested,
        divided=divided,
    )
    for which, draw, scores in zip(
        asked, drawn, protocol.evaluate(train, {"held out": features[held]}, drawn), strict=True
    ):
        yield which, len(draw), scores["held out"]
