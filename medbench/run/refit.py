"""A row's model, made again.

From the same draw, compared with the row's saved scores before anybody gets it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.models.exported import KEEP_VECTORS, Head, Parts, Tower
from medbench.models.exported.typical import MOST, Typical, typical_of
from medbench.models.finetune import FineTuneRecipe
from medbench.models.hub.references import DOORS, is_hub
from medbench.models.hub.timm_form import as_timm
from medbench.protocols.finetune import fitted, recipe_of
from medbench.run.fitting import PendingFit, columns, training_of
from medbench.run.kept_weights import kept_file, lay_out
from medbench.run.planning import plan as plan_grid
from medbench.run.plans import Plan
from medbench.run.prepare import task_pack, trained, unit_encoder, unit_features
from medbench.run.refitted_heads import HEADS, fused_head, tuned_head
from medbench.run.run_context import RunContext
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import (
    BY_CASE,
    Cell,
    Encoder,
    Grid,
    Method,
    PlannedCell,
    Row,
    Train,
    UserError,
    fingerprint,
    parse_budget,
    registry,
)
from medbench.schema.ingredients import differences
from medbench.stats import metrics
from medbench.system import devices, locks
from medbench.system.precision import kind as kind_of_device
from medbench.system.precision import products

if TYPE_CHECKING:
    import torch

log = logging.getLogger("medbench")
TOLERANCE = 1e-6  # of a probability: the fit is the same, or it is not this row's


@dataclass(frozen=True, eq=False)
class Fit:
    """What was made again, and what it gives on the scored part.

    nets: the encoders, in eval mode; () where they are the unit's own. typical: where the training
    part's features lie.
    """

    head: Head
    nets: tuple[torch.nn.Module, ...]
    probabilities: np.ndarray
    decisions: np.ndarray
    typical: Typical | None


@dataclass(frozen=True, eq=False)
class Refit:
    """A row's unit with its weights on disk, and what was fitted again.

    difference: the largest, of a probability in [0, 1] on the scored part. saved: the row's
    probabilities (M, C). held_groups: of the images that were held out inside the labelled subset.
    kept: whether the run had kept the weights that fine-tuning trained, so that nothing was trained
    again.
    """

    plan: Plan
    unit: Unit
    row: Row
    fit: Fit
    difference: float
    saved: np.ndarray
    device: str
    held_groups: np.ndarray | None
    kept: bool

    def parts(self, points: Mapping[str, Any], evidence: Mapping[str, Any]) -> Parts:
        """Return what a folder keeps.

        points: operating_points.json. evidence: evidence.json.
        """
        unit, task = self.unit, self.unit.data.task
        members = unit.members or (unit,)
        nets = self.fit.nets or [unit_encoder(one, one.encoder, one.weights) for one in members]
        together = bool(unit.members and self.fit.nets)
        return Parts(
            tuple(tower_of(one.encoder, net) for one, net in zip(members, nets, strict=True)),
            self.fit.head,
            self.row.cell.protocol,
            tuple(task.classes),
            task.kind,
            unit.precision,
            points,
            evidence,
            self.fit.typical,
            unit.encoder if together else None,
        )


def tower_of(encoder: Encoder, net: torch.nn.Module) -> Tower:
    """Return what a folder keeps of an encoder: one of the hub as one of timm's."""
    as_it_is, arguments = as_timm(encoder)
    return Tower(as_it_is, net, arguments)


def why_not(cell: Cell, *, vectors: bool = False) -> str:
    """Say in words what keeps a line from being exported; "" where nothing does.

    vectors: whether training images' vectors may be in the folder.
    """
    if BY_CASE in cell.task:
        return "a score of cases, and a model scores images"
    protocol = registry.protocols().get(cell.protocol)
    if cell.protocol not in HEADS and not (protocol and recipe_of(protocol)):
        return f"protocol {cell.protocol}"
    if cell.protocol in KEEP_VECTORS and not vectors:
        return f"protocol {cell.protocol} keeps vectors of the training images: --include-training-vectors"
    fusion = registry.method(cell.method).fusion
    members = fusion.members if fusion else ()
    for encoder in (cell.encoder, *(one.encoder for one in members if one.encoder)):
        if encoder.startswith("features:"):
            return "features:, which has no network"
        if ".py:" in encoder:
            return "an encoder of your own (FILE.py:NAME)"
        if is_hub(encoder) and not encoder.startswith("hf-hub:"):
            door = DOORS[encoder.partition(":")[0]].package
            return f"an encoder that {door} reads; where timm reads its repository, too, run it as hf-hub:OWNER/NAME"
    return ""


