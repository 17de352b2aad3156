"""`export`, `predict` and `validate`.

A line of a leaderboard as a model, a model used, and looked at on other images.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medbench.cli.grid_options import Data, grid_of, option_of
from medbench.cli.json_output import Json, put_records
from medbench.cli.options import (
    BadUsage,
    Device,
    Only,
    app,
    boards_of,
    outputs,
    path_option,
    put,
    stores_of,
)
from medbench.cli.options import choice as choice_of
from medbench.models.hub.references import is_hub
from medbench.schema import Cell, Grid, UserError, counted

if TYPE_CHECKING:
    from medbench.report.model_choice import ModelChoice
    from medbench.run.store import Store

RUN = ["medbench", "run"]


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    out: Annotated[Path, path_option(help="Folder for the model; it must not exist yet.")],
    only: Only = None,
    seed: Annotated[
        int, typer.Option(help="Draw of the labelled subset, below 100 % of the labels.")
    ] = 0,
    data: Data = None,
    task: Annotated[
        str | None, typer.Option(help="folder:PATH, if the results are of your own folder.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="The checkpoint file, if the run had --weights.")
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        option_of("unlabelled", "Images without labels, if the run had them, as given there."),
    ] = None,
    specificity: Annotated[
        float, typer.Option(help="Specificity of an operating point for each class.")
    ] = 0.9,
    sensitivity: Annotated[
        float, typer.Option(help="Sensitivity of another operating point.")
    ] = 0.9,
    onnx: Annotated[
        bool,
        typer.Option(
            "--onnx",
            help="Also write model.onnx, which includes resize, normalisation, classifier and temperature.",
        ),
    ] = False,
    vectors: Annotated[
        bool,
        typer.Option(
            "--include-training-vectors",
            help="Allow knn and svm, which store feature vectors of the patients' training images.",
        ),
    ] = False,
    noticed: Annotated[
        bool,
        typer.Option(
            "--seen/--no-seen",
            help="Salted bits by which validate notices images of the run; they prove nothing of one image.",
        ),
    ] = True,
    device: Device = "auto",
) -> None:
    """Write one line as a model that medbench and timm load.

    The named one, or the best by scores held out inside the labelled subset.
    """
    from medbench.cli import screen
    from medbench.models.exported.own_program import own_program
    from medbench.report.clinical import draw_of, evidence, read_predictions
    from medbench.report.clinical.class_metrics import check_shares
    from medbench.report.clinical.operating_points import operating_points
    from medbench.report.model_card import Making, Seen, model_card
    from medbench.report.model_choice import choose
    from medbench.run import model_folder, refit

    (store,) = stores_of([folder])
    check_shares(specificity, sensitivity)
    model_folder.check_target(out)
    found = boards_of([folder], only)
    choice = choose(found, seed, partial(refit.why_not, vectors=vectors))
    if onnx:
        from medbench.models.exported.onnx_file import check_onnx

        check_onnx()
    grids = [
        replace(grid, unlabelled=tuple(unlabelled or grid.unlabelled))
        for grid in _grids(choice, store, data, task, weights)
    ]
    print("\n".join(map(str, choice.said)), file=sys.stderr, end="\n" if choice.said else "")
    about = choice.board.about
    shares = {"specificity": specificity, "sensitivity": sensitivity}
    command = shlex.join(
        [
            "medbench",
            "export",
            folder.name,
            *_asked(only, seed, shares),
            *_needed(choice.row.cell, data, weights, unlabelled),
            *(["--include-training-vectors"] if vectors else []),
            *(["--onnx"] if onnx else []),
            *([] if noticed else ["--no-seen"]),
            "--out",
            out.name,
        ]
    )
    with screen.Screen():
        made = refit.refit(grids, store, choice.row, device)
        draw = replace(draw_of(store.scores(choice.row)), held_groups=made.held_groups)
        points = operating_points(draw, about["classes"], about["kind"], **shares)
        answers = replace(read_predictions(choice.line), draws=[draw])
        seen = {"target": choice.board.target, **evidence(answers, points["points"])}
        tried, parts = min(model_folder.TRIED, len(made.saved)), made.parts(points, seen)
        recipe = own_program(parts, onnx=onnx)

        def card(written: float, by_onnx: model_folder.OnnxDifferences | None) -> str:
            told = by_onnx.sentence if by_onnx else ""
            ran, unit = store.plan().commands, made.unit
            members = tuple(f"{one.method.name} {one.encoder.name}" for one in unit.members)
            how = (bool(made.fit.nets), unit.method.own_head, members, made.kept)
            making = Making(
                command, ran, made.difference, written, tried, recipe, noticed, told, *how
            )
            return model_card(choice, Seen(points, seen, answers, found), making)

        written = model_folder.save(made, parts, out, card, onnx=onnx, seen=noticed)
    print(
        f"{choice.row.cell}: a probability differs by {made.difference:.2g} from the saved one, from the folder by {written:.2g}"
    )
    print(
        f"{out}/README.md is its card. Next: medbench predict {shlex.quote(str(out))} IMAGES --out predictions.csv"
    )


def _asked(only: list[str] | None, seed: int, shares: dict[str, float]) -> list[str]:
    """Return the options that say which model it is."""
    numbers = [
        word
        for name, value in shares.items()
        if value != 0.9
        for word in (f"--{name}", f"{value:g}")
    ]
    return [
        *(word for text in only or () for word in ("--only", text)),
        *(["--seed", str(seed)] if seed else []),
        *numbers,
    ]


def _needed(
    cell: Cell, data: str | None, weights: str | None, unlabelled: list[str] | None
) -> list[str]:
    """Return the options that say where things lie, without the places."""
    asked = {
        "--task folder:PATH": cell.task.startswith("folder:"),
        "--data FOLDER": data not in (None, "phantom"),
        "--data phantom": data == "phantom",
        "--weights FILE": weights is not None,
        "--unlabelled PATH": bool(unlabelled),
    }
    return [word for option, given in asked.items() if given for word in option.split()]


def _grids(
    choice: ModelChoice, store: Store, data: str | None, task: str | None, weights: str | None
) -> list[Grid]:
    """Read the grids of the folder's commands, the latest first.

    With the places that they do not tell. Raises UserError where a place is needed.
    """
    cell = choice.row.cell
    if cell.task.startswith("folder:") and task is None:
        raise UserError(
            f"The results do not say where '{cell.task}' lies.",
            then=f"medbench export {store.folder} --task folder:PATH",
        )
    if cell.encoder.partition(":")[1] and not is_hub(cell.encoder) and weights is None:
        raise UserError(
            f"The results do not say where the weights of '{cell.encoder}' lie.",
            then="--weights FILE, or an official name",
        )
    found = []
    for command in reversed(store.plan().commands):
        words = shlex.split(command)
        try:
            grid = grid_of(words[2:]) if words[:2] == RUN else None
        except BadUsage:
            continue  # of a medbench with other options
        if grid is not None:
            found.append(_placed(grid, data, task or cell.task, weights))
    if not found:
        raise UserError(
            f"{store.folder} does not say by which command it was made.",
            then="medbench run, the same command again",
        )
    return found


def _placed(grid: Grid, data: str | None, task: str, weights: str | None) -> Grid:
    drawn = grid.data == "phantom"
    placed = replace(grid, tasks=(task,), data="phantom" if drawn and data is None else data)
    return replace(placed, weights=weights) if weights else placed


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that medbench export wrote.")],
    images: Annotated[
        Path,
        typer.Argument(help="A folder of images, or a CSV file with a column 'path' (and 'id')."),
    ],
    out: Annotated[
        Path,
        path_option(
            help="CSV file for the predictions: id, one probability for each class, decision."
        ),
    ],
    at: Annotated[
        str,
        typer.Option(
            help="Operating point of the decision: own, sensitivity-0.9, specificity-0.9."
        ),
    ] = "own",
    calibrated: Annotated[
        bool,
        typer.Option(
            "--calibrated", help="Calibrate the probabilities with the temperature of the card."
        ),
    ] = False,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Also give a set of classes that contains the right one with this probability: 0.50 to 0.99."
        ),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            help="torch, onnx (model.onnx, without torch), auto: torch where it is installed."
        ),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an --out that is there.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Predict probabilities and a decision for each image.

    If interrupted, run the same command again to continue. Exit code 3 where images could not be
    read.
    """
    from medbench.cli import screen
    from medbench.models.exported import load
    from medbench.models.exported.listing import listed
    from medbench.models.exported.prediction import Asked, check_target
    from medbench.models.exported.prediction import predict as predict_images

    outputs(out)
    check_target(out, overwrite=overwrite)
    found = listed(images)
    loaded = load(model, device, runtime)
    if found.passed_over:
        print(found.passed_over, file=sys.stderr)
    with screen.Screen():
        made = predict_images(
            loaded,
            model,
            found.images,
            out,
            asked=Asked(at, calibrated, coverage),
            overwrite=overwrite,
        )
    for name, why in made.unread.items():
        print(f"{name} has no prediction: {why}", file=sys.stderr)
    resumed = f", {made.resumed} of them before" if made.resumed else ""
    print(f"{made.images - len(made.unread)} of {counted(made.images, 'image')}{resumed}; {out}")
    if made.unlike:
        unlike, some = counted(len(made.unlike), "image", ("is", "are")), ", ".join(made.unlike[:5])
        print(
            f"{unlike} unlike the training images (column `unlike`), first {some}: do not believe the probabilities there"
        )
    if made.unread:
        raise typer.Exit(3)


