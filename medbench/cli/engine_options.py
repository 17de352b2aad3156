"""Where a run computes: in this process, in several, as a SLURM array, on a Ray cluster.

It also holds `status`.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medbench.cli.json_output import Json, put_records
from medbench.cli.options import app, filled, outputs, stores_of
from medbench.schema import Grid, UserError

if TYPE_CHECKING:
    from medbench.run.engines.sharding import Shard
    from medbench.run.engines.slurm import Request
    from medbench.run.plans import Plan
    from medbench.run.store import Store
    from medbench.schema import Row

ENGINES = ("slurm", "ray")
Devices = Annotated[
    str | None,
    typer.Option(
        help="One worker process for each of these devices: cuda:0,cuda:1. auto: every visible GPU.",
        callback=filled,
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        help="Number of worker processes, spread over --devices. auto: one for each GPU.",
        callback=filled,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        help="Run only this part of the grid, such as 2/4, into its own --out; medbench merge joins the parts.",
        callback=filled,
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="slurm: run as an array of jobs. ray: run on a Ray cluster.",
        callback=filled,
    ),
]
Jobs = Annotated[
    int | None, typer.Option(help="SLURM: number of jobs that share the work. Default: 1.")
]
Gpus = Annotated[
    int | None,
    typer.Option(
        help="GPUs of each job (SLURM) or of each piece of work (Ray). Default: 0 on SLURM, on Ray 1 if there are any."
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        help="SLURM: time limit of a job, such as 4:00:00, after which it is queued again. Default: 4:00:00.",
    ),
]
Partition = Annotated[str | None, typer.Option(help="SLURM: the partition.", callback=filled)]
Account = Annotated[str | None, typer.Option(help="SLURM: the account.", callback=filled)]
Print = Annotated[
    bool,
    typer.Option("--print", help="SLURM: print the script for sbatch and stop."),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray: address of the cluster that this machine belongs to. Default: auto.",
        callback=filled,
    ),
]


@dataclass(frozen=True)
class Engine:
    """Where and how a run computes, as the command line says.

    kind: one of ENGINES, or "" for this machine. places: the device of each worker here.
    """

    kind: str
    places: Sequence[str]
    request: Request
    address: str | None = None
    printed: bool = False
    shard: Shard | None = None

    def execute(self, grid: Grid, plan: Plan, store: Store, on_row: Callable[[Row], None]) -> None:
        """Compute a plan's missing cells."""
        from medbench.run import execution
        from medbench.run.engines import local

        if self.kind == "slurm":
            self._submit(grid, plan, store, on_row)
        elif self.kind == "ray":
            from medbench.run.engines import ray_cluster

            ray_cluster.execute(
                plan, store, address=self.address, gpus=self.request.gpus, on_row=on_row
            )
        elif len(self.places) > 1:
            local.execute(grid, plan, store, self.places, shard=self.shard, on_row=on_row)
        else:
            execution.execute(plan, store, device=self.places[0], on_row=on_row)

    def _submit(self, grid: Grid, plan: Plan, store: Store, on_row: Callable[[Row], None]) -> None:
        from medbench.run import missing_cells
        from medbench.run.engines import slurm

        if not missing_cells.missing(plan, store):
            return
        alive = slurm.states(store.folder)
        if alive:
            print(
                f"{len(alive)} earlier jobs are still there: {', '.join(alive)}. No new job is submitted.",
                file=sys.stderr,
            )
        else:
            number = slurm.submit(grid, plan, store, self.request, self.shard)
            print(
                f"Submitted SLURM array {number} of {self.request.jobs}; logs in {store.folder / slurm.LOGS}",
                file=sys.stderr,
            )
        try:
            slurm.watch(plan, store, on_row)
        except KeyboardInterrupt:
            shown = shlex.quote(str(store.folder))
            print(
                f"The jobs go on. To see them: medbench status {shown}, or the same command again. To end them: medbench status {shown} --cancel",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None


def engine_of(
    kind: str | None,
    places: Sequence[str],
    shard: Shard | None,
    *,
    jobs: int | None,
    gpus: int | None,
    minutes: str | None,
    partition: str | None,
    account: str | None,
    printed: bool,
    address: str | None,
    keeps: bool,
) -> Engine:
    """Return the engine that these options ask for. keeps: `Grid.keep_weights`.

    Raises UserError for those that do not fit each other.
    """
    from medbench.run.engines.slurm import Request, minutes_of

    if kind and kind not in ENGINES:
        raise UserError(
            f"Unknown engine '{kind}'.",
            allowed=ENGINES,
            given=kind,
            then="leave --engine out to run on this machine",
        )
    only = {
        "slurm": {
            "--jobs": jobs,
            "--time": minutes,
            "--partition": partition,
            "--account": account,
            "--print": printed or None,
        }
    }
    only["ray"] = {"--address": address}
    for owner, options in only.items():
        for name in (
            name for name, value in options.items() if value is not None and kind != owner
        ):
            raise UserError(
                f"{name} goes with --engine {owner}.",
                then=f"add --engine {owner}, or leave {name} out",
            )
    if kind == "ray" and keeps:
        raise UserError(
            "--keep-weights keeps files in the cache of the machine that trains, which --engine ray does not bring here.",
            then="leave --keep-weights out, or --engine slurm, whose jobs share a cache",
        )
    if gpus is not None and not kind:
        raise UserError(
            "--gpus goes with --engine slurm or ray.", then="--devices cuda:0,cuda:1, a worker each"
        )
    if kind and len(places) > 1:
        raise UserError(
            f"--devices and --workers are of this machine, not of --engine {kind}.",
            then="--jobs 8 (SLURM), --gpus 1",
        )
    for name, value, least in (("--jobs", jobs, 1), ("--gpus", gpus, 0)):
        if value is not None and not least <= value <= 10_000:
            raise UserError(f"{name} {value} is out of range.", allowed=[f"{least} to 10000"])
    default = Request()
    request = Request(
        jobs or 1,
        default.gpus if gpus is None else gpus,
        minutes_of(minutes or "4:00:00"),
        partition,
        account,
    )
    if kind == "ray" and gpus is None:
        request = Request(gpus=-1)
    return Engine(kind or "", places, request, address, printed, shard)


@app.command("status")
def status_command(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel",
            help="End its SLURM jobs. Finished rows stay, and the same run can continue later.",
        ),
    ] = False,
    as_json: Json = None,
) -> None:
    """Say how far a run is, wherever it computes.

    Rows, failures, its SLURM jobs, and what each worker is at.
    """
    from medbench.run import presence
    from medbench.run.engines import slurm

    outputs(as_json)
    (store,) = stores_of([folder])
    if cancel:
        ended = slurm.cancel(folder)
        print(
            f"Ended {len(ended)} SLURM jobs: {', '.join(ended)}"
            if ended
            else "No SLURM job of this folder is alive."
        )
    rows, cells, reasons = store.rows(), store.plan().cells, store.failures()
    left = [entry for entry in cells if entry.fingerprint not in rows]
    failed = sum(entry.fingerprint in reasons for entry in left)
    print(
        f"{len(cells) - len(left)} of {len(cells)} rows, {failed} failed, {len(left) - failed} to come"
    )
    workers = presence.working(folder)
    counts = {"cells": len(cells), "rows": len(cells) - len(left), "failed": failed}
    put_records(
        [{"kind": "folder", **counts}, *({"kind": "worker", **vars(one)} for one in workers)],
        as_json,
    )
    if slurm.arrays(folder) and not cancel:
        alive = slurm.states(folder)
        said = ", ".join(f"{n} {state.lower()}" for state, n in Counter(alive.values()).items())
        print(f"SLURM {', '.join(slurm.arrays(folder))}: {said or 'no job is left'}")
    for one in workers:
        print(
            f"{one.machine} {one.process} ({one.device}): {one.at or 'begins'}, for {time.time() - one.since:,.0f} s"
        )
