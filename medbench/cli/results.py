"""What reads results folders: `table`, `compare`, `merge`, `plot`, `report`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from medbench.cli.grid_options import Data
from medbench.cli.json_output import Json, put_records
from medbench.cli.options import (
    Beside,
    Folders,
    Metric,
    Only,
    Rehash,
    app,
    asked_of,
    boards_from,
    boards_of,
    choice,
    named,
    outputs,
    path_option,
    processes_for,
    put,
    split,
    tell_unshown,
)
from medbench.schema import UserError, check_writable, counted
from medbench.system import fork_pool, gc_pause

Margin = Annotated[
    float, typer.Option(help="Difference that is too small to matter, in units of the metric.")
]


@app.command("table")
@gc_pause.kept()
def table_command(
    context: typer.Context,
    folder: Folders,
    metric: Metric = None,
    only: Only = None,
    rows: Annotated[
        str,
        typer.Option(
            help="Fields in rows, such as method,protocol. Fields that differ and are not named are added."
        ),
    ] = "",
    cols: Annotated[str, typer.Option(help="Fields in columns, such as task,labels.")] = "",
    form: Annotated[
        str, typer.Option("--format", help="terminal, markdown, csv, latex, html.")
    ] = "",
    spread: Annotated[
        str,
        typer.Option(
            help="What to print beside each mean: interval (95 %), sd (over seeds), none."
        ),
    ] = "",
    methods_text: Annotated[
        bool,
        typer.Option(
            "--methods-text",
            help="Print a methods paragraph for a paper, with BibTeX; --out FILE.tex writes that to FILE.bib.",
        ),
    ] = False,
    beside: Beside = None,
    as_json: Json = None,
    out: Annotated[
        Path | None, path_option(help="Write to this file instead of the screen.")
    ] = None,
) -> None:
    """Print leaderboards.

    One folder and no option: also write leaderboard.md and leaderboard.csv anew; else a table as a
    paper needs it.
    """
    from medbench.cli import screen
    from medbench.report import leaderboard
    from medbench.report import methods_text as paper
    from medbench.report.table_records import table_records
    from medbench.run.store import Store

    outputs(out, as_json)
    found = boards_from(asked_of(context, folder, only, beside, may_reference=True))
    if as_json:
        leaderboard.known_metric(found, metric)
    put_records(table_records(found, metric) if as_json else [], as_json)
    if methods_text:
        said = paper.methods_text(found)
        if out and out.suffix == ".tex":
            put(f"{said.paragraph}\n", out)
            put(f"{said.bibtex}\n", out.with_suffix(".bib"))
            print(f"{out} (\\input it), {out.with_suffix('.bib')} (its entries)")
        else:
            put(str(said), out)
        return
    if len(folder) == 1 and not (rows or cols or form or spread or out):
        leaderboard.known_metric(found, metric)
        partly = bool(only or beside)
        if not partly:
            check_writable(
                folder[0] / "leaderboard.md",
                f"medbench table {folder[0]} --format terminal, which writes nothing",
            )
        store, processes = Store(folder[0]), processes_for(found)
        leaderboard.precompute(found, metric, all_metrics=not partly, processes=processes)
        # first, as it reads all metrics in one go
        acts = [] if partly else [lambda: leaderboard.write(store, found)]
        acts.append(lambda: screen.show(leaderboard.terminal(store, metric, found)))
        fork_pool.each(lambda act: act(), acts, processes)
        return
    form = choice(
        "format",
        form or (leaderboard.FORMAT_OF.get(out.suffix, "markdown") if out else "terminal"),
        leaderboard.FORMATS,
    )
    spread = choice("spread", spread or "interval", leaderboard.SPREADS)
    found = leaderboard.standing(found)
    leaderboard.precompute(found, metric, processes=processes_for(found))
    pivot = leaderboard.pivot(found, split(rows), split(cols), metric)
    if form == "terminal" and not out:
        screen.show(leaderboard.pivot_terminal(pivot, spread))
    else:
        put(
            leaderboard.render_pivot(pivot, "markdown" if form == "terminal" else form, spread), out
        )


@app.command("compare")
@gc_pause.kept()
def compare_command(
    context: typer.Context,
    folder: Folders,
    metric: Metric = None,
    only: Only = None,
    margin: Margin = 0.01,
    permutations: Annotated[
        int,
        typer.Option(help="Permutations of an additional permutation test for each pair; 0: none."),
    ] = 0,
    every_pair: Annotated[
        bool, typer.Option("--all", help="Compare every pair, with the labels saved against each.")
    ] = False,
    against: Annotated[
        str,
        typer.Option(
            help="Compare each line with this one: a method, such as supervised, within each encoder and protocol. Default: the best, or that of --with."
        ),
    ] = "",
    beside: Beside = None,
    as_json: Json = None,
) -> None:
    """Say whether each method is worse than the best, equal, or what it would take to know.

    Use --against, --all or --with for other comparisons. Also shows how many labels each method
    saves.
    """
    from medbench.cli import screen
    from medbench.report import compare

    if not 0 <= margin < 1 or not 0 <= permutations <= 100_000:
        raise UserError(
            f"A margin lies from 0 to 1 and permutations from 0 to 100,000; given {margin:g} and {permutations}."
        )
    outputs(as_json)
    asked = asked_of(context, folder, only, beside)
    tell_unshown(asked.stores)
    if asked.others and not every_pair:
        against = against or asked.others[0]
    judged: list[dict[str, Any]] = []
    with screen.Screen(log=False):
        said = compare.sentences(
            asked.stores,
            metric,
            margin,
            permutations,
            asked.only,
            every_pair=every_pair,
            against=against,
            judged=judged,
        )
    put_records(judged, as_json)
    print("\n".join(said))


@app.command("merge")
def merge_command(
    folder: Folders,
    out: Annotated[Path, path_option(help="Folder for the joined rows.")],
    without_predictions: Annotated[
        bool,
        typer.Option(
            "--without-predictions",
            help="Leave out predictions of single images, to publish or commit the folder.",
        ),
    ] = False,
) -> None:
    """Join results folders of several machines, or make a copy that can be published."""
    from medbench.run import merge

    check_writable(out, "medbench merge --out FOLDER", folder=True)
    added, done = merge.merge(folder, out, predictions=not without_predictions)
    print(f"{counted(added, 'new row')}, {done} in all in {out}. Next: medbench table {out}")


@app.command()
@gc_pause.kept()
def plot(
    folder: Folders,
    kind: Annotated[
        str | None,
        typer.Option(
            help="curves, forest, heatmap, cd, cost, reliability, confusion, attention, shift; several with commas. Default: all that can be drawn."
        ),
    ] = None,
    metric: Metric = None,
    only: Only = None,
    form: Annotated[
        str, typer.Option("--format", help="png, svg, pdf; several with commas.")
    ] = "pdf,png",
    width: Annotated[
        str,
        typer.Option(
            help="Width in a paper: column (3.3 in) or page (6.9 in). Default: what the figure needs."
        ),
    ] = "",
    out: Annotated[
        Path | None,
        path_option(
            help="Folder for the figures. Default: figures/ in the first results folder, figures-only/ with --only."
        ),
    ] = None,
) -> None:
    """Draw figures for a paper: readable in grey and by the colour-blind."""
    from medbench.report import figures
    from medbench.system.worker_pool import cores

    kinds = [choice("kind", name, figures.KINDS) for name in named("--kind", kind)]
    forms = [choice("format", name, figures.FORMATS) for name in named("--format", form)]
    if width:
        choice("width", width, figures.WIDTHS)
    into = out or folder[0] / ("figures-only" if only else "figures")
    check_writable(into, "medbench plot --out FOLDER", folder=True)
    aside, found = partial(print, file=sys.stderr), boards_of(folder, only)
    for file in figures.draw_figures(
        found,
        kinds,
        into,
        forms,
        metric=metric,
        width=width,
        say=aside,
        processes=cores(),
    ):
        print(file)


@app.command("report")
@gc_pause.kept()
def report_command(
    context: typer.Context,
    folder: Folders,
    out: Annotated[
        Path | None,
        path_option(
            help="The file. Default: report.html in the first results folder, report-only.html with --only, report-with.html with --with."
        ),
    ] = None,
    metric: Metric = None,
    only: Only = None,
    margin: Margin = 0.01,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="Show the most confident mistakes as small copies in the page. Needs the data.",
        ),
    ] = False,
    data: Data = None,
    rehash: Rehash = False,
    beside: Beside = None,
) -> None:
    """Write one HTML page of a study.

    The answer, leaderboard, curves, classes, verdicts, provenance. It loads nothing and sends
    nothing.
    """
    from medbench.cli import screen
    from medbench.report import html
    from medbench.system.worker_pool import cores

    if not 0 <= margin < 1:
        raise UserError(f"A margin lies from 0 to 1; given {margin:g}.")
    if data is not None and not images:
        raise UserError(
            "--data is only for --images.", then="medbench report FOLDER --images --data FOLDER"
        )
    asked = asked_of(context, folder, only, beside)
    file = out or folder[0] / (
        "report-with.html" if beside else "report-only.html" if only else "report.html"
    )
    outputs(file)
    with screen.Screen(log=False):
        made = html.build_page(
            asked.stores,
            metric=metric,
            margin=margin,
            images=images,
            data=data,
            only=asked.only,
            processes=cores(),
        )
    put(made, file)
    print(
        f"{file} ({len(made.encode()) / 1e3:,.0f} kB). It needs nothing beside it: open it in a browser, send it as it is"
    )
