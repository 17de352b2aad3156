"""Cells without a row -> rows. The only file that knows the order of the stages, and the only one that reads test labels."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medbench import embed, metrics, registry, stats
from medbench.data import TaskData
from medbench.grid import Plan, ingredients
from medbench.grid import plan as plan_grid
from medbench.prepare import (
    Progress,
    build_encoder,
    features_key,
    have_features,
    history,
    network,
    pack,
    pretrained_folder,
    trained,
    unit_features,
)
from medbench.provenance import cost, provenance
from medbench.spec import Grid, Protocol, Row, Scores, Train, UserError, fingerprint
from medbench.store import PlanFile, Planned, Store
from medbench.units import Unit

log = logging.getLogger("medbench")


def run(
    grid: Grid,
    out: Path,
    *,
    device: str = "auto",
    progress: Progress = lambda *stage: None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Plan a grid, compute the cells that have no row in `out` yet, and return the store. Raises UserError before any work or not at all.

    A cell that fails is recorded with its reason; the others go on. OSError (a full disk) ends the run.
    """
    return execute(plan_grid(grid, progress), out, device=device, progress=progress, on_row=on_row)


def execute(
    plan: Plan,
    out: Path,
    *,
    device: str = "auto",
    progress: Progress = lambda *stage: None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Store:
    """Compute a plan's missing cells. See `run`."""
    check_device(device)
    store = Store(out)
    if missing(plan, store):
        device = resolve_device(device)
        for unit in plan.units:  # decodes every image, so that a bad one is named before anything is written
            for part in unit.members or (unit,) if missing(plan, store, unit) else ():
                if needs_images(plan, store, unit) or not have_features(plan, part, device):
                    pack(part.data, part.encoder, plan.cache_dir, progress)
    store.create()
    store.add_plan(plan_file(plan))
    with _log_file(out / "run.log"):
        for unit in plan.units if missing(plan, store) else ():
            with store.working_on(fingerprint(unit.cells[0].cell.unit)[:16]):
                if missing(plan, store, unit):
                    _run_unit(plan, unit, store, device, progress, on_row)
    return store


def missing(plan: Plan, store: Store, unit: Unit | None = None) -> list[Planned]:
    """Planned cells (of a unit, or of all) without a row of their fingerprint."""
    done = store.rows()
    return [planned for planned in (unit or plan).cells if planned.fingerprint not in done]


def plan_file(plan: Plan) -> PlanFile:
    """What the results folder keeps of a plan, so that tables need neither tasks nor data."""
    tasks = {
        f"{data.task.name}|{data.data}|{target}": {
            "identity": data.identity,
            "title": data.task.title,
            "kind": data.task.kind,
            "classes": list(data.task.classes),
            "metric": data.task.metric,
            "groups": data.task.groups,
            "marks": list(data.marks),
            "data_sha256": data.sha256,
            "parts": {name: [len(split), len(np.unique(split.groups))] for name, split in data.parts.items()},
        }
        for data in plan.tasks
        for target in {unit.cells[0].cell.target for unit in plan.units}
    }
    return PlanFile(plan.cells, tasks)


@dataclass(frozen=True)
class Cost:
    """What a unit still has to do. to_train: views of a pretraining. seconds: of both, at the speed of an earlier run here, else of a trial batch.
    solve_seconds: as long as like cells in this folder took; None where there are none yet."""

    unit: Unit
    cells: int
    missing: int
    to_train: int
    to_embed: int
    seconds: float
    solve_seconds: float | None


def costs(plan: Plan, store: Store, device: str = "auto") -> list[Cost]:
    """The work left in each unit, without doing any of it but a trial batch where the encoder's speed is not known."""
    device = resolve_device(device)
    past: dict[tuple[str, str], list[float]] = {}
    for row in store.rows().values():
        past.setdefault((row.cell.protocol, row.cell.labels), []).append(row.cost["seconds"])
    found = []
    counted: set[str] = set()  # a fusion's members are often units of their own
    for unit in plan.units:
        todo = missing(plan, store, unit)
        views = embedded = 0
        seconds = 0.0
        for part in unit.members or (unit,) if todo else ():
            if have_features(plan, part, device) or features_key(part, device) in counted:
                continue
            counted.add(features_key(part, device))
            there = (pretrained_folder(plan, part, device) / "weights.pth").exists()
            to_train = 0 if there else sum(recipe.views for recipe in part.recipes)
            speed = embed.measured_speed(plan.cache_dir, part.encoder)
            if speed is None:
                build = partial(build_encoder, part, part.encoder, part.weights)
                speed = embed.trial_speed(build, part.encoder, device, part.precision)
            views, embedded = views + to_train, embedded + len(part.data.hashes)
            seconds += (3 * to_train + len(part.data.hashes)) / speed  # backward costs two forwards
        solving = [past.get((planned.cell.protocol, planned.cell.labels)) for planned in todo]
        solve = sum(float(np.median(s)) for s in solving if s) if all(solving) else None
        found.append(Cost(unit, len(unit.cells), len(todo), views, embedded, seconds, solve))
    return found


def check_device(device: str) -> None:
    """Raises UserError for a device that is not there. `auto` and `cpu` need no look."""
    if device in ("auto", "cpu"):
        return
    import torch

    count = torch.cuda.device_count()
    allowed = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if device not in allowed:
        raise UserError(f"Device '{device}' is not there.", allowed=allowed, given=device, then="medbench run --device cpu")


def resolve_device(device: str) -> str:
    import torch

    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


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
    progress: Progress,
    on_row: Callable[[Row], None],
) -> None:
    _save_target(unit, store)
    todo = missing(plan, store, unit)
    try:
        needs = {registry.protocol(planned.cell.protocol).needs for planned in todo}
        if "images" in needs or not have_features(plan, unit, device):
            unit = trained(plan, unit, device, progress)
        features = unit_features(plan, unit, device, progress) if "features" in needs else ()
    except OSError:
        raise  # a full disk, a lost mount: nothing else would work either
    except Exception as error:  # out of memory, a size the encoder cannot take, somebody else's module: the other units may still work
        log.exception("%s failed", unit.name)
        for planned in todo:
            store.fail(planned, _reason(error))
        return
    for name in dict.fromkeys(planned.cell.protocol for planned in todo):
        rest = [planned for planned in todo if planned.cell.protocol == name]
        while rest:
            planned = rest[0]
            try:
                for planned, row, arrays in _solve(plan, unit, registry.protocol(name), rest, features, device, progress):
                    if store.add(row, arrays):
                        log.info("row %s", planned.cell)
                        on_row(row)
                    shutil.rmtree(_scratch(plan, planned, device), ignore_errors=True)  # the row is on disk: nothing to go on from
                    rest = rest[1:]
            except OSError:
                raise
            except Exception as error:  # one cell's failure, whatever it is, is a row's reason and not the end of the run
                log.exception("%s failed", rest[0].cell)
                store.fail(rest[0], _reason(error))
                rest = rest[1:]


