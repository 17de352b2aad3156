"""Another division of a task's images than its own.

Each site in turn is the test part, or all that was taken from a day on.

All parts are joined and divided anew by a column of the metadata: the test part is what the column
says, all else is trained on, and there is no validation part. A group that has images on both sides
keeps those that are trained on; its others are left out and counted, so that no group is torn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from medbench.data.asked_task import as_asked
from medbench.data.reader_answers import loaded, tidy
from medbench.data.task_data import locate
from medbench.schema import PARTS, Grid, Mark, Split, Task, UserError, counted, join_parts, spelling
from medbench.stats.metadata_levels import texts
from medbench.stats.splits import MIN_HELD_OUT

_DAY = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ].*)?")
_DATED = re.compile(r"(.*[^a-z])?date([^a-z].*)?|.*[a-z]date")
_SHOWN = 5


def divided(task: Task, grid: Grid, cache_dir: Path) -> list[tuple[Task, list[Mark]]]:
    """Return the tasks that a grid makes of one, and what every table of each must say.

    The task itself, where the grid asks for no other division. Raises UserError for a column that
    is not there or not filled in, and where too little is left.
    """
    if not grid.hold_out_by and not grid.split_by_date:
        return [(task, [])]
    root, _ = locate(task, grid.data, cache_dir)
    parts = loaded(task, root) if root is not None or task.phantom else {}
    whole = (
        join_parts(tidy(task, name, parts[name]) for name in PARTS if name in parts)
        if parts
        else None
    )
    if whole is None:
        return [(task, [])]  # what is missing is told where it is opened
    if grid.split_by_date:
        return [_from_day(task, whole, date.fromisoformat(grid.split_by_date))]
    return _sites(task, whole, str(grid.hold_out_by), as_asked(task.name, grid.tasks))


def _sites(task: Task, whole: Split, asked: str, shown: str) -> list[tuple[Task, list[Mark]]]:
    """Hold out each value of a column in turn. shown: the task, as a command takes it."""
    name = next((column for column in whole.meta if spelling(column) == spelling(asked)), None)
    if name is None:
        what = f"'{task.name}' has no column '{asked}' to hold out by."
        raise UserError(
            what,
            allowed=list(whole.meta) or ["(it has no metadata)"],
            given=asked,
            then=f"medbench data show {shown}",
        )
    values = texts(whole.meta[name])
    _check_filled(task, name, values == "", whole)
    sites = np.unique(values).tolist()
    if len(sites) < 2:
        raise UserError(
            f"All images of '{task.name}' have the {name} '{sites[0]}': none can be held out.",
            then="run it without --hold-out-by",
        )
    found = []
    for site in sites:
        said = f"{name} {site}"
        about = {"by": name, "value": site, "of": task.name}
        found.append(
            _divided(
                task,
                f"{name}={site}",
                whole,
                values == site,
                said,
                {"held_out": about},
            )
        )
    return found


def _from_day(task: Task, whole: Split, day: date) -> tuple[Task, list[Mark]]:
    """Test on what was taken on that day or later."""
    named = [column for column in whole.meta if _DATED.fullmatch(column.casefold())]
    if len(named) != 1:
        which = f" ({', '.join(named)})" if named else ""
        what = f"'{task.name}' has {len(named) or 'no'} columns of dates{which}, and one is needed."
        raise UserError(what, allowed=["one column that is called date, or ends in it: study_date"])
    (name,) = named
    column = whole.meta[name]
    written = [
        f"{value:.0f}" if isinstance(value, float) and np.isfinite(value) else str(value)
        for value in column.tolist()
    ]
    words = texts(np.array(written))
    _check_filled(task, name, words == "", whole)
    days = [
        _read(word, name, i) for word, i in zip(words.tolist(), whole.ids.tolist(), strict=True)
    ]
    later = np.array([taken >= day for taken in days])
    said = f"{name} from {day.isoformat()} on"
    settings = {"split_by_date": [name, day.isoformat()]}
    return _divided(task, f"from={day.isoformat()}", whole, later, said, settings)


def _read(word: str, column: str, image: str) -> date:
    found = _DAY.fullmatch(word)
    try:
        if found:
            return date(*map(int, found.groups()))
    except ValueError:
        pass
    raise UserError(
        f"'{word}' in column {column} (image {image}) is not an unambiguous date.",
        allowed=["2024-01-31", "20240131"],
    )


def _check_filled(task: Task, name: str, missing: np.ndarray, whole: Split) -> None:
    if missing.any():
        shown = ", ".join(whole.ids[missing][:_SHOWN].tolist()) + (
            " ..." if missing.sum() > _SHOWN else ""
        )
        what = (
            f"{int(missing.sum())} of {len(whole)} images of '{task.name}' have no {name}: {shown}."
        )
        raise UserError(
            what, then=f"fill the column {name} in, or leave these images out of the table"
        )


def _divided(
    task: Task,
    name: str,
    whole: Split,
    there: np.ndarray,
    said: str,
    settings: Mapping[str, object],
) -> tuple[Task, list[Mark]]:
    """Return the task whose test part is the images `there` (N,) bool, and its marks.

    Without those of groups that have others. name: what its own name is followed by.
    """
    torn = np.intersect1d(whole.groups[there], whole.groups[~there])
    left_out = there & np.isin(whole.groups, torn)
    parts = {
        "train": whole.take(np.flatnonzero(~there)),
        "test": whole.take(np.flatnonzero(there & ~left_out)),
    }
    word = task.groups or "image"
    for part, split in parts.items():
        if len(split) < MIN_HELD_OUT:
            why = (
                f", {int(left_out.sum())} of {len(torn)} {word}s on both sides left out"
                if len(torn)
                else ""
            )
            what = f"With {said} as the test part, '{task.name}' has {len(split)} images to {part} on{why}: fewer than {MIN_HELD_OUT}."
            raise UserError(what, then="join what is small, or take another column or day")
    marks = [
        Mark(
            "split",
            f"test part: {said}, {len(parts['test'])} images; all others, {len(parts['train'])}, are trained on",
        )
    ]
    if len(torn):
        told = f"{counted(len(torn), word, ('has', 'have'))} images on both sides; the {int(left_out.sum())} of these in the test part are left out"
        marks.append(Mark("remark", told))
    made = replace(
        task,
        name=f"{task.name}:{name}",
        title=f"{task.title}; test: {said}",
        load=partial(_given, parts),
        phantom=partial(_drawn, parts) if task.phantom else None,
        marks=tuple(mark for mark in task.marks if mark.kind != "split"),
        settings={**task.settings, **settings},
    )
    return made, marks


def _given(parts: dict[str, Split], root: Path) -> dict[str, Split]:
    return dict(parts)


def _drawn(parts: dict[str, Split]) -> dict[str, Split]:
    return dict(parts)