@app.command()
def validate(
    model: Annotated[Path, typer.Argument(help="A folder that medbench export wrote.")],
    labelled: Annotated[
        Path,
        typer.Argument(
            help="CSV file with path, label (for several labels a column of 0 and 1 each) and optionally id and group (the patient)."
        ),
    ],
    margin: Annotated[
        float,
        typer.Option(
            help="Difference of AUC, sensitivity or specificity that is too small to matter."
        ),
    ] = 0.05,
    form: Annotated[str, typer.Option("--format", help="terminal, markdown, csv, latex.")] = "",
    out: Annotated[
        Path | None, path_option(help="Write to this file instead of the screen.")
    ] = None,
    device: Device = "auto",
    as_json: Json = None,
) -> None:
    """Test whether the model is as good on your own labelled images as its card says.

    Also tests whether its thresholds are right there. Exit code 3 where images could not be read.
    """
    from medbench.cli import screen
    from medbench.models.exported import load
    from medbench.models.exported.labelled import answered
    from medbench.models.exported.labelled import labelled as labelled_images
    from medbench.report import site_tables, site_validation
    from medbench.report.clinical import sheet_formats

    if not 0 < margin < 1:
        raise UserError(f"A margin lies between 0 and 1; given {margin:g}.")
    form = choice_of(
        "format",
        form or (sheet_formats.FORMAT_OF.get(out.suffix, "markdown") if out else "terminal"),
        sheet_formats.FORMATS,
    )
    outputs(out, as_json)
    loaded = load(model, device)
    with screen.Screen():
        parts = loaded.parts
        found = answered(loaded, labelled_images(labelled, parts.classes, parts.kind))
        made = site_validation.of_answers(
            found, parts.kind, parts.classes, parts.points, parts.evidence, margin
        )
    for name, why in found.unread.items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    said, sheets = (
        site_tables.verdict_sentences(made, found.known),
        site_tables.sheets(made, found.known),
    )
    put_records(
        [
            *({"table": "verdict", "text": line} for line in said),
            *(
                {"table": sheet.title, **row}
                for sheet in sheets
                for row in sheet.frame.to_dict("records")
            ),
        ],
        as_json,
    )
    if form == "terminal" and not out:
        print("\n".join(said))
        screen.show(sheet_formats.clinical_terminal("", sheets)[1:])
    else:
        body = sheet_formats.render_tables(
            [(said[0], sheets)], "markdown" if form == "terminal" else form
        )
        put("".join(f"{line}\n\n" for line in said[1:]) + body if form == "markdown" else body, out)
    if found.unread:
        raise typer.Exit(3)
