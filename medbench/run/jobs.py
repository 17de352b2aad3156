"""What a worker takes at a time.

A unit's cells that are solved together on its features, or one fine-tuning, of which a unit may
hold hours.

Work is taken, not waited for. Whoever finds a job taken goes on to the next, and waits only where
all that is left is taken. So do several processes of one command, and several commands with one
folder.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from medbench.data.evaluation_sets import EvaluationSet
from medbench.run.plans import Plan
from medbench.run.prepare import features_key, have_features, pretrained_folder
from medbench.run.units import Unit
from medbench.schema import Cell, PlannedCell, fingerprint
from medbench.system import locks

#: Seconds between two looks at work that others hold, at first and at most.
PAUSE, LONGEST = 0.05, 0.5
#: Held jobs in a row after which some are leapt over.
LEAPS = 4


@dataclass(frozen=True, eq=False)
class Job:
    """Cells that one worker computes at a time.

    pixels: whether it trains on images: the cells are then one draw of one protocol, else all those
    of the unit on features.
    """

    unit: Unit
    cells: tuple[PlannedCell, ...]
    pixels: bool

    @property
    def name(self) -> str:
        """The name of its lock: 16 hex digits, of its first cell or of its unit."""
        return (
            self.cells[0].fingerprint[:16]
            if self.pixels
            else fingerprint(self.cells[0].cell.unit)[:16]
        )

    def __str__(self) -> str:
        first = self.cells[0].cell
        return (
            f"{self.unit.name} {first.protocol} {first.labels} seed {first.seed}"
            if self.pixels
            else self.unit.name
        )


def jobs_of(plan: Plan, unit: Unit) -> list[Job]:
    """Return the jobs of a unit, in the order of work.

    All cells on features are one job, and come first; of a protocol that trains on pixels each draw
    is one.
    """
    together: list[PlannedCell] = []
    apart: dict[Cell, list[PlannedCell]] = {}
    for planned in unit.cells:
        if plan.protocols[planned.cell.protocol].needs == "images":
            apart.setdefault(replace(planned.cell, target=""), []).append(planned)
        else:
            together.append(planned)
    first = [Job(unit, tuple(together), False)] if together else []
    return first + [Job(unit, tuple(cells), True) for cells in apart.values()]


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """Order jobs for several processes.

    Those on features as they are, then, of what trains on pixels, the largest labelled subsets
    first: no long job begins when all others have ended.
    """
    return sorted(jobs, key=lambda job: -job.cells[0].n_requested if job.pixels else -math.inf)


def take(
    jobs: Sequence[Job],
    attempt: Callable[[Job], bool],
    chance: Callable[[int], int] = secrets.randbelow,
) -> None:
    """Attempt each job until it is done by somebody.

    attempt(job) -> False where another process holds it, or what it needs.

    Where many are held one after the other some are leapt over, and come back to: else each of 64
    processes would ask for the 63 jobs of the others before it finds one that is free. chance(n) ->
    a number below n.
    """
    left, pause = list(jobs), PAUSE
    while left:
        held, leapt = _once(left, attempt, chance)
        if len(held) == len(left) and leapt:
            held, _ = _once(left, attempt, lambda n: 0)
        if len(held) == len(left):
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
        else:
            pause = PAUSE
        left = held


def _once(
    left: Sequence[Job], attempt: Callable[[Job], bool], chance: Callable[[int], int]
) -> tuple[list[Job], bool]:
    """Walk along the jobs once.

    Those that are not done after it, and whether some were leapt over.
    """
    held: list[Job] = []
    misses, place, leapt = 0, 0, False
    while place < len(left):
        if attempt(left[place]):
            misses = 0
        else:
            misses += 1
            leap = chance(misses) if misses > LEAPS else 0
            leapt |= leap > 0
            held += left[place : place + leap + 1]
            place += leap
        place += 1
    return held, leapt


def sets_of(plan: Plan, unit: Unit, todo: Iterable[PlannedCell]) -> list[EvaluationSet | None]:
    """Return the sets of images whose features these cells of a unit take.

    None, which is the task's own, comes first; then those that lie apart.
    """
    asked = {planned.cell.target for planned in todo}
    return [
        None,
        *(target for target in plan.targets_of(unit.data) if target.apart and target.name in asked),
    ]


def lacking(plan: Plan, job: Job, todo: Sequence[PlannedCell], device: str) -> list[str]:
    """Name what has to be trained or embedded before these cells of a job.

    Names of work that other jobs, and other results folders, share.
    """
    found = []
    for part in job.unit.members or (job.unit,):
        sets = (
            []
            if job.pixels
            else [
                target
                for target in sets_of(plan, job.unit, todo)
                if not have_features(plan, part, device, target)
            ]
        )
        folder = pretrained_folder(plan, part, device)
        if part.recipes and (job.pixels or sets) and not (folder / "weights.pth").exists():
            found.append(f"train-{folder.name[:32]}")
        found += [f"embed-{features_key(part, device, target)[:32]}" for target in sets]
    return sorted(set(found))


@contextmanager
def preparing(cache_dir: Path, names: Sequence[str]) -> Iterator[bool]:
    """Hold what `lacking` names while inside; give whether it is held.

    False where another process trains or embeds some of it: then nothing is held. Releases it at
    the end.
    """
    folder = cache_dir / "preparing"
    if names:
        folder.mkdir(parents=True, exist_ok=True)
    with locks.attempted(*(folder / name for name in names)) as held:
        yield held
