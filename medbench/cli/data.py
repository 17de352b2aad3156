"""`data`: what a task's images are, where, whether they are complete, and what they look like."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medbench.cli.grid_options import Data, Order, Ordinal, option_of, reading, takes_grid
from medbench.cli.json_output import Json, put_records
from medbench.cli.options import Rehash, data_app, outputs, path_option
from medbench.schema import PARTS, Grid, UserError, counted, csv_cell, user_path

if TYPE_CHECKING:
    from medbench.data.manage import VerificationReport

OneTask = Annotated[str, typer.Argument(help="A task: derm, medmnist:path:64, folder:PATH.")]


@data_app.callback()
def data_default(context: typer.Context) -> None:
    """Run `medbench data list` where no subcommand is named."""
    if context.invoked_subcommand is None:
        data_list()


@data_app.command("list")
def data_list(
    task: Annotated[
        str | None, typer.Argument(help="A task to show in detail. Default: a table of all tasks.")
    ] = None,
    data: Data = None,
    long: Annotated[
        bool,
        typer.Option("--long", help="Show all tasks in detail: where, how to get it, citation."),
    ] = False,
    as_json: Json = None,
) -> None:
    """Show what was found of each task's data, its size and licence, and which take an account."""
    from medbench import images
    from medbench.cli import screen
    from medbench.data import manage
    from medbench.schema import registry

    outputs(as_json)
    cache = images.cache_folder(to_write=False)
    if as_json:
        asked = registry.tasks().values() if task is None else [registry.task(task)]
        put_records(manage.overview_records(asked, data, cache), as_json)
    if task is not None or long:
        for entry in [registry.task(task)] if task is not None else registry.tasks().values():
            print("\n".join(manage.details(entry, data, cache)))
        return
    screen.show([manage.overview_table(registry.tasks().values(), data, cache)])
    print(
        "\n".join(f"Also {family.usage}: {family.title}" for family in registry.families().values())
    )
    print(
        "In detail: medbench data list TASK. Then: medbench data get TASK, data verify TASK, data show TASK"
    )


@data_app.command("get")
def data_get(
    task: OneTask,
    data: Annotated[
        str | None,
        option_of("data", "Folder that data sets are kept in. Default: the cache's data folder."),
    ] = None,
) -> None:
    """Download a task's data, where it is given without an account.

    Else say step by step how to get it (exit code 1).
    """
    from medbench import images
    from medbench.cli import screen
    from medbench.data import manage, task_data
    from medbench.schema import registry

    entry, cache = registry.task(task), images.cache_folder()
    if not entry.get:
        raise UserError(
            f"'{task}' is a folder of your own: there is nothing to download.",
            then=f"medbench data verify {task}",
        )
    if data == "phantom":
        raise UserError(
            "--data phantom is not a folder.", then=f"medbench data get {task} --data FOLDER"
        )
    root = user_path(data) if data else cache / "data"
    for place in [root] if data else task_data.data_roots(cache):
        if manage.is_complete(entry, place):
            print(f"{entry.data} is in {entry.find(place)}. Next: medbench data verify {task}")
            return
    with screen.Screen():
        found = manage.get(entry, root, cache, say=lambda line: print(line, file=sys.stderr))
    if found and manage.is_complete(entry, root):
        where = f" --data {data}" if data else ""
        print(f"{entry.data} is in {found}. Next: medbench data verify {task}{where}")
        print(f"Cite: {entry.citation}. Licence: {entry.licence}")
        return
    if found and not entry.steps:
        raise UserError(
            f"{entry.data} was downloaded to {found}, but it is not complete.",
            then=f"medbench data verify {task}",
        )
    why = (
        f"needs an account with {entry.registration}"
        if entry.registration
        else "has no address that a program may fetch all of it from"
    )
    print(
        f"{entry.data} {why}. What is left to do by hand:"
        if found
        else f"{entry.data} {why}. By hand:"
    )
    print("\n".join(manage.steps(entry, root)))
    print(f"Licence: {entry.licence}. Cite: {entry.citation}")
    raise typer.Exit(1)


