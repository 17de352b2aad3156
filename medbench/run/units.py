"""What a unit is: which weights an encoder will have on a task, and what makes them.

Nothing is trained or embedded here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medbench import images
from medbench.data.task_data import TaskData
from medbench.images import augment
from medbench.images.cropping import crop_of, refilled
from medbench.models import checkpoints, encoders, pretrain
from medbench.models.stated import stated
from medbench.schema import (
    Encoder,
    Grid,
    Mark,
    Member,
    Method,
    PlannedCell,
    UserError,
    Weights,
    fingerprint,
    registry,
    written_by,
)
from medbench.schema.errors import place_of
from medbench.schema.ingredients import raised
from medbench.schema.methods import stated_views


@dataclass(frozen=True, eq=False)
class Unit:
    """Cells that share weights and features.

    recipes: the stages of a pretraining that makes `weights` from `start`; () where nothing is
    trained. members: of a fusion, without cells. marks: what every table of this encoder must say.
    """

    data: TaskData
    method: Method
    source: str
    encoder: Encoder
    weights: Weights
    pretrain_seed: int
    precision: str
    cells: tuple[PlannedCell, ...] = ()
    start: Weights | None = None
    recipes: tuple[pretrain.Recipe, ...] = ()
    members: tuple[Unit, ...] = ()
    marks: tuple[Mark, ...] = ()

    @property
    def name(self) -> str:
        """Task, method, encoder and size in words, as messages and stages name the unit."""
        return f"{self.data.task.name} {self.method.name} {self.encoder.name}@{self.encoder.size}"

    @property
    def draws_views(self) -> bool:
        """Whether its weights, or a member's, are trained on random views here."""
        return any(_draws_views(part.recipes) for part in self.members or (self,))


def unlabelled_marks(unit: Unit) -> tuple[Mark, ...]:
    """Say what every table must say of weights that were trained on images without labels.

    () of others.
    """
    more = unit.data.unlabelled
    trains = any(part.recipes for part in unit.members or (unit,))
    return (more.mark(len(unit.data.pool)),) if more is not None and trains else ()


def _draws_views(recipes: tuple[pretrain.Recipe, ...]) -> bool:
    """Not where batch statistics alone are estimated, on the images as they are."""
    return any(recipe.objective is not None for recipe in recipes)


def unit_of(
    data: TaskData,
    method: Method,
    encoder: Encoder,
    pretrain_seed: int,
    grid: Grid,
    cache_dir: Path,
) -> Unit:
    """Return a unit without its cells: which weights it will have, and what makes them.

    Raises UserError where a method cannot serve the task or the encoder, and where weights cannot
    be had.
    """
    if method.fusion:
        return _fused(data, method, encoder, pretrain_seed, grid, cache_dir)
    source, start = starting_weights(method, encoder, pretrain_seed, grid, cache_dir)
    mean = start.mean or encoder.mean
    crop = crop_of(encoder.crop)
    crop = crop._replace(fill=refilled(crop.fill, encoder.mean, mean))
    encoder = replace(
        encoder,  # a checkpoint sees its images as it was trained with them
        mean=mean,
        std=start.std or encoder.std,
        interpolation=start.interpolation or encoder.interpolation,
        crop=str(crop),
    )
    if method.recipes is None or source == "imagenet":
        return Unit(data, method, source, encoder, start, pretrain_seed, grid.precision)
    bags, groups = data.learnt_from
    views = stated_views(grid.pretrain)
    budget = grid.pretrain if views is None else "standard"
    with written_by(method.recipes, f"recipes of '{method.name}'"):
        asked = method.recipes(data.task.modality, budget, len(bags), source)
    if views is not None:
        asked = pretrain.of_views(asked, views)
    recipes = tuple(pretrain.fitted(recipe, bags, groups) for recipe in asked)
    weights = _pretrained(data, method, encoder, start, recipes, pretrain_seed, grid)
    return Unit(
        data,
        method,
        source,
        encoder,
        weights,
        pretrain_seed,
        grid.precision,
        start=start,
        recipes=recipes,
    )


