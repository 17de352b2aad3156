"""`shortcuts`: what features know that is not the class."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from medbench.cli.grid_options import DEFAULT, takes_grid
from medbench.cli.options import Device, Rehash, app, choice, named, outputs, path_option, put
from medbench.schema import PARTS, Grid, UserError


@app.command()
@takes_grid(
    *(
        "task",
        "methods",
        "encoders",
        "readouts",
        "columns",
        "on",
        "k",
        "source",
        "pretrain",
        "weights",
        "size",
        "data",
        "precision",
    ),
    *("device", "rehash", "allow_leak", "allow_partial", "as_json", "as_csv"),
    methods="Pretraining methods. Default: supervised, or what serves an encoder of yours.",
)
def shortcuts(
    grid: Grid,
    task: Annotated[str, typer.Argument(help="Task with metadata: derm, chest, folder:PATH.")],
    columns: Annotated[str | None, typer.Option(help="Metadata columns. Default: all.")] = None,
    on: Annotated[str, typer.Option(help="Part to examine: train, val, test.")] = "train",
    k: Annotated[int, typer.Option("--k", help="Number of nearest neighbours to count.")] = 20,
    device: Device = "auto",
    rehash: Rehash = False,
    as_json: Annotated[
        Path | None, path_option("--json", help="Also write everything to this JSON file.")
    ] = None,
    as_csv: Annotated[
        Path | None, path_option("--csv", help="Also write the table to this CSV file.")
    ] = None,
) -> None:
    """Test whether scanner, site, view or sex can be read out of the features.

    Also tests whether an image's neighbours share them rather than its class.
    """
    from medbench.audit.features import report
    from medbench.cli import screen
    from medbench.run import feature_audit

    choice("part", on, PARTS)
    if not 1 <= k <= 1000:
        raise UserError(
            f"--k {k} neighbours is out of range.",
            allowed=["1 to 1000"],
            then="medbench shortcuts TASK --k 20",
        )
    outputs(as_json, as_csv)
    own = grid.weights or any(
        name.startswith("features:") or ".py:" in name for name in grid.encoders
    )
    grid = replace(
        grid,
        tasks=(task,),
        methods=grid.methods or (() if own else ("supervised",)),
        labels=("100",),
        seeds=1,
        target=on if on != "train" else DEFAULT.target,
    )
    with screen.Screen():
        found, notes = feature_audit.audit_features(
            grid, named("--columns", columns), on, k, device
        )
    for note in notes:
        print(note, file=sys.stderr)
    screen.show(report.findings_terminal(found, k, on))
    if as_json:
        put(report.to_json(found, on), as_json)
    if as_csv:
        put(report.to_csv(found), as_csv)