@data_app.command("verify")
def data_verify(
    task: OneTask,
    data: Data = None,
    ordinal: Ordinal = False,
    order: Order = None,
    rehash: Rehash = False,
) -> None:
    """Compare the data with what its publisher says, and decode every image.

    Exit code 1 where something differs.
    """
    from medbench import images
    from medbench.cli import screen
    from medbench.data import manage, task_data
    from medbench.schema import registry

    entry, cache = registry.task(task, **reading(ordinal, order)), images.cache_folder()
    root, why = task_data.locate(entry, data, cache)
    if root is None:
        raise UserError(
            f"The data of '{task}' ({entry.data}) {why}.", then=f"medbench data get {task}"
        )
    with screen.Screen():
        report = manage.verify(entry, root, cache)
    _print(report)
    if report.differences:
        raise typer.Exit(1)


def _print(report: VerificationReport) -> None:
    from medbench.cli import screen

    task = report.task
    print(f"{task.name}: {task.data} in {report.root}")
    if report.counts:
        screen.show([screen.counts_table(report.counts)])
    for line in report.remarks:
        print(f"to know: {line}")
    for line in report.differences:
        print(line)
    official = task.n_images is not None or task.official.images or task.official.classes
    stated = "counts as published" if official else "no counts are published"
    print(
        counted(len(report.differences), "difference")
        if report.differences
        else f"nothing differs: {stated}, every image can be decoded"
    )


@data_app.command("show")
def data_show(
    task: OneTask,
    data: Data = None,
    n: Annotated[int, typer.Option("-n", help="Images of each class.")] = 8,
    part: Annotated[str | None, typer.Option(help=f"One part alone: {', '.join(PARTS)}.")] = None,
    out: Annotated[Path | None, path_option(help="PNG file. Default: runs/data/TASK.png.")] = None,
    ordinal: Ordinal = False,
    order: Order = None,
    rehash: Rehash = False,
) -> None:
    """Draw a sheet of images of each class, always the same ones, as one picture."""
    from medbench import images
    from medbench.cli import screen
    from medbench.data import manage, reader_answers, task_data
    from medbench.schema import registry

    if not 1 <= n <= 50:
        raise UserError(
            f"-n {n} is out of range.", allowed=["1 to 50"], then=f"medbench data show {task} -n 8"
        )
    if out and out.suffix.lower() != ".png" and not out.is_dir():
        raise UserError(
            f"--out writes a PNG file, not '{out.name}'.", then=f"--out {out.with_suffix('.png')}"
        )
    entry, cache = registry.task(task, **reading(ordinal, order)), images.cache_folder()
    file = (
        out
        or Path("runs")
        / "data"
        / f"{''.join(c if c.isalnum() or c in '-_.' else '-' for c in entry.name)}.png"
    )
    outputs(file)
    root, why = task_data.locate(entry, data, cache)
    if root is None and entry.phantom is None:
        raise UserError(
            f"The data of '{task}' ({entry.data}) {why}, and it has no phantom.",
            then=f"medbench data get {task}",
        )
    with screen.Screen():
        parts = reader_answers.loaded(entry, root)
        lacking = entry.partial(root) if root and entry.partial else ""
        name = f"{entry.data}{f', PARTIAL: {lacking}' if lacking else ''}" if root else "phantom"
        picture = manage.draw_contact_sheet(entry, parts, name, n, part)
    manage.save_png(picture, file)
    print(f"{file}: {picture.width} x {picture.height} pixels")


@data_app.command("split")
@takes_grid(
    "task",
    "labels",
    "seeds",
    "data",
    "by",
    "split_by_date",
    "ids",
    "rehash",
    "ordinal",
    "order",
    "frames",
    "allow_leak",
    "allow_partial",
    "as_json",
)
def datasplit(
    grid: Grid,
    task: Annotated[str, typer.Argument(help="A task.")],
    ids: Annotated[
        bool, typer.Option("--ids", help="Print every id as CSV: part,labels,seed,id.")
    ] = False,
    rehash: Rehash = False,
    as_json: Json = None,
) -> None:
    """Which images each part and label budget holds: counts and a hash, or every id (--ids)."""
    from medbench.cli import screen
    from medbench.run import labelled_subsets

    outputs(as_json)
    with screen.Screen():
        splits, notes = labelled_subsets.splits(replace(grid, tasks=(task,)))
    for note in notes:
        print(note, file=sys.stderr)
    put_records([subset.record() for subset in splits] if as_json else [], as_json)
    if ids:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["part", "labels", "seed", "id"])
        writer.writerows(
            (entry.part, entry.labels, entry.seed, csv_cell(name))
            for entry in splits
            for name in entry.ids
        )
    else:
        screen.show(screen.split_table(splits))
