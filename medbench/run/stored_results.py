"""A results folder as it is read: `store` has what lies in it, and who writes it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medbench.run import ledger, saved_arrays
from medbench.run.ledger import Judged
from medbench.run.record_log import RecordLog
from medbench.schema import Cell, PlanFile, Row, UserError, check_name, checked, parsed
from medbench.schema.ingredients import differences
from medbench.system import archive_errors, fast_npz


class Damaged(UserError):
    """A file of a results folder is broken.

    Never passed over as something that these results cannot give.
    """


class NoPredictions(UserError):
    """A results folder was passed on without predictions, or they were lost."""


def _reading(file: Path | str, then: str) -> AbstractContextManager[None]:
    return archive_errors.reading(
        lambda why: Damaged(
            f"{file} is damaged, or not medbench's ({why}).",
            then=f"copy the folder anew, or {then}",
        )
    )


_SCORES_AGAIN = "delete that file: medbench run computes its cell again"
_TARGET_AGAIN = "run the folder's own medbench run again, which makes that file anew"


def without_seeds(cell: Cell) -> Cell:
    """Return what is the same for all cells that differ in seeds alone."""
    return replace(cell, seed=0, pretrain_seed=0)


def scores_file(fingerprint: str) -> str:
    """Name the file of a row's scores."""
    return f"scores/{fingerprint[:32]}.npz"


def _row(record: Any) -> tuple[str, Row]:
    row = Row.from_json(record)
    return row.fingerprint, row


def _failure(record: Any) -> tuple[str, str]:
    checked(record, {"fingerprint": str, "reason": str})
    return record["fingerprint"], record["reason"]


@dataclass(frozen=True)
class OlderRows:
    """A number of rows that a plan would make otherwise, or no longer holds.

    why: what differs, as `schema.ingredients.differences` names it. lines: of rows that the plan
    does not hold, which need not be older.
    """

    count: int
    why: tuple[str, ...]
    lines: tuple[str, ...] = ()

    def sentence(self, folder: Path) -> str:
        """Say how many rows of a folder are older, and why.

        `12 rows of results/derm are older: crops 1 -> 2`.
        """
        of = f" ({', '.join(self.lines)})" if self.lines else ""
        many = f"{self.count} row{'s' * (self.count != 1)} of {folder}{of} {'are' if self.count != 1 else 'is'}"
        if self.lines and not self.why:
            return f"{many} of lines that no run asks for any more"
        return f"{many} older: {', '.join(self.why) or 'made with other settings or weights'}"


def _why(
    row: Row, now: Mapping[str, Any] | None, plan: PlanFile, of: Collection[str] = ()
) -> list[str]:
    """Say what differs between a row and a setting of today. of: these parts alone."""
    cell, then = row.cell, row.provenance.get("identity")
    about = plan.tasks.get(f"{cell.task}|{cell.data}|{cell.target}", {})
    data_moved = row.provenance.get("data_sha256") != about.get("data_sha256")
    found = (
        [one for one in differences(then, now) if not of or one.of in of] if then and now else []
    )
    said = [str(one) for one in found if one.of != "task" or one.name or not data_moved]
    return [*said, *(["the task's images, labels, groups or parts"] if data_moved else [])]


