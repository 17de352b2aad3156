"""One protocol on one unit: its draws are fitted, scored and made rows.

The only file that reads the labels of a scored set.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medbench.data.evaluation_sets import EvaluationSet
from medbench.models.features import Features
from medbench.run.case_scores import answered
from medbench.run.ingredients import identity, ingredients, touched
from medbench.run.prepare import history, network, task_pack, unit_features
from medbench.run.provenance import provenance, row_cost
from medbench.run.run_context import RunContext
from medbench.run.units import Unit
from medbench.schema import Kind, PlannedCell, Protocol, Row, Scores, Train, fingerprint
from medbench.stats.row_metrics import row_metrics, uneven
from medbench.system.ahead import one_ahead
from medbench.system.precision import kind
from medbench.system.row_checksums import CheckedRows

log = logging.getLogger("medbench")


@dataclass(frozen=True)
class PendingFit:
    """One draw of one protocol, and its cells without a row: one for each evaluation set.

    first: its cell on the task's own part, done or not.

    Nothing of a fitted head is kept, so a draw is fitted again as a whole where one of its sets has
    no row.
    """

    first: PlannedCell
    missing: tuple[PlannedCell, ...]


def pending_fits(unit: Unit, todo: Sequence[PlannedCell]) -> list[PendingFit]:
    """Return what must be fitted for these cells, in the order of the plan.

    One for each draw of each protocol, for all its scored sets at once.
    """
    firsts: dict[Any, PlannedCell] = {}
    lacking: dict[Any, list[PlannedCell]] = {}
    wanted = set(todo)
    for planned in unit.cells:
        draw = replace(planned.cell, target="")
        firsts.setdefault(draw, planned)
        if planned in wanted:
            lacking.setdefault(draw, []).append(planned)
    return [PendingFit(firsts[draw], tuple(cells)) for draw, cells in lacking.items()]


@dataclass(frozen=True, eq=False)
class ShownSet:
    """A scored set as a protocol sees it: images without labels.

    images: features (M, D) float32, or pixels (M, S, S, 3) uint8. weights: (M, R) uint8, its
    resamples. made_with: features that it was made of.
    """

    target: EvaluationSet
    images: np.ndarray
    weights: np.ndarray
    made_with: Sequence[Features]


@dataclass(frozen=True, eq=False)
class Solving:
    """One protocol on one unit.

    features: of the unit, () for a protocol that needs images. histories: of each member's
    pretraining.
    """

    context: RunContext
    unit: Unit
    protocol: Protocol
    shown: Mapping[str, ShownSet]
    histories: Sequence[Mapping[str, Any]]
    made_of: Mapping[str, Any]


Saved = tuple[Row, dict[str, np.ndarray]]


def fit_and_score(
    context: RunContext,
    unit: Unit,
    protocol: Protocol,
    todo: Sequence[PendingFit],
    features: Sequence[Features],
) -> Iterator[tuple[PendingFit, Iterator[Saved]]]:
    """Yield each fit of one protocol with its rows, in the order of `todo`.

    The protocol sees the targets' images, never their labels, and fits once for all of them.
    features: of the unit, or of each member. The rows of a fit are an iterator, which computes
    them.
    """
    pixels = protocol.needs == "images"
    arrays = (
        [task_pack(unit.data, unit.encoder, context.plan.cache_dir).array]
        if pixels
        else [found.array for found in features]
    )
    train = training_of(context, unit, protocol, todo, arrays)
    shown = _shown(context, unit, protocol, todo, arrays, () if pixels else features)
    histories = [history(context.plan, part, context.device) for part in unit.members or (unit,)]
    solving = Solving(context, unit, protocol, shown, histories, ingredients(unit, protocol))
    fused = unit.method.fusion.evaluate if unit.method.fusion and not pixels else None
    evaluate = fused or protocol.evaluate
    log.info(
        "solving %s for %d draws of %s, each scored on %s",
        protocol.name,
        len(todo),
        unit.name,
        ", ".join(shown),
    )
    draws = [context.plan.draw(fit.first.cell) for fit in todo]
    sets = {name: (one.images, one.target.examples) for name, one in shown.items()}
    answers = _timed(
        answered(
            evaluate, train, sets, draws, unit.data.examples["train"], judges_cases=protocol.cases
        )
    )
    # a GPU works on the next draw while this one is scored
    if context.device != "cpu" and not pixels:
        answers = one_ahead(answers)
    for fit, (answer, seconds) in zip(todo, answers, strict=True):
        yield fit, _rows(solving, fit, answer, time.perf_counter() - seconds)


def _timed(answers: Iterable[Mapping[str, Scores]]) -> Iterator[tuple[Mapping[str, Scores], float]]:
    """Each with the seconds that it took."""
    start = time.perf_counter()
    for answer in answers:
        yield answer, time.perf_counter() - start
        start = time.perf_counter()


def training_of(
    context: RunContext,
    unit: Unit,
    protocol: Protocol,
    todo: Sequence[PendingFit],
    arrays: Sequence[np.ndarray],
) -> Train:
    """Return what the protocol may learn from, of images.

    See `case_scores` for cases.

    arrays: of each member (N, D), or pixels (N, S, S, 3).
    """
    data, pool = unit.data, unit.data.pool
    return Train(
        columns(arrays, data.where("train")),
        pool.labels,
        pool.groups,
        data.task.kind,
        len(data.task.classes),
        context.device,
        seeds=[fit.first.cell.seed for fit in todo],
        folders=[scratch(context, fit) for fit in todo],
        requested=[fit.first.n_requested for fit in todo],
        divided=[context.plan.divided(fit.first.cell) for fit in todo],
        widths=tuple(array.shape[1] for array in arrays) if unit.members else (),
        network=network(unit) if protocol.needs == "images" else None,
    )


def _shown(
    context: RunContext,
    unit: Unit,
    protocol: Protocol,
    todo: Sequence[PendingFit],
    arrays: Sequence[np.ndarray],
    features: Sequence[Features],
) -> dict[str, ShownSet]:
    """Return the sets that these fits are scored on, by name.

    arrays, features: of the task's own images.
    """
    data, plan = unit.data, context.plan
    asked = {planned.cell.target for fit in todo for planned in fit.missing}
    found = {}
    for target in plan.targets_of(data):
        if target.name not in asked:
            continue
        made_with: Sequence[Features] = features
        if not target.apart:
            own = columns(arrays, data.where(plan.target))
            seen = own if target.rows is None else own[target.rows]
        elif protocol.needs == "images":
            seen = task_pack(data, unit.encoder, plan.cache_dir, target).array
        else:
            made_with = unit_features(plan, unit, context.device, target)
            seen = columns([made.array for made in made_with], slice(None))
        found[target.name] = ShownSet(
            target, seen, context.weights_of(target.examples.split.groups), made_with
        )
    return found


def _rows(
    solving: Solving, fit: PendingFit, answer: Mapping[str, Scores], start: float
) -> Iterator[Saved]:
    """Yield the rows of one fit with what is saved beside them.

    start: when the fit began; the first row costs what the fit did.
    """
    for planned in fit.missing:
        shown = solving.shown[planned.cell.target]
        given, task_kind = answer[shown.target.name], solving.unit.data.task.kind
        _check_sums(
            given.probabilities, task_kind, f"{solving.protocol.name} on {shown.target.name}"
        )
        scores = shown.target.read(given)
        values, resamples = _score(shown, task_kind, scores)
        yield (
            _row(solving, fit, planned, scores, values, start),
            _saved(scores, resamples, _labels(solving, fit)),
        )
        start = time.perf_counter()


def _labels(solving: Solving, fit: PendingFit) -> np.ndarray:
    """Return the labels that a fit learned from."""
    labels: np.ndarray = solving.unit.data.examples["train"].split.labels[
        solving.context.plan.draw(fit.first.cell)
    ]
    return labels


def _row(
    solving: Solving,
    fit: PendingFit,
    planned: PlannedCell,
    scores: Scores,
    values: dict[str, Any],
    start: float,
) -> Row:
    unit, device, shown = solving.unit, solving.context.device, solving.shown[planned.cell.target]
    draw = solving.context.plan.draw(fit.first.cell)
    made_of = identity(
        solving.made_of,
        touched(unit, solving.protocol, planned.cell.labels, shown.target),
        unit.data.task.stated_version,
    )
    origin = provenance(
        unit, shown.target, draw, shown.made_with, solving.histories, device, scores, made_of
    )
    return Row(
        cell=planned.cell,
        fingerprint=planned.fingerprint,
        metrics=values,
        n_labels=len(draw),
        n_requested=planned.n_requested,
        chosen=dict(scores.chosen),
        cost=row_cost(time.perf_counter() - start, shown.made_with, solving.histories, device),
        provenance=origin if planned is fit.first else {**origin, "fit": fit.first.setting},
    )


def _saved(
    scores: Scores, resamples: Mapping[str, np.ndarray], labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what a results folder keeps of a row's scores. labels: of the labelled subset."""
    return {
        "probabilities": scores.probabilities.astype(np.float32),
        "decisions": scores.decisions,
        "metrics": np.array(list(resamples)),
        "resamples": np.stack([array.astype(np.float32) for array in resamples.values()]),
        **_held_out(scores, labels),
    }


