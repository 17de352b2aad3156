"""Cells without a row -> rows. The only file that knows the order of the stages, and the only one that reads test labels."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from medbench import stats
from medbench.data.evaluation_sets import EvaluationSet
from medbench.models import features as embed
from medbench.run.ingredients import identity, ingredients, touched
from medbench.run.planning import Plan
from medbench.run.planning import plan as plan_grid
from medbench.run.prepare import have_features, history, network, task_pack, trained, unit_features
from medbench.run.provenance import provenance, row_cost
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import (
    DiskError,
    Grid,
    Kind,
    PlannedCell,
    ProgressCallback,
    Protocol,
    Row,
    Scores,
    Train,
    UserError,
    fingerprint,
)
from medbench.stats import metrics
from medbench.system import devices
from medbench.system.precision import kind, products
from medbench.system.progress_listener import calling
from medbench.system.row_checksums import CheckedRows

UNEVEN = 0.01  # of a sum of probabilities: rounding in half precision is a tenth of it
log = logging.getLogger("medbench")


def run(
    grid: Grid,
    out: Path | str,
    *,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Plan a grid, compute the cells that have no row in `out` yet, and return the store. Raises UserError before any work or not at all.

    A cell that fails is recorded with its reason; the others go on. OSError and DiskError (a full disk) end the run.
    """
    Store(out).check()
    with calling(progress):
        return _execute(plan_grid(grid), Path(out), device, on_row)


