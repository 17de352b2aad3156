"""The command line: parses, calls, prints. Everything it does is a function of the package.

Exit codes: 0 done, 1 a check differs, 2 bad input (one line says what), 3 some cells failed, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import csv
import errno
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medbench.spec import Grid, UserError

if TYPE_CHECKING:
    from medbench.store import Store

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
WeightsFile = Annotated[
    str | None,
    typer.Option("--weights", help="A checkpoint file of yours for the encoder, or an official one by name (medbench list checkpoints)."),
]
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
    if made:  # under torchrun one process speaks
        print("\n".join(made))


Folders = Annotated[list[Path], typer.Argument(help="Results folders.")]
Metric = Annotated[str | None, typer.Option(help="Another metric than the task's primary one.")]


@app.command()
def table(
    folder: Folders,
    metric: Metric = None,
    rows: Annotated[str, typer.Option(help="What stands in rows, as method,protocol. What differs and is not named joins them.")] = "",
    cols: Annotated[str, typer.Option(help="What stands in columns, as task,labels.")] = "",
    form: Annotated[str, typer.Option("--format", help="terminal, markdown, csv, latex, html.")] = "",
    spread: Annotated[str, typer.Option(help="Beside each mean: interval (95 %), sd (over seeds), none.")] = "",
    methods_text: Annotated[
        bool, typer.Option("--methods-text", help="A paper's paragraph that says what was done, and its BibTeX.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of the screen.")] = None,
) -> None:
    """Print leaderboards. One folder and no option: also write leaderboard.md and leaderboard.csv anew; else a table as a paper needs it."""
    from medbench import paper, screen
    from medbench import table as tables

    stores = _stores(folder)
    if methods_text:
        _put(paper.methods_text(tables.boards(*stores)), out)
        return
    if len(stores) == 1 and not (rows or cols or form or spread or out):
        shown = tables.terminal(stores[0], metric)
        tables.write(stores[0])
        screen.show(shown)
        return
    form = _choice("format", form or (tables.FORMAT_OF.get(out.suffix, "markdown") if out else "terminal"), tables.FORMATS)
    spread = _choice("spread", spread or "interval", tables.SPREADS)
    pivot = tables.pivot(tables.boards(*stores), _split(rows), _split(cols), metric)
    if form == "terminal" and not out:
        screen.show(tables.pivot_terminal(pivot, spread))
    else:
        _put(tables.render(pivot, "markdown" if form == "terminal" else form, spread), out)


@app.command()
def compare(
    folder: Folders,
    metric: Metric = None,
    margin: Annotated[float, typer.Option(help="A difference that is too small to matter, in the metric's own unit.")] = 0.01,
    permutations: Annotated[int, typer.Option(help="Also a permutation test beside each pair, of so many permutations; 0: none.")] = 0,
) -> None:
    """Say of each two methods which is better, that they are practically equal, or what it would take to know; and the labels each saves."""
    from medbench import compare as compares

    if not 0 <= margin < 1 or permutations < 0:
        raise UserError(f"A margin lies from 0 to 1 and permutations are 0 or more; given {margin:g} and {permutations}.")
    print("\n".join(compares.sentences(_stores(folder), metric, margin, permutations)))


@app.command()
def merge(folder: Folders, out: Annotated[Path, typer.Option(help="The folder that shall hold all rows.")]) -> None:
    """Join results folders of several machines into one."""
    from medbench import merge as merges

    added, done = merges.merge(folder, out)
    print(f"{added} new rows, {done} in all in {out}. Next: medbench table {out}")


@app.command()
def plot(
    folder: Folders,
    kind: Annotated[
        str,
        typer.Option(
            help="curves, heatmap, cd, cost, reliability, confusion, attention; several with commas. Default: all that can be drawn."
        ),
    ] = "",
    metric: Metric = None,
    form: Annotated[str, typer.Option("--format", help="png, svg, pdf; several with commas.")] = "pdf,png",
    width: Annotated[str, typer.Option(help="Of a paper: column (3.3 in) or page (6.9 in). Default: as the figure needs.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the figures. Default: figures/ in the first results folder.")] = None,
) -> None:
    """Draw figures for a paper: readable in grey and by the colour-blind."""
    from medbench import plot as plots
    from medbench import table as tables

    stores = _stores(folder)
    kinds = [_choice("kind", name, plots.KINDS) for name in _split(kind)]
    forms = [_choice("format", name, plots.FORMATS) for name in _split(form)]
    if width:
        _choice("width", width, plots.WIDTHS)
    for file in plots.draw(tables.boards(*stores), kinds, out or folder[0] / "figures", forms, metric=metric, width=width):
        print(file)


def _stores(folders: list[Path]) -> list[Store]:
    from medbench.store import Store

    for folder in folders:
        if not (folder / "plan.json").is_file():
            raise UserError(f"{folder} is not a results folder: it has no plan.json.", then="medbench run --out FOLDER")
    return [Store(folder) for folder in folders]


def _choice(what: str, given: str, allowed: Collection[str]) -> str:
    if given not in allowed:
        raise UserError(f"Unknown {what} '{given}'.", allowed=allowed, given=given)
    return given


def _put(text: str, out: Path | None) -> None:
    if out is None:
        print(text, end="")
    else:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{out} cannot be written: {error.strerror}.") from error


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
    width = max(len(name) for name, _ in lines)
    for name, title in lines:
        print(f"{name:<{width}}  {title}")


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
def doctor(
    encoder: Annotated[
        str | None, typer.Option(help="A timm encoder or FILE.py:NAME. Without one: device, versions, disk and data.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A checkpoint file of yours, or the name of an official one.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Show it this task's images: for weights trained on such. Default: natural images.")
    ] = None,
    data: Data = None,
    size: Annotated[int | None, typer.Option(help="Image size in pixels. Default: as in run.")] = None,
    readout: Annotated[str, typer.Option(help="pool (the encoder's own), cls, mean, cls+mean, last4.")] = _DEFAULT.readouts[0],
) -> None:
    """Does an encoder get its images as it was trained? Exit code 1 where something was found."""
    from medbench import doctor as doctors

    print("\n".join(doctors.device_report()))
    if encoder is None:
        return
    net, examined, shown, declared = doctors.subject(encoder, file=weights, size=size, readout=readout, task=task, root=data)
    report = doctors.diagnose(net, examined, shown, declared)
    print("\n".join([f"\n{examined.name}, {examined.size} px:", *report.lines()]))
    if report.findings:
        raise typer.Exit(1)


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
    """The console entry point: bad input ends with one line and exit code 2.

    Threads that wait give their core away: on a machine that others use too, torch's threads would otherwise spin for each other at every
    layer (a pretraining step on two busy cores takes 4 to 9 times as long).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
