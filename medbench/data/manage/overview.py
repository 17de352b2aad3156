"""`data list`: what there is of each task, as a table of 100 columns and in detail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from medbench.data import task_data
from medbench.schema import Task, user_path


def state(task: Task, root: str | None, cache_dir: Path) -> tuple[str, Path | None, str]:
    """Return whether a task's data are there: (word, folder or None, why).

    word: "found", "partial", "missing" or "phantom". root: `--data`, where given. A folder that
    holds the data of other tasks is no error here. Raises UserError for what is no folder.
    """
    named = user_path(root) if root and root != "phantom" else None
    if named is not None and named.is_dir() and task.find(named) is None:
        return "missing", None, f"is not in {root}: none of {', '.join(task.folders)} is there"
    place, why = task_data.locate(task, root, cache_dir)
    if place is None:
        return ("phantom" if root == "phantom" else "missing"), None, why
    lacking = task.partial(place) if task.partial else ""
    return ("partial" if lacking else "found"), place, lacking


def overview_table(tasks: Iterable[Task], root: str | None, cache_dir: Path) -> Table:
    """Draw one line per task, at most 100 columns wide; what is cut is whole in `details`."""
    found = overview_records(tasks, root, cache_dir)
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    widths = {"task": 12, "data": 18, "state": 7, "images": 7, "GB": 4, "get": 8, "account": 8}
    for name, width in widths.items():
        made.add_column(
            name, width=width, justify="right" if name in ("images", "GB") else "left", no_wrap=True
        )
    made.add_column("licence", width=20, no_wrap=True)
    for one in found:
        images, size = (
            f"{one['images']:,}" if one["images"] else "",
            f"{one['gigabytes']:.1f}" if one["gigabytes"] else "",
        )
        cells = (
            one["task"],
            one["data"],
            one["state"],
            images,
            size,
            one["get"],
            one["account"],
            one["licence"],
        )
        made.add_row(*map(Text, cells))
    return made


def overview_records(
    tasks: Iterable[Task], root: str | None, cache_dir: Path
) -> list[dict[str, Any]]:
    """Return a record per task: its data, whether they were found, their size, how to get them."""
    found = []
    for task in tasks:
        word, place, _ = state(task, root, cache_dir)
        how = "by hand" if not task.downloads else "in part" if task.steps else "download"
        about = {
            "task": task.name,
            "title": task.title,
            "kind": task.kind,
            "classes": list(task.classes),
            "data": task.data,
        }
        size = {
            "images": task.n_images,
            "gigabytes": gigabytes(task),
            "get": how,
            "account": account(task),
            "licence": task.licence,
        }
        found.append({**about, "state": word, "place": place, **size, "citation": task.citation})
    return found


def account(task: Task) -> str:
    """Say with whom one needs an account; "no" where none is needed."""
    return task.registration or "no"


def gigabytes(task: Task) -> float | None:
    """Return the size of the download in GB: as published, else the sum of published sizes.

    None where either is not known.
    """
    if task.gigabytes is not None:
        return task.gigabytes
    sizes = [item.size for item in task.downloads]
    return sum(size for size in sizes if size) / 1e9 if sizes and all(sizes) else None


def details(task: Task, root: str | None, cache_dir: Path) -> Iterator[str]:
    """Yield all that a person needs to get, use and cite a task's data, line by line."""
    word, place, why = state(task, root, cache_dir)
    size = gigabytes(task)
    yield f"{task.name}: {task.title} ({task.data}, {task.licence or 'licence not known'})"
    yield f"  {word}: {place}{f' ({why})' if why else ''}" if place else f"  {word}: it {why}"
    counted = f"{task.n_images:,}" if task.n_images else "number not stated"
    yield f"  images: {counted}; download: {f'{size:.1f} GB' if size else 'size not stated'}; account: {account(task)}"
    if word != "found" and (task.downloads or task.get):
        if task.downloads:
            yield f"  to get it: medbench data get {task.name}; or by hand: {task.get}"
        else:
            yield f"  to get it: {task.get}"
            yield f"  step by step: medbench data get {task.name}"
        if task.folders:
            named = ", ".join(task.folders)
            yield f"  then: medbench run --task {task.name} --data FOLDER, or set MEDBENCH_DATA; FOLDER or one of {named} in it"
    for mark in task.marks:
        yield f"  note: {mark}"
    if task.citation:
        yield f"  cite: {task.citation}"