def starting_weights(
    method: Method, encoder: Encoder, pretrain_seed: int, grid: Grid, cache_dir: Path
) -> tuple[str, Weights]:
    """Return the source of a method that is no fusion, and the weights that it starts from.

    They are downloaded where they are not here. Raises UserError where they cannot be had, and
    where the method's function fails or gives no `Weights`.
    """
    assert method.weights is not None, f"{method.name} has neither weights nor members"
    official = (
        method.recipes is not None
        and checkpoints.default_checkpoint(method.name, encoder.architecture) is not None
    )
    source = grid.source if grid.source != "auto" else "imagenet" if official else method.sources[0]
    what = f"weights of '{method.name}'"
    with written_by(method.weights, what):
        found = method.weights(encoder, source, pretrain_seed, cache_dir)
    if not isinstance(found, Weights):
        raise UserError(
            f"{place_of(method.weights)}: {what} gave {type(found).__name__}.",
            allowed=["a medbench.Weights"],
            then="fix that file",
        )
    return source, found


def member_encoder(
    member: Member, encoder: Encoder, *, phantom: bool, crop: str | None = None
) -> Encoder:
    """Return the encoder of a part of a fusion: its own, where it names one, else the fusion's.

    crop: `Grid.crop`. Raises UserError as `models.encoders.encoder`.
    """
    readout = member.readout or encoder.readout
    if not member.encoder:
        return encoders.with_readout(encoder, readout)
    said = stated((), (), None, (), crop)
    return encoders.encoder(member.encoder, readout=readout, phantom=phantom, stated=said)


def _pretrained(
    data: TaskData,
    method: Method,
    encoder: Encoder,
    start: Weights,
    recipes: tuple[pretrain.Recipe, ...],
    pretrain_seed: int,
    grid: Grid,
) -> Weights:
    """Name the weights that a pretraining on the task's training part will make.

    Their identity is everything that goes into it.
    """
    pool, more = data.pool, data.unlabelled
    seen = data.pixels["train"] | (images.pixel_ingredients(more.hashes) if more else {})
    sha256 = fingerprint(
        [
            "pretrained",
            pretrain.VERSION,
            1,
            method.name.partition(":")[0],
            method.stated_version,
            grid.precision,
        ],  # its views stand in the recipes
        [start.identity, replace(encoder, readout="pool").identity(), pretrain_seed],
        [recipe.settings() for recipe in recipes],
        [data.hashes[data.where("train")], pool.bags.tolist(), pool.groups.tolist()],
        *([["unlabelled", more.sha256]] if more else []),
        *raised({**seen, **({"crops": augment.CROPS} if _draws_views(recipes) else {})}),
    )
    beside = (
        f" and {len(more):,} unlabelled ({100 * len(more) / (len(more) + len(pool)):.0f} %, {more.sha256[:7]})"
        if more
        else ""
    )
    views = stated_views(grid.pretrain)
    length = grid.pretrain if views is None else f"{views:,} views"
    name = f"{method.name} on {data.data}{beside}, from {start.name}, {length}"
    trained_on = (
        *start.trained_on,
        f"{data.data} (training part)",
        *((f"{one} (no labels)" for one in more.names) if more else ()),
    )
    return Weights(name, sha256, trained_on, None, "encoder", budget=grid.pretrain)


def _fused(
    data: TaskData,
    method: Method,
    encoder: Encoder,
    pretrain_seed: int,
    grid: Grid,
    cache_dir: Path,
) -> Unit:
    assert method.fusion is not None
    members = tuple(
        _member(data, member, encoder, pretrain_seed, grid, cache_dir)
        for member in method.fusion.members
    )
    # a method's first version says nothing, so that what was computed before it was said keeps its
    # identity
    parts = [
        [
            m.method.name,
            m.encoder.identity(),
            m.weights.identity,
            *([m.method.stated_version] if m.method.stated_version != 1 else []),
        ]
        for m in members
    ]
    weights = Weights(
        " + ".join(m.weights.name for m in members),
        fingerprint("fusion", *parts),
        tuple(dict.fromkeys(seen for m in members for seen in m.weights.trained_on)),
        None,
        budget=next((m.weights.budget for m in members if m.weights.budget), None),
        members=tuple(m.weights.name for m in members),
    )
    source = " / ".join(dict.fromkeys(m.source for m in members))
    return Unit(
        data, method, source, encoder, weights, pretrain_seed, grid.precision, members=members
    )


def _member(
    data: TaskData,
    member: Member,
    encoder: Encoder,
    pretrain_seed: int,
    grid: Grid,
    cache_dir: Path,
) -> Unit:
    own = member_encoder(member, encoder, phantom=data.data == "phantom", crop=grid.crop)
    method = registry.method(member.method)
    why = method.refuses(data.pool, own) if method.refuses else ""
    if why:
        raise UserError(
            f"Member '{method.name}' cannot serve '{data.task.name}' with {own.name}: {why}."
        )
    return unit_of(data, method, own, pretrain_seed if method.seeded else 0, grid, cache_dir)
