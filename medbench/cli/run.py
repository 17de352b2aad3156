"""`run_command` and `pretrain`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from medbench.cli.options import (
    DEFAULT,
    AllowLeak,
    AllowPartial,
    Data,
    Device,
    Labels,
    Ordinal,
    Out,
    Precision,
    Pretrain,
    Seeds,
    Size,
    Source,
    Tasks,
    WeightsFile,
    app,
    named,
    path_option,
    split,
)
from medbench.run.command_line import OPTIONS
from medbench.schema import Grid, UserError

#: Options of `run_command` that fill a field of another name; all others fill their own, or are no part of the grid.
FIELDS = {option: field for field, option in OPTIONS.items()}


@app.command("run")
def run_command(
    context: typer.Context,
    study: Annotated[
        str | None, typer.Argument(help="A Python file with a constant GRID. Options that are given too come before its own choices.")
    ] = None,
    task: Tasks = list(DEFAULT.tasks),  # noqa: B006, typer copies it
    labels: Labels = ",".join(DEFAULT.labels),
    methods: Annotated[str | None, typer.Option(help="Pretraining methods. Default: all that can serve the encoder.")] = None,
    protocols: Annotated[str, typer.Option(help="How encoders are judged.")] = ",".join(DEFAULT.protocols),
    encoder: Annotated[str, typer.Option(help="timm encoders (resnet50.tv_in1k), FILE.py:NAME, features:FILE.")] = ",".join(
        DEFAULT.encoders
    ),
    readout: Annotated[str, typer.Option(help="pool (the encoder's own), cls, mean, cls+mean, last4.")] = ",".join(DEFAULT.readouts),
    seeds: Seeds = DEFAULT.seeds,
    pretrain_seeds: Annotated[int, typer.Option(help="Initialisations of encoders whose weights are drawn.")] = DEFAULT.pretrain_seeds,
    source: Source = DEFAULT.source,
    pretrain: Pretrain = DEFAULT.pretrain,
    weights: WeightsFile = None,
    size: Size = None,
    data: Data = None,
    on: Annotated[str, typer.Option(help="The part to score: test, or val while developing a method.")] = DEFAULT.target,
    shift: Annotated[
        list[str] | None,
        typer.Option(help="Score the fitted models on another data set, too: isic2019, pad-ufes, nih14, folder:PATH. Several times."),
    ] = None,
    corruptions: Annotated[
        str | None, typer.Option(help="Damage the test images, too: all that fit them, or noise,blur,jpeg,contrast-down ....")
    ] = None,
    levels: Annotated[str, typer.Option(help="How much damage, from 1 to 5.")] = ",".join(DEFAULT.levels),
    precision: Precision = DEFAULT.precision,
    device: Device = "auto",
    out: Out = None,
    ordinal: Ordinal = False,
    allow_leak: AllowLeak = False,
    allow_partial: AllowPartial = False,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit/--no-audit", help="Say what an audit of the same data found; look through a folder of yours for copies first."
        ),
    ] = DEFAULT.audit,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a task with a leak instead of marking every table.")] = DEFAULT.strict,
    plan: Annotated[bool, typer.Option("--plan", help="Print the cells and what they will cost, and stop.")] = False,
) -> None:
    """Compare pretraining methods over tasks and label budgets, and write a leaderboard. Run it again to go on where it stopped."""
    from medbench.cli import screen
    from medbench.report import leaderboard
    from medbench.run import cost_estimate, execution, planning
    from medbench.run import study as studies
    from medbench.run.store import Store
    from medbench.system import devices

    grid = Grid(
        tasks=tuple(task),
        methods=named("--methods", methods),
        protocols=split(protocols),
        encoders=split(encoder),
        readouts=split(readout),
        labels=split(labels),
        seeds=seeds,
        pretrain_seeds=pretrain_seeds,
        source=source,
        pretrain=pretrain,
        weights=weights,
        size=size,
        data=data,
        target=on,
        shifts=tuple(shift or ()),
        corruptions=named("--corruptions", corruptions),
        levels=split(levels),
        precision=precision,
        ordinal=ordinal,
        allow_leak=allow_leak,
        allow_partial=allow_partial,
        audit=audit,
        strict=strict,
    )
    chosen = studies.load_study(study) if study is not None else None
    grid = chosen.but(grid, fields_given(context)) if chosen else grid
    devices.check_device(device, grid.precision)
    if not plan:
        Store(out or Path("runs/TASK")).check()
    with screen.Screen() as display:
        planned = planning.plan(grid, display.stage)
    name = chosen.name if chosen else "+".join(data.task.name.replace(":", "-") for data in planned.tasks)
    folder = out or Path("runs") / name
    if chosen and chosen.text:
        print(chosen.text.partition("\n\n")[0], file=sys.stderr)  # what it asks; the file holds commands and expected numbers
    store = Store(folder)
    if not plan:
        store.check()
    rows = store.rows()
    todo = execution.missing(planned, store, done=rows)
    for note in planned.notes:
        print(note, file=sys.stderr)
    for older in store.older(planned.file, rows):
        print(f"{older.sentence(folder)}. {'A run makes them again.' if plan else 'They are made again.'}", file=sys.stderr)
    if plan:
        screen.show(screen.plan_table(cost_estimate.costs(planned, store, device)))
        return
    with screen.Screen(len(todo), lambda: leaderboard.terminal(store)) as display:
        execution.execute(planned, folder, device=device, progress=display.stage, on_row=display.row)
    leaderboard.write(store)
    screen.show(leaderboard.terminal(store))
    left = execution.missing(planned, store)
    print(f"{len(todo) - len(left)} new rows; {folder}/leaderboard.md, leaderboard.csv, rows.jsonl")
    if left:
        print(f"{len(left)} cells failed; {folder}/run.log has the whole story. The same command tries them again")
        raise typer.Exit(3)
    shown = shlex.quote(str(folder))
    print(f"Next: medbench compare {shown} (is the difference real?), medbench report {shown} (all of it as one page)")


def fields_given(context: typer.Context) -> list[str]:
    """The fields of a grid whose options a person gave, and did not leave to their defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {FIELDS.get(name, name) for name, source in sources.items() if source and source.name == "COMMANDLINE"}
    return [field.name for field in fields(Grid) if field.name in given]