class StoredResults:
    """The reading half of `Store`."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        # with the time, number and size of the file it was read from
        self._plan: tuple[tuple[int, int, int], PlanFile] | None = None
        self._rows = RecordLog(self.folder / "rows.jsonl", _row)
        self._failures = RecordLog(self.folder / "failed.jsonl", _failure)
        self._judged = RecordLog(
            self.folder / ledger.FILE,
            Judged.from_json,
            "remove that line; a row that is still there is counted anyway",
        )
        # labels of the scored sets that were read
        self._targets: dict[str, dict[str, np.ndarray]] = {}
        self._draws: dict[str, int] = {}  # scored set -> resamples of a row on it
        self._holds = False  # whether the folder of its locks is there
        self._all_judged = False  # whether each row of before stands in the ledger, too

    def rows(self) -> dict[str, Row]:
        """Return fingerprint -> row, in the order of writing.

        A row whose scores were lost is not done. Raises UserError for what is no row.

        What was read before is not parsed again; rows that another process appended meanwhile are
        seen.
        """
        scored = (
            {f"scores/{name}" for name in os.listdir(self.folder / "scores")}
            if (self.folder / "scores").is_dir()
            else set()
        )
        return {
            fingerprint: row
            for fingerprint, row in self._rows.read().items()
            if scores_file(fingerprint) in scored
        }

    def row(self, fingerprint: str) -> Row:
        """Return the row of this fingerprint. Raises KeyError where there is none."""
        return self._rows.read()[fingerprint]

    def has(self, fingerprint: str) -> bool:
        """Return whether `rows` holds this one, without a look at the others' scores."""
        return (
            fingerprint in self._rows.read() and (self.folder / scores_file(fingerprint)).exists()
        )

    def older(
        self, plan: PlanFile | None = None, rows: Mapping[str, Row] | None = None
    ) -> list[OlderRows]:
        """Return how many rows of planned cells were made otherwise than the plan asks, and why.

        One for each reason, which is () where a row or a plan is too old to say. plan, rows: the
        folder's own where they are not at hand. A cell that has a row of its own fingerprint is not
        counted.
        """
        plan, rows = plan or self.plan(), self.rows() if rows is None else rows
        lacking = {entry.cell: entry for entry in plan.cells if entry.fingerprint not in rows}
        latest = {row.cell: row for row in rows.values() if row.cell in lacking}
        counts: Counter[tuple[str, ...]] = Counter()
        for cell, row in latest.items():
            counts[tuple(_why(row, plan.settings.get(lacking[cell].setting), plan))] += 1
        return [OlderRows(n, why) for why, n in counts.items()]

    def unplanned(self) -> list[OlderRows]:
        """Return rows of lines that the folder's plan no longer holds, by what differs.

        Lines that stand beside them now were made with other data or code, or another cell of
        theirs failed and was given up (`Store.give_up_failed`): they take no part.
        """
        plan = self.plan()
        planned = {without_seeds(entry.cell) for entry in plan.cells}
        beside = {(e.cell.task, e.cell.data, e.cell.target): e.setting for e in plan.cells}
        found: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows().values():
            cell = row.cell
            if without_seeds(cell) in planned:
                continue
            now = plan.settings.get(beside.get((cell.task, cell.data, cell.target), ""))
            why = _why(row, now, plan, of=("task", "ingredient", "code"))
            found.setdefault(tuple(why), []).append(row)
        return [
            OlderRows(
                len(rows),
                why,
                tuple(
                    dict.fromkeys(
                        f"{r.cell.method} {r.cell.protocol} {r.cell.labels}" for r in rows
                    )
                ),
            )
            for why, rows in found.items()
        ]

    def failures(self) -> dict[str, str]:
        """Return fingerprint -> reason of the last failure."""
        return dict(self._failures.read())

    def rows_mark(self) -> int:
        """How far rows are read: what tells `settled` of now."""
        return self._rows.size

    def look(self) -> None:
        """Take in what other processes have written since the last time."""
        self._rows.read()
        self._failures.read()

    def settled(self, fingerprints: Iterable[str], rows_mark: int, failures_mark: int) -> bool:
        """Return whether each of these cells is known to have been made or to have failed.

        Since two marks were taken: rows_mark and failures_mark, of the methods of these names.
        Reads nothing: `look` does.
        """
        return all(
            self._rows.known_beyond(key, rows_mark)
            or self._failures.known_beyond(key, failures_mark)
            for key in fingerprints
        )

    def failures_mark(self) -> int:
        """Return how far failures are read: what tells `failed_since` of now."""
        return self._failures.size

    def failed_since(self, mark: int) -> set[str]:
        """Return fingerprints of cells that failed since the mark was taken.

        In this process or in another.
        """
        return self._failures.beyond(mark)

    def judged(self) -> dict[str, Judged]:
        """Return fingerprint -> what was judged, of every row that was ever made here.

        A folder without a ledger begins with the rows that it has.

        Raises UserError for a damaged ledger.
        """
        known = self._judged.read()
        return {
            **known,
            **{key: Judged.of(row) for key, row in self._rows.read().items() if key not in known},
        }

    def plan(self) -> PlanFile:
        """Return the folder's plan, an empty one where there is none.

        It is parsed again only where the file has changed. Raises UserError for a damaged one.
        """
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
            raise UserError(
                f"{file} is not a plan of this medbench ({error}).", then=then
            ) from error

    def scores(self, row: Row) -> dict[str, np.ndarray]:
        """Return what a row's protocol answered: probabilities, decisions, resamples.

        probabilities (M, C) float32, decisions, resamples (metrics, R) float32 in the order of
        `metrics` (names, str). Where the protocol held labelled images out (`schema.HeldOut`):
        held_out_index (n,), held_out_probabilities (n, C), held_out_labels. Raises UserError where
        the folder was shared without predictions.
        """
        arrays = self.arrays(row)
        if "probabilities" not in arrays:
            raise self._lacks(f"{scores_file(row.fingerprint)} has resamples alone")
        name, cell = str(row.provenance["target"]), row.cell
        if name not in self._targets:
            with suppress(NoPredictions):
                self.target(name)
        about = self.plan().tasks.get(f"{cell.task}|{cell.data}|{cell.target}")
        with _reading(self.folder / scores_file(row.fingerprint), _SCORES_AGAIN):
            saved_arrays.check_scores(arrays)
            if name in self._targets:
                saved_arrays.check_together(
                    self._targets[name], arrays, len(about["classes"]) if about else None
                )
        return arrays

    def arrays(self, row: Row) -> dict[str, np.ndarray]:
        """Return all that is kept of a row: the arrays of `scores`, or its resamples alone.

        resamples: (metrics, R) float32. Raises UserError for a damaged file, OSError for one that
        is not there.
        """
        file = self.folder / scores_file(row.fingerprint)
        with _reading(file, _SCORES_AGAIN):
            return fast_npz.arrays(file)

    def resamples(self, row: Row, metrics: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Return the metrics' values on the R resamples of a row: metric -> (R,) float32.

        That part of `scores` alone, of `metrics` or of all, without numpy's own reader, which takes
        ten times as long over 10,000 rows. Raises OSError for a missing file, and UserError for a
        damaged one.
        """
        place = f"{self.folder}/{scores_file(row.fingerprint)}"
        file = os.open(place, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            with _reading(place, _SCORES_AGAIN):
                values = fast_npz.array(fast_npz.member(file, b"resamples.npy"))
                saved_arrays.check_resamples(values)
                if values.shape[1] != self._draws.setdefault(
                    str(row.provenance["target"]), values.shape[1]
                ):
                    raise ValueError(
                        f"it holds {values.shape[1]} resamples, and other rows on the same images another number"
                    )
                names = (
                    list(row.metrics)
                    if len(values) == len(row.metrics)
                    else fast_npz.array(fast_npz.member(file, b"metrics.npy")).tolist()
                )
                return {
                    name: array
                    for name, array in zip(names, values, strict=True)
                    if not metrics or name in metrics
                }
        finally:
            os.close(file)

    def target(self, name: str) -> dict[str, np.ndarray]:
        """Return the scored set that a row's provenance names: ids, labels, groups.

        Bags, and meta_COLUMN for each column of its metadata, are there where they were saved
        (older folders have neither). Raises UserError where it is not there.

        Each is (M,), but labels of a multi-label task, (M, C).
        """
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
