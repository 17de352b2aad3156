"""Rows, scores and the plan on disk.

Done = a row on disk; a half-written line or file is never read.

plan.json            what was asked for: cells with their fingerprints, and what each task's tables must say
rows.jsonl           one finished cell a line
judged.jsonl         which rows were ever made, of them one a line: what is replaced or deleted stays here (`ledger`)
failed.jsonl         one failure a line: cell, fingerprint, reason
scores/ID.npz        probabilities, decisions and metric resamples of one row
targets/ID.npz       ids, labels, groups (as numbers), bags and metadata of one scored set

Each file and each line has its checksum, which is looked at when it is read; what an older medbench
wrote has none, and is taken. `medbench merge --without-predictions` leaves of the last two the
metric resamples alone: nothing of a single image.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medbench.run.ledger import Judged, lines_judged
from medbench.run.stored_results import (
    Damaged,
    NoPredictions,
    OlderRows,
    StoredResults,
    scores_file,
    without_seeds,
)
from medbench.schema import (
    Cell,
    PlanFile,
    PlannedCell,
    Row,
    UserError,
    check_writable,
    no_such_path,
)
from medbench.system import atomic_write, fast_npz, locks

__all__ = [
    "Damaged",
    "Judged",
    "NoPredictions",
    "OlderRows",
    "Store",
    "check_results_folder",
    "lines_judged",
]
log = logging.getLogger("medbench")


def check_results_folder(folder: Path) -> None:
    """Raise UserError where no results lie in `folder`, or where it does not exist."""
    if not folder.exists():
        place = Path(os.path.abspath(folder))
        raise no_such_path(folder, place, then="name a folder that medbench run has written")
    if not (folder / "plan.json").is_file():
        raise UserError(
            f"{folder} is not a results folder: it has no plan.json.",
            then="medbench run --out FOLDER",
        )


def _plain(column: np.ndarray) -> np.ndarray:
    """Numbers as they are, anything else as text: what can be read without unpickling."""
    column = np.asarray(column)
    if column.dtype.kind == "O":
        column = np.array(["" if value is None else value for value in column.tolist()])
    return column if column.dtype.kind in "biuf" else column.astype(str)


def _shareable(column: np.ndarray, groups: np.ndarray) -> bool:
    """Whether a column describes images rather than naming them.

    Results folders are passed on, patients' names and notes are not.

    Text, or whole numbers of more than three digits (accession numbers): at most half as many
    different values as there are groups. Other numbers (an age, a fraction): always.
    """
    if column.dtype.kind in "biuf":
        known = column[np.isfinite(column)]
        if not len(known) or np.abs(known).max() < 1000 or (known % 1 != 0).any():
            return True
    return bool(2 * len(np.unique(column)) <= len(np.unique(groups)))


class Store(StoredResults):
    """Read and write a results folder.

    Several processes may write at once, and a kill at any moment loses at most the row in hand.

    Parameters
    ----------
    folder : path
        It is made at the first write.
    """

    def check(self) -> None:
        """Raise UserError where the folder cannot be written, without making it."""
        check_writable(self.folder, "medbench run --out FOLDER", folder=True)

    def create(self) -> None:
        """Make the folder, and prove that it can be written.

        The rows of an older medbench get their checksums, and what killed processes left is
        removed. Raises UserError where it cannot be written.
        """
        try:
            for name in ("scores", "targets"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            atomic_write.remove_abandoned(
                self.folder, self.folder / "scores", self.folder / "targets"
            )
            with self._lock():
                self._rows.give_checksums()
                self._failures.give_checksums()
        except OSError as error:
            raise UserError(
                f"Results cannot be written to {self.folder}: {error.strerror}.",
                then="medbench run --out FOLDER",
            ) from error

    def add_plan(self, plan: PlanFile) -> None:
        """Merge into plan.json.

        Cells that were there stay, unless they belong to other data or an older setting of a line
        that is new here: seeds of two settings must not be averaged, nor scores on two sets
        compared.
        """
        with self._lock():
            old, tasks, kept = self.plan(), *self._kept(plan)
            cells = {entry.cell: entry for entry in (*kept, *plan.cells)}
            commands = list(dict.fromkeys((*old.commands, *plan.commands)))
            self._write_plan(
                list(cells.values()),
                {**tasks, **plan.tasks},
                commands,
                {**old.settings, **plan.settings},
            )

    def _write_plan(
        self,
        cells: Sequence[PlannedCell],
        tasks: Mapping[str, Mapping[str, Any]],
        commands: Sequence[str],
        settings: Mapping[str, Mapping[str, Any]],
    ) -> None:
        record = {
            "cells": [asdict(entry) for entry in cells],
            "tasks": dict(tasks),
            "commands": list(commands),
            "settings": {
                name: settings[name]
                for name in dict.fromkeys(entry.setting for entry in cells)
                if name in settings
            },
        }
        atomic_write.record(self.folder / "plan.json", record, indent=1, default=asdict)

    def _kept(self, plan: PlanFile) -> tuple[dict[str, Mapping[str, Any]], list[PlannedCell]]:
        """Return what stays of the folder's plan beside another one: scored sets, and cells.

        See `add_plan`.
        """
        old = self.plan()
        now = {without_seeds(entry.cell): entry.setting for entry in plan.cells}
        data = {key.rpartition("|")[0]: about["identity"] for key, about in plan.tasks.items()}
        tasks = {
            key: about
            for key, about in old.tasks.items()
            if data.get(key.rpartition("|")[0], about["identity"]) == about["identity"]
        }
        kept = [
            entry
            for entry in old.cells
            if f"{entry.cell.task}|{entry.cell.data}|{entry.cell.target}" in tasks
            and now.get(without_seeds(entry.cell), entry.setting) == entry.setting
        ]
        return tasks, kept

    def give_up_failed(self, plan: PlanFile) -> list[str]:
        """Take lines that failed, and that a whole plan no longer asks for, out of plan.json.

        Nobody waits for them any longer. Those of other tasks stay: the plan says nothing of them.
        Returns their names. Their rows and reasons stay.
        """
        if not self.failures():
            return []
        with self._lock():
            old, rows, failed = self.plan(), self.rows(), self.failures()
            asked = {without_seeds(one.cell) for one in plan.cells}
            tasks = {(line.task, line.data) for line in asked}
            given_up = {
                line: f"{line.task} {line.method} {line.protocol} {line.labels}"
                for one in old.cells
                if one.fingerprint in failed
                and one.fingerprint not in rows
                and (one.cell.task, one.cell.data) in tasks
                and (line := without_seeds(one.cell)) not in asked
            }
            if given_up:
                kept = [one for one in old.cells if without_seeds(one.cell) not in given_up]
                self._write_plan(kept, old.tasks, old.commands, old.settings)
        return list(dict.fromkeys(given_up.values()))

    def check_crossed(self, plan: PlanFile) -> None:
        """Check that each line, with this plan added, has all its draws under all its pretrainings.

        Raises UserError where one has not: no mean could be taken.
        """
        draws: dict[Cell, dict[int, set[int]]] = {}
        for cell in (entry.cell for entry in (*self._kept(plan)[1], *plan.cells)):
            draws.setdefault(without_seeds(cell), {}).setdefault(cell.pretrain_seed, set()).add(
                cell.seed
            )
        for line in {without_seeds(entry.cell): None for entry in plan.cells}:
            under = draws[line]
            if len(set(map(frozenset, under.values()))) > 1:
                most, counts = max(under) + 1, sorted(map(len, under.values()))
                name = f"{line.method} {line.protocol} {line.labels} in {self.folder}"
                what = f"{name} would have {counts[-1]} draws under one pretraining seed and {counts[0]} under another: there is no mean of these."
                then = (
                    f"--pretrain-seeds {most}, or another folder (--out)"
                    if most > 1
                    else "another folder (--out)"
                )
                raise UserError(what, then=then)

    def add_target(
        self,
        name: str,
        ids: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray,
        *,
        bags: np.ndarray | None = None,
        meta: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Save a scored set, unless it is there and whole.

        bags become numbers (N,) int64, in the order of their names: a bag is often named after its
        patient. Columns of `meta` that may name a person or an image are left out: see
        `_shareable`.
        """
        arrays = {"ids": ids, "labels": labels, "groups": groups}
        if bags is not None:
            arrays["bags"] = np.unique(bags, return_inverse=True)[1].astype(np.int64)
        columns = {
            f"meta_{column}": _plain(values)
            for column, values in (meta or {}).items()
            if _shareable(_plain(values), groups)
        }
        self.keep_target(name, {**arrays, **columns})

    def keep_target(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Save the scored set of another folder as `add_target` does, unless it is there."""
        with self._lock():
            try:
                self.target(name)
                return
            except NoPredictions:
                pass
            except Damaged as error:
                log.warning("%s It is made anew.", str(error).partition(" Next: ")[0])
            self._write(f"targets/{name}.npz", fast_npz.dumped(arrays))

    def add(self, row: Row, arrays: Mapping[str, np.ndarray]) -> bool:
        """Save a finished cell: scores first, then the row. Returns whether it was new.

        False if another run was faster: its scores and its row stay. The scores are on the disk
        before the folder is locked: many processes wait for that lock. arrays: as
        `StoredResults.scores` returns them.
        """
        content = fast_npz.dumped(arrays)
        with (
            atomic_write.written(
                self.folder / scores_file(row.fingerprint),
                lambda partial: partial.write_bytes(content),
            ) as put,
            self._lock(),
        ):
            if self.has(row.fingerprint):
                return False
            put()
            self._append([row])
        return True

    def add_all(self, finished: Iterable[tuple[Row, Mapping[str, np.ndarray]]]) -> int:
        """Save several finished cells as `add` does, and return how many were new."""
        with self._lock():
            new = []
            for row, arrays in finished:
                # of one whose scores were lost the later row counts
                if not self.has(row.fingerprint):
                    self._write(scores_file(row.fingerprint), fast_npz.dumped(arrays))
                    new.append(row)
            self._append(new)
        return len(new)

    def _append(self, new: Sequence[Row]) -> None:
        if new:
            self._count([Judged.of(row) for row in new])
            self._rows.append(*(row.to_json() for row in new))

    def add_judged(self, every: Iterable[Judged]) -> None:
        """Count what another folder has judged."""
        with self._lock():
            self._count(every)

    def _count(self, every: Iterable[Judged]) -> None:
        """Into the ledger, before the rows themselves.

        A run that is killed between both leaves a cell that is made again, as the same. What a
        power cut takes of it the next process counts anew, from the rows.
        """
        known = self._judged.read()
        first = {} if self._all_judged else self.judged()
        new = {
            one.fingerprint: one
            for one in (*first.values(), *every)
            if one.fingerprint not in known
        }
        if new:
            self._judged.append(*(one.to_json() for one in new.values()), synced=False)
        self._all_judged = True

    def fail(self, planned: PlannedCell, reason: str) -> None:
        """Record that a cell failed, and why. A later row of the cell counts more."""
        with self._lock():
            self._failures.append(
                {"cell": asdict(planned.cell), "fingerprint": planned.fingerprint, "reason": reason}
            )

    def write_text(self, name: str, text: str) -> None:
        """Write a text file that a user reads into the folder, whole or not at all."""
        self._write(name, text.encode())

    @contextmanager
    def attempting(self, name: str) -> Iterator[bool]:
        """Hold the work of that name while inside; give whether it is held.

        False where another run into this folder holds it. Released at the end, or when the process
        dies.
        """
        if not self._holds:
            (self.folder / ".locks").mkdir(exist_ok=True)
            self._holds = True
        with locks.attempted(self.folder / ".locks" / name) as held:
            yield held

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with locks.locked(self.folder / ".lock"):
            yield

    def _write(self, name: str, content: bytes) -> None:
        atomic_write.write(self.folder / name, lambda partial: partial.write_bytes(content))
