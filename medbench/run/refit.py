"""A row's model, made again: from the same draw, compared with the row's saved scores before anybody gets it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medbench.models.exported import ComponentHead, ExportedModel, Head, LinearHead, Parts, load, write
from medbench.models.hub.references import is_hub
from medbench.models.power_transform import Power
from medbench.protocols import linear, svm_logreg
from medbench.run.fitting import PendingFit, RunContext, columns, training_of
from medbench.run.planning import Plan
from medbench.run.planning import plan as plan_grid
from medbench.run.prepare import task_pack, trained, unit_encoder, unit_features
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import BY_CASE, Cell, Grid, PlannedCell, Row, Train, UserError, check_writable, parse_budget, registry
from medbench.schema.ingredients import differences
from medbench.system import atomic_write, devices
from medbench.system.precision import products

TOLERANCE = 1e-6  # of a probability: the fit is the same, or it is not this row's
#: Of a probability from the written folder on the same pixels, whose batches are others than those of the run; times in half precision.
BATCHES, HALF = 1e-4, 100
TRIED = 512  # test images that the written folder is tried on


@dataclass(frozen=True, eq=False)
class Refit:
    """A row's unit with its weights on disk, and the head that was fitted again. difference: largest, of a probability on the scored part."""

    plan: Plan
    unit: Unit
    row: Row
    head: Head
    difference: float
    saved: np.ndarray
    device: str

    def parts(self, points: Mapping[str, Any], evidence: Mapping[str, Any]) -> Parts:
        """What a folder keeps. points: operating_points.json. evidence: evidence.json."""
        unit, task = self.unit, self.unit.data.task
        net = unit_encoder(unit, unit.encoder, unit.weights)
        return Parts(unit.encoder, net, self.head, self.row.cell.protocol, tuple(task.classes), task.kind, unit.precision, points, evidence)


def why_not(cell: Cell) -> str:
    """What keeps a line from being exported, in words; "" where nothing does."""
    if BY_CASE in cell.task:
        return "a score of cases, and a model scores images"
    if cell.protocol not in HEADS:
        return f"protocol {cell.protocol}"
    if cell.encoder.startswith("features:"):
        return "features:, which has no network"
    if ".py:" in cell.encoder:
        return "an encoder of your own (FILE.py:NAME)"
    if is_hub(cell.encoder):
        return "an encoder of the hub, whose network is not timm's to load"
    return "a fusion" if registry.method(cell.method.partition(":")[0]).fusion else ""


def narrowed(grid: Grid, cell: Cell) -> Grid:
    """The part of a grid of one task that plans one cell on its own part of the data."""
    budgets = tuple(text for text in grid.labels if str(parse_budget(text)) == cell.labels)
    encoders = tuple(name for name in grid.encoders if name == cell.encoder.partition(":")[0])
    return replace(
        grid,
        labels=budgets or grid.labels,  # a budget that comes to all images is called 100%
        methods=(cell.method.partition(":")[0],),
        protocols=(cell.protocol,),
        encoders=encoders or grid.encoders,
        readouts=(cell.readout,),
        unlabelled=grid.unlabelled if registry.method(cell.method.partition(":")[0]).recipes else (),  # others have not seen them
        shifts=(),
        corruptions=(),
    )


def refit(grids: Sequence[Grid], store: Store, row: Row, device: str = "auto") -> Refit:
    """The model of a row. grids: those that the folder was made by, one of which plans the row.

    Raises UserError where none does, and where the scores of the new fit are not the saved ones.
    """
    plan, unit, planned = _planned(grids, row)
    devices.check_device(device, unit.precision)
    device = devices.resolve(device)
    with products("fp32"):
        unit = trained(plan, unit, device)
        arrays = [found.array for found in unit_features(plan, unit, device)]
        protocol = plan.protocols[row.cell.protocol]
        train = training_of(RunContext(plan, store, device), unit, protocol, [PendingFit(planned, (planned,))], arrays)
        head = HEADS[row.cell.protocol](train, plan.draw(row.cell))
        saved = store.scores(row)
        found, decisions = head.score(np.asarray(columns(arrays, unit.data.where(plan.target))))
    apart = _apart(found, saved["probabilities"])
    if not apart <= TOLERANCE or (decisions != saved["decisions"]).any():
        made = row.provenance.get("device", "another device")
        what = f"The fit of {row.cell} does not give its saved scores again: a probability differs by {apart:.2g} (limit {TOLERANCE:g})."
        raise UserError(what, then=f"export on the machine and with the versions of the run ({made}), or medbench run into a new folder")
    return Refit(plan, unit, row, head, apart, saved["probabilities"], device)