def _held_out(scores: Scores, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a row keeps of the scores inside the labelled subset.

    Its labels are given; nothing where nothing was held out.
    """
    if scores.held_out is None:
        return {}
    index = np.asarray(scores.held_out.index)
    return {
        "held_out_index": index,
        "held_out_probabilities": scores.held_out.probabilities.astype(np.float32),
        "held_out_labels": labels[index],
    }


def columns(arrays: Sequence[Any], where: slice) -> Any:
    """Return the rows of one part; of a fusion, all members' features side by side.

    (n, D) float32 of arrays (N, D_i), or (n, S, S, 3) uint8 of pixels.
    """
    if isinstance(arrays[0], CheckedRows):  # pixels, which no fusion puts side by side
        return arrays[0].part(where)
    return (
        arrays[0][where]
        if len(arrays) == 1
        else np.concatenate([array[where] for array in arrays], axis=1)
    )


def scratch(context: RunContext, fit: PendingFit) -> Path:
    """Return where a protocol keeps what a killed run needs to go on inside a fit.

    A results folder's own: the first of two runs with one would clear it under the other.
    """
    place = str(context.store.folder.absolute())
    return (
        context.plan.cache_dir
        / "cells"
        / fingerprint(fit.first.fingerprint, kind(context.device), place)
    )


def _score(
    shown: ShownSet, kind: Kind, scores: Scores
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metrics with 95 % intervals, and their resamples.

    The one place where labels of a scored set are read.
    """
    return row_metrics(
        shown.target.examples.split.labels,
        scores.probabilities,
        scores.decisions,
        kind,
        shown.weights,
    )


def _check_sums(probabilities: np.ndarray, kind: Kind, where: str) -> None:
    """Check that probabilities (N, C) of exclusive classes sum to 1.

    Raises ValueError.
    """
    wrong = uneven(probabilities, kind)
    if len(wrong):
        total = probabilities[wrong[0]].sum()
        raise ValueError(
            f"{where} gives {len(wrong)} of {len(probabilities)} images probabilities that do not sum to 1: image {wrong[0]} {total:.3g}"
        )
