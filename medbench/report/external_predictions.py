"""Somebody else's predictions beside the lines of a leaderboard.

A CSV file becomes a results folder of one row on the same scored set, so that every table, test and
page reads it as any other.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medbench import stats
from medbench.report.leaderboard import AXES, Leaderboard, leaderboards, only, standing
from medbench.run.store import Store
from medbench.schema import (
    Cell,
    Kind,
    PlanFile,
    PlannedCell,
    Row,
    UserError,
    check_name,
    fingerprint,
)
from medbench.schema.grid import EXTERNAL
from medbench.stats import metrics
from medbench.stats.row_metrics import row_metrics, uneven
from medbench.system.csv_rows import csv_rows, with_points

FORM = "a CSV file with the columns id, one probability for each class, and maybe decision and name"
UNKNOWN = "unknown"  # encoder, readout and source of a model that is not medbench's


@dataclass(frozen=True, eq=False)
class _Table:
    """The rows of one model in a file. lines: where each stands."""

    file: Path
    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]
    delimiter: str

    def column(self, name: str) -> list[str]:
        place = self.header.index(name)
        return [row[place].strip() for row in self.rows]

    def wrong(
        self,
        row: int,
        what: str,
        *,
        then: str = "",
        allowed: Sequence[str] = (),
        given: str | None = None,
    ) -> UserError:
        return UserError(
            f"{self.file}, line {self.lines[row]}: {what}",
            allowed=allowed,
            given=given,
            then=then or None,
        )


def joined(
    stores: Sequence[Store], files: Sequence[Path], asked: Sequence[str], place: Path
) -> tuple[list[Store], list[str], list[str]]:
    """Join the models of files to the stores; return stores, filters, and the models' names.

    The stores have one more for each model, made in `place`; `asked` (as `leaderboard.only` takes
    it) is changed so that it keeps the models. A model stands on the board whose scored images its
    ids are, at the largest budget of those asked for. Raises UserError where ids, probabilities or
    decisions are not those of a board, and for a name that a line has.
    """
    found = standing(leaderboards(*stores))
    budgets = [
        text for text in asked if text.partition("=")[0].strip() in ("task", "data", "labels")
    ]
    boards = only(found, budgets) if budgets else found
    tables = [table for file in files for table in _tables(file)]
    taken = {line.cell.method for board in found for line in board.lines}
    for table in tables:
        if table.name in taken:
            raise UserError(
                f"{table.file}: '{table.name}' is the name of a line already.",
                then="a column 'name', or another file name",
            )
        taken.add(table.name)
    added, cells = [], []
    for i, table in enumerate(tables):
        store = Store(place / str(i))
        cells.append(_add(store, _board_of(boards, table), table))
        added.append(store)
    return (
        [*stores, *added],
        [_with(text, cells) for text in asked],
        [cell.method for cell in cells],
    )


def _with(text: str, cells: Sequence[Cell]) -> str:
    """Add these lines to what picks lines."""
    axis = text.partition("=")[0].strip()
    return (
        ",".join([text, *dict.fromkeys(str(getattr(cell, axis)) for cell in cells)])
        if axis in AXES
        else text
    )


def _tables(file: Path) -> list[_Table]:
    """Return the rows of each model that a file names.

    Else of the one that the file is called after.
    """
    header, rows, lines, delimiter = _read(file)
    if len(set(header)) < len(header):
        double = next(name for i, name in enumerate(header) if name in header[:i])
        raise UserError(f"{file} has two columns '{double}'.", then=FORM)
    if "id" not in header:
        raise UserError(f"{file} has no column 'id'.", allowed=header[:12], then=FORM)
    if not rows:
        raise UserError(f"{file} holds no predictions.", then=FORM)
    if "name" not in header:
        return [_Table(file, _named(file, file.stem), header, rows, lines, delimiter)]
    place = header.index("name")
    of: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        of.setdefault(row[place].strip(), []).append(i)
    return [
        _Table(
            file,
            _named(file, name),
            header,
            [rows[i] for i in which],
            [lines[i] for i in which],
            delimiter,
        )
        for name, which in of.items()
    ]


def _named(file: Path, name: str) -> str:
    """Check that a name can name a line.

    Raises UserError where it cannot: a comma parts names.
    """
    try:
        check_name(name, "a model's name")
    except ValueError as error:
        raise UserError(
            f"{file}: {error}.", then="a column 'name' of letters, digits, spaces and . + = @ -"
        ) from error
    return name


def _read(file: Path) -> tuple[list[str], list[list[str]], list[int], str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            found = csv_rows(stream, "id")
            header = [name.strip() for name in next(found.reader, [])]
            rows, lines = [], []
            for row in found.reader:
                if row and len(row) != len(header):
                    raise UserError(
                        f"{file}, line {found.line}: {len(row)} cells under {len(header)} columns.",
                        then=FORM,
                    )
                if row:
                    rows.append(row)
                    lines.append(found.line)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{file} cannot be read as CSV ({error}).", then="save it as CSV in UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.", then=FORM) from error
    return header, rows, lines, found.delimiter


def _board_of(boards: Sequence[Leaderboard], table: _Table) -> Leaderboard:
    """Return the board of which most images are named.

    Raises UserError where none is, or none has a finished line.
    """
    done = [board for board in boards if any(line.rows for line in board.lines)]
    if not done:
        raise UserError(
            "No line of these results is finished: nothing to compare with.",
            then="medbench run, the same command",
        )
    named = set(table.column("id"))
    shared = {board: len(named.intersection(_target(board)[1]["ids"].tolist())) for board in done}
    best = max(shared, key=shared.__getitem__)
    if not shared[best]:
        one = str(_target(best)[1]["ids"][0])
        what = f"{table.file} names none of the scored images: its first id is '{table.column('id')[0]:.80}'."
        raise UserError(what, then=f"ids as the results have them, such as '{one}'")
    return best


def _target(board: Leaderboard) -> tuple[str, Mapping[str, np.ndarray]]:
    """Return the scored set: its name and what is kept of it."""
    line = next(line for line in board.lines if line.rows)
    name = str(line.rows[0].provenance["target"])
    return name, line.stores[0].target(name)


def _add(store: Store, board: Leaderboard, table: _Table) -> Cell:
    """Make the folder of one row. Raises UserError for answers that are not those of the board."""
    name, target = _target(board)
    kind: Kind = board.about["kind"]
    order = _order(table, [str(one) for one in target["ids"]])
    probabilities = _probabilities(table, board.about["classes"], kind)[order]
    decisions = _decisions(table, board.about["classes"], kind, order, probabilities)
    first = next(line for line in board.lines if line.rows)
    (some, *_) = first.stores[0].resamples(first.rows[0]).values()
    weights = stats.group_weights(target["groups"], len(some))
    values, resamples = row_metrics(target["labels"], probabilities, decisions, kind, weights)
    last = board.at(board.budgets()[-1])[0]
    cell = Cell(
        board.task,
        last.cell.data,
        table.name,
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
        0,
        0,
        EXTERNAL,
        last.cell.labels,
        0,
        board.target,
    )
    digest = hashlib.sha256(table.file.read_bytes()).hexdigest()
    empty: list[str] = []
    origin = {
        **{
            "weights": "not known to medbench",
            "precision": UNKNOWN,
            "budget": None,
            "target": name,
            "predictions_sha256": digest,
        },
        **{"trained_on": empty, "member_weights": empty, "marks": empty},
    }
    row = Row(
        cell,
        fingerprint(cell.identity(), digest, table.name),
        values,
        0,
        last.planned[0].n_requested,
        {},
        {"seconds": None},
        origin,
    )
    store.create()
    store.keep_target(name, target)
    key = f"{board.task}|{last.cell.data}|{board.target}"
    planned = PlannedCell(cell, row.fingerprint, row.n_requested, digest, last.planned[0].target)
    store.add_plan(PlanFile((planned,), {key: last.stores[0].plan().tasks[key]}))
    arrays = {
        "metrics": np.array(list(resamples)),
        "resamples": np.stack([array.astype(np.float32) for array in resamples.values()]),
    }
    store.add(row, {"probabilities": probabilities, "decisions": decisions, **arrays})
    return cell


def _order(table: _Table, scored: Sequence[str]) -> np.ndarray:
    """Of each scored image the row that answers it.

    Raises UserError for ids that are double, unknown or missing.
    """
    ids = table.column("id")
    place = {name: row for row, name in enumerate(ids)}
    if len(place) < len(ids):
        double = next(row for row, name in enumerate(ids) if place[name] != row)
        raise table.wrong(
            place[ids[double]],
            f"id '{ids[double]:.80}' stands there a second time.",
            then="one row for each image",
        )
    known = set(scored)
    unknown = [row for row, name in enumerate(ids) if name not in known]
    if unknown:
        others, are = (f" and {len(unknown) - 1} more", "are") if unknown[1:] else ("", "is")
        what = (
            f"id '{ids[unknown[0]]:.80}'{others} {are} not among the {len(scored)} scored images."
        )
        raise table.wrong(unknown[0], what, then=f"these images alone, named as '{scored[0]}'")
    missing = [name for name in scored if name not in place]
    if missing:
        what = f"{table.file} lacks {len(missing)} of {len(scored)} scored images, first '{missing[0]}'."
        raise UserError(
            what, then="predictions for every image: a metric of some is not that of all"
        )
    return np.array([place[name] for name in scored])


def _probabilities(table: _Table, classes: Sequence[str], kind: Kind) -> np.ndarray:
    """(rows, C) float32.

    Raises UserError for a class without a column, and for what is no probability.
    """
    lacking = [name for name in classes if name not in table.header]
    if lacking:
        given = next(
            (name for name in table.header if name not in ("id", "name", "decision", *classes)),
            None,
        )
        raise UserError(
            f"{table.file} has no column '{lacking[0]}'.",
            allowed=list(classes),
            given=given,
            then=FORM,
        )
    columns = []
    for name in classes:
        texts = with_points(table.column(name), table.delimiter)
        values = np.array([_number(text) for text in texts])
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(wrong):
            percent = (
                "divide percentages by 100"
                if np.nanmax(values, initial=0) > 1
                else "a probability for every image and class"
            )
            raise table.wrong(
                int(wrong[0]),
                f"'{name}' is '{texts[wrong[0]]:.40}', no number from 0 to 1.",
                then=percent,
            )
        columns.append(values)
    found = np.stack(columns, axis=1)
    wrong = uneven(found, kind)
    if len(wrong):
        what = f"the probabilities of its classes sum to {found[wrong[0]].sum():.4g}, not to 1"
        more = f" (so for {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise table.wrong(int(wrong[0]), f"{what}{more}.", then="softmax, or divide by the sum")
    return found.astype(np.float32)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _decisions(
    table: _Table, classes: Sequence[str], kind: Kind, order: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Those of the column `decision`, of several labels joined by `|`.

    Without it the most probable class, each label from 0.5 on.
    """
    several = kind == "multilabel"
    if "decision" not in table.header:
        made: np.ndarray = metrics.decided(probabilities, several)
        return made
    place = {name: c for c, name in enumerate(classes)}
    texts = table.column("decision")
    found = np.zeros((len(texts), len(classes)), np.int64)
    for row, text in enumerate(texts):
        words = [text] if text in place else [word for word in text.split("|") if word]
        unknown = [word for word in words if word not in place]
        if unknown:
            raise table.wrong(
                row,
                f"decision '{unknown[0]:.40}' is not a class.",
                allowed=list(classes),
                given=unknown[0],
            )
        if not several and len(words) != 1:
            what = f"decision '{text:.60}' names {len(words)} classes of which one is right."
            raise table.wrong(
                row, what, then="leave the column out: the most probable class is decided for"
            )
        found[row, [place[word] for word in words]] = 1
    decided: np.ndarray = (found if several else found.argmax(1))[order]
    return decided
