"""What a unit needs before anything can be judged: packed images, trained weights, frozen features.

All of it cached by content.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench import images
from medbench.data.evaluation_sets import EvaluationSet
from medbench.data.task_data import TaskData
from medbench.images.corruptions import corrupted_pack
from medbench.images.joined_rows import JoinedRows
from medbench.models import features, pretrain
from medbench.run.given_features import given_features
from medbench.run.plans import Plan
from medbench.run.units import Unit
from medbench.schema import Encoder, Network, Weights, checked, fingerprint, parsed
from medbench.system.cache_folder import archive_is_whole
from medbench.system.precision import kind

if TYPE_CHECKING:
    import torch

log = logging.getLogger("medbench")


def task_pack(
    data: TaskData, encoder: Encoder, cache_dir: Path, target: EvaluationSet | None = None
) -> images.Pixels:
    """Return the pack of a task's images at the encoder's form, made now where the cache lacks it.

    Train, val, test one after another, (N, S, S, 3) uint8. target: that set's images instead.
    Raises UserError that names bad images, as `images.packs`.
    """
    if target is not None and target.corruption:
        own = _pack(data, encoder, cache_dir)
        return corrupted_pack.CorruptedPack(
            own, data.where(str(target.shift["of"])), target.split.ids, *target.corruption
        )
    return _pack(data, encoder, cache_dir, target)


def _pack(
    data: TaskData, encoder: Encoder, cache_dir: Path, target: EvaluationSet | None = None
) -> images.Pack:
    if target is not None:
        flat, hashes, name = list(target.split.images), target.hashes, target.name
    else:
        flat, hashes, name = (
            [image for split in data.parts.values() for image in split.images],
            data.hashes,
            data.task.name,
        )
    stage = f"packing {name} at {encoder.size} px"
    (pack,) = images.packs(flat, hashes, [images.PackForm(*encoder.form)], cache_dir, stage=stage)
    return pack


def trained(plan: Plan, unit: Unit, device: str, processes: int = 1) -> Unit:
    """Return the unit, and its members, with weights that are on disk.

    They are pretrained now, unless an earlier run did it; one that was killed goes on. processes:
    that share every batch, see `models.pretrain.pretrain`, which says what is raised.
    """
    if unit.members:
        return replace(
            unit, members=tuple(trained(plan, member, device, processes) for member in unit.members)
        )
    if not unit.recipes:
        return unit
    data, encoder, start = unit.data, unit.encoder, unit.start
    assert start is not None, "a pretraining starts somewhere"
    folder = pretrained_folder(plan, unit, device, processes)
    if not (
        _shared(folder)
        if processes > 1
        else archive_is_whole(folder / "weights.pth", "pretraining again")
    ):
        log.info("pretraining %s", unit.name)
        pixels, labels = learnt_from(data, encoder, plan.cache_dir)
        bags, groups = data.learnt_from
        pretrain.pretrain(
            pixels,
            np.arange(len(bags)),
            bags,
            groups,
            labels,
            partial(unit_encoder, unit, replace(encoder, readout="pool"), start),
            encoder.mean,
            encoder.std,
            encoder.size,
            unit.recipes,
            seed=unit.pretrain_seed,
            folder=folder,
            device=device,
            precision=unit.precision,
            stage=training_stage(unit),
        )
    return replace(unit, weights=replace(unit.weights, file=folder / "weights.pth"))


def learnt_from(data: TaskData, encoder: Encoder, cache_dir: Path) -> tuple[Any, np.ndarray]:
    """Return what a pretraining sees, and labels for its watch.

    (N, S, S, 3) uint8 that is read by index, and (N,) int, or (N, C) float with NaN. The training
    part comes first, then the images without labels, whose labels are NaN.
    """
    here = data.where("train")
    parts = [(task_pack(data, encoder, cache_dir).array, np.arange(here.start, here.stop))]
    labels = data.pool.labels
    if (more := data.unlabelled) is not None:
        stage = f"packing {', '.join(more.names)} at {encoder.size} px"
        form = images.PackForm(*encoder.form)
        (pack,) = images.packs(more.images, more.hashes, [form], cache_dir, stage=stage)
        parts.append((pack.array, np.arange(len(more))))
        each = np.eye(len(data.task.classes))[labels] if labels.ndim == 1 else labels
        labels = np.concatenate([each, np.full((len(more), each.shape[1]), np.nan)])
    return JoinedRows(parts), labels


def _shared(folder: Path) -> bool:
    """Whether the weights are whole, for all processes: the first one says it."""
    from medbench.models.pretrain.checkpointing import finished

    return finished(folder)


def training_stage(unit: Unit) -> str:
    """Return the stage as which a unit's pretraining reports its progress."""
    return f"pretraining {unit.name}"


def embedding_stage(unit: Unit, target: EvaluationSet | None = None) -> str:
    """Return the stage as which the embedding of its images, or of a target's, reports progress."""
    return f"embedding {unit.name}" + (f" on {target.name}" if target else "")


def pretrained_folder(plan: Plan, unit: Unit, device: str, processes: int = 1) -> Path:
    """Return where the cache keeps what a unit's pretraining makes.

    Weights, their history and the state of one that was killed. Each of several processes draws its
    own chance, and their number rounds the batch: other weights, which no run takes for those of
    one.
    """
    several = [processes] if processes > 1 else []
    return (
        plan.cache_dir / "pretrained" / fingerprint(unit.weights.identity, kind(device), *several)
    )


