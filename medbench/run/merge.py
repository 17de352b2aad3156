"""Results folders of several machines -> one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medbench.run import saved_arrays
from medbench.run.store import Damaged, NoPredictions, Store, check_results_folder
from medbench.schema import PlanFile, Row, UserError, fingerprint
from medbench.stats import splits
from medbench.stats.array_sketch import distance, sketch
from medbench.stats.metrics import metric
from medbench.system import atomic_write

_ROUNDING = 1e-5  # of float32, in which scores are saved
# of a scored set: older folders have neither bags nor metadata
_COMPARED = ("ids", "labels", "groups")


def merge(folders: Sequence[Path], out: Path, *, predictions: bool = True) -> tuple[int, int]:
    """Merge results folders into one; return (rows that were new, rows in all).

    Copies plans, rows, scores, failures and ledgers of `folders` into `out`, which may hold rows
    already; a new `out` appears only when it is whole. predictions: False leaves out whatever
    belongs to a single image (ids, labels, groups, probabilities, decisions, the words of a
    failure) and keeps the resamples of the metrics, from which leaderboards, paired differences,
    verdicts and curves are made: what may be published where patients' data may not.

    A cell that stands in two folders comes from the first of them, row, scores and scored set; one
    that is in `out` stays as it is. A failure whose cell another folder has finished is not copied.

    Raises UserError before anything is written where a folder is no results folder, is `out`
    itself, has a line under another setting than an earlier one (the plan of the one would drop the
    other's cells), holds a file that is damaged, scores that are not their row's, or another scored
    set under the same name.
    """
    if out.exists():
        return _merged(folders, out, predictions)
    _check_folders(folders, out)
    partial = out.with_name(f"{out.name}.{atomic_write.machine()}.{os.getpid()}.partial")
    try:
        with atomic_write.naming(out):
            found = _merged(folders, partial, predictions)
            partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _merged(folders: Sequence[Path], out: Path, predictions: bool) -> tuple[int, int]:
    """Do `merge` into a folder that others may see half made."""
    _check_folders(folders, out)
    merged, sources = Store(out), [Store(folder) for folder in folders]
    held = merged.rows()
    chosen: dict[str, tuple[Store, Row]] = {}
    for source in sources:
        for key, row in source.rows().items():
            if key not in held:
                chosen.setdefault(key, (source, row))
    for source, row in chosen.values():
        _check_scores(source, row)
    sets = _scored_sets(merged, chosen.values()) if predictions else {}
    judged = [one for store in (merged, *sources) for one in store.judged().values()]

    merged.create()
    for source in sources:
        merged.add_plan(source.plan() if predictions else _with_class_groups(source))
    for name, source in sets.items():
        arrays = source.target(name)
        merged.keep_target(
            name, arrays if arrays["groups"].dtype.kind in "iu" else _without_group_names(arrays)
        )
    merged.add_judged(judged)
    added = merged.add_all(
        (row, _kept(source.arrays(row), row, predictions)) for source, row in chosen.values()
    )
    done = merged.rows()
    _copy_failures(merged, sources, {*done, *merged.failures()}, predictions)
    return added, len(done)


def _check_folders(folders: Sequence[Path], out: Path) -> None:
    if any(folder.resolve() == out.resolve() for folder in folders):
        raise UserError(f"{out} cannot be merged into itself.", then="medbench merge A B --out C")
    settings: dict[tuple[object, ...], tuple[str, Path]] = {}
    for folder in (*folders, *([out] if (out / "plan.json").is_file() else [])):
        check_results_folder(folder)
        plan = Store(folder).plan()
        for planned in plan.cells:
            c = planned.cell
            line = (*c.unit[:-1], c.protocol, c.labels, c.target)
            setting = planned.setting + str(plan.tasks[f"{c.task}|{c.data}|{c.target}"]["identity"])
            other = settings.setdefault(line, (setting, folder))
            if other[0] != setting:
                raise UserError(
                    f"{c.task} {c.method} {c.protocol} {c.labels} has another setting in {other[1]} than in {folder}."
                )


def _check_scores(source: Store, row: Row) -> None:
    """Raise UserError where the scores of a row cannot be read, or are another row's.

    An older medbench mixed those of two folders.
    """
    arrays = source.arrays(row)
    if not _are_its_own(arrays, row):
        raise Damaged(
            f"{source.folder / 'rows.jsonl'}: the scores of {row.cell} are not its own.",
            then=f"delete {source.folder}/scores/{row.fingerprint[:32]}.npz: medbench run computes its cell again",
        )


def _are_its_own(arrays: Mapping[str, np.ndarray], row: Row) -> bool:
    """By their shapes, and by what the row says of them.

    Its decisions, the sketch of its probabilities, and its metrics, about which their resamples
    lie.
    """
    try:
        saved_arrays.check_scores(arrays)
    except ValueError:
        return False
    said = row.provenance.get("scores", {})
    if (
        "decisions" in said
        and "decisions" in arrays
        and fingerprint(arrays["decisions"].tolist())[:16] != said["decisions"]
    ):
        return False
    if (
        "probabilities" in said
        and "probabilities" in arrays
        and distance(sketch(arrays["probabilities"]), said["probabilities"]) > _ROUNDING
    ):
        return False
    names = arrays["metrics"].tolist() if "metrics" in arrays else list(row.metrics)
    return len(names) == len(arrays["resamples"]) and all(
        _is_among(values, row.metrics[name]["value"])
        for name, values in zip(names, arrays["resamples"], strict=True)
        if name in row.metrics and not metric(name).grows_by_chance
    )


def _is_among(resamples: np.ndarray, value: float | None) -> bool:
    """Whether a metric's value lies where its resamples do, or as far beyond them as they reach.

    True where nothing is defined.
    """
    known = resamples[np.isfinite(resamples)]
    if value is None or not len(known):
        return True
    low, high = float(known.min()), float(known.max())
    return low - (high - low) - _ROUNDING <= value <= high + (high - low) + _ROUNDING


def _scored_sets(merged: Store, chosen: Iterable[tuple[Store, Row]]) -> dict[str, Store]:
    """Name -> whose.

    Raises UserError where two folders call different images or labels the same.
    """
    found: dict[str, tuple[Store, dict[str, np.ndarray]]] = {}
    seen: set[tuple[Path, str]] = set()
    for store, row in chosen:
        name = str(row.provenance["target"])
        for source in (merged, store):  # what is in the merged folder stays
            if (source.folder, name) in seen:
                continue
            seen.add((source.folder, name))
            try:
                arrays = source.target(name)
            except NoPredictions:
                continue
            first, known = found.setdefault(name, (source, arrays))
            if not all(_alike(part, known.get(part), arrays.get(part)) for part in _COMPARED):
                raise UserError(
                    f"targets/{name}.npz of {first.folder} and of {source.folder} hold other images, labels or groups."
                )
    return {name: source for name, (source, _) in found.items()}


def _alike(part: str, a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two arrays of a scored set are alike, groups by who belongs together.

    Older folders have their names, others numbers in the order of these.
    """
    if part == "groups" and a is not None and b is not None:
        a, b = (np.unique(groups, return_inverse=True)[1] for groups in (a, b))
    return _equal(a, b)


def _without_group_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a scored set of an older folder with numbers in place of groups' names.

    The names may be of patients.
    """
    return {
        **arrays,
        "groups": np.unique(arrays["groups"], return_inverse=True)[1].astype(np.int64),
    }


def _equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _kept(
    arrays: Mapping[str, np.ndarray], row: Row, predictions: bool
) -> Mapping[str, np.ndarray]:
    if predictions:
        return arrays
    names = arrays["metrics"] if "metrics" in arrays else np.array(list(row.metrics))
    return {"metrics": names, "resamples": arrays["resamples"]}


def _with_class_groups(source: Store) -> PlanFile:
    """Return the plan with the number of groups of each class in each scored set.

    Intervals go by it: without labels nobody can count them.
    """
    plan, tasks = source.plan(), dict(source.plan().tasks)
    for row in source.rows().values():
        key, part = f"{row.cell.task}|{row.cell.data}|{row.cell.target}", row.cell.target
        about = tasks.get(key, {})
        counted = about.get("class_groups") or {}
        if not about or part in counted:
            continue
        try:
            scored = source.target(str(row.provenance["target"]))
        except NoPredictions:
            continue
        groups = splits.class_groups(scored["labels"], scored["groups"], len(about["classes"]))
        tasks[key] = {**about, "class_groups": {**counted, part: groups}}
    return replace(plan, tasks=tasks)


def _copy_failures(
    merged: Store, sources: Sequence[Store], known: set[str], predictions: bool
) -> None:
    for source in sources:
        reasons = source.failures()
        for planned in source.plan().cells:
            if planned.fingerprint in reasons and planned.fingerprint not in known:
                known.add(planned.fingerprint)
                reason = reasons[planned.fingerprint]
                merged.fail(planned, reason if predictions else _without_names(reason))


def _without_names(reason: str) -> str:
    """Return the kind of error alone: its words may name images and folders."""
    kind = re.match(r"[A-Za-z_]\w*(?=:)", reason)
    return f"{kind[0] if kind else 'Error'}: its words stay in the folder of the run"
