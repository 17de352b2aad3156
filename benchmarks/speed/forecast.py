"""Is what `medbench run --plan --workers N` tells what a run takes? Ten small grids of drawn images.

    uv run python benchmarks/speed/forecast.py            # five minutes of one core
    uv run python benchmarks/speed/forecast.py 0 4 8      # of these alone

Told and taken are CPU seconds of one thread, so that what else the machine does is not measured:
the clock of the trials, too, counts them. Told is what a fresh folder and a fresh cache allow. Two
workers take as long as `wall_time.makespan` gives to the jobs of the run, by what each took: that
these are handed out so is what `workers.py sleeping` and `idle.py` show by the wall. Imports,
planning, packing images and tables are not in it.

Expected: told within 25 % of taken.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from medbench import Grid, Store
from medbench.models import encoder_speed, features
from medbench.models.finetune import training_trial
from medbench.models.pretrain import recipe
from medbench.models.pretrain import training_trial as pretraining_trial
from medbench.run import (
    cost_estimate,
    execution,
    fitting,
    job_steps,
    missing_cells,
    planning,
    trial_fits,
    wall_time,
)
from medbench.run.jobs import lacking
from medbench.run.run_context import RunContext

SMALL, VIEWS = "test_resnet.r160_in1k", 1000
GRIDS: dict[str, dict[str, Any]] = {
    "linear": {"labels": ("1", "10", "100"), "seeds": 3, "pretrain_seeds": 3},
    "linear and knn, few labels": {"protocols": ("linear", "knn"), "seeds": 5},
    "svm and logreg": {"protocols": ("svm", "logreg"), "labels": ("10",), "seeds": 3},
    "two sizes": {"labels": ("100",), "encoders": (SMALL, "test_vit.r160_in1k"), "size": 64},
    "fine-tuning": {"protocols": ("finetune",), "labels": ("5/class",), "seeds": 2},
    "linear and fine-tuning": {"protocols": ("linear", "finetune"), "labels": ("10",), "seeds": 1},
    "simclr": {"methods": ("simclr",), "source": "task"},
    "dino and vicreg": {"methods": ("dino", "vicreg"), "source": "task"},
    "concat": {"methods": ("concat:random+simclr",), "source": "task"},
    "dvme": {"methods": ("dvme:random+simclr",), "source": "task", "seeds": 2},
}


def grid_of(changes: dict[str, Any]) -> Grid:
    given = {"encoders": (SMALL,), "methods": ("random",), "labels": ("5/class", "10"), "seeds": 2}
    return Grid(
        **{"tasks": ("derm",), "data": "phantom", "size": 32, "audit": False, **given, **changes}
    )


def main() -> None:
    torch.set_num_threads(1)
    recipe.QUICK_VIEWS = VIEWS
    clock = SimpleNamespace(
        perf_counter=time.process_time, time=time.time, monotonic=time.monotonic
    )
    for module in (encoder_speed, features, trial_fits, fitting, training_trial, pretraining_trial):
        vars(module)["time"] = clock
    chosen = [int(word) for word in sys.argv[1:]] or range(len(GRIDS))
    for name in (list(GRIDS)[place] for place in chosen):
        with tempfile.TemporaryDirectory() as place:
            os.environ["MEDBENCH_CACHE"] = str(Path(place, "cache"))
            measure(name, grid_of(GRIDS[name]), Path(place))


def measure(name: str, grid: Grid, place: Path) -> None:
    plan, store = planning.plan(grid), Store(place / "out")
    start = time.process_time()
    costs = cost_estimate.costs(plan, store, "cpu", trials=True)
    trials = time.process_time() - start
    told = wall_time.pieces(plan, costs, "cpu")
    parts = [sum(cost.seconds for cost in costs), sum(cost.solve_seconds or 0 for cost in costs)]
    context = execution.begin(plan, store, "cpu")
    taken, preparing, solving = observed(context)
    shown = [
        f"{wall_time.makespan(told, n):.1f} told, {wall_time.makespan(taken, n):.1f} taken"
        f" ({wall_time.makespan(told, n) / wall_time.makespan(taken, n):.2f})"
        for n in (1, 2)
    ]
    print(
        f"{name}: {len(plan.cells)} cells; 1 worker {shown[0]}; 2 workers {shown[1]}; "
        f"training and embedding {parts[0]:.1f} told, {preparing:.1f} taken; "
        f"solving {parts[1]:.1f} told, {solving:.1f} taken; trials took {trials:.1f}",
        flush=True,
    )


def observed(context: RunContext) -> tuple[list[wall_time.Piece], float, float]:
    """The jobs of a run as pieces, by the CPU seconds that each took, and the sums of both parts."""
    needs: list[tuple[str, ...]] = []
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            if what == "prepare":
                needs.append(tuple(lacking(args[0].plan, args[1], args[2], "cpu")))
            start = time.process_time()
            try:
                return function(*args)
            finally:
                spent[what].append(time.process_time() - start)

        return called

    before = job_steps.prepare, job_steps.solve
    job_steps.prepare, job_steps.solve = timed("prepare", before[0]), timed("solve", before[1])
    try:
        execution.work(context, lambda row: None, several=True)
    finally:
        job_steps.prepare, job_steps.solve = before
    assert not missing_cells.missing(context.plan, context.store), "cells failed"
    found = [
        wall_time.Piece(*one) for one in zip(needs, spent["prepare"], spent["solve"], strict=True)
    ]
    return found, sum(spent["prepare"]), sum(spent["solve"])


if __name__ == "__main__":
    main()
