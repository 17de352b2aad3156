"""`advise`: what more labels would bring."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medbench.cli.grid_options import given_fields, takes_grid
from medbench.cli.json_output import Json, put_records
from medbench.cli.options import (
    Device,
    Metric,
    Only,
    Rehash,
    app,
    boards_of,
    outputs,
    path_option,
    split,
)
from medbench.schema import OPTIONS, Grid, UserError

if TYPE_CHECKING:
    from medbench.report.advise import Advice


@app.command()
@takes_grid(
    *(
        "place",
        "metric",
        "goal",
        "more",
        "picture",
        "only",
        "methods",
        "protocols",
        "encoders",
        "readouts",
        "size",
        "weights",
        "order",
        "frames",
    ),
    *("precision", "ordinal", "allow_partial", "device", "rehash", "as_json"),
    methods="For a folder of images: pretraining methods. Default: supervised.",
    protocols="For a folder of images: protocols. Default: linear,knn.",
)
def advise(
    context: typer.Context,
    grid: Grid,
    place: Annotated[
        list[Path],
        typer.Argument(
            help="Results folders; or your own labelled images: a folder of class folders, or a CSV file."
        ),
    ],
    metric: Metric = None,
    goal: Annotated[
        float | None, typer.Option("--target", help="A score; say how many labels it needs.")
    ] = None,
    more: Annotated[
        str, typer.Option(help="Multiples of the present number of labels, at most 10.")
    ] = "2,5,10",
    picture: Annotated[
        Path | None, path_option(help="Also draw the curve to this file: .png, .svg, .pdf.")
    ] = None,
    only: Only = None,
    device: Device = "auto",
    rehash: Rehash = False,
    as_json: Json = None,
) -> None:
    """Say what more labels would bring, how many a target needs, and which line to start from.

    With intervals.
    """
    from medbench.cli import screen
    from medbench.report.advise import picture as drawing

    place = [Path(str(one).removeprefix("folder:")) for one in place]
    times = _times(more)
    outputs(picture, as_json)
    form = drawing.form_of(picture) if picture else ""
    results = [
        one for one in place if (one / "plan.json").is_file() or (one / "rows.jsonl").is_file()
    ]
    if results or len(place) > 1:
        made = _of_results(place, metric, goal, times, only, given_fields(context))
    else:
        if only:
            raise UserError(
                "--only is for results folders.",
                then="name methods and protocols: --methods supervised --protocols linear",
            )
        named = given_fields(context)
        methods = grid.methods or (
            () if grid.weights or any(":" in name for name in grid.encoders) else ("supervised",)
        )
        protocols = grid.protocols if "protocols" in named else ("linear", "knn")
        made = [
            _of_images(
                replace(grid, methods=methods, protocols=protocols),
                place[0],
                metric,
                goal,
                times,
                device,
            )
        ]
    if not made:
        raise UserError("No line has a finished score.", then="medbench run, the same command")
    for advice in made:
        print(f"{advice.title}: {advice.sentence}")
    for advice in made:
        screen.show(drawing.terminal(advice))
    put_records(
        [
            {"task": advice.title, **record}
            for advice in made
            for line in advice.lines
            for record in line.records()
        ],
        as_json,
    )
    for file in drawing.draw(made, picture, form) if picture else ():
        print(file)


def _times(more: str) -> tuple[float, ...]:
    """Read the multiples that a user asks for.

    Raises UserError for what is no number.
    """
    try:
        return tuple(dict.fromkeys(float(text) for text in split(more)))
    except ValueError:
        raise UserError(
            f"--more '{more}' is not a list of numbers.",
            then="medbench advise FOLDER --more 2,5,10",
        ) from None


def _of_results(
    folders: list[Path],
    metric: str | None,
    target: float | None,
    more: Sequence[float],
    only: list[str] | None,
    given: Sequence[str],
) -> list[Advice]:
    from medbench.report.advise import from_boards

    if given:
        flag = OPTIONS[given[0]].flag
        raise UserError(
            f"{flag} is for a folder of images, and these are results.",
            then="choose lines by --only method=NAME",
        )
    return from_boards(boards_of(folders, only), metric=metric, target=target, more=more)


def _of_images(
    grid: Grid,
    place: Path,
    metric: str | None,
    target: float | None,
    more: Sequence[float],
    device: str,
) -> Advice:
    from medbench.cli import screen
    from medbench.report.advise import advise as advised
    from medbench.report.advise import check_asked
    from medbench.run.own_labels import own_curves
    from medbench.stats.metrics import METRICS

    if metric is not None and metric not in METRICS:
        raise UserError(f"Unknown metric '{metric}'.", allowed=METRICS, given=metric)
    check_asked(metric or "auc", None, more)
    with screen.Screen(log=False):
        own = own_curves(
            replace(grid, tasks=(f"folder:{place}",), labels=("100",), seeds=1),
            device,
            metric=metric,
        )
    check_asked(own.curves[0].metric, target, more)
    for note in own.notes:
        print(note, file=sys.stderr)
    said = "scored by cross-validation inside the labelled images, whole groups held out; no test set was needed"
    return advised(own.title, own.curves, target=target, more=more, luck=own.luck, notes=[said])
