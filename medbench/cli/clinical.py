"""`clinical`: what a clinician asks of one line of a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medbench.cli.json_output import Json, put_records
from medbench.cli.options import (
    Beside,
    Folders,
    Metric,
    Only,
    app,
    asked_of,
    boards_from,
    choice,
    filled,
    outputs,
    path_option,
    put,
)

if TYPE_CHECKING:
    from medbench.report.clinical.sheet_formats import Sheet
    from medbench.report.leaderboard import Leaderboard, LeaderboardEntry


@app.command()
def clinical(
    context: typer.Context,
    folder: Folders,
    method: Annotated[
        str | None,
        typer.Option(help="Pretraining method. Default: that of --with, or the best."),
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol. Default: the best.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Label budget (10%, 5/class, all). Default: the largest."),
    ] = None,
    target: Annotated[str | None, typer.Option("--on", help="Scored set. Default: test.")] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Show subgroups of this metadata column only. Default: of every column."),
    ] = None,
    specificity: Annotated[
        float, typer.Option(help="Specificity at which to give the sensitivity.")
    ] = 0.9,
    sensitivity: Annotated[
        float, typer.Option(help="Sensitivity at which to give the specificity.")
    ] = 0.9,
    prevalence: Annotated[
        str | None,
        typer.Option(
            help="Also PPV, NPV and net benefit at the prevalence of use: 0.05 for two classes, mel=0.02,nv=0.6 for more.",
            callback=filled,
        ),
    ] = None,
    only: Only = None,
    beside: Beside = None,
    metric: Metric = None,
    form: Annotated[str, typer.Option("--format", help="terminal, markdown, csv, latex.")] = "",
    as_json: Json = None,
    out: Annotated[
        Path | None, path_option(help="Write to this file instead of the screen.")
    ] = None,
) -> None:
    """Show each class, case and subgroup and the calibration of the best line, or of another."""
    from medbench.cli import screen
    from medbench.report.clinical import sheet_formats, shown_lines, tables

    form = choice(
        "format",
        form or (sheet_formats.FORMAT_OF.get(out.suffix, "markdown") if out else "terminal"),
        sheet_formats.FORMATS,
    )
    outputs(out, as_json)
    asked = asked_of(context, folder, only, beside, may_reference=True)
    if asked.others and protocol is None:
        method = method or asked.others[0]
    found = shown_lines.best_lines(boards_from(asked), method, labels, protocol, target, metric)
    made = []
    with screen.Screen(log=False):
        for board, line in found:
            numbers = {"specificity": specificity, "sensitivity": sensitivity}
            metric_shown = board.shown(metric)
            tables_of_line = (
                [] if prevalence is None else _at_prevalence(board, line, prevalence, numbers)
            )
            tables_of_line = [
                *tables.sheets(board, line, metric=metric_shown, by=by, **numbers),
                *tables_of_line,
            ]
            made.append((shown_lines.caption(board, line), tables_of_line))
    put_records(
        [
            {"line": title, "table": sheet.title, **row}
            for title, of_line in made
            for sheet in of_line
            for row in sheet.frame.to_dict("records")
        ],
        as_json,
    )
    if form == "terminal" and not out:
        for title, of_line in made:
            screen.show(sheet_formats.clinical_terminal(title, of_line))
    else:
        put(sheet_formats.render_tables(made, "markdown" if form == "terminal" else form), out)


def _at_prevalence(
    board: Leaderboard, line: LeaderboardEntry, asked: str, numbers: dict[str, float]
) -> list[Sheet]:
    from medbench.report.clinical import read_predictions
    from medbench.report.clinical.class_metrics import check_shares
    from medbench.report.clinical.prevalence import asked_prevalence
    from medbench.report.clinical.prevalence_tables import prevalence_sheets

    check_shares(**numbers)
    shares = asked_prevalence(asked, board.about["classes"], board.about["kind"])
    return prevalence_sheets(read_predictions(line), shares, **numbers)
