"""Rows, scores and the plan on disk. Done = a row on disk; a half-written line or file is never read.

plan.json            what was asked for: cells with their fingerprints, and what each task's tables must say
rows.jsonl           one finished cell a line
judged.jsonl         which rows were ever made, of them one a line: what is replaced or deleted stays here (`ledger`)
failed.jsonl         one failure a line: cell, fingerprint, reason
scores/ID.npz        probabilities, decisions and metric resamples of one row
targets/ID.npz       ids, labels, groups (as numbers), bags and metadata of one scored set

Each file and each line has its checksum, which is looked at when it is read; what an older medbench wrote has none, and is taken.
`medbench merge --without-predictions` leaves of the last two the metric resamples alone: nothing of a single image.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medbench.run import ledger, saved_arrays
from medbench.run.ledger import Judged, lines_judged
from medbench.run.record_log import RecordLog
from medbench.schema import Cell, PlanFile, PlannedCell, Row, UserError, check_name, check_writable, checked, parsed
from medbench.schema.ingredients import differences
from medbench.system import archive_errors, atomic_write, fast_npz, locks

__all__ = ["Damaged", "Judged", "NoPredictions", "OlderRows", "Store", "lines_judged"]
log = logging.getLogger("medbench")
T = TypeVar("T")


class Damaged(UserError):
    """A file of a results folder is broken: never passed over as something that these results cannot give."""


class NoPredictions(UserError):
    """A results folder was passed on without predictions, or they were lost."""


def _reading(file: Path | str, then: str) -> AbstractContextManager[None]:
    return archive_errors.reading(
        lambda why: Damaged(f"{file} is damaged, or not medbench's ({why}).", then=f"copy the folder anew, or {then}")
    )


_SCORES_AGAIN = "delete that file: medbench run computes its cell again"
_TARGET_AGAIN = "run the folder's own medbench run again, which makes that file anew"


def _line(cell: Cell) -> Cell:
    """The same for all cells that differ in seeds alone."""
    return replace(cell, seed=0, pretrain_seed=0)


def _plain(column: np.ndarray) -> np.ndarray:
    """Numbers as they are, anything else as text: what can be read without unpickling."""
    column = np.asarray(column)
    if column.dtype.kind == "O":
        column = np.array(["" if value is None else value for value in column.tolist()])
    return column if column.dtype.kind in "biuf" else column.astype(str)


def _shareable(column: np.ndarray, groups: np.ndarray) -> bool:
    """Whether a column describes images rather than naming them: results folders are passed on, patients' names and notes are not.

    Text, or whole numbers of more than three digits (accession numbers): at most half as many different values as there are groups. Other
    numbers (an age, a fraction): always.
    """
    if column.dtype.kind in "biuf":
        known = column[np.isfinite(column)]
        if not len(known) or np.abs(known).max() < 1000 or (known % 1 != 0).any():
            return True
    return bool(2 * len(np.unique(column)) <= len(np.unique(groups)))


def _scores(fingerprint: str) -> str:
    """The file of a row's scores."""
    return f"scores/{fingerprint[:32]}.npz"


def _row(record: Any) -> tuple[str, Row]:
    row = Row.from_json(record)
    return row.fingerprint, row


def _failure(record: Any) -> tuple[str, str]:
    checked(record, {"fingerprint": str, "reason": str})
    return record["fingerprint"], record["reason"]


@dataclass(frozen=True)
class OlderRows:
    """Rows that a plan would make otherwise. why: what differs, as `schema.ingredients.differences` names it."""

    count: int
    why: tuple[str, ...]

    def sentence(self, folder: Path) -> str:
        """`12 rows of results/derm are older: crops 1 -> 2`."""
        many = f"{self.count} row{'s' * (self.count != 1)} of {folder} {'are' if self.count != 1 else 'is'} older"
        return f"{many}: {', '.join(self.why) or 'made with other settings or weights'}"