def narrowed(grid: Grid, cell: Cell) -> Grid:
    """Return the part of a grid of one task that plans one cell on its own part of the data."""
    budgets = tuple(text for text in grid.labels if str(parse_budget(text)) == cell.labels)
    own = cell.encoder if is_hub(cell.encoder) else cell.encoder.partition(":")[0]
    encoders = tuple(name for name in grid.encoders if name == own)
    trains = _trains(registry.method(cell.method))
    return replace(
        grid,
        labels=budgets or grid.labels,  # a budget that comes to all images is called 100%
        methods=(cell.method,),  # its name says its views
        augmentations=Grid.augmentations,
        protocols=(cell.protocol,),
        encoders=encoders or grid.encoders,
        readouts=(cell.readout,),
        # others have not seen them
        unlabelled=grid.unlabelled if trains else (),
        shifts=(),
        corruptions=(),
        levels=Grid.levels,
        keep_weights=False,
    )


def _trains(method: Method) -> bool:
    """Whether it, or a member of it, is trained on the task's images."""
    if method.fusion:
        return any(_trains(registry.method(one.method)) for one in method.fusion.members)
    return method.recipes is not None


def refit(grids: Sequence[Grid], store: Store, row: Row, device: str = "auto") -> Refit:
    """Fit the model of a row again, and compare its scores with the saved ones.

    grids: those that the folder was made by, one of which plans the row. Raises UserError where
    none does, for an encoder that a folder cannot hold, and where the scores of the new fit are not
    the saved ones.
    """
    plan, unit, planned = _planned(grids, row)
    devices.check_device(device, unit.precision)
    device = devices.resolve(device)
    for one in unit.members or (unit,):
        as_timm(one.encoder)  # what a folder cannot hold is told before anything is fitted
    recipe = recipe_of(plan.protocols[row.cell.protocol])
    saved = store.scores(row)
    with products("fp32"):
        unit = trained(plan, unit, device)
        context = RunContext(plan, store, device)
        if recipe is None:
            (train, made), kept = _fitted(context, unit, planned, row), False
        else:
            train, made, kept = _tuned(context, unit, planned, row, recipe)
    difference = apart_from(made.probabilities, saved["probabilities"])
    if not difference <= TOLERANCE or (made.decisions != saved["decisions"]).any():
        how = "The fit of {}" if recipe is None else "Training {} again"
        how = "What was kept of {}" if kept else how
        file = kept_file(plan.cache_dir, row.fingerprint, device) if kept else None
        _refuse(row, difference, how, file)
    draw, held = plan.draw(row.cell), None
    if "held_out_index" in saved:
        held = train.groups[draw][saved["held_out_index"]]
    return Refit(plan, unit, row, made, difference, saved["probabilities"], device, held, kept)


def _refuse(row: Row, difference: float, how: str, kept: Path | None) -> None:
    """Raise UserError that says how far, and where it would be the same.

    how: what gives other scores. kept: the file of the weights, where it was not trained again.
    """
    origin = row.provenance
    device = origin.get("device", "another device")
    torch = origin.get("versions", {}).get("torch", "")
    made = f"{device}, torch {torch}" if torch else str(device)
    what = f"{how.format(row.cell)} does not give its saved scores again: a probability differs by {difference:.2g} (limit {TOLERANCE:g})."
    again = f"delete {kept.parent}, and it is trained again, or " if kept else ""
    raise UserError(
        what,
        then=f"{again}export on the machine and with the versions of the run ({made}), or medbench run into a new folder",
    )


def _fitted(context: RunContext, unit: Unit, planned: PlannedCell, row: Row) -> tuple[Train, Fit]:
    """Of a protocol on frozen features."""
    plan, device = context.plan, context.device
    arrays = [found.array for found in unit_features(plan, unit, device)]
    protocol, pending = plan.protocols[row.cell.protocol], PendingFit(planned, (planned,))
    train, draw = training_of(context, unit, protocol, [pending], arrays), plan.draw(row.cell)
    target = np.asarray(columns(arrays, unit.data.where(plan.target)))
    if unit.method.own_head:
        head: Head
        head, scores = fused_head(train, draw, unit.method.settings["tokens"], target)
        answers = scores.probabilities, scores.decisions
    else:
        head = HEADS[row.cell.protocol](train, draw, row.chosen)
        answers = head.score(target)
    return train, Fit(head, (), *answers, typical_of(train.features, train.groups))


