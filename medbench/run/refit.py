"""A row's model, made again.

From the same draw, compared with the row's saved scores before anybody gets it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medbench.images.decoding import decode
from medbench.models.exported import (
    KEEP_VECTORS,
    ComponentHead,
    ExportedModel,
    Head,
    LinearHead,
    Parts,
    load,
    write,
)
from medbench.models.exported.components import Components
from medbench.models.exported.training_vectors import NeighbourHead, SupportHead
from medbench.models.exported.typical import Typical, typical_of
from medbench.models.hub.references import is_hub
from medbench.protocols import knn, linear, svm_logreg
from medbench.run.fitting import PendingFit, RunContext, columns, training_of
from medbench.run.planning import Plan
from medbench.run.planning import plan as plan_grid
from medbench.run.prepare import task_pack, trained, unit_encoder, unit_features
from medbench.run.store import Store
from medbench.run.units import Unit
from medbench.schema import (
    BY_CASE,
    Cell,
    Grid,
    Image,
    PlannedCell,
    Row,
    Train,
    UserError,
    check_writable,
    parse_budget,
    registry,
)
from medbench.schema.ingredients import differences
from medbench.system import atomic_write, devices
from medbench.system.precision import products

TOLERANCE = 1e-6  # of a probability: the fit is the same, or it is not this row's
#: Of a probability from the written folder on the same pixels, whose batches are others than those
#: of the run; times in half precision.
BATCHES, HALF = 1e-4, 100
ONNX_BATCH = 32
TRIED = 512  # test images that the written folder is tried on


@dataclass(frozen=True, eq=False)
class Refit:
    """A row's unit with its weights on disk, and the head that was fitted again.

    difference: largest, of a probability on the scored part. held_groups: of the images that were
    held out inside the labelled subset. typical: where the training part's features lie.
    """

    plan: Plan
    unit: Unit
    row: Row
    head: Head
    difference: float
    saved: np.ndarray
    device: str
    held_groups: np.ndarray | None
    typical: Typical | None

    def parts(self, points: Mapping[str, Any], evidence: Mapping[str, Any]) -> Parts:
        """Return what a folder keeps.

        points: operating_points.json. evidence: evidence.json.
        """
        unit, task = self.unit, self.unit.data.task
        net = unit_encoder(unit, unit.encoder, unit.weights)
        return Parts(
            unit.encoder,
            net,
            self.head,
            self.row.cell.protocol,
            tuple(task.classes),
            task.kind,
            unit.precision,
            points,
            evidence,
            self.typical,
        )


def why_not(cell: Cell, *, vectors: bool = False) -> str:
    """Say what keeps a line from being exported; "" where nothing does."""
    if BY_CASE in cell.task:
        return "a score of cases, and a model scores images"
    if cell.protocol not in HEADS:
        return f"protocol {cell.protocol}"
    if cell.protocol in KEEP_VECTORS and not vectors:
        return f"protocol {cell.protocol} keeps vectors of the training images: --include-training-vectors"
    if cell.encoder.startswith("features:"):
        return "features:, which has no network"
    if ".py:" in cell.encoder:
        return "an encoder of your own (FILE.py:NAME)"
    if is_hub(cell.encoder):
        return "an encoder of the hub, whose network is not timm's to load"
    return "a fusion" if registry.method(cell.method.partition(":")[0]).fusion else ""


def narrowed(grid: Grid, cell: Cell) -> Grid:
    """Return the part of a grid of one task that plans one cell on its own part of the data."""
    budgets = tuple(text for text in grid.labels if str(parse_budget(text)) == cell.labels)
    encoders = tuple(name for name in grid.encoders if name == cell.encoder.partition(":")[0])
    return replace(
        grid,
        labels=budgets or grid.labels,  # a budget that comes to all images is called 100%
        methods=(cell.method.partition(":")[0],),
        protocols=(cell.protocol,),
        encoders=encoders or grid.encoders,
        readouts=(cell.readout,),
        # others have not seen them
        unlabelled=grid.unlabelled
        if registry.method(cell.method.partition(":")[0]).recipes
        else (),
        shifts=(),
        corruptions=(),
    )


def refit(grids: Sequence[Grid], store: Store, row: Row, device: str = "auto") -> Refit:
    """Fit the model of a row again.

    grids: those that the folder was made by, one of which plans the row. Raises UserError where
    none does, and where the scores of the new fit are not the saved ones.
    """
    plan, unit, planned = _planned(grids, row)
    devices.check_device(device, unit.precision)
    device = devices.resolve(device)
    with products("fp32"):
        unit = trained(plan, unit, device)
        arrays = [found.array for found in unit_features(plan, unit, device)]
        protocol = plan.protocols[row.cell.protocol]
        train = training_of(
            RunContext(plan, store, device),
            unit,
            protocol,
            [PendingFit(planned, (planned,))],
            arrays,
        )
        draw = plan.draw(row.cell)
        head = HEADS[row.cell.protocol](train, draw, row.chosen)
        saved = store.scores(row)
        found, decisions = head.score(np.asarray(columns(arrays, unit.data.where(plan.target))))
    apart = _apart(found, saved["probabilities"])
    if not apart <= TOLERANCE or (decisions != saved["decisions"]).any():
        made = row.provenance.get("device", "another device")
        what = f"The fit of {row.cell} does not give its saved scores again: a probability differs by {apart:.2g} (limit {TOLERANCE:g})."
        raise UserError(
            what,
            then=f"export on the machine and with the versions of the run ({made}), or medbench run into a new folder",
        )
    held = train.groups[draw][saved["held_out_index"]] if "held_out_index" in saved else None
    return Refit(
        plan,
        unit,
        row,
        head,
        apart,
        saved["probabilities"],
        device,
        held,
        typical_of(train.features, train.groups),
    )


def _apart(found: np.ndarray, saved: np.ndarray) -> float:
    if found.shape != saved.shape:
        return float("inf")
    return float(np.abs(found.astype(float) - saved).max())


def _planned(grids: Sequence[Grid], row: Row) -> tuple[Plan, Unit, PlannedCell]:
    """Where the row's fingerprint stands.

    Raises UserError with what differs where it does in none.
    """
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
                    said = differences(
                        row.provenance.get("identity", {}), plan.settings[planned.setting]
                    )
                    why = [str(one) for one in said] or ["the data or the weights"]
    reason = f"what differs: {', '.join(why)}" if why else "no command of the folder plans it"
    raise UserError(
        f"{row.cell} cannot be made again here: {reason}.",
        then="medbench export with the --data, --task and --weights of the run",
    )


@dataclass(frozen=True)
class OnnxDifferences:
    """Hold the largest difference of a probability of model.onnx from the folder's own.

    On the same pixels, and from files, which it resizes itself.
    """

    pixels: float
    images: int
    files: float
    of_files: int

    @property
    def sentence(self) -> str:
        """`1.2e-06 at most from the folder's own on the pixels of 64 images; ...`."""
        own = f"a probability differs by {self.pixels:.2g} at most from the folder's own on the pixels of {self.images} images"
        if not self.of_files:
            return f"{own}; from files it was not measured"
        return f"{own}, and by {self.files:.2g} at most from {self.of_files} whole files, which it resizes itself without Pillow's rounding in between"


def save(
    made: Refit,
    parts: Parts,
    out: Path,
    card: Callable[[float, OnnxDifferences | None], str],
    *,
    onnx: bool = False,
) -> float:
    """Write the folder, read it back and try it on test images; only then it gets its name.

    card: from the largest difference of a probability, which is returned. Raises UserError for a
    folder that is there, and where the difference is more than rounding.
    """
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write.naming(out),
        tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place,
    ):
        trial = Path(place) / "model"
        trial.mkdir()
        write(trial, parts, "", onnx=onnx)
        apart = _tried(made, load(trial, made.device))
        if not apart <= BATCHES * (1 if parts.precision == "fp32" else HALF):
            raise UserError(
                f"The written model gives a probability that is {apart:.2g} from the saved one: nothing was exported."
            )
        by_onnx = _tried_onnx(made, trial) if onnx else None
        (trial / "README.md").write_text(card(apart, by_onnx), encoding="utf-8")
        shutil.move(trial, out)
    return apart


def check_target(out: Path) -> None:
    """Raise UserError for a place that holds something, or that cannot be written."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UserError(
            f"{out} is there already, and is not overwritten.",
            then="name another folder: --out model-2",
        )
    check_writable(out, "name another place", folder=True)
    if out.exists():
        out.rmdir()