class Store:
    """Read and write a results folder.

    Several processes may write at once, and a kill at any moment loses at most the row in hand.

    Parameters
    ----------
    folder : path
        It is made at the first write.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self._plan: tuple[tuple[int, int, int], PlanFile] | None = None  # with the time, number and size of the file it was read from
        self._rows = RecordLog(self.folder / "rows.jsonl", _row)
        self._failures = RecordLog(self.folder / "failed.jsonl", _failure)
        self._judged = RecordLog(
            self.folder / ledger.FILE, Judged.from_json, "remove that line; a row that is still there is counted anyway"
        )
        self._targets: dict[str, dict[str, np.ndarray]] = {}  # labels of the scored sets that were read
        self._draws: dict[str, int] = {}  # scored set -> resamples of a row on it
        self._all_judged = False  # whether each row of before stands in the ledger, too

    # Reading ---------------------------------------------------------------------------------------------------------------------

    def rows(self) -> dict[str, Row]:
        """fingerprint -> row, in the order of writing. A row whose scores were lost is not done. Raises UserError for what is no row.

        What was read before is not parsed again; rows that another process appended meanwhile are seen.
        """
        scored = {f"scores/{name}" for name in os.listdir(self.folder / "scores")} if (self.folder / "scores").is_dir() else set()
        return {fingerprint: row for fingerprint, row in self._rows.read().items() if _scores(fingerprint) in scored}

    def has(self, fingerprint: str) -> bool:
        """Whether `rows` holds this one, without a look at the others' scores."""
        return fingerprint in self._rows.read() and (self.folder / _scores(fingerprint)).exists()

    def older(self, plan: PlanFile | None = None, rows: Mapping[str, Row] | None = None) -> list[OlderRows]:
        """Rows of planned cells that were made otherwise than the plan asks, by what differs; () where a row or a plan is too old to say.

        plan, rows: the folder's own where they are not at hand. A cell that has a row of its own fingerprint is not counted.
        """
        plan, rows = plan or self.plan(), self.rows() if rows is None else rows
        lacking = {entry.cell: entry for entry in plan.cells if entry.fingerprint not in rows}
        latest = {row.cell: row for row in rows.values() if row.cell in lacking}
        counts: Counter[tuple[str, ...]] = Counter()
        for cell, row in latest.items():
            then, now = row.provenance.get("identity"), plan.settings.get(lacking[cell].setting)
            about = plan.tasks.get(f"{cell.task}|{cell.data}|{cell.target}", {})
            said = [str(one) for one in differences(then, now)] if then and now else []
            if not said and row.provenance.get("data_sha256") != about.get("data_sha256"):
                said = ["the data"]
            counts[tuple(said)] += 1
        return [OlderRows(n, why) for why, n in counts.items()]

    def failures(self) -> dict[str, str]:
        """fingerprint -> reason of the last failure."""
        return dict(self._failures.read())

    def judged(self) -> dict[str, Judged]:
        """fingerprint -> what was judged, of every row that was ever made here; a folder without a ledger begins with the rows that it has.

        Raises UserError for a damaged ledger.
        """
        known = self._judged.read()
        return {**known, **{key: Judged.of(row) for key, row in self._rows.read().items() if key not in known}}

    def plan(self) -> PlanFile:
        file = self.folder / "plan.json"
        if not file.exists():
            return PlanFile()
        state = file.stat()
        key = (state.st_mtime_ns, state.st_ino, state.st_size)
        if self._plan is None or self._plan[0] != key:
            self._plan = (key, self._read_plan(file))
        return self._plan[1]

    def _read_plan(self, file: Path) -> PlanFile:
        try:
            return PlanFile.from_json(parsed(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            then = "medbench run --out another folder, or delete it: the folder's own medbench run writes it anew"
            raise UserError(f"{file} is not a plan of this medbench ({error}).", then=then) from error

    def scores(self, row: Row) -> dict[str, np.ndarray]:
        """probabilities (M, C) float32, decisions, resamples (metrics, R) float32 in the order of `metrics` (names, str).

        Where the protocol held labelled images out (`schema.HeldOut`): held_out_index (n,), held_out_probabilities (n, C), held_out_labels.
        Raises UserError where the folder was shared without predictions.
        """
        arrays = self.arrays(row)
        if "probabilities" not in arrays:
            raise self._lacks(f"{_scores(row.fingerprint)} has resamples alone")
        name, cell = str(row.provenance["target"]), row.cell
        if name not in self._targets:
            with suppress(NoPredictions):
                self.target(name)
        about = self.plan().tasks.get(f"{cell.task}|{cell.data}|{cell.target}")
        with _reading(self.folder / _scores(row.fingerprint), _SCORES_AGAIN):
            saved_arrays.check_scores(arrays)
            if name in self._targets:
                saved_arrays.check_together(self._targets[name], arrays, len(about["classes"]) if about else None)
        return arrays

    def arrays(self, row: Row) -> dict[str, np.ndarray]:
        """All that is kept of a row: `scores`, or its resamples alone."""
        file = self.folder / _scores(row.fingerprint)
        with _reading(file, _SCORES_AGAIN):
            return fast_npz.arrays(file)

    def resamples(self, row: Row, metrics: Collection[str] = ()) -> dict[str, np.ndarray]:
        """metric -> (R,) float32: that part of `scores` alone, of `metrics` or of all, without numpy's own reader, which takes ten times as
        long over 10,000 rows."""
        place = f"{self.folder}/{_scores(row.fingerprint)}"
        file = os.open(place, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            with _reading(place, _SCORES_AGAIN):
                values = fast_npz.array(fast_npz.member(file, b"resamples.npy"))
                saved_arrays.check_resamples(values)
                if values.shape[1] != self._draws.setdefault(str(row.provenance["target"]), values.shape[1]):
                    raise ValueError(f"it holds {values.shape[1]} resamples, and other rows on the same images another number")
                names = (
                    list(row.metrics) if len(values) == len(row.metrics) else fast_npz.array(fast_npz.member(file, b"metrics.npy")).tolist()
                )
                return {name: array for name, array in zip(names, values, strict=True) if not metrics or name in metrics}
        finally:
            os.close(file)

    def target(self, name: str) -> dict[str, np.ndarray]:
        """ids, labels, groups of the scored set that a row's provenance names; bags, and meta_COLUMN for each column of its metadata, where
        they were saved (older folders have neither). Raises UserError where it is not there."""
        place = self._target_file(name)
        try:
            with _reading(place, _TARGET_AGAIN):
                arrays = fast_npz.whole(place)
                saved_arrays.check_target(arrays)
        except FileNotFoundError:
            raise self._lacks(f"it has no targets/{name}.npz") from None
        self._targets[name] = {"labels": arrays["labels"]}
        return arrays

    def _target_file(self, name: str) -> Path:
        check_name(name, "a scored set")
        return self.folder / "targets" / f"{name}.npz"

    def _lacks(self, what: str) -> NoPredictions:
        return NoPredictions(
            f"{self.folder} holds no predictions of single images ({what}): it was shared without them, or they were lost.",
            then="the folder that the run itself wrote, or medbench run; table, compare, report and most plots work without them",
        )

    # Writing ---------------------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises UserError where the folder cannot be written, without making it."""
        check_writable(self.folder, "medbench run --out FOLDER", folder=True)

    def create(self) -> None:
        """Make the folder, prove that it can be written, and give the rows of an older medbench their checksums. Raises UserError."""
        try:
            for name in ("scores", "targets"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            atomic_write.remove_abandoned(self.folder, self.folder / "scores", self.folder / "targets")
            with self._lock():
                self._rows.give_checksums()
                self._failures.give_checksums()
        except OSError as error:
            raise UserError(f"Results cannot be written to {self.folder}: {error.strerror}.", then="medbench run --out FOLDER") from error

    def add_plan(self, plan: PlanFile) -> None:
        """Merge into plan.json. Cells that were there stay, unless they belong to other data or an older setting of a line that is new here:
        seeds of two settings must not be averaged, nor scores on two sets compared."""
        with self._lock():
            old, tasks, kept = self.plan(), *self._kept(plan)
            cells = {entry.cell: entry for entry in (*kept, *plan.cells)}
            commands = list(dict.fromkeys((*old.commands, *plan.commands)))
            every = {**old.settings, **plan.settings}
            record = {
                "cells": [asdict(entry) for entry in cells.values()],
                "tasks": {**tasks, **plan.tasks},
                "commands": commands,
                "settings": {name: every[name] for name in dict.fromkeys(entry.setting for entry in cells.values()) if name in every},
            }
            atomic_write.record(self.folder / "plan.json", record, indent=1, default=asdict)

    def _kept(self, plan: PlanFile) -> tuple[dict[str, Mapping[str, Any]], list[PlannedCell]]:
        """What stays of the folder's plan beside another one: scored sets, and cells, see `add_plan`."""
        old = self.plan()
        now = {_line(entry.cell): entry.setting for entry in plan.cells}
        data = {key.rpartition("|")[0]: about["identity"] for key, about in plan.tasks.items()}
        tasks = {key: about for key, about in old.tasks.items() if data.get(key.rpartition("|")[0], about["identity"]) == about["identity"]}
        kept = [
            entry
            for entry in old.cells
            if f"{entry.cell.task}|{entry.cell.data}|{entry.cell.target}" in tasks
            and now.get(_line(entry.cell), entry.setting) == entry.setting
        ]
        return tasks, kept

    def check_crossed(self, plan: PlanFile) -> None:
        """Raises UserError where a plan would leave a line with draws that are not under all of its pretrainings: no mean could be taken."""
        draws: dict[Cell, dict[int, set[int]]] = {}
        for cell in (entry.cell for entry in (*self._kept(plan)[1], *plan.cells)):
            draws.setdefault(_line(cell), {}).setdefault(cell.pretrain_seed, set()).add(cell.seed)
        for line in {_line(entry.cell): None for entry in plan.cells}:
            under = draws[line]
            if len(set(map(frozenset, under.values()))) > 1:
                most, counts = max(under) + 1, sorted(map(len, under.values()))
                name = f"{line.method} {line.protocol} {line.labels} in {self.folder}"
                what = f"{name} would have {counts[-1]} draws under one pretraining seed and {counts[0]} under another: there is no mean of these."
                then = f"--pretrain-seeds {most}, or another folder (--out)" if most > 1 else "another folder (--out)"
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
        """Save a scored set, unless it is there and whole. bags become numbers (N,) int64, in the order of their names: a bag is often named after
        its patient. Columns of `meta` that may name a person or an image are left out: see `_shareable`."""
        arrays = {"ids": ids, "labels": labels, "groups": groups}
        if bags is not None:
            arrays["bags"] = np.unique(bags, return_inverse=True)[1].astype(np.int64)
        columns = {f"meta_{column}": _plain(values) for column, values in (meta or {}).items() if _shareable(_plain(values), groups)}
        self.keep_target(name, {**arrays, **columns})

    def keep_target(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """`add_target` of what another folder holds."""
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
        """Save a finished cell: scores first, then the row. False if another run was faster: its scores and its row stay."""
        return self.add_all([(row, arrays)]) == 1

    def add_all(self, finished: Iterable[tuple[Row, Mapping[str, np.ndarray]]]) -> int:
        """`add` of several cells. Returns how many were new."""
        with self._lock():
            new = []
            for row, arrays in finished:
                if not self.has(row.fingerprint):  # of one whose scores were lost the later row counts
                    self._write(_scores(row.fingerprint), fast_npz.dumped(arrays))
                    new.append(row)
            if new:
                self._count([Judged.of(row) for row in new])
                self._rows.append(*(row.to_json() for row in new))
        return len(new)

    def add_judged(self, every: Iterable[Judged]) -> None:
        """Count what another folder has judged."""
        with self._lock():
            self._count(every)

    def _count(self, every: Iterable[Judged]) -> None:
        """Into the ledger, before the rows themselves: a run that is killed between both leaves a cell that is made again, as the same."""
        known = self._judged.read()
        first = {} if self._all_judged else self.judged()
        new = {one.fingerprint: one for one in (*first.values(), *every) if one.fingerprint not in known}
        if new:
            self._judged.append(*(one.to_json() for one in new.values()))
        self._all_judged = True

    def fail(self, planned: PlannedCell, reason: str) -> None:
        with self._lock():
            self._failures.append({"cell": asdict(planned.cell), "fingerprint": planned.fingerprint, "reason": reason})

    def write_text(self, name: str, text: str) -> None:
        """A file a person reads, whole or not at all."""
        self._write(name, text.encode())

    @contextmanager
    def working_on(self, unit: str) -> Iterator[None]:
        """Hold a unit, so that a second run into this folder waits for its rows instead of computing them again."""
        (self.folder / ".locks").mkdir(exist_ok=True)
        with locks.locked(self.folder / ".locks" / unit):
            yield

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with locks.locked(self.folder / ".lock"):
            yield

    def _write(self, name: str, content: bytes) -> None:
        atomic_write.write(self.folder / name, lambda partial: partial.write_bytes(content))
