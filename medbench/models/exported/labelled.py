"""A user's own images with labels, and what a model answers to them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medbench.models.exported.listing import Listed, listed
from medbench.models.exported.model import ExportedModel
from medbench.models.exported.prediction import scored
from medbench.models.exported.seen_images import known
from medbench.schema import Kind, UserError, spelling
from medbench.system.csv_rows import check_once, csv_rows
from medbench.system.progress_listener import report_progress

FORM = "a CSV file with the columns path, label (several labels: a column of 0 and 1 for each) and maybe id and group, the patient"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Hold labels and groups of N images.

    labels: (N,) int, or of several labels (N, C) float with NaN where unknown. groups: (N,) of
    patients, or the images themselves.
    """

    images: Sequence[Listed]
    labels: np.ndarray
    groups: np.ndarray
    grouped: bool

    def take(self, which: np.ndarray) -> Labelled:
        """Return the images at `which`, an index (k,) or a mask (N,) bool."""
        return Labelled(
            [self.images[i] for i in which], self.labels[which], self.groups[which], self.grouped
        )


@dataclass(frozen=True, eq=False)
class Answered:
    """Hold a model's answers on the images that could be read.

    probabilities (M, C), decisions (M,) or (M, C). unread: id -> why. known: about how many were in
    the run that the model comes from.
    """

    of: Labelled
    probabilities: np.ndarray
    decisions: np.ndarray
    unread: Mapping[str, str]
    known: int = 0

    @property
    def labels(self) -> np.ndarray:
        """Labels of the answered images, (N,) int, or (N, C) float with NaN."""
        return self.of.labels

    @property
    def groups(self) -> np.ndarray:
        """Groups of the answered images, (N,)."""
        return self.of.groups


def labelled(place: Path, classes: Sequence[str], kind: Kind) -> Labelled:
    """Read a user's labelled images from a .csv or .tsv file.

    Raises UserError for a file without paths or labels, and for a label that the model does not
    know.
    """
    if not place.is_file() or place.suffix.lower() not in (".csv", ".tsv"):
        raise UserError(f"{place} is not a CSV file.", then=FORM)
    images = listed(place).images
    try:
        with place.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv_rows(stream, "path")
            header = [name.strip() for name in next(rows.reader)]
            table = [(rows.line, row) for row in rows.reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{place} cannot be read as CSV ({error}).", then="save it as CSV in UTF-8"
        ) from error
    wanted = ("label", "group", *map(spelling, classes))
    check_once(place, list(map(spelling, header)), wanted)
    columns = {
        spelling(name): [row[i].strip() for _, row in table] for i, name in enumerate(header)
    }
    lines = [line for line, _ in table]
    groups = np.array(columns["group"]) if "group" in columns else np.arange(len(images))
    read = _several if kind == "multilabel" else _single
    return Labelled(images, read(place, columns, lines, classes), groups, "group" in columns)


def _single(
    place: Path, columns: Mapping[str, Sequence[str]], lines: Sequence[int], classes: Sequence[str]
) -> np.ndarray:
    if "label" not in columns:
        raise UserError(f"{place} has no column 'label'.", allowed=list(columns), then=FORM)
    known = {
        **{spelling(name): c for c, name in enumerate(classes)},
        **{name: c for c, name in enumerate(classes)},
    }
    found = [known.get(word, known.get(spelling(word))) for word in columns["label"]]
    for line, word, c in zip(lines, columns["label"], found, strict=True):
        if c is None:
            raise UserError(
                f"{place}, line {line}: label '{word:.60}' is not a class of the model.",
                allowed=list(classes),
                given=word,
            )
    return np.array(found, np.int64)


def _several(
    place: Path, columns: Mapping[str, Sequence[str]], lines: Sequence[int], classes: Sequence[str]
) -> np.ndarray:
    lacking = [name for name in classes if spelling(name) not in columns]
    if lacking:
        raise UserError(
            f"{place} has no column '{lacking[0]}'.",
            allowed=list(columns),
            given=lacking[0],
            then=FORM,
        )
    found = np.full((len(lines), len(classes)), np.nan)
    for c, name in enumerate(classes):
        for i, word in enumerate(columns[spelling(name)]):
            if word not in ("0", "1", ""):
                raise UserError(
                    f"{place}, line {lines[i]}: '{name}' is '{word:.40}'.",
                    allowed=["0", "1", "empty: not known"],
                )
            found[i, c] = float(word) if word else np.nan
    return found


def answered(model: ExportedModel, of: Labelled) -> Answered:
    """Return what the model answers; images that cannot be read are left out.

    Raises UserError where none can be.
    """
    rows: list[dict[str, Any]] = []
    for batch in scored(model, of.images):
        rows += batch
        report_progress("predicting", len(rows), len(of.images), "images")
    unread = {
        one.id: row["unread"] for one, row in zip(of.images, rows, strict=True) if "unread" in row
    }
    there = np.array([i for i, row in enumerate(rows) if "unread" not in row], int)
    if not len(there):
        raise UserError(
            f"None of the {len(rows)} images can be read: {next(iter(unread.values()))}"
        )
    probabilities = np.array([rows[i]["p"] for i in there])
    chosen = np.array(
        [[name in rows[i]["decision"].split("|") for name in model.classes] for i in there]
    )
    decisions = chosen.astype(np.int64) if model.kind == "multilabel" else chosen.argmax(1)
    seen = model.parts.seen_images
    in_the_run = 0 if seen is None else known((rows[i]["known"] for i in there), seen.share)
    return Answered(of.take(there), probabilities, decisions, unread, in_the_run)
