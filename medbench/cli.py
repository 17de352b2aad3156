"""The command line: parses, calls, prints. Everything it does is a function of the package.

Exit codes: 0 done, 1 a check differs, 2 bad input (one line says what), 3 some cells failed, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import csv
import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

from medbench.spec import Grid, UserError

app = typer.Typer(
    help="Which pretrained encoder should a medical image classifier start from, how few labels will do, and can the difference be trusted?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Where data sets are expected, what was found, and which images each part and label budget holds.")
app.add_typer(data_app, name="data", invoke_without_command=True)

_DEFAULT = Grid()
Tasks = Annotated[list[str], typer.Option("--task", help="A task: derm, or folder:PATH. May be given several times.")]
Data = Annotated[
    str | None, typer.Option(help="Folder that holds the data sets, or 'phantom'. Default: MEDBENCH_DATA, the cache, the phantom.")
]
Ordinal = Annotated[bool, typer.Option("--ordinal", help="folder tasks: the classes are ordered.")]
AllowLeak = Annotated[bool, typer.Option("--allow-leak", help="Run although a group stands in two parts; every table says so.")]
AllowPartial = Annotated[bool, typer.Option("--allow-partial", help="Run although a class has no image in a part; every table says so.")]
Labels = Annotated[str, typer.Option(help="Label budgets: 1,10,100 (percent), 5/class, n50 (equal numbers a class), all.")]
Seeds = Annotated[int, typer.Option(help="Draws of the labelled subset.")]
Source = Annotated[
    str, typer.Option(help="Where the method's training images came from: imagenet (an official checkpoint), task, imagenet+task, auto.")
]
Pretrain = Annotated[str, typer.Option(help="Budget of an in-domain pretraining: quick (seconds, shows the machinery), standard, paper.")]
WeightsFile = Annotated[str | None, typer.Option("--weights", help="A checkpoint file of yours for the encoder.")]
Size = Annotated[
    int | None,
    typer.Option(help="Image size in pixels. Default: 112 (64 on a phantom) for the default encoder, else the checkpoint's."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")]
Precision = Annotated[str, typer.Option(help="Of the encoder: fp32 or bf16.")]
Out = Annotated[Path | None, typer.Option(help="Results folder. Default: runs/TASK in the working folder.")]


@app.command()
def run(
    task: Tasks = list(_DEFAULT.tasks),  # noqa: B006, typer copies it
    labels: Labels = ",".join(_DEFAULT.labels),
    methods: Annotated[str, typer.Option(help="Pretraining methods. Default: all that can serve the encoder.")] = "",
    protocols: Annotated[str, typer.Option(help="How encoders are judged.")] = ",".join(_DEFAULT.protocols),
    encoder: Annotated[str, typer.Option(help="timm encoders (resnet50.tv_in1k), FILE.py:NAME, features:FILE.")] = ",".join(
        _DEFAULT.encoders
    ),
    readout: Annotated[str, typer.Option(help="pool (the encoder's own), cls, mean, cls+mean, last4.")] = ",".join(_DEFAULT.readouts),
    seeds: Seeds = _DEFAULT.seeds,
    pretrain_seeds: Annotated[int, typer.Option(help="Initialisations of encoders whose weights are drawn.")] = _DEFAULT.pretrain_seeds,
    source: Source = _DEFAULT.source,
    pretrain: Pretrain = _DEFAULT.pretrain,
    weights: WeightsFile = None,
    size: Size = None,
    data: Data = None,
    on: Annotated[str, typer.Option(help="The part to score: test, or val while developing a method.")] = _DEFAULT.target,
    precision: Precision = _DEFAULT.precision,
    device: Device = "auto",
    out: Out = None,
    ordinal: Ordinal = False,
    allow_leak: AllowLeak = False,
    allow_partial: AllowPartial = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print the cells and what they will cost, and stop.")] = False,
) -> None:
    """Compare pretraining methods over tasks and label budgets, and write a leaderboard. Run it again to go on where it stopped."""
    from medbench import grid as grids
    from medbench import run as runs
    from medbench import screen
    from medbench import table as tables
    from medbench.store import Store

    grid = Grid(
        tasks=tuple(task),
        methods=_split(methods),
        protocols=_split(protocols),
        encoders=_split(encoder),
        readouts=_split(readout),
        labels=_split(labels),
        seeds=seeds,
        pretrain_seeds=pretrain_seeds,
        source=source,
        pretrain=pretrain,
        weights=weights,
        size=size,
        data=data,
        target=on,
        precision=precision,
        ordinal=ordinal,
        allow_leak=allow_leak,
        allow_partial=allow_partial,
    )
    runs.check_device(device)
    with screen.Screen() as display:
        planned = grids.plan(grid, display.stage)
    folder = out or Path("runs") / "+".join(data.task.name.replace(":", "-") for data in planned.tasks)
    store = Store(folder)
    todo = runs.missing(planned, store)
    for note in planned.notes:
        print(note, file=sys.stderr)
    if plan:
        screen.show(screen.plan_table(runs.costs(planned, store, device)))
        return
    try:
        with screen.Screen(len(todo), lambda: tables.terminal(store)) as display:
            runs.execute(planned, folder, device=device, progress=display.stage, on_row=display.row)
    except KeyboardInterrupt:
        print("medbench: stopped. The same command goes on where this one stopped.", file=sys.stderr)
        raise typer.Exit(130) from None
    tables.write(store)
    screen.show(tables.terminal(store))
    print(f"{len(todo) - len(runs.missing(planned, store))} new rows; {folder}/leaderboard.md, leaderboard.csv, rows.jsonl")
    if runs.missing(planned, store):
        print(f"{len(runs.missing(planned, store))} cells failed; {folder}/run.log has the whole story. The same command tries them again")
        raise typer.Exit(3)


@app.command("pretrain")
def pretrain_(
    task: Annotated[str, typer.Option(help="The task whose training part is used.")] = _DEFAULT.tasks[0],
    method: Annotated[str, typer.Option(help="simclr, swav, dino, micle.")] = "simclr",
    encoder: Annotated[str, typer.Option(help="A timm encoder.")] = _DEFAULT.encoders[0],
    source: Annotated[str, typer.Option(help="Where it starts: task (random weights), imagenet+task.")] = "imagenet+task",
    pretrain: Pretrain = _DEFAULT.pretrain,
    seed: Annotated[int, typer.Option(help="Of initialisation, order and views.")] = 0,
    size: Size = None,
    data: Data = None,
    precision: Precision = _DEFAULT.precision,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for weights and pictures. Default: runs/pretrain/TASK-METHOD.")] = None,
) -> None:
    """Pretrain one encoder on a task's training part: weights that timm loads, its history, a picture of the loss and one of the views."""
    from medbench import pretraining, screen
    from medbench import run as runs

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
    runs.check_device(device)
    try:
        with screen.Screen() as display:
            made = pretraining.alone(grid, out or Path("runs/pretrain") / f"{task.replace(':', '-')}-{method}", device, display.stage)
    except KeyboardInterrupt:
        print("medbench: stopped. The same command goes on where this one stopped.", file=sys.stderr)
        raise typer.Exit(130) from None
    print("\n".join(made))


