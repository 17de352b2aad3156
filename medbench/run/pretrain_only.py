"""One pretraining for its own sake.

Weights that timm loads, its history, a picture of the loss and a sheet of the views.
"""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from medbench.run.command_line import asking
from medbench.run.planning import plan
from medbench.run.plans import Plan
from medbench.run.prepare import kept_history, task_pack, trained
from medbench.run.units import Unit
from medbench.schema import Grid, UserError, Weights, check_writable, registry
from medbench.system import devices, process_group
from medbench.system.file_names import as_file_name
from medbench.system.progress_listener import listening

SHOWN = 6  # training images on the sheet of views
LATE = 10  # records at the end whose mean loss is told: that of one batch jumps
PARENT = Path("runs/pretrain")


def alone(grid: Grid, out: Path | None, device: str) -> list[str]:
    """Pretrain the grid's one method on its one task; return lines for a person.

    From the last pretraining seed. Writes METHOD.pth, history.json, loss.png and views.png into
    `out`, by default runs/pretrain/TASK-METHOD. A killed one goes on. Under torchrun the processes
    share every batch, and the first one alone writes. Raises UserError as `run.plan`.
    """
    group = process_group.join(devices.resolve(device))
    with group.watched(), listening(None) if group.rank else nullcontext():  # one of them speaks
        planned = group.in_turn(lambda: _planned(grid, out))
        weights = trained(planned, planned.units[-1], group.device, group.size).weights
        return _shown(grid, planned, weights, out) if group.rank == 0 else []


def _planned(grid: Grid, out: Path | None) -> Plan:
    """Plan one pretraining.

    Raises UserError where there is nothing to train, or no place for it.
    """
    method = registry.method(grid.methods[0])
    if method.recipes is None:
        allowed = [entry.name for entry in registry.methods().values() if entry.recipes]
        raise UserError(
            f"Method '{method.name}' trains no encoder.",
            allowed=allowed,
            given=method.name,
            then="medbench pretrain --method simclr",
        )
    check_writable(out or PARENT / "TASK", "medbench pretrain --out FOLDER", folder=True)
    planned = plan(grid)
    if not planned.units[-1].recipes:
        raise UserError(
            f"Source '{grid.source}' takes the official checkpoint as it is.",
            allowed=["task", "imagenet+task"],
        )
    return planned


def _shown(grid: Grid, planned: Plan, weights: Weights, out: Path | None) -> list[str]:
    """Copy and draw what was made."""
    assert weights.file is not None
    unit = planned.units[-1]
    name = as_file_name(unit.method.name)
    out = out or PARENT / f"{as_file_name(unit.data.task.name)}-{name}"
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights.file, out / f"{name}.pth")
    views_picture(planned, unit, out / "views.png")
    judged = f"Judge it: {_judging(grid, unit, out / f'{name}.pth')}"
    history = kept_history(weights.file.parent)
    if not history:
        return [
            *map(str, planned.notes),
            f"{out}/{name}.pth, views.png; the history of this training was lost, and its loss.png with it",
            judged,
        ]
    (out / "history.json").write_text(
        json.dumps(
            {
                "weights": weights.name,
                "budget": weights.budget,
                "sha256_of_recipe": weights.sha256,
                **history,
            },
            indent=1,
        )
    )
    loss_picture(history["steps"], weights.name, out / "loss.png")
    seen, asked = history["steps"][-1]["views"], sum(recipe.views for recipe in unit.recipes)
    # a stage has whole batches
    views = f"{seen:,} of {asked:,} views (whole batches)" if seen < asked else f"{seen:,} views"
    pace = f"{history['seconds']:.0f} s, {history['views_per_second']:.0f} a second"
    return [
        *map(str, planned.notes),
        f"{weights.name}: {views} in {pace}{_watched(history['steps'])}",
        f"{out}/{name}.pth (timm.create_model('{unit.encoder.architecture}', num_classes=0).load_state_dict), history.json, loss.png, views.png",
        judged,
    ]


def _watched(steps: list[dict[str, Any]]) -> str:
    """Say how the loss and the looks of a training went, as far as its history holds them.

    steps: of history.json.
    """
    said = ""
    losses = [step for step in steps if step.get("loss") is not None]
    if losses and losses[-1].get("chance") is not None:
        chance = losses[-1]["chance"]
        late = [step["loss"] for step in losses[-LATE:] if step["stage"] == losses[-1]["stage"]]
        nothing = ", learnt nothing yet" if np.mean(late) >= chance else ""
        said += f"; loss {np.mean(late):.3f} (chance {chance:.3f}{nothing})"
    looks = [step for step in steps if "knn_auc" in step]
    if looks:
        first, last = (
            "not defined" if step["knn_auc"] is None else f"{step['knn_auc']:.3f}"
            for step in (looks[0], looks[-1])
        )
        images = f"{looks[-1]['knn_images']:,} " if "knn_images" in looks[-1] else ""
        said += f"; kNN AUC on {images}held-out training images {first} at first, {last} at last"
    return said


def _judging(grid: Grid, unit: Unit, weights: Path) -> str:
    """Write the command that scores these weights on the same images, at the same size."""
    return asking(
        tasks=grid.tasks[:1],
        encoders=(unit.encoder.name,),
        weights=str(weights),
        data=grid.data,
        size=grid.size,
    )


def loss_picture(steps: list[dict[str, Any]], title: str, file: Path) -> None:
    """Draw a training's losses and its watch against the views seen, into a file.

    steps: of history.json. Loss of each step and of held-out training images, effective rank of the
    features, kNN AUC.
    """
    import matplotlib
    from matplotlib.figure import Figure

    def curve(name: str) -> tuple[list[float], list[float]]:
        found = [(step["views"], step[name]) for step in steps if step.get(name) is not None]
        return [x for x, _ in found], [y for _, y in found]

    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(6.9, 2.4), layout="constrained")
        loss, rank, knn = figure.subplots(1, 3)
        loss.plot(*curve("loss"), color="0.6", linewidth=0.8, label="training")
        loss.plot(*curve("held_out_loss"), "o--", color="black", markersize=3, label="held out")
        loss.set_ylabel("loss")
        loss.legend(frameon=False)
        rank.plot(*curve("look_rank"), "o-", color="black", markersize=3)
        rank.set_ylabel("effective rank of the features")
        knn.plot(*curve("knn_auc"), "o-", color="black", markersize=3)
        knn.set_ylabel("AUC of 20 nearest neighbours")
        starts = {step["stage"]: step["views"] for step in reversed(steps)}
        for axis in (loss, rank, knn):
            axis.set_xlabel("views")
            axis.spines[["top", "right"]].set_visible(False)
            for stage, views in starts.items():
                if stage:
                    axis.axvline(views, color="0.8", linewidth=0.8)
        figure.suptitle(title, fontsize=8)
        figure.savefig(file, dpi=150)


def views_picture(planned: Plan, unit: Unit, file: Path) -> None:
    """Draw what the network sees into a file: one row per image, first as it is.

    SHOWN images of the training part, evenly spaced, with the views of the unit's first stage.
    """
    import torch
    from PIL import Image

    from medbench.images import augment

    here = unit.data.where("train")
    rows = np.linspace(here.start, here.stop - 1, SHOWN).astype(int)
    pixels = torch.from_numpy(task_pack(unit.data, unit.encoder, planned.cache_dir).array[rows])
    generator = torch.Generator().manual_seed(unit.pretrain_seed)
    picture = Image.fromarray(
        augment.draw_views(pixels, unit.recipes[0].crops, unit.encoder.size, generator)
    )
    scale = max(1, round(96 / unit.encoder.size))
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(
        file
    )