def _tuned(
    context: RunContext, unit: Unit, planned: PlannedCell, row: Row, recipe: FineTuneRecipe
) -> tuple[Train, Fit, bool]:
    """Of a protocol that trains the encoder; and whether its weights were kept.

    It has seen the labelled images, which lie nearer than new ones: where features lie is asked of
    the others of the training part, and of those that were held out.
    """
    from medbench.models.features import forward
    from medbench.models.finetune.tuned import settings_of

    plan, device = context.plan, context.device
    pack = task_pack(unit.data, unit.encoder, plan.cache_dir)
    protocol, pending = plan.protocols[planned.cell.protocol], PendingFit(planned, (planned,))
    train = training_of(context, unit, protocol, [pending], [pack.array])
    # a run's own folder is cleared under whoever shares it
    key = fingerprint("export", planned.fingerprint, kind_of_device(device))
    folder = plan.cache_dir / "cells" / key
    train = replace(train, folders=[folder])
    chosen = int(row.chosen.get("rank", 0)), float(row.chosen["rate"])
    # another export of this row goes on from the same folder, and clears it
    with _alone(folder), settings_of(train):
        kept = lay_out(plan.cache_dir, row, folder, device)
        made = fitted(train, plan.draw(planned.cell), recipe, chosen=chosen)
        kept = kept and not made.job.trained  # it may be damaged, or another medbench's
        p = made.predict(columns([pack.array], unit.data.where(plan.target)))
        net = made.net.eval()
        new = np.setdiff1d(np.arange(len(train.labels)), made.job.fit)
        new = np.sort(np.random.default_rng(0).permutation(new)[:MOST])
        place = new + unit.data.where("train").start
        seen = forward(net.encoder, pack, place, unit.encoder, device, unit.precision)
        typical = typical_of(np.concatenate(list(seen)), train.groups[new]) if len(new) else None
        shutil.rmtree(folder, ignore_errors=True)
    encoder: Any = net.encoder
    nets = tuple(encoder.encoders) if unit.members else (encoder,)
    decisions = metrics.decided(p, train.kind == "multilabel")
    return train, Fit(tuned_head(net.head, train), nets, p, decisions, typical), kept


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a scratch folder, by a file beside it: it is removed with what lies in it."""
    lock = folder.with_name(f"{folder.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    if locks.held(lock):
        log.warning("another export of this row is at work: this one waits until it ends")
    with locks.passing(lock):
        yield


def apart_from(found: np.ndarray, saved: np.ndarray) -> float:
    """Return the largest difference of two arrays of probabilities (M, C), inf for other shapes."""
    if found.shape != saved.shape:
        return float("inf")
    return float(np.abs(found.astype(float) - saved).max())


def _planned(grids: Sequence[Grid], row: Row) -> tuple[Plan, Unit, PlannedCell]:
    """Find where the row's fingerprint stands.

    Raises UserError with what differs where it does in none.
    """
    why: list[str] = []
    asked = [narrowed(grid, row.cell) for grid in grids]
    if _trains(registry.method(row.cell.method)):
        # weights that saw unlabelled images saw no copy of a shift's: its images count where there
        # were copies, and only there
        asked += [
            replace(one, shifts=grid.shifts)
            for one, grid in zip(asked, grids, strict=True)
            if grid.shifts
        ]
    for i, grid in enumerate(asked):
        try:
            plan = plan_grid(grid)
        except UserError:
            if i + 1 < len(asked) or why:
                continue  # another command of the folder may have made the row
            raise
        for unit in plan.units:
            for planned in unit.cells:
                if planned.fingerprint == row.fingerprint:
                    return plan, unit, planned
                if replace(planned.cell, task=row.cell.task) == row.cell:
                    said = differences(
                        row.provenance.get("identity", {}), plan.settings[planned.setting]
                    )
                    why = [str(one) for one in said] or ["the data or the weights"]
    reason = f"what differs: {', '.join(why)}" if why else "no command of the folder plans it"
    raise UserError(
        f"{row.cell} cannot be made again here: {reason}.",
        then="medbench export with the --data, --task and --weights of the run",
    )
