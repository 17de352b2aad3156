"""`audit_command`, which tells whether the data can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medbench.cli.grid_options import Data, Order, Ordinal, reading
from medbench.cli.options import Device, Rehash, app, outputs, path_option, put
from medbench.schema import UserError, user_path


@app.command("audit")
def audit_command(
    task: Annotated[
        str | None, typer.Argument(help="A task, or folder:PATH of images with or without labels.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            help="Instead of a task: a .txt of paths, or a .csv with path[,label][,group][,split].",
        ),
    ] = None,
    data: Data = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="No features: compare hashes, and align at most 400 pairs that nearly match; no suspicious labels, no cropped or padded copies.",
        ),
    ] = False,
    device: Device = "auto",
    rehash: Rehash = False,
    ordinal: Ordinal = False,
    order: Order = None,
    json: Annotated[
        Path | None, path_option("--json", help="Write all findings to this JSON file.")
    ] = None,
    csv: Annotated[
        Path | None, path_option("--csv", help="Write the pairs of copies to this CSV file.")
    ] = None,
    groups: Annotated[
        Path | None,
        path_option(
            "--groups",
            help="Write the table of your folder, with a column group that joins copies, to this CSV file.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        path_option("--sheet", help="Draw the pairs of copies, side by side, into this PNG file."),
    ] = None,
) -> None:
    """Find leaks, copies, contradicting labels and metadata that gives the label away.

    Opens what run refuses. Exit code 1 for a leak, for contradicting labels, and for what run
    refuses.
    """
    from medbench import images as pictures
    from medbench.audit import dataset
    from medbench.cli import screen
    from medbench.data.manage import GroupsTable
    from medbench.system import devices

    if (task is None) == (images is None):
        raise UserError("Name a task or --images, one of them.", then="medbench audit folder:PATH")
    if sheet and sheet.suffix.lower() != ".png":
        raise UserError(
            f"--sheet writes a PNG file, not '{sheet.name}'.",
            then=f"--sheet {sheet.with_suffix('.png').name}",
        )
    if groups and task is None:
        raise UserError(
            "--groups writes a table of a folder: it needs its name.",
            then="medbench audit folder:PATH --groups FILE.csv",
        )
    outputs(json, csv, groups, sheet)
    table = GroupsTable.of(task, groups) if groups and task else None
    devices.check_device(device)
    cache = pictures.cache_folder()
    with screen.Screen():
        if task is not None:
            subject = dataset.of_task(task, data, cache, **reading(ordinal, order))
        else:
            assert images is not None
            place = user_path(images)
            if not place.exists():
                raise UserError(
                    f"--images {images} does not exist.", then="medbench audit --images LIST.csv"
                )
            subject = dataset.of_list(place, cache)
        report = dataset.audit(
            subject,
            cache,
            depth="hashes" if fast else "full",
            device="cpu" if fast else devices.resolve(device),
        )
    if subject.refused:
        print(f"a run would refuse this: {subject.refused}")
    print("\n".join(report.lines()))
    if json:
        put(report.to_json(), json)
    if csv:
        put(report.to_csv(), csv)
    if table:
        print(
            table.write(
                (pair["image"], pair["other"])
                for pair in report.pairs
                if pair["kind"] != "possible"
            )
        )
    if sheet:
        from medbench.audit.dataset.duplicates_picture import draw_duplicates as draw

        print(f"{draw(report, subject, sheet)} of {len(report.pairs)} pairs in {sheet}")
    if report.fails or subject.refused:
        raise typer.Exit(1)
