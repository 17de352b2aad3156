"""How long a plan takes in several processes.

Its jobs handed out as `jobs.take` hands them out, by what each still costs.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from medbench.run.cost_estimate import Cost
from medbench.run.jobs import jobs_of, lacking, longest_first
from medbench.run.missing_cells import reading_order
from medbench.run.plans import Plan

#: Seconds until workers have imported what they compute with: of one core, as
#: benchmarks/speed/workers.txt has them.
START = 4.0


@dataclass(frozen=True)
class Piece:
    """A job as far as time goes.

    shared: the names of what it trains or embeds, which others may need, too. preparing: seconds of
    that. seconds: of the rest.
    """

    shared: tuple[str, ...]
    preparing: float
    seconds: float


def pieces(plan: Plan, costs: Sequence[Cost], device: str) -> list[Piece]:
    """Return the missing jobs of a plan, in the order in which several processes take them.

    A cell or an encoder whose time is not known counts nothing.
    """
    jobs = {
        job: cost
        for cost in sorted(costs, key=lambda cost: reading_order(plan, cost.unit))
        for job in jobs_of(plan, cost.unit)
    }
    found: list[Piece] = []
    borne: set[int] = set()  # the first job of a unit bears what all of it needs
    for job in longest_first(list(jobs)):
        cost = jobs[job]
        todo = [planned for planned in job.cells if planned in cost.solving]
        if todo:
            shared = tuple(lacking(plan, job, todo, device))
            preparing = (cost.seconds or 0.0) if shared and id(cost) not in borne else 0.0
            borne |= {id(cost)} if shared else set()
            solving = sum(cost.solving[planned] or 0.0 for planned in todo)
            found.append(Piece(shared, preparing, solving))
    return found


def makespan(found: Sequence[Piece], workers: int) -> float:
    """Return the seconds until the last of the pieces is done by so many workers.

    Each of `workers` takes the first piece that needs nothing which another one is preparing.
    """
    left = list(found)
    ready: dict[str, float] = {}  # what is shared -> when it is there
    free = [0.0] * workers
    end = 0.0
    while left:
        now = heapq.heappop(free)
        piece = next(
            (one for one in left if all(ready.get(name, now) <= now for name in one.shared)), None
        )
        if piece is None:  # all that is left waits for others
            heapq.heappush(
                free, min(max(ready[name] for name in one.shared if name in ready) for one in left)
            )
            continue
        left.remove(piece)
        prepared = now + (
            piece.preparing if any(name not in ready for name in piece.shared) else 0.0
        )
        ready.update({name: prepared for name in piece.shared if name not in ready})
        end = max(end, prepared + piece.seconds)
        heapq.heappush(free, prepared + piece.seconds)
    return end


def sentence(plan: Plan, costs: Sequence[Cost], workers: int, device: str, planning: float) -> str:
    """Write how long a plan takes with several workers, as `--plan --workers N` shows it.

    planning: seconds that the plan took, which workers are given.
    """
    found = pieces(plan, costs, device)
    one, several = (makespan(found, n) for n in (1, workers))
    unknown = {
        "the work of encoders that failed": any(cost.seconds is None for cost in costs),
        "the solving that no row here tells of": any(cost.solve_seconds is None for cost in costs),
    }
    and_more = "".join(f", and {what}" for what, lacks in unknown.items() if lacks)
    begin = planning + START
    return f"{workers} workers: about {begin + several:,.0f} s of wall time{and_more}; one at their speed: {begin + one:,.0f} s"
