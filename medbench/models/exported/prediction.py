"""Image files -> a CSV file of predictions.

One that was killed goes on after the last batch that is on the disk.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medbench.models.exported.layout import CONFIG, POINTS
from medbench.models.exported.listing import Listed
from medbench.models.exported.model import OWN, ExportedModel, Pixels, stacked
from medbench.models.features import BATCH
from medbench.schema import UserError, check_writable, csv_cell, fingerprint, parsed
from medbench.schema.json_records import with_checksum
from medbench.system import atomic_write, locks
from medbench.system.progress_listener import report_progress

Batch = list[Pixels | str]  # pixels, or why an image cannot be read


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was written: how many images, and what of them.

    resumed: how many a killed run had done. unread: id -> why. unlike: ids of images unlike the
    training images.
    """

    images: int
    resumed: int
    unread: dict[str, str]
    unlike: Sequence[str] = ()


@dataclass(frozen=True)
class Asked:
    """What is asked of each image beside its probabilities.

    point: the name of an operating point. calibrated: probabilities at the temperature. coverage:
    of a set of classes, in (0, 1); None: no sets.
    """

    point: str = OWN
    calibrated: bool = False
    coverage: float | None = None

    def check(self, model: ExportedModel) -> None:
        """Raise UserError for what is asked for and the model does not have.

        An operating point, a temperature, or a coverage.
        """
        model.check_point(self.point)
        if self.calibrated:
            model.calibrate(np.zeros((0, len(model.classes)), np.float32))
        if self.coverage is not None:
            model.quantile(self.coverage)


def predict(
    model: ExportedModel,
    folder: Path,
    images: Sequence[Listed],
    out: Path,
    *,
    asked: Asked | None = None,
    overwrite: bool = False,
) -> Predictions:
    """Write predictions of image files as CSV.

    Columns: id, a probability a class, decision, unlike, maybe set. An image that cannot be read
    has empty cells, and the others go on. folder: the model's. Beside `out` lies NAME.unfinished
    until all are done, from which a killed one goes on. Raises UserError for an operating point or
    a temperature that the model does not have, and, unless `overwrite`, for an `out` that is there
    or an unfinished file of something else; OSError for a disk that is full.
    """
    asked = asked or Asked()
    asked.check(model)
    check_target(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f"{out.name}.unfinished")
    with locks.passing(out.with_name(f"{out.name}.lock")):
        check_target(out, overwrite=overwrite)  # who had the lock may have written it
        key = _key(model, folder, images, asked)
        done = _resume(unfinished, key, overwrite=overwrite)
        resumed = sum(map(len, done))
        with atomic_write.naming(unfinished), unfinished.open("ab") as stream:
            _put(stream, {"key": key} if stream.tell() == 0 else None)
            report_progress("predicting", resumed, len(images), "images")
            for rows in scored(model, images[resumed:], asked):
                _put(stream, {"rows": rows})
                done.append(rows)
                report_progress("predicting", sum(map(len, done)), len(images), "images")
        rows = [row for batch in done for row in batch]
        text = _table(model, images, rows, asked)
        atomic_write.write(out, lambda partial: partial.write_text(text, encoding="utf-8"))
        unfinished.unlink()
    unlike = [one.id for one, row in zip(images, rows, strict=True) if row.get("unlike")]
    return Predictions(
        len(rows),
        resumed,
        {one.id: row["unread"] for one, row in zip(images, rows, strict=True) if "unread" in row},
        unlike,
    )


def check_target(out: Path, *, overwrite: bool) -> None:
    """Raise UserError for a file that is there (unless `overwrite`), or that cannot be written."""
    if out.exists() and not out.is_file():
        raise UserError(
            f"{out} is not a file, beside which a killed prediction could lie.",
            then="--out predictions.csv",
        )
    if out.exists() and not overwrite:
        raise UserError(
            f"{out} is there already.", then="--overwrite, or another file: --out predictions-2.csv"
        )
    check_writable(out.with_name(f"{out.name}.unfinished"), "name another place")