@app.command()
def table(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    metric: Annotated[str | None, typer.Option(help="Show this metric instead of the task's primary one.")] = None,
) -> None:
    """Print a results folder's leaderboard, and write leaderboard.md and leaderboard.csv anew."""
    from medbench import screen
    from medbench import table as tables
    from medbench.store import Store

    store = Store(folder)
    if not (folder / "plan.json").is_file():
        raise UserError(f"{folder} is not a results folder: it has no plan.json.", then="medbench run --out FOLDER")
    shown = tables.terminal(store, metric)
    tables.write(store)
    screen.show(shown)


@app.command("list")
def list_(what: Annotated[str, typer.Argument(help="tasks, methods, protocols, encoders or checkpoints")]) -> None:
    """List what can be named."""
    from medbench import encoders, registry

    if what == "encoders":
        print(f"{encoders.EMBEDDED}  (default: its supervised weights are installed)")
        print("\n".join(name for name in encoders.architectures() if name != encoders.EMBEDDED))
        print("FILE.py:NAME  (a function of yours that returns a module)\nfeatures:FILE  (ids and vectors in a .npz or .parquet file)")
        return
    if what == "checkpoints":
        from medbench import checkpoints, images

        print("\n".join(checkpoints.lines(images.cache_folder())))
        return
    if what == "tasks":
        lines = [(task.name, task.title) for task in registry.tasks().values()]
        lines += [(family.usage, family.title) for family in registry.families().values()]
    elif what == "methods":
        lines = [(method.name, method.title) for method in registry.methods().values()]
    elif what == "protocols":
        lines = [(protocol.name, protocol.title) for protocol in registry.protocols().values()]
    else:
        allowed = ["tasks", "methods", "protocols", "encoders", "checkpoints"]
        raise UserError(f"Cannot list '{what}'.", allowed=allowed, given=what, then="medbench list tasks")
    for name, title in lines:
        print(f"{name:<14} {title}")


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
def data_split(
    task: Annotated[str, typer.Argument(help="A task.")],
    labels: Labels = ",".join(_DEFAULT.labels),
    seeds: Seeds = _DEFAULT.seeds,
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
        tasks=(task,), labels=_split(labels), seeds=seeds, data=data, ordinal=ordinal, allow_leak=allow_leak, allow_partial=allow_partial
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


@app.command()
def cache(
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete packed images, pretrained weights and features. They are made again when needed.")
    ] = False,
) -> None:
    """Show what the cache holds, or prune it."""
    from medbench import images

    folder = images.cache_folder()
    for name in ("packs", "pretrained", "features", "cells"):
        if prune:
            images.prune(folder, name)
        entries = images.cache_entries(folder, name)
        print(f"{folder / name}: {len(entries)} entries, {sum(entries.values()) / 1e6:.1f} MB")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def main() -> None:
    """The console entry point: bad input ends with one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"medbench: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        print(f"medbench: {error.filename or 'the results folder'}: {error.strerror}. Next: mend that, then run again", file=sys.stderr)
        sys.exit(2)
