"""Results folders of several machines -> one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medbench.run.store import Store
from medbench.schema import UserError


def merge(folders: Sequence[Path], out: Path, *, predictions: bool = True) -> tuple[int, int]:
    """Copy plans, rows, scores and failures of `folders` into `out`, which may hold rows already. (rows that were new, rows in all).

    predictions: False leaves out whatever belongs to a single image (ids, labels, groups, probabilities, decisions) and keeps the resamples of
    the metrics, from which leaderboards, paired differences, verdicts and curves are made: what may be published where patients' data may not.

    A row that stands in two folders is copied once, whole; a failure whose cell another folder has finished is not copied. Raises UserError
    before anything is written where a folder is no results folder, is `out` itself, or has a line under another setting than an earlier one:
    the plan of the one would drop the other's cells.
    """
    if any(folder.resolve() == out.resolve() for folder in folders):
        raise UserError(f"{out} cannot be merged into itself.", then="medbench merge A B --out C")
    settings: dict[tuple[object, ...], tuple[str, Path]] = {}
    for folder in (*folders, *([out] if (out / "plan.json").is_file() else [])):
        if not (folder / "plan.json").is_file():
            raise UserError(f"{folder} is not a results folder: it has no plan.json.", then="medbench run --out FOLDER")
        plan = Store(folder).plan()
        for planned in plan.cells:
            c = planned.cell
            line = (*c.unit[:-1], c.protocol, c.labels, c.target)
            setting = planned.setting + str(plan.tasks[f"{c.task}|{c.data}|{c.target}"]["identity"])
            other = settings.setdefault(line, (setting, folder))
            if other[0] != setting:
                raise UserError(f"{c.task} {c.method} {c.protocol} {c.labels} has another setting in {other[1]} than in {folder}.")
    merged = Store(out)
    merged.create()
    added = 0
    for store in map(Store, folders):
        merged.add_plan(store.plan())
        for row in store.rows().values():
            added += merged.copy(row, store, predictions=predictions)
    done = merged.rows()
    known = merged.failures()
    for store in map(Store, folders):
        reasons = store.failures()
        for planned in store.plan().cells:
            if planned.fingerprint in reasons and planned.fingerprint not in (*done, *known):
                merged.fail(planned, reasons[planned.fingerprint])
    return added, len(done)