def _tried(made: Refit, model: ExportedModel) -> float:
    pack, where = (
        task_pack(made.unit.data, made.unit.encoder, made.plan.cache_dir),
        made.unit.data.where(made.plan.target),
    )
    n = min(TRIED, where.stop - where.start)
    found, _ = model.score(np.asarray(pack.array[where.start : where.start + n]))
    return _apart(found, made.saved[:n])


def _tried_onnx(made: Refit, folder: Path) -> OnnxDifferences:
    """Compare the ONNX file with the model.

    Raises UserError where it differs on the same pixels by more than rounding.
    """
    own, other = load(folder, "cpu"), load(folder, runtime="onnx")
    pack, where = (
        task_pack(made.unit.data, made.unit.encoder, made.plan.cache_dir),
        made.unit.data.where(made.plan.target),
    )
    n = min(TRIED, where.stop - where.start)
    pixels = np.asarray(pack.array[where.start : where.start + n])
    wanted = own.score(pixels)[0]
    apart = max(
        _apart(other.score(pixels[i : i + ONNX_BATCH])[0], wanted[i : i + ONNX_BATCH])
        for i in range(0, n, ONNX_BATCH)
    )
    if not apart <= BATCHES:
        raise UserError(
            f"model.onnx gives a probability that is {apart:.2g} from the model's own: nothing was exported."
        )
    wholes = [
        _apart(other.score(decode(one)[None])[0], wanted[i : i + 1])
        for i, one in enumerate(_shown(made, n))
    ]
    return OnnxDifferences(apart, n, max(wholes, default=0.0), len(wholes))


