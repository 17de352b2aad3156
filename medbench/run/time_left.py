"""How long a run still takes.

What is left of each kind of work, at the speed that the kind had so far in this run, else in this
folder's rows.

What has no speed yet borrows one: a pretraining the embedding's, a budget another budget's, a head
of a fusion's own the probe's. The three ratios that this takes are measured by
benchmarks/speed/time_left.py.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medbench.models import encoder_speed
from medbench.run.cost_estimate import PASSES
from medbench.run.jobs import sets_of
from medbench.run.missing_cells import missing, needs_images
from medbench.run.plans import Plan
from medbench.run.prepare import (
    embedding_stage,
    features_key,
    have_features,
    pretrained_folder,
    training_stage,
)
from medbench.run.store import Store
from medbench.run.trial_fits import GROWTH
from medbench.run.units import Unit
from medbench.schema import PlannedCell, Progress, Row
from medbench.system import devices
from medbench.system.progress_listener import speaker

#: Fits of a probe that a head of a fusion's own takes, of those of all draws of all budgets.
HEAD = 15.0
#: A head of a fusion's own takes as the images of its draw to this power, a probe to `GROWTH`.
HEAD_GROWTH = 0.5


class Fit(NamedTuple):
    """What cells share that take equally long.

    own_head: of a fusion. parts: encoders side by side. images: of a draw.
    """

    method: str
    own_head: bool
    parts: int
    protocol: str
    labels: str
    target: str
    images: int


@dataclass
class Stage:
    """Work that reports its progress, so often as it is left.

    kind: what has one speed. amount: of it, each time. done: this time, by process `by`; None: not
    begun.
    """

    kind: tuple[str, ...]
    amount: float
    times: int
    done: float | None = None
    by: int = 0


class Speeds:
    """Hold seconds of work, and how much was done in them, by kind."""

    def __init__(self) -> None:
        self.seconds: Counter[tuple[object, ...]] = Counter()
        self.amount: Counter[tuple[object, ...]] = Counter()

    def add(self, kind: tuple[object, ...], seconds: float, amount: float) -> None:
        """Add seconds in which `amount` of a kind of work was done."""
        self.seconds[kind] += seconds  # type: ignore[assignment]  # a Counter of floats
        self.amount[kind] += amount  # type: ignore[assignment]

    def one(self, *kinds: tuple[object, ...]) -> float | None:
        """Return the seconds that one takes, of the first of these kinds that was measured."""
        return next(
            (self.seconds[kind] / self.amount[kind] for kind in kinds if self.amount[kind]), None
        )


class TimeLeft:
    """Estimate how long one run still takes.

    It is told what `report_progress` and `on_row` tell, and asked for `seconds`. All time from one
    report of a process to its next belongs to the work that the next tells of, so that none is left
    out. workers: processes that share the work.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        device: str = "auto",
        clock: Callable[[], float] = time.perf_counter,
        workers: int = 1,
    ):
        self.clock = clock
        self.stages: dict[str, Stage] = {}
        self.fits: Counter[Fit] = Counter()
        # of this run and this folder; of embeddings of earlier runs
        self.speeds, self.before = Speeds(), Speeds()
        self.kinds: dict[str, Fit] = {}  # fingerprint of a cell -> what it is
        self.last = dict.fromkeys(range(workers), clock())  # when each process told something
        self.fitting: Counter[int] = Counter()  # seconds of a fit in hand, which tells its steps
        rows = store.rows()
        todo = {unit: missing(plan, store, unit, rows) for unit in plan.units}
        if any(todo.values()):
            self._count_stages(plan, todo.items(), devices.resolve(device))
        for unit in plan.units:
            for planned in unit.cells:
                self.kinds[planned.fingerprint] = _fit(unit, planned)
                if planned.fingerprint in rows:
                    self._measure(_fit(unit, planned), rows[planned.fingerprint].cost["seconds"])
                else:
                    self.fits[_fit(unit, planned)] += 1

    def _count_stages(
        self, plan: Plan, todo: Iterable[tuple[Unit, Sequence[PlannedCell]]], device: str
    ) -> None:
        counted: set[str] = set()  # a fusion's members are often units of their own
        for unit, cells in todo:
            for part in unit.members or (unit,) if cells else ():
                solved = [
                    one for one in cells if plan.protocols[one.cell.protocol].needs == "features"
                ]
                lacking = [
                    target
                    for target in (sets_of(plan, unit, solved) if solved else ())
                    if not have_features(plan, part, device, target)
                ]
                folder = pretrained_folder(plan, part, device)
                trains = (
                    part.recipes
                    and (lacking or needs_images(plan, cells))
                    and not (folder / "weights.pth").exists()
                )
                if trains and str(folder) not in counted:
                    counted.add(str(folder))
                    self._add(
                        training_stage(part),
                        ("train", part.method.name, part.encoder.name),
                        sum(r.views for r in part.recipes),
                    )
                speed = (
                    encoder_speed.measured_speed(plan.cache_dir, part.encoder, device)
                    if lacking or trains
                    else None
                )
                if speed:
                    self.before.add(("embed",), 1 / speed, 1)
                for target in lacking:
                    if features_key(part, device, target) not in counted:
                        counted.add(features_key(part, device, target))
                        images = len(target.split) if target else len(part.data.hashes)
                        self._add(
                            embedding_stage(part, target), ("embed", part.encoder.name), images
                        )

    def _add(self, name: str, kind: tuple[str, ...], amount: float) -> None:
        self.stages.setdefault(name, Stage(kind, amount, 0)).times += 1

    def heard(self, progress: Progress) -> None:
        """Take what a stage reports."""
        stage, spent = self.stages.get(progress.stage), self._spent()
        if stage is None or not stage.times:
            if progress.unit == "steps":
                self.fitting[speaker()] += spent  # type: ignore[assignment]
            return
        self.fitting.pop(speaker(), None)  # of one that failed
        self._drop_failed(stage)
        # networks are built before, and what a killed run left was done before this one
        if stage.done is None:
            self.speeds.add(("begin", stage.kind[0]), spent, 1)
        else:
            for kind in (stage.kind, stage.kind[:1]):
                self.speeds.add(kind, spent, progress.done - stage.done)
        stage.done, stage.by = progress.done, speaker()
        if progress.done >= progress.total:
            stage.times, stage.done = stage.times - 1, None

    def row(self, row: Row) -> None:
        """Take a finished cell."""
        self._drop_failed(None)
        kind = self.kinds[row.fingerprint]
        self._measure(kind, self._spent() + self.fitting.pop(speaker(), 0.0))
        if self.fits[kind]:
            self.fits[kind] -= 1

    def _drop_failed(self, now: Stage | None) -> None:
        """End what this process was at where it does something else: it failed."""
        for stage in self.stages.values():
            if stage is not now and stage.done is not None and stage.by == speaker():
                stage.times, stage.done = stage.times - 1, None

    def _measure(self, kind: Fit, seconds: float) -> None:
        for key in _like(kind):
            self.speeds.add(key, seconds, 1)

    def _spent(self) -> float:
        """Seconds since the last report of the process that reports now."""
        before, self.last[speaker()] = self.last[speaker()], self.clock()
        return self.last[speaker()] - before

    def seconds(self) -> float | None:
        """Return the seconds that are left; None where nothing is known of one of its kinds."""
        total = 0.0
        for amount, one in self._left():
            if one is None:
                return None
            total += amount * one
        now = self.clock()
        done = sum(now - last for last in self.last.values()) + sum(self.fitting.values())
        shared = max(total - done, 0.0) / len(self.last)
        return max([shared, *self._whole(now)])

    def _whole(self, now: float) -> Iterator[float]:
        """Seconds of each stage that is left: no two processes share one."""
        for stage in self.stages.values():
            one = self._one(stage)
            if stage.times and one is not None:
                since = 0.0 if stage.done is None else now - self.last[stage.by]
                yield (stage.amount - (stage.done or 0)) * one - since

    def _left(self) -> Iterator[tuple[float, float | None]]:
        """(amount, seconds that one takes) of all that is left."""
        for stage in self.stages.values():
            if stage.times:
                yield (
                    stage.times - (stage.done is not None),
                    self.speeds.one(("begin", stage.kind[0])) or 0.0,
                )
                yield stage.times * stage.amount - (stage.done or 0), self._one(stage)
        for kind, cells in self.fits.items():
            if cells:
                yield cells, self._one_fit(kind)

    def _one(self, stage: Stage) -> float | None:
        """Estimate the seconds of one view or image of a stage."""
        embedding = self.speeds.one(("embed",)) or self.before.one(("embed",))
        borrowed = embedding and embedding * (1.0 if stage.kind[0] == "embed" else PASSES)
        return self.speeds.one(stage.kind, stage.kind[:1]) or borrowed

    def _one_fit(self, kind: Fit) -> float | None:
        """Estimate the seconds of a cell.

        As those like it took, else as those of another budget, or of a plain probe, would.
        """
        known = self.speeds.one(*_like(kind))
        if known is not None:
            return known
        measured = [other for other in self._measured() if other.protocol == kind.protocol]
        near = sorted(measured, key=lambda other: (abs(other.images - kind.images), other.parts))
        plain = [other for other in near if not other.own_head]
        for other in near:
            if (other.own_head, other.parts) == (kind.own_head, kind.parts):
                return self._took(other) * self._growth(other, kind, plain)
        for other in plain[:1]:
            more = HEAD if kind.own_head else kind.parts / other.parts
            return self._took(other) * more * self._growth(other, kind, plain)
        return None

    def _growth(self, other: Fit, kind: Fit, plain: Sequence[Fit]) -> float:
        """Return how many times as long a cell of a kind takes as one of another budget.

        As plain probes did in this run, where both were measured: a head of a fusion's own takes
        the middle of that and of its usual growth.
        """
        if other.labels == kind.labels:
            return 1.0
        power = HEAD_GROWTH if other.own_head else GROWTH
        usual: float = (kind.images / max(other.images, 1)) ** power
        both = [
            [one for one in plain if (one.labels, one.target) == (wanted.labels, wanted.target)][:1]
            for wanted in (other, kind)
        ]
        if not all(both):
            return usual
        probes = self._took(both[1][0]) / self._took(both[0][0])
        return math.sqrt(usual * probes) if other.own_head else probes

    def _took(self, kind: Fit) -> float:
        """Return the seconds that a measured cell took."""
        own = self.speeds.one(*_like(kind))
        assert own is not None, "it was measured"
        return own

    def _measured(self) -> list[Fit]:
        return list(
            dict.fromkeys(
                kind for kind in self.kinds.values() if self.speeds.amount[_like(kind)[0]]
            )
        )


def _fit(unit: Unit, planned: PlannedCell) -> Fit:
    cell = planned.cell
    own = unit.method.own_head and cell.protocol == "linear"
    return Fit(
        cell.method,
        own,
        len(unit.members) or 1,
        cell.protocol,
        cell.labels,
        cell.target,
        planned.n_requested,
    )


def _like(kind: Fit) -> tuple[tuple[object, ...], ...]:
    """Return what cells have in common that take as long: the method, too, else what it fits."""
    common = kind[1:]
    return ("fit", kind.method, *common), ("fit", *common)