def _apart(found: np.ndarray, saved: np.ndarray) -> float:
    if found.shape != saved.shape:
        return float("inf")
    return float(np.abs(found.astype(float) - saved).max())


def _planned(grids: Sequence[Grid], row: Row) -> tuple[Plan, Unit, PlannedCell]:
    """Where the row's fingerprint stands. Raises UserError with what differs where it does in none."""
    why: list[str] = []
    for i, grid in enumerate(grids):
        try:
            plan = plan_grid(narrowed(grid, row.cell))
        except UserError:
            if i + 1 < len(grids) or why:
                continue  # another command of the folder may have made the row
            raise
        for unit in plan.units:
            for planned in unit.cells:
                if planned.fingerprint == row.fingerprint:
                    return plan, unit, planned
                if replace(planned.cell, task=row.cell.task) == row.cell:
                    said = differences(row.provenance.get("identity", {}), plan.settings[planned.setting])
                    why = [str(one) for one in said] or ["the data or the weights"]
    reason = f"what differs: {', '.join(why)}" if why else "no command of the folder plans it"
    raise UserError(
        f"{row.cell} cannot be made again here: {reason}.", then="medbench export with the --data, --task and --weights of the run"
    )


def save(made: Refit, parts: Parts, out: Path, card: Callable[[float], str]) -> float:
    """Write the folder, read it back and try it on test images; only then it gets its name. card: from the largest difference of a probability,
    which is returned. Raises UserError for a folder that is there, and where the difference is more than rounding."""
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write.naming(out), tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place:
        trial = Path(place) / "model"
        trial.mkdir()
        write(trial, parts, "")
        apart = _tried(made, load(trial, made.device))
        if not apart <= BATCHES * (1 if parts.precision == "fp32" else HALF):
            raise UserError(f"The written model gives a probability that is {apart:.2g} from the saved one: nothing was exported.")
        (trial / "README.md").write_text(card(apart), encoding="utf-8")
        shutil.move(trial, out)
    return apart


def check_target(out: Path) -> None:
    """Raises UserError for a place that holds something, or that cannot be written."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UserError(f"{out} is there already, and is not overwritten.", then="name another folder: --out model-2")
    check_writable(out, "name another place", folder=True)
    if out.exists():
        out.rmdir()


def _tried(made: Refit, model: ExportedModel) -> float:
    pack, where = task_pack(made.unit.data, made.unit.encoder, made.plan.cache_dir), made.unit.data.where(made.plan.target)
    n = min(TRIED, where.stop - where.start)
    found, _ = model.score(np.asarray(pack.array[where.start : where.start + n]))
    return _apart(found, made.saved[:n])


def _linear(train: Train, draw: np.ndarray) -> Head:
    ((model, _),) = linear.fitted(train, [draw])
    return LinearHead(model)


def _logreg(train: Train, draw: np.ndarray) -> Head:
    """Without a fit nothing is looked at, and all classes seen are equally probable."""
    (found,) = svm_logreg.logreg_fitted(train, [draw])
    seen, n_classes = found.seen, found.n_classes
    if found.model is None or not isinstance(found.transform, svm_logreg.Transforms):
        nothing, power = np.zeros(0), Power(*[np.zeros(0)] * 4)
        varies = np.zeros(train.features.shape[1], bool)
        empty = {"reach": nothing, "centre": nothing, "components": np.zeros((0, 0)), "coef": np.zeros((len(seen), 0))}
        return ComponentHead(varies=varies, limit=0.0, power=power, intercept=np.zeros(len(seen)), seen=seen, n_classes=n_classes, **empty)
    how, coef, intercept = found.transform, found.model.coef_, found.model.intercept_
    if len(coef) == 1:  # of two classes the margin alone
        coef, intercept = np.concatenate([np.zeros_like(coef), coef]), np.concatenate([np.zeros_like(intercept), intercept])
    components = how.pca.components_[how.kept]
    return ComponentHead(how.varies, how.reach, how.limit, how.power, how.pca.mean_, components, coef, intercept, seen, n_classes)


HEADS: dict[str, Callable[[Train, np.ndarray], Head]] = {"linear": _linear, "logreg": _logreg}