def _shown(made: Refit, n: int) -> Sequence[Image]:
    """Return the first n images of the scored part."""
    return list(made.unit.data.parts[made.plan.target].images[:n])


def _linear(train: Train, draw: np.ndarray, chosen: Mapping[str, Any]) -> Head:
    ((model, _),) = linear.fitted(train, [draw])
    return LinearHead(model)


def _logreg(train: Train, draw: np.ndarray, chosen: Mapping[str, Any]) -> Head:
    """Without a fit nothing is looked at, and all classes seen are equally probable."""
    (found,) = svm_logreg.logreg_fitted(train, [draw])
    seen, n_classes = found.seen, found.n_classes
    if found.model is None:
        nothing = Components.nothing(train.features.shape[1])
        return ComponentHead(
            nothing, np.zeros((len(seen), 0)), np.zeros(len(seen)), seen, n_classes
        )
    coef, intercept = found.model.coef_, found.model.intercept_
    if len(coef) == 1:  # of two classes the margin alone
        coef, intercept = (
            np.concatenate([np.zeros_like(coef), coef]),
            np.concatenate([np.zeros_like(intercept), intercept]),
        )
    return ComponentHead(_components(found.transform), coef, intercept, seen, n_classes)


def _components(how: Any) -> Components:
    """From what the protocol transforms with."""
    return Components(
        how.varies, how.reach, how.limit, how.power, how.pca.mean_, how.pca.components_[how.kept]
    )


def _svm(train: Train, draw: np.ndarray, chosen: Mapping[str, Any]) -> Head:
    """Fit the SVM again; its head keeps the support vectors, in components."""
    (found,) = svm_logreg.svm_fitted(train, [draw])
    seen, n_classes, model = found.seen, found.n_classes, found.model
    empty = np.zeros(0)
    if model is None:
        nothing = Components.nothing(train.features.shape[1])
        return SupportHead(
            nothing,
            np.zeros((0, 0)),
            np.zeros((0, 0)),
            empty,
            np.zeros(0, int),
            1.0,
            found.sharpness,
            seen,
            n_classes,
        )
    transform = _components(found.transform)
    inside = transform(train.features[draw])
    gamma = float(1 / (inside.shape[1] * inside.var()))
    vectors, dual, bias, counts = (
        inside[model.support_],
        model.dual_coef_,
        model.intercept_,
        model.n_support_,
    )
    return SupportHead(
        transform, vectors, dual, bias, counts, gamma, found.sharpness, seen, n_classes
    )


def _knn(train: Train, draw: np.ndarray, chosen: Mapping[str, Any]) -> Head:
    """Keep the features of the labelled images; k is the row's."""
    return NeighbourHead(
        np.asarray(train.features[draw]),
        train.labels[draw],
        int(chosen["k"]),
        knn.TEMPERATURE,
        train.n_classes,
    )


#: Protocol -> its head, from what it may learn from, the draw, and what the row says was chosen.
HEADS: dict[str, Callable[[Train, np.ndarray, Mapping[str, Any]], Head]] = {
    "linear": _linear,
    "logreg": _logreg,
    "svm": _svm,
    "knn": _knn,
}