def _key(model: ExportedModel, folder: Path, images: Sequence[Listed], asked: Asked) -> str:
    """Return what an unfinished file must be of.

    The model, the images by name, size and time, and what is asked.
    """

    def state(file: Path) -> list[int]:
        try:
            found = file.stat()
        except OSError:
            return []  # told where it is read
        return [found.st_size, found.st_mtime_ns]

    # the first names the hashes of the weights
    texts = [(folder / name).read_text(encoding="utf-8") for name in (CONFIG, POINTS)]
    return fingerprint(
        *texts,
        [[one.id, *state(one.file)] for one in images],
        asdict(asked),
        model.device,
        type(model).__name__,
    )


def _resume(unfinished: Path, key: str, *, overwrite: bool) -> list[list[dict[str, Any]]]:
    """Batches that are done.

    What a kill cut off is removed, and so is, to `overwrite`, what is of another model, other
    images or options; else it raises UserError for that.
    """
    if not unfinished.exists():
        return []
    found: list[list[dict[str, Any]]] = []
    whole = 0
    with unfinished.open("rb") as stream:
        for i, line in enumerate(stream):
            kind = list if i else str
            try:
                record = parsed(line)
                if not line.endswith(b"\n") or not isinstance(record["rows" if i else "key"], kind):
                    break
            except (ValueError, KeyError, TypeError):
                break
            if not i and record["key"] != key:
                if overwrite:
                    break
                raise UserError(
                    f"{unfinished} is of another prediction, which was interrupted: the model, the images or the options were others.",
                    then="repeat that one to finish it, --overwrite to begin anew, or another --out",
                )
            if i:
                found.append(record["rows"])
            whole += len(line)
    os.truncate(unfinished, whole)
    return found


def _put(stream: Any, record: dict[str, Any] | None) -> None:
    if record is not None:
        stream.write(with_checksum(record) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def scored(
    model: ExportedModel, images: Sequence[Listed], asked: Asked | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a batch of images, batch after batch, the next one decoded meanwhile.

    A row has p (C,) and decision, or unread: why. A batch holds the same images whether or not a
    run was killed: its size changes last digits.
    """
    parts = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting: list[list[Future[Pixels | str]]] = []
        for part in [*parts, None]:
            if part is not None:
                waiting.append([pool.submit(_decoded, model, one.file) for one in part])
            if waiting and (part is None or len(waiting) > 1):
                yield _of_batch(
                    model, [future.result() for future in waiting.pop(0)], asked or Asked()
                )


def _decoded(model: ExportedModel, file: Path) -> Pixels | str:
    try:
        return model.decode(file)
    except UserError as error:
        return str(error)


def _of_batch(model: ExportedModel, batch: Batch, asked: Asked) -> list[dict[str, Any]]:
    pixels = [one for one in batch if not isinstance(one, str)]
    answers: Iterator[dict[str, Any]] = iter(())
    if pixels:
        found = model.answer(stacked(pixels))
        decisions = model.decide(found.probabilities, found.own, asked.point)
        sets = (
            [""] * len(pixels)
            if asked.coverage is None
            else model.sets(found.probabilities, asked.coverage)
        )
        shown = model.calibrate(found.probabilities) if asked.calibrated else found.probabilities
        known = map(model.seen_bit, pixels)
        each = zip(shown, decisions, found.unlike, sets, known, strict=True)
        answers = iter(
            [
                {"p": row.tolist(), "decision": word, "unlike": bool(far), "set": of, "known": seen}
                for row, word, far, of, seen in each
            ]
        )
    return [{"unread": one} if isinstance(one, str) else next(answers) for one in batch]


def _table(
    model: ExportedModel, images: Sequence[Listed], rows: Sequence[dict[str, Any]], asked: Asked
) -> str:
    more = ["set"] if asked.coverage is not None else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *map(csv_cell, model.classes), "decision", "unlike", *more])
    for one, row in zip(images, rows, strict=True):
        # nine digits are a float32
        numbers = (
            [""] * len(model.classes) if "unread" in row else [f"{value:.9g}" for value in row["p"]]
        )
        writer.writerow(
            [
                csv_cell(one.id),
                *numbers,
                csv_cell(row.get("decision", "")),
                _flag(model, row),
                *(csv_cell(row.get(name, "")) for name in more),
            ]
        )
    return text.getvalue()


def _flag(model: ExportedModel, row: dict[str, Any]) -> str:
    """Return whether an image is unlike the training images.

    "" where it was not read, or the model cannot say.
    """
    return (
        "" if "unread" in row or model.parts.typical is None else "yes" if row["unlike"] else "no"
    )