def history(plan: Plan, unit: Unit, device: str) -> dict[str, Any]:
    """Read what a unit's pretraining left beside its weights; {} where there is nothing.

    As `kept_history` reads it: seconds, views a second, machine, steps.
    """
    return kept_history(pretrained_folder(plan, unit, device)) if unit.recipes else {}


def kept_history(folder: Path) -> dict[str, Any]:
    """Read the history.json in the folder of a pretraining; {} where there is none.

    A damaged one is removed, with a line: weights are too dear to be trained again for what was
    noted of them.
    """
    file = folder / "history.json"
    try:
        found = parsed(file.read_bytes())
        checked(found, {"steps": list, "seconds": (int, float), "views_per_second": (int, float)})
        for step in found["steps"]:
            checked(step, {"views": int}, "a step")
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        log.warning(
            "%s is damaged (%s): what these weights cost, and how their loss went, is lost",
            file,
            error,
        )
        file.unlink(missing_ok=True)
        return {}
    kept: dict[str, Any] = found
    return kept


def unit_features(
    plan: Plan, unit: Unit, device: str, target: EvaluationSet | None = None
) -> tuple[features.Features, ...]:
    """Return the frozen features of a unit whose weights are on disk.

    For a fusion, of each member. target: of that set's images, not of the task's.
    """
    if unit.members:
        return tuple(
            found
            for member in unit.members
            for found in unit_features(plan, member, device, target)
        )
    data, encoder = unit.data, unit.encoder
    if encoder.kind == "features":
        return (
            features.Features(given_features(encoder, data, plan.target, target), 0.0, None, None),
        )
    key = features_key(unit, device, target)
    name = unit.name + (f" on {target.name}" if target else "")
    found = features.cached(plan.cache_dir, key)
    if found is not None:
        log.info("features of %s are in the cache", name)
        return (found,)
    assert not unit.recipes or unit.weights.file is not None, (
        "an encoder is trained before it embeds"
    )
    log.info("embedding %s", name)
    made = features.extract_features(
        task_pack(data, encoder, plan.cache_dir, target),
        partial(unit_encoder, unit, encoder, unit.weights),
        encoder,
        key,
        plan.cache_dir,
        device=device,
        precision=unit.precision,
        stage=embedding_stage(unit, target),
    )
    return (made,)


def unit_encoder(unit: Unit, encoder: Encoder, weights: Weights) -> torch.nn.Module:
    """Build the unit's network with these weights, in eval mode."""
    assert unit.method.encoder is not None, "a fusion is built from its members"
    return unit.method.encoder(encoder, weights, unit.pretrain_seed)


def have_features(plan: Plan, unit: Unit, device: str, target: EvaluationSet | None = None) -> bool:
    """Return whether a unit's features were given, or lie in the cache.

    These are of the target's images, where one is given.
    """
    if unit.members:
        return all(have_features(plan, member, device, target) for member in unit.members)
    return (
        unit.encoder.kind == "features"
        or features.cached(plan.cache_dir, features_key(unit, device, target)) is not None
    )


def features_key(unit: Unit, device: str, target: EvaluationSet | None = None) -> str:
    """Return the cache key of a unit's features; of the target's images, where one is given."""
    form = unit.encoder.form
    pack_key = (
        images.pack_key(target.hashes, *form)
        if target is not None and target.elsewhere
        else unit.data.pack_key(*form)
    )
    if target is not None and target.corruption:
        pack_key = corrupted_pack.corrupted_pack_key(
            pack_key, target.split.ids.tolist(), *target.corruption
        )
    if target is not None and target.apart and unit.recipes:
        # without it lie features that an older medbench may have made before the training
        pack_key = fingerprint(pack_key, "trained")
    return features.feature_key(
        pack_key, unit.encoder, unit.weights, unit.method, unit.precision, device
    )


def network(unit: Unit) -> Network:
    """Return what training end to end needs of a unit whose weights are on disk.

    For a fusion, its members stand side by side with its own head.
    """
    encoder, modality = unit.encoder, unit.data.task.modality
    if not unit.members:
        build, head = partial(unit_encoder, unit, encoder, unit.weights), None
    else:
        assert unit.method.fusion is not None, "only a fusion has members"
        build, head = (
            partial(_side_by_side, unit),
            unit.method.fusion.head and partial(_fused_head, unit, unit.method.fusion.head),
        )
    return Network(build, head, encoder.size, encoder.mean, encoder.std, modality, unit.precision)


def _side_by_side(unit: Unit) -> torch.nn.Module:
    from medbench.models.fusion.joint_encoder import JointEncoder

    encoders = [member.encoder for member in unit.members]
    nets = [unit_encoder(member, member.encoder, member.weights) for member in unit.members]
    own = (unit.encoder.mean, unit.encoder.std)
    return JointEncoder(
        nets,
        [e.size for e in encoders],
        [e.mean for e in encoders],
        [e.std for e in encoders],
        *own,
    ).eval()


def _fused_head(
    unit: Unit, head: Callable[[Sequence[int], int], torch.nn.Module], outputs: int
) -> torch.nn.Module:
    import torch

    widths = []
    for member in unit.members:
        # its shape alone
        net = unit_encoder(member, member.encoder, replace(member.weights, file=None, layout=""))
        with torch.inference_mode():
            widths.append(net(torch.zeros(1, 3, member.encoder.size, member.encoder.size)).shape[1])
    return head(widths, outputs)
