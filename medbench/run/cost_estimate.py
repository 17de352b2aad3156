"""What a plan will still cost, before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from medbench.models import encoder_speed
from medbench.models.pretrain import Recipe
from medbench.run import trial_fits
from medbench.run.given_features import given_features
from medbench.run.jobs import sets_of
from medbench.run.missing_cells import missing, needs_images
from medbench.run.plans import Plan
from medbench.run.prepare import features_key, have_features, pretrained_folder, unit_encoder
from medbench.run.run_context import RunContext
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import Cell, Note, PlannedCell, Row, fingerprint
from medbench.schema.methods import budgeted, is_quick
from medbench.system import devices
from medbench.system.precision import products

#: Seconds of a view that is trained on, in those of an image that is embedded: forward, backward,
#: making the views, looks. benchmarks/speed/time_left.py measures it.
PASSES = 4.5
#: Pretraining seeds that a comparison of methods takes at least: of two there is no spread to speak
#: of.
SEEDS = 3


@dataclass(frozen=True)
class Cost:
    """Hold what a unit still has to do.

    cells, missing: of the unit, and those without a row. to_train: views of a pretraining.
    to_embed: images. seconds: of both, at the speed of an earlier run here, else of a trial batch;
    None where that failed. solving: seconds of each missing cell, as long as like cells in this
    folder took; None where there are none yet.
    """

    unit: Unit
    cells: int
    missing: int
    to_train: int
    to_embed: int
    seconds: float | None
    solving: Mapping[PlannedCell, float | None]

    @property
    def solve_seconds(self) -> float | None:
        """The seconds of all missing cells; None where those of one are not known."""
        return _sum(self.solving.values())


def costs(
    plan: Plan,
    store: Store,
    device: str = "auto",
    speeds: Speeds | None = None,
    *,
    trials: bool = False,
) -> list[Cost]:
    """Estimate the work left in each unit of a plan, in the plan's order.

    Nothing of it is done but a trial batch where the encoder's speed is not known, and, with
    `trials`, trials of cells where no row of this folder tells what such cells take. speeds: those
    measured already.
    """
    device = devices.resolve(device)
    speeds = speeds or Speeds(plan, device)
    rows = store.rows()
    past, tried = _past(rows.values()), Tried(plan, store, device, speeds) if trials else None
    found = []
    counted: set[str] = set()  # a fusion's members are often units of their own
    for unit in plan.units:
        todo = missing(plan, store, unit, rows)
        views = embedded = 0
        seconds: list[float | None] = []
        for part in unit.members or (unit,) if todo else ():
            to_train, images = _lacking(plan, unit, part, todo, device, counted)
            views, embedded = views + to_train, embedded + images
            seconds += [speeds.embedding(part, images)] if images else []
            seconds += [speeds.training(part, tried=trials)] if to_train else []
        fused = bool(unit.members)
        solving = {
            planned: next((past[key] for key in _like(planned.cell, fused) if key in past), None)
            for planned in todo
        }
        unknown = [planned for planned, known in solving.items() if known is None]
        if tried and unknown:
            solving.update(tried.seconds(unit, unknown))
        took = _sum(seconds)
        found.append(Cost(unit, len(unit.cells), len(todo), views, embedded, took, solving))
    return found


def _sum(seconds: Iterable[float | None]) -> float | None:
    """None where one is not known."""
    every = list(seconds)
    known = [one for one in every if one is not None]
    return sum(known) if len(known) == len(every) else None


def _lacking(
    plan: Plan,
    unit: Unit,
    part: Unit,
    todo: Sequence[PlannedCell],
    device: str,
    counted: set[str],
) -> tuple[int, int]:
    """Return the views to train on and the images to embed for these cells of a unit.

    part: the unit, or one of its members. counted: what others need, too, and is counted there.
    """
    solved = [one for one in todo if plan.protocols[one.cell.protocol].needs == "features"]
    images = 0
    needs = len(solved) < len(todo)
    for target in sets_of(plan, unit, solved) if solved else ():
        if not have_features(plan, part, device, target):
            needs, key = True, features_key(part, device, target)
            if key not in counted:
                counted.add(key)
                images += len(target.split) if target else len(part.data.hashes)
    folder = pretrained_folder(plan, part, device)
    if not needs or str(folder) in counted or (folder / "weights.pth").exists():
        return 0, images
    counted.add(str(folder))
    return sum(recipe.views for recipe in part.recipes), images


class Tried:
    """Seconds of cells that no row tells of, see `trial_fits`.

    Where units differ in weights alone, one is tried.
    """

    def __init__(self, plan: Plan, store: Store, device: str, speeds: Speeds):
        self.context, self.speeds = RunContext(plan, store, device), speeds
        self._known: dict[tuple[object, ...], float | None] = {}

    def seconds(self, unit: Unit, todo: Sequence[PlannedCell]) -> dict[PlannedCell, float | None]:
        """Return the seconds of each cell; None of one that cannot be tried.

        A cell cannot be tried on images that are not the task's own.
        """
        parts = unit.members or (unit,)
        if any(self._key(unit, planned) not in self._known for planned in todo):
            found: dict[PlannedCell, float] = {}
            with trial_fits.surviving(unit.name), products("fp32"):
                widths = [self.speeds.width(part) for part in parts]
                found |= trial_fits.of_features(self.context, unit, todo, widths)
            if needs_images(self.context.plan, todo):
                image = _sum(self.speeds.embedding(part, 1) for part in parts)
                with trial_fits.surviving(unit.name):
                    if image is not None:
                        found |= trial_fits.of_pixels(self.context, unit, todo, image)
            # what cannot be tried is not tried again for the next weights
            self._known |= {self._key(unit, one): found.get(one) for one in todo}
        return {planned: self._known.get(self._key(unit, planned)) for planned in todo}

    def _key(self, unit: Unit, planned: PlannedCell) -> tuple[object, ...]:
        sizes = [(part.encoder.name, part.encoder.size) for part in unit.members or (unit,)]
        cell = planned.cell
        own = unit.method.name if unit.members else cell.readout
        return (cell.task, own, *sizes, cell.protocol, cell.labels, cell.seed, cell.target)


class Speeds:
    """Images a second of each encoder, as it was measured here, else in a trial batch."""

    def __init__(self, plan: Plan, device: str = "auto") -> None:
        self.plan, self.device = plan, devices.resolve(device)
        self._known: dict[str, float | None] = {}
        self._widths: dict[str, int] = {}
        self._views: dict[str, float | None] = {}

    def of(self, part: Unit) -> float | None:
        """Return how many images a second a unit, or a member, embeds; None where that fails."""
        key = fingerprint(part.encoder.identity(), part.precision)  # whatever its weights
        if key not in self._known:
            self._known[key] = encoder_speed.measured_speed(
                self.plan.cache_dir, part.encoder, self.device
            )
            build = partial(unit_encoder, part, part.encoder, part.weights)
            with trial_fits.surviving(f"a batch of {part.name}", logging.WARNING):
                self._known[key] = self._known[key] or encoder_speed.trial_speed(
                    build, part.encoder, self.device, part.precision
                )
        return self._known[key]

    def embedding(self, part: Unit, images: float) -> float | None:
        """Return the seconds in which a unit, or a member, embeds so many images."""
        speed = self.of(part)
        return images / speed if speed else None

    def training(self, part: Unit, *, tried: bool) -> float | None:
        """Return the seconds of a unit's pretraining: of steps that were tried, else by `PASSES`.

        tried: try what was not tried yet.
        """
        usual = self.embedding(part, PASSES)
        each = [self._tried(part, one, new=tried) or usual for one in part.recipes]
        return _sum(one and one * of.views for one, of in zip(each, part.recipes, strict=True))

    def _tried(self, part: Unit, recipe: Recipe, *, new: bool) -> float | None:
        """Return the seconds of a view of one stage; None where it was not, or cannot be, tried."""
        key = fingerprint(part.encoder.identity(), part.precision, recipe.settings())
        speed = self.of(part)
        if new and key not in self._views and recipe.objective is not None and speed:
            from medbench.models.pretrain import training_trial

            pooled = replace(part.encoder, readout="pool")
            build = partial(unit_encoder, part, pooled, part.weights)
            self._views[key] = None
            with trial_fits.surviving(f"a step of {part.name}"):
                self._views[key] = training_trial.seconds_a_view(
                    build, pooled, recipe, self.device, part.precision, speed
                )
        return self._views.get(key)

    def width(self, part: Unit) -> int:
        """Return how many numbers a unit's, or a member's, encoder gives of an image."""
        key = fingerprint(part.encoder.identity())
        if key not in self._widths:
            if part.encoder.kind == "features":
                given = given_features(part.encoder, part.data, self.plan.target)
                self._widths[key] = given.shape[1]
            else:
                build = partial(unit_encoder, part, part.encoder, part.weights)
                self._widths[key] = encoder_speed.width(build, part.encoder)
        return self._widths[key]


def records(found: Sequence[Cost]) -> list[dict[str, object]]:
    """Return a record per planned cell, with JSON values.

    Its fields, its fingerprint, n_requested, whether its row is missing, the seconds that it takes
    (None: not known), and what its unit has to train and to embed.
    """
    return [
        {
            **asdict(planned.cell),
            "fingerprint": planned.fingerprint,
            "n_requested": planned.n_requested,
        }
        | {"missing": planned in cost.solving, "solve_seconds": cost.solving.get(planned, 0.0)}
        | {
            "unit_views_to_train": cost.to_train,
            "unit_images_to_embed": cost.to_embed,
            "unit_seconds": cost.seconds,
        }
        for cost in found
        for planned in cost.unit.cells
    ]


def more_pretrainings(plan: Plan, speeds: Speeds) -> list[Note]:
    """Say what it would cost to compare methods, and not only the weights that each has.

    One note; [] where nothing is drawn, or drawn more than once, or its encoder fails. Each further
    pretraining seed trains, embeds and judges every unit whose weights are drawn once more, a
    fusion's members among them.
    """
    drawn = [unit for unit in plan.units if _drawn(unit)]
    if not drawn or any(unit.pretrain_seed for unit in drawn):
        return []
    parts = {
        part.weights.identity: part
        for unit in drawn
        for part in unit.members or (unit,)
        if _drawn(part)
    }
    training = [speeds.training(part, tried=False) for part in parts.values()]
    embedding = [speeds.embedding(part, len(part.data.hashes)) for part in parts.values()]
    each = _sum([*training, *embedding])
    if each is None:
        return []
    more, rows = SEEDS - 1, sum(len(unit.cells) for unit in drawn)
    methods = ", ".join(dict.fromkeys(unit.method.name for unit in drawn))
    text = (
        f"One pretraining seed: results for {methods} hold for one set of weights only. {SEEDS} seeds (--pretrain-seeds {SEEDS}) would "
        f"take about {more * each:,.0f} s more to pretrain and embed, and {more * rows:,} more rows to solve."
    )
    return [Note("chance", text)]


def longer_pretraining(plan: Plan, rows: Iterable[Row]) -> list[Note]:
    """Say what a standard pretraining would see, and take at the pace of the quick ones of `rows`.

    [] where none was quick, or none tells its pace.
    """
    parts = [part for unit in plan.units for part in unit.members or (unit,)]
    quick = [part for part in parts if part.recipes and is_quick(part.weights.budget)]
    names = {part.weights.sha256 for part in quick}
    paces = {
        row.provenance["weights_sha256"]: float(
            row.provenance["pretraining"][0]["views_per_second"]
        )
        for row in rows
        if row.provenance["weights_sha256"] in names
        and row.provenance["pretraining"][0]["views_per_second"]
    }
    if not paces:
        return []
    seen = max(sum(recipe.views for recipe in part.recipes) for part in quick)
    views = max(budgeted("standard", len(part.data.learnt_from[0])) for part in quick)
    if views <= seen:
        return []
    pace = float(np.median(list(paces.values())))
    text = (
        f"{seen:,} views a method show the machinery, not what a method can do. --pretrain standard sees {views:,}: about "
        f"{max(1, round(views / pace / 60))} min a method at the {pace:,.0f} views a second of this run; --pretrain N sees N. docs/methods.md shows "
        "what 20,000 to 200,000 views brought on HAM10000."
    )
    return [Note("quick", text)]


def _drawn(unit: Unit) -> bool:
    """Whether another pretraining seed gives it other weights; not an official checkpoint."""
    if unit.members:
        return any(_drawn(member) for member in unit.members)
    return unit.method.seeded and (unit.method.recipes is None or bool(unit.recipes))


def _like(cell: Cell, fused: bool) -> tuple[tuple[str | bool, ...], ...]:
    """Return what cells have in common that take as long.

    The method, too, else whether it joins several encoders.
    """
    common = (cell.protocol, cell.labels, cell.target)
    return (cell.method, *common), (fused, *common)


def _past(rows: Iterable[Row]) -> dict[tuple[str | bool, ...], float]:
    """Seconds of a cell, the mean over those that were made.

    The first of several draws carries what all of them share.
    """
    found: dict[tuple[str | bool, ...], list[float]] = {}
    for row in rows:
        for key in _like(row.cell, bool(row.provenance.get("members"))):
            found.setdefault(key, []).append(row.cost["seconds"])
    return {key: float(np.mean(seconds)) for key, seconds in found.items()}