def execute(
    plan: Plan,
    out: Path,
    *,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Compute a plan's missing cells. See `run`."""
    with calling(progress):
        return _execute(plan, out, device, on_row)


def _execute(plan: Plan, out: Path, device: str, on_row: Callable[[Row], None]) -> Store:
    for precision in dict.fromkeys(unit.precision for unit in plan.units):
        devices.check_device(device, precision)
    store = Store(out)
    lacking = set(missing(plan, store))
    work = [(unit, todo) for unit in plan.units if (todo := [planned for planned in unit.cells if planned in lacking])]
    if work:
        device = devices.resolve(device)
    for unit, todo in work:  # decodes every image, so that a bad one is named before anything is written
        for part, target in product(unit.members or (unit,), sets_of(plan, unit, todo)):
            if needs_images(plan, todo) or not have_features(plan, part, device, target):
                task_pack(part.data, part.encoder, plan.cache_dir, target)
    store.create()
    store.add_plan(plan.file)
    with _log_file(out / "run.log"), products("fp32"):  # an encoder that is to compute less exactly says so itself
        for unit, _ in work:
            with store.working_on(fingerprint(unit.cells[0].cell.unit)[:16]):
                if missing(plan, store, unit):
                    _run_unit(plan, unit, store, device, on_row)
    return store


def missing(plan: Plan, store: Store, unit: Unit | None = None, done: Collection[str] | None = None) -> list[PlannedCell]:
    """Planned cells (of a unit, or of all) without a row of their fingerprint. done: the fingerprints of the store's rows, where they are at hand."""
    done = store.rows() if done is None else done
    return [planned for planned in (unit or plan).cells if planned.fingerprint not in done]


@contextmanager
def _log_file(file: Path) -> Iterator[None]:
    """What was done when, and the whole traceback of a cell that failed, in a file beside the rows."""
    handler = logging.FileHandler(file, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def _run_unit(
    plan: Plan,
    unit: Unit,
    store: Store,
    device: str,
    on_row: Callable[[Row], None],
) -> None:
    for target in plan.targets_of(unit.data):
        _save_target(target, store)
    todo = missing(plan, store, unit)
    failed: Collection[PlannedCell] = todo
    with _recorded(store, unit.name, todo):
        needs = {plan.protocols[planned.cell.protocol].needs for planned in todo}
        if "images" in needs or not all(have_features(plan, unit, device, target) for target in sets_of(plan, unit, todo)):
            unit = trained(plan, unit, device)
        features = unit_features(plan, unit, device) if "features" in needs else ()
        failed = ()
    if failed:
        return
    embedded = [planned for planned in todo if plan.protocols[planned.cell.protocol].needs == "features"]
    for apart in sets_of(plan, unit, embedded)[1:]:
        assert apart is not None, "the task's own set comes first"
        failed = [planned for planned in embedded if planned.cell.target == apart.name]
        with _recorded(store, f"{unit.name} on {apart.name}", failed):
            unit_features(plan, unit, device, apart)  # now: each fit that finds them lacking would try again
            failed = ()
        todo = [planned for planned in todo if planned not in failed]
    fits = _fits(unit, todo)
    for name in dict.fromkeys(planned.cell.protocol for planned in todo):
        rest = [fit for fit in fits if fit.first.cell.protocol == name]
        while rest:
            try:
                for fit, rows in _solve(plan, unit, plan.protocols[name], rest, features, device, store):
                    for row, arrays in rows:
                        if store.add(row, arrays):
                            log.info("row %s", row.cell)
                            on_row(row)
                    shutil.rmtree(_scratch(plan, fit, device, store), ignore_errors=True)  # its rows are on disk: nothing to go on from
                    rest = rest[1:]
            except (OSError, DiskError):
                raise
            except Exception as error:  # one fit's failure, whatever it is, is the reason of its cells and not the end of the run
                failing = rest if isinstance(error, UserError) else rest[:1]  # of the features, which all fits share, or of one fit
                log.exception("%s failed", failing[0].first.cell)
                for planned in missing(plan, store, unit):
                    if any(planned in fit.missing for fit in failing):
                        store.fail(planned, _reason(error))
                rest = rest[len(failing) :]


@contextmanager
def _recorded(store: Store, name: str, cells: Collection[PlannedCell]) -> Iterator[None]:
    """A failure inside, whatever it is (out of memory, a size the encoder cannot take, somebody else's module), is the reason of these cells;
    others may still work. A full disk or a lost mount ends the run: nothing else would work either."""
    try:
        yield
    except (OSError, DiskError):
        raise
    except Exception as error:
        log.exception("%s failed", name)
        for planned in cells:
            store.fail(planned, _reason(error))


@dataclass(frozen=True)
class PendingFit:
    """One draw of one protocol, and its cells without a row: one for each evaluation set. first: its cell on the task's own part, done or not.

    Nothing of a fitted head is kept, so a draw is fitted again as a whole where one of its sets has no row.
    """

    first: PlannedCell
    missing: tuple[PlannedCell, ...]


def _fits(unit: Unit, todo: Sequence[PlannedCell]) -> list[PendingFit]:
    """What must be fitted, once for all its targets, in the order of the plan."""
    firsts: dict[Any, PlannedCell] = {}
    lacking: dict[Any, list[PlannedCell]] = {}
    for planned in unit.cells:
        draw = replace(planned.cell, target="")
        firsts.setdefault(draw, planned)
        if planned in todo:
            lacking.setdefault(draw, []).append(planned)
    return [PendingFit(firsts[draw], tuple(cells)) for draw, cells in lacking.items()]


def needs_images(plan: Plan, todo: Sequence[PlannedCell]) -> bool:
    """Whether one of the cells trains on pixels."""
    return any(plan.protocols[planned.cell.protocol].needs == "images" for planned in todo)


def sets_of(plan: Plan, unit: Unit, todo: Sequence[PlannedCell]) -> list[EvaluationSet | None]:
    """The sets of images whose features these cells of a unit take: the task's own (None), then those that lie apart."""
    asked = {planned.cell.target for planned in todo}
    return [None, *(target for target in plan.targets_of(unit.data) if target.apart and target.name in asked)]


def _solve(
    plan: Plan,
    unit: Unit,
    protocol: Protocol,
    todo: list[PendingFit],
    features: Sequence[embed.Features],
    device: str,
    store: Store,
) -> Iterator[tuple[PendingFit, Iterator[tuple[Row, dict[str, np.ndarray]]]]]:
    """Rows of one protocol, fit after fit. The protocol sees the targets' images, never their labels, and fits once for all of them."""
    data, pool = unit.data, unit.data.pool
    evaluate, made_with = protocol.evaluate, features
    if protocol.needs == "images":
        arrays, made_with = [task_pack(data, unit.encoder, plan.cache_dir).array], ()
    else:
        arrays = [found.array for found in features]
        evaluate = (unit.method.fusion and unit.method.fusion.evaluate) or protocol.evaluate
    train = Train(
        _columns(arrays, data.where("train")),
        pool.labels,
        pool.groups,
        data.task.kind,
        len(data.task.classes),
        device,
        seeds=[fit.first.cell.seed for fit in todo],
        folders=[_scratch(plan, fit, device, store) for fit in todo],
        widths=tuple(array.shape[1] for array in arrays) if unit.members else (),
        network=network(unit) if protocol.needs == "images" else None,
    )
    made_of = ingredients(unit, protocol)
    asked = {planned.cell.target for fit in todo for planned in fit.missing}
    targets = {target.name: target for target in plan.targets_of(data) if target.name in asked}
    shown, made = {}, {}
    for name, target in targets.items():
        if not target.apart:
            own = _columns(arrays, data.where(plan.target))
            shown[name], made[name] = own if target.rows is None else own[target.rows], made_with
        elif protocol.needs == "images":
            shown[name], made[name] = task_pack(data, unit.encoder, plan.cache_dir, target).array, ()
        else:
            made[name] = unit_features(plan, unit, device, target)
            shown[name] = _columns([found.array for found in made[name]], slice(None))
    histories = [history(plan, part, device) for part in unit.members or (unit,)]
    log.info("solving %s for %d draws of %s, each scored on %s", protocol.name, len(todo), unit.name, ", ".join(targets))

    def rows(fit: PendingFit, answer: Mapping[str, Scores], start: float) -> Iterator[tuple[Row, dict[str, np.ndarray]]]:
        draw = plan.draw(fit.first.cell)
        for planned in fit.missing:
            target = targets[planned.cell.target]
            given = answer[target.name]
            _check_sums(given.probabilities, data.task.kind, f"{protocol.name} on {target.name}")
            scores = target.read(given)
            values, resamples = _score(target, data.task.kind, scores)
            saved = {
                "probabilities": scores.probabilities.astype(np.float32),
                "decisions": scores.decisions,
                "metrics": np.array(list(resamples)),
                "resamples": np.stack([array.astype(np.float32) for array in resamples.values()]),
                **_held_out(scores, pool.labels[draw]),
            }
            origin = provenance(
                unit,
                target,
                draw,
                made[target.name],
                histories,
                device,
                scores,
                identity(made_of, touched(unit, protocol, planned.cell.labels, target)),
            )
            row = Row(
                cell=planned.cell,
                fingerprint=planned.fingerprint,
                metrics=values,
                n_labels=len(draw),
                n_requested=planned.n_requested,
                chosen=dict(scores.chosen),
                cost=row_cost(time.perf_counter() - start, made[target.name], histories, device),
                provenance=origin if planned is fit.first else {**origin, "fit": fit.first.setting},
            )
            yield row, saved
            start = time.perf_counter()

    start = time.perf_counter()
    for fit, answer in zip(todo, evaluate(train, shown, [plan.draw(fit.first.cell) for fit in todo]), strict=True):
        yield fit, rows(fit, answer, start)
        start = time.perf_counter()


def _held_out(scores: Scores, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What a row keeps of the scores inside the labelled subset, whose labels are given; nothing where nothing was held out."""
    if scores.held_out is None:
        return {}
    index = np.asarray(scores.held_out.index)
    return {
        "held_out_index": index,
        "held_out_probabilities": scores.held_out.probabilities.astype(np.float32),
        "held_out_labels": labels[index],
    }


def _columns(arrays: Sequence[Any], where: slice) -> Any:
    """The rows of one part; of a fusion, all members' features side by side."""
    if isinstance(arrays[0], CheckedRows):  # pixels, which no fusion puts side by side
        return arrays[0].part(where)
    return arrays[0][where] if len(arrays) == 1 else np.concatenate([array[where] for array in arrays], axis=1)


def _scratch(plan: Plan, fit: PendingFit, device: str, store: Store) -> Path:
    """Where a protocol keeps what a killed run needs to go on inside a fit. A results folder's own: the first of two runs with one would clear
    it under the other."""
    return plan.cache_dir / "cells" / fingerprint(fit.first.fingerprint, kind(device), str(store.folder.absolute()))


def _score(target: EvaluationSet, kind: Kind, scores: Scores) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metrics with 95 % intervals, and their resamples. The one place where labels of a scored set are read."""
    split = target.split
    weights = stats.group_weights(split.groups)
    plain = metrics.score(split.labels, scores.probabilities, scores.decisions, kind)
    resampled = metrics.score(split.labels, scores.probabilities, scores.decisions, kind, weights)
    values: dict[str, Any] = {}
    for name, value in plain.values.items():
        low, high = stats.interval(resampled.values[name])
        values[name] = {"value": _number(value), "low": _number(low), "high": _number(high)}
    values["auc"]["classes"] = plain.auc_classes  # over how many the mean was taken
    return values, resampled.values


def _check_sums(probabilities: np.ndarray, kind: Kind, where: str) -> None:
    """Raises ValueError where classes of which one is right have probabilities (N, C) that do not sum to 1: calibration would mean nothing."""
    sums = probabilities.sum(1)
    wrong = np.flatnonzero(np.abs(sums - 1) > UNEVEN)
    if kind != "multilabel" and len(wrong):
        raise ValueError(
            f"{where} gives {len(wrong)} of {len(sums)} images probabilities that do not sum to 1: image {wrong[0]} {sums[wrong[0]]:.3g}"
        )


def _save_target(target: EvaluationSet, store: Store) -> None:
    """What is known of the scored set, once for all rows that share it."""
    split = target.split
    store.add_target(target.file, split.ids, split.labels, split.groups, bags=split.bags, meta=split.meta)


def _number(value: Any) -> float | None:
    """JSON has no NaN: undefined is null."""
    return None if value is None or not np.isfinite(value) else float(value)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
