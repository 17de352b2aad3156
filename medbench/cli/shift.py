"""`shift_command`: what fitted models lose on other data sets and on damaged images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medbench.cli.json_output import Json, put_records
from medbench.cli.options import (
    Folders,
    Metric,
    Only,
    app,
    boards_of,
    choice,
    outputs,
    path_option,
    put,
)
from medbench.schema import UserError, csv_cell


@app.command("shift")
def shift_command(
    folder: Folders,
    metric: Metric = None,
    only: Only = None,
    each: Annotated[
        bool,
        typer.Option(
            "--each", help="Show every level of a corruption, not the mean over its levels."
        ),
    ] = False,
    form: Annotated[
        str, typer.Option("--format", help="terminal, markdown, csv (every level and every mean).")
    ] = "terminal",
    as_json: Json = None,
    out: Annotated[
        Path | None, path_option(help="Write to this file instead of the screen.")
    ] = None,
) -> None:
    """Say what each method loses where the images change, and which loses least.

    With its paired interval.
    """
    from medbench.cli import screen
    from medbench.report import leaderboard

    choice("format", form, ("terminal", "markdown", "csv"))
    outputs(out, as_json)
    found = boards_of(folder, only)
    leaderboard.known_metric(found, metric)
    if not any(board.shift for board in found):
        what = "These results hold the task's own images alone."
        raise UserError(
            what,
            then="medbench run --shift NAME or --corruptions all, with the same options: nothing is computed twice",
        )
    if as_json:
        put_records(leaderboard.robustness_gaps(found, metric).to_dict("records"), as_json)
    detail = leaderboard.EACH if each else leaderboard.MEAN
    if form == "csv":
        put(leaderboard.robustness_gaps(found, metric).map(csv_cell).to_csv(index=False), out)
    elif form == "markdown" or out:
        put(leaderboard.shift_markdown(found, metric, detail), out)
    else:
        screen.show(leaderboard.shift_terminal(found, metric, detail))