@app.command("pretrain")
def pretrain_(
    task: Annotated[str, typer.Option(help="The task whose training part is used.")] = DEFAULT.tasks[0],
    method: Annotated[str, typer.Option(help="simclr, swav, dino, micle.")] = "simclr",
    encoder: Annotated[str, typer.Option(help="A timm encoder.")] = DEFAULT.encoders[0],
    source: Annotated[str, typer.Option(help="Where it starts: task (random weights), imagenet+task.")] = "imagenet+task",
    pretrain: Pretrain = DEFAULT.pretrain,
    seed: Annotated[int, typer.Option(help="Of initialisation, order and views.")] = 0,
    size: Size = None,
    data: Data = None,
    precision: Precision = DEFAULT.precision,
    device: Device = "auto",
    out: Annotated[Path | None, path_option(help="Folder for weights and pictures. Default: runs/pretrain/TASK-METHOD.")] = None,
) -> None:
    """Pretrain one encoder on a task's training part: weights that timm loads, its history, a picture of the loss and one of the views."""
    from medbench.cli import screen
    from medbench.run import pretrain_only
    from medbench.system import devices

    grid = Grid(
        tasks=(task,),
        methods=(method,),
        encoders=(encoder,),
        source=source,
        pretrain=pretrain,
        size=size,
        data=data,
        precision=precision,
        pretrain_seeds=seed + 1,
    )
    devices.check_device(device, grid.precision)
    if not 0 <= seed < 1000:
        raise UserError(f"--seed {seed} is out of range.", allowed=["0 to 999"], then="medbench pretrain --seed 0")
    with screen.Screen() as display:
        made = pretrain_only.alone(grid, out, device, display.stage)
    if made:  # under torchrun one process speaks
        print("\n".join(made))
