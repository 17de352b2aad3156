"""`run_command` and `pretrain`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from medbench.cli.engine_options import (
    Account,
    Address,
    Devices,
    Engine,
    EngineOption,
    Gpus,
    Jobs,
    Partition,
    Print,
    ShardOption,
    Time,
    Workers,
    engine_of,
)
from medbench.cli.grid_options import DEFAULT, SWITCHES, VALUES, given_fields, option_of, takes_grid
from medbench.cli.json_output import Json, put_records
from medbench.cli.options import Device, Out, Rehash, app, outputs, path_option
from medbench.schema import Grid, UserError, counted
from medbench.system.file_names import as_file_name

if TYPE_CHECKING:
    from medbench.run.plans import Plan
    from medbench.run.store import Store
    from medbench.run.study import Study
    from medbench.schema import PlannedCell


ENGINE = (
    "devices",
    "workers",
    "shard",
    "engine",
    "jobs",
    "gpus",
    "time",
    "partition",
    "account",
    "print_script",
    "address",
)


@app.command("run")
@takes_grid("study", *VALUES, "device", *ENGINE, "out", *SWITCHES, "rehash", "plan", "as_json")
def run_command(
    context: typer.Context,
    grid: Grid,
    study: Annotated[
        str | None,
        typer.Argument(
            help="Python file with a constant GRID. Options on the command line override it."
        ),
    ] = None,
    device: Device = "auto",
    devices: Devices = None,
    workers: Workers = None,
    shard: ShardOption = None,
    engine: EngineOption = None,
    jobs: Jobs = None,
    gpus: Gpus = None,
    time: Time = None,
    partition: Partition = None,
    account: Account = None,
    print_script: Print = False,
    address: Address = None,
    out: Out = None,
    rehash: Rehash = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the cells and their cost, and stop.")
    ] = False,
    as_json: Json = None,
) -> None:
    """Compare pretraining methods over tasks and label budgets, and write a leaderboard.

    Run it again to continue.
    """
    from medbench.run import study as studies
    from medbench.run import validation

    chosen = studies.load_study(study) if study is not None else None
    grid = chosen.but(grid, given_fields(context)) if chosen else grid
    # a plan does this again, and what a plan imports takes longer than a wrong name should
    with chosen.blamed() if chosen else nullcontext():
        validation.resolve_grid(grid)

    from medbench.cli import screen
    from medbench.run import cost_estimate, missing_cells, planning, wall_time
    from medbench.run.engines import local, slurm
    from medbench.run.engines.sharding import Shard
    from medbench.run.other_results import other_results
    from medbench.run.store import Store
    from medbench.system.devices import check_device, divide_threads, resolve

    places = local.devices_of(device, devices or "", workers or "")
    for place in dict.fromkeys(places):
        check_device(place, grid.precision)
    part = Shard.parse(shard) if shard else None
    outputs(as_json)
    where = engine_of(
        engine,
        places,
        part,
        jobs=jobs,
        gpus=gpus,
        minutes=time,
        partition=partition,
        account=account,
        printed=print_script,
        address=address,
        keeps=grid.keep_weights,
    )
    if not plan:
        Store(out or Path("runs/TASK")).check()
    began = perf_counter()
    with screen.Screen():
        planned = planning.plan(grid)
    took = perf_counter() - began
    planned = part.of(planned) if part else planned
    store = Store(out or _folder(planned, chosen))
    if chosen and chosen.text:
        # what it asks; the file holds commands and expected numbers
        print(chosen.text.partition("\n\n")[0], file=sys.stderr)
    if not plan:
        store.check()
    store.check_crossed(planned.file)
    if others := other_results(store, planned.file):
        print(others, file=sys.stderr)
    given_up = [] if plan or part or where.printed else store.give_up_failed(planned.file)
    if given_up:
        text = f"{', '.join(given_up)} failed before, and this run does not ask for it: it is left out of the tables of {store.folder}."
        print(text, file=sys.stderr)
    rows = store.rows()
    todo = missing_cells.missing(planned, store, done=rows)
    for note in planned.notes:
        print(note, file=sys.stderr)
    for older in store.older(planned.file, rows):
        print(
            f"{older.sentence(store.folder)}. {'A run makes them again.' if plan else 'They are made again.'}",
            file=sys.stderr,
        )
    if plan:
        if len(places) > 1:
            # each worker is as fast as this process is with its share of the cores
            divide_threads(len(places))
        speeds = cost_estimate.Speeds(planned, places[0])
        costs = cost_estimate.costs(planned, store, places[0], speeds, trials=len(places) > 1)
        put_records(cost_estimate.records(costs) if as_json else [], as_json)
        several = (
            [wall_time.sentence(planned, costs, len(places), resolve(places[0]), took)]
            if len(places) > 1
            else []
        )
        screen.show(
            [
                *screen.plan_table(costs),
                *several,
                *map(str, cost_estimate.more_pretrainings(planned, speeds)),
            ]
        )
    elif where.printed:
        print(slurm.script(grid, store.folder, where.request, part), end="")
    else:
        _compute(grid, planned, store, todo, where, as_json)


def _folder(planned: Plan, study: Study | None) -> Path:
    """Where results go that were given no folder: named by the study, else by the tasks."""
    return Path("runs") / (
        study.name if study else "+".join(as_file_name(data.task.name) for data in planned.tasks)
    )


def _compute(
    grid: Grid,
    planned: Plan,
    store: Store,
    todo: Sequence[PlannedCell],
    where: Engine,
    as_json: Path | None,
) -> None:
    """Run what is missing, and show and write the leaderboard. Exit code 3 where cells failed."""
    from medbench.cli import screen
    from medbench.report import leaderboard
    from medbench.report.answer import answers
    from medbench.run import cost_estimate, missing_cells

    folder = store.folder
    with screen.of_run(
        planned, store, todo, where.places[0], 0 if where.kind else len(where.places)
    ) as display:
        where.execute(grid, planned, store, display.row)
    found = leaderboard.leaderboards(store)
    leaderboard.write(store, found)
    put_records(leaderboard.records(found) if as_json else [], as_json)
    screen.show(leaderboard.terminal(store, found=found))
    left = missing_cells.missing(planned, store)
    for text in answers(leaderboard.standing(found)):
        print(text)
    print(
        f"{counted(len(todo) - len(left), 'new row')}; {folder}/leaderboard.md, leaderboard.csv, rows.jsonl"
    )
    if left:
        print(
            f"{counted(len(left), 'cell')} failed; {folder}/run.log has the whole story. Fix what it names; the same command tries again"
        )
        raise typer.Exit(3)
    for note in cost_estimate.longer_pretraining(planned, store.rows().values()):
        print(note)
    shown = shlex.quote(str(folder))
    print(
        f"Next: medbench compare {shown} (is the difference real?), medbench report {shown} (all of it as one page)"
    )


@app.command("pretrain")
@takes_grid(
    "task",
    "method",
    "augmentations",
    "encoder",
    "source",
    "pretrain",
    "seed",
    "size",
    "unlabelled",
    "data",
    "precision",
    "device",
    "rehash",
    "out",
)
def pretrain_(
    grid: Grid,
    task: Annotated[str, typer.Option(help="Task whose training part is used.")] = DEFAULT.tasks[0],
    method: Annotated[
        str,
        typer.Option(
            help="simclr, swav, dino, micle, lejepa, vicreg, barlow, byol, mocov3; mae for a ViT; one of your own. See medbench list methods."
        ),
    ] = "simclr",
    augmentations: Annotated[str, option_of("augmentations")] = DEFAULT.augmentations[0],
    encoder: Annotated[str, typer.Option(help="A timm encoder.")] = DEFAULT.encoders[0],
    source: Annotated[
        str, typer.Option(help="Start: task (random weights) or imagenet+task.")
    ] = "imagenet+task",
    seed: Annotated[int, typer.Option(help="Seed of initialisation, order and views.")] = 0,
    device: Device = "auto",
    rehash: Rehash = False,
    out: Annotated[
        Path | None,
        path_option(help="Folder for weights and pictures. Default: runs/pretrain/TASK-METHOD."),
    ] = None,
) -> None:
    """Pretrain one encoder on a task's training part.

    Weights that timm loads, its history, a picture of the loss and one of the views.
    """
    from medbench.cli import screen
    from medbench.run import pretrain_only
    from medbench.system import devices

    one = {
        "tasks": (task,),
        "methods": (method,),
        "encoders": (encoder,),
        "augmentations": (augmentations.strip(),),
    }
    grid = replace(grid, **one, source=source, pretrain_seeds=seed + 1)  # type: ignore[arg-type]
    devices.check_device(device, grid.precision)
    if not 0 <= seed < 1000:
        raise UserError(
            f"--seed {seed} is out of range.",
            allowed=["0 to 999"],
            then="medbench pretrain --seed 0",
        )
    with screen.Screen():
        made = pretrain_only.alone(grid, out, device)
    if made:  # under torchrun one process speaks
        print("\n".join(made))
