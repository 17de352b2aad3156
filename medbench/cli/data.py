"""`data`: what a task's images are and where."""

from __future__ import annotations

import csv
import sys
from typing import Annotated

import typer

from medbench.cli.options import DEFAULT, AllowLeak, AllowPartial, Data, Labels, Ordinal, Seeds, data_app, split
from medbench.spec import Grid


@data_app.callback()
def data_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        data_list()


@data_app.command("list")
def data_list(
    task: Annotated[str | None, typer.Argument(help="One task. Default: all.")] = None,
    data: Data = None,
) -> None:
    """Where each task's data is expected, whether it was found, and how to get it."""
    from medbench import data as datas
    from medbench import images, registry

    cache = images.cache_folder()
    for entry in [registry.task(task)] if task else registry.tasks().values():
        root, why = datas.locate(entry, data, cache)
        print(f"{entry.name}: {entry.title} ({entry.data}, {entry.licence or 'licence not known'})")
        print(f"  found: {root}" if root else f"  missing: it {why}")
        if not root:
            print(f"  to get it: {entry.get}")
            print(
                f"  then: medbench run --task {entry.name} --data FOLDER, or set MEDBENCH_DATA; FOLDER or one of {', '.join(entry.folders)} in it"
            )
        if entry.citation:
            print(f"  cite: {entry.citation}")


@data_app.command("split")
def datasplit(
    task: Annotated[str, typer.Argument(help="A task.")],
    labels: Labels = ",".join(DEFAULT.labels),
    seeds: Seeds = DEFAULT.seeds,
    data: Data = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print every id as CSV: part,labels,seed,id.")] = False,
    ordinal: Ordinal = False,
    allow_leak: AllowLeak = False,
    allow_partial: AllowPartial = False,
) -> None:
    """Which images each part and label budget holds: counts and a hash, or every id (--ids)."""
    from medbench import grid as grids
    from medbench import screen

    grid = Grid(
        tasks=(task,), labels=split(labels), seeds=seeds, data=data, ordinal=ordinal, allow_leak=allow_leak, allow_partial=allow_partial
    )
    splits, notes = grids.splits(grid)
    for note in notes:
        print(note, file=sys.stderr)
    if ids:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["part", "labels", "seed", "id"])
        writer.writerows((entry.part, entry.labels, entry.seed, name) for entry in splits for name in entry.ids)
    else:
        screen.show(screen.split_table(splits))