def needs_images(plan: Plan, store: Store, unit: Unit) -> bool:
    """Whether a cell of the unit without a row trains on pixels."""
    return any(registry.protocol(planned.cell.protocol).needs == "images" for planned in missing(plan, store, unit))


def _solve(
    plan: Plan,
    unit: Unit,
    protocol: Protocol,
    todo: list[Planned],
    features: Sequence[embed.Features],
    device: str,
    progress: Progress,
) -> Iterator[tuple[Planned, Row, dict[str, np.ndarray]]]:
    """Rows of one protocol, draw after draw. The protocol sees the target's images, never its labels."""
    data, pool = unit.data, unit.data.pool
    evaluate, made_with = protocol.evaluate, features
    if protocol.needs == "images":
        arrays, made_with = [pack(data, unit.encoder, plan.cache_dir, progress).array], ()
    else:
        arrays = [found.array for found in features]
        evaluate = unit.method.fusion.evaluate if unit.method.fusion else protocol.evaluate
    train = Train(
        _columns(arrays, data.where("train")),
        pool.labels,
        pool.groups,
        data.task.kind,
        len(data.task.classes),
        device,
        seeds=[planned.cell.seed for planned in todo],
        folders=[_scratch(plan, planned, device) for planned in todo],
        widths=tuple(array.shape[1] for array in arrays) if unit.members else (),
        network=network(unit) if protocol.needs == "images" else None,
        progress=progress,
    )
    targets = {plan.target: _columns(arrays, data.where(plan.target))}
    made_of = ingredients(unit, protocol)
    histories = [history(plan, part, device) for part in unit.members or (unit,)]
    log.info("solving %s for %d cells of %s", protocol.name, len(todo), unit.name)
    start = time.perf_counter()
    answers = evaluate(train, targets, [plan.draw(planned.cell) for planned in todo])
    for planned, answer in zip(todo, answers, strict=True):
        seconds = time.perf_counter() - start
        scores = answer[plan.target]
        values, resamples = _score(data, plan.target, scores)
        saved = {
            "probabilities": scores.probabilities.astype(np.float32),
            "decisions": scores.decisions,
            "metrics": np.array(list(resamples)),
            "resamples": np.stack([array.astype(np.float32) for array in resamples.values()]),
            **_held_out(scores, pool.labels[plan.draw(planned.cell)]),
        }
        row = Row(
            cell=planned.cell,
            fingerprint=planned.fingerprint,
            metrics=values,
            n_labels=len(plan.draw(planned.cell)),
            n_requested=planned.n_requested,
            chosen=dict(scores.chosen),
            cost=cost(seconds, made_with, histories, device),
            provenance=provenance(unit, plan.draw(planned.cell), made_with, histories, device, scores, made_of),
        )
        yield planned, row, saved
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


def _columns(arrays: Sequence[np.ndarray], where: slice) -> np.ndarray:
    """The rows of one part; of a fusion, all members' features side by side."""
    return arrays[0][where] if len(arrays) == 1 else np.concatenate([array[where] for array in arrays], axis=1)


def _scratch(plan: Plan, planned: Planned, device: str) -> Path:
    """Where a protocol keeps what a killed run needs to go on inside a cell."""
    return plan.cache_dir / "cells" / fingerprint(planned.fingerprint, device.partition(":")[0])


def _score(data: TaskData, part: str, scores: Scores) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metrics with 95 % intervals, and their resamples. The one place where labels of a scored set are read."""
    split = data.parts[part]
    weights = stats.group_weights(split.groups)
    plain = metrics.score(split.labels, scores.probabilities, scores.decisions, data.task.kind)
    resampled = metrics.score(split.labels, scores.probabilities, scores.decisions, data.task.kind, weights)
    values: dict[str, Any] = {}
    for name, value in plain.values.items():
        low, high = stats.interval(resampled.values[name])
        values[name] = {"value": _number(value), "low": _number(low), "high": _number(high)}
    values["auc"]["classes"] = plain.auc_classes  # over how many the mean was taken
    return values, resampled.values


def _save_target(unit: Unit, store: Store) -> None:
    """What is known of the scored set, once for all rows that share it."""
    split = unit.data.parts[unit.cells[0].cell.target]
    store.add_target(unit.cells[0].target, split.ids, split.labels, split.groups, bags=split.bags, meta=split.meta)


def _number(value: Any) -> float | None:
    """JSON has no NaN: undefined is null."""
    return None if value is None or not np.isfinite(value) else float(value)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
