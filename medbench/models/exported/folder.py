"""A fitted model as a folder that timm and medbench load: weights, head and words, without pickle.

Nothing of a folder is believed before it is looked at.

model.safetensors      the encoder's weights, timm's names
config.json            timm's `local-dir:` form with the preprocessing, and under "medbench" what scoring needs beside it
member-1, member-2     of a fusion, a folder for each encoder with these two; its config.json holds "medbench" alone
typical.safetensors    where the training images' features lie (`typical`); not there where they were too few
seen.safetensors       bits by which `validate` notices images of the run (`seen_images`); where they were asked for
head.safetensors       the classifier on the encoders' features (`head`)
classes.json           the classes in the order of the probabilities, and the task's kind
operating_points.json  thresholds and a temperature, chosen from held-out scores
evidence.json          what the model did on the part it was scored on, at each of these points
model.onnx             the whole, for onnxruntime; where it was asked for
README.md              the model card
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medbench.models.exported import config_files, tensor_files
from medbench.models.exported.head import head_of
from medbench.models.exported.layout import (
    AGAIN,
    CARD,
    CLASSES,
    CONFIG,
    EVIDENCE,
    HEAD,
    MODEL,
    ONNX,
    POINTS,
    SEEN,
    TYPICAL,
    VERSION,
    Parts,
    Tower,
    check_file,
    check_member,
    member_folder,
)
from medbench.models.exported.seen_images import SeenImages
from medbench.models.exported.typical import Typical
from medbench.models.foreign_errors import NOT_ITS_OWN
from medbench.schema import UserError, told
from medbench.system import atomic_write


def write(folder: Path, parts: Parts, card: str, *, onnx: bool = False) -> None:
    """Fill an empty folder with a model: networks, head, words and card.

    card: the content of README.md. onnx: write model.onnx, too. Raises OSError.
    """
    places = _places(len(parts.towers))
    for place, tower in zip(places, parts.towers, strict=True):
        (folder / place).mkdir(exist_ok=True)
        tensor_files.put_network(folder / place / MODEL, tower.net)
    tensor_files.put_arrays(folder / HEAD, parts.head.arrays())
    if parts.typical is not None:
        tensor_files.put_arrays(folder / TYPICAL, parts.typical.arrays())
    if parts.seen_images is not None:
        tensor_files.put_arrays(folder / SEEN, parts.seen_images.arrays())
    if onnx:
        from medbench.models.exported.onnx_file import write_onnx

        write_onnx(folder / ONNX, parts)
    files = [*(place + MODEL for place in places), HEAD, TYPICAL, SEEN, ONNX]
    about = {
        "version": VERSION,
        "protocol": parts.protocol,
        "head": parts.head.name,
        "precision": parts.precision,
        "sha256": {
            name: tensor_files.sha256(folder / name) for name in files if (folder / name).is_file()
        },
    }
    _put_configs(folder, parts, about)
    classes = {"classes": list(parts.classes), "kind": parts.kind, "learnt": list(parts.possible)}
    atomic_write.record(folder / CLASSES, classes, indent=2)
    atomic_write.record(folder / POINTS, parts.points, indent=2)
    atomic_write.record(folder / EVIDENCE, parts.evidence, indent=2)
    atomic_write.write(folder / CARD, lambda partial: partial.write_text(card, encoding="utf-8"))


def _places(n: int) -> list[str]:
    """Where the encoders lie: of one in the folder itself."""
    return [""] if n == 1 else [f"{member_folder(i)}/" for i in range(n)]


def _put_configs(folder: Path, parts: Parts, about: Mapping[str, Any]) -> None:
    configs = [
        config_files.timm_config(tower, int(tensor_files.inside(tower.net).num_features))
        for tower in parts.towers
    ]
    if len(parts.towers) == 1:
        (config,) = configs
        whole = {**config, "medbench": {**about, **config["medbench"]}}
        atomic_write.record(folder / CONFIG, whole, indent=2)
        return
    for place, config in zip(_places(len(configs)), configs, strict=True):
        atomic_write.record(folder / place / CONFIG, config, indent=2)
    joint = None if parts.joint is None else config_files.joint_config(parts.joint)
    fused = {**about, "members": len(configs), "joint": joint}
    atomic_write.record(folder / CONFIG, {"medbench": fused}, indent=2)


def read(folder: Path) -> Parts:
    """Read a folder that `write` filled.

    Raises UserError, one line, for a folder that is no exported model, is damaged, or wants
    something that no such folder does.
    """
    about, options, parts = _read(folder, with_networks=True)
    from medbench.models.timm_answers import architectures

    places, sums = _places(len(parts.towers)), about["sha256"]
    with _damaged(folder):
        for tower in parts.towers:
            if tower.encoder.architecture not in architectures():
                raise ValueError(f"timm has no architecture {tower.encoder.architecture!r:.60}")
        found = tensor_files.arrays(folder / HEAD, sums[HEAD])
        head = head_of(about["head"], found, parts.kind, len(parts.classes))
        towers = tuple(
            Tower(
                tower.encoder,
                tensor_files.network(
                    folder / place / MODEL, tower.encoder, given, sums[place + MODEL]
                ),
            )
            for tower, place, given in zip(parts.towers, places, options, strict=True)
        )
        tensor_files.check_width(towers, head.width)
    if parts.typical is not None and len(parts.typical.mean) != head.width:
        raise UserError(
            f"{folder} is not an exported model, or damaged: {TYPICAL} is of other features.",
            then=AGAIN,
        )
    return replace(parts, towers=towers, head=head)


def read_without_torch(folder: Path) -> tuple[Parts, str]:
    """Read all but networks and head, which the ONNX file holds; and the head's name.

    Raises UserError as `read`, and where there is no such file.
    """
    if not (folder / ONNX).is_file():
        raise UserError(
            f"{folder} has no {ONNX}.", then="medbench export FOLDER --out model --onnx"
        )
    about, _, parts = _read(folder, with_networks=False)
    check_file(folder / ONNX)
    with _damaged(folder):
        if ONNX not in about["sha256"]:
            raise ValueError(f"{CONFIG} does not name {ONNX}")
        tensor_files.check_sum(folder / ONNX, about["sha256"][ONNX])
        # the key of tensors that lie in another file
        if b"location" in (folder / ONNX).read_bytes():
            raise ValueError(f"{ONNX} refers to a file outside itself")
    return parts, about["head"]


@contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    """Raise UserError, one line, for what a reader finds wrong in it."""
    try:
        yield
    except NOT_ITS_OWN as error:  # timm's models refuse their arguments in several ways
        # what medbench itself found says all; another's `0` or `'patch'` alone says nothing
        what = str(error) if isinstance(error, ValueError) else told(error)
        raise UserError(
            f"{folder} is not an exported model, or damaged: {' '.join(what.split())[:300]}.",
            then=AGAIN,
        ) from error


def _read(
    folder: Path, *, with_networks: bool
) -> tuple[Mapping[str, Any], list[dict[str, Any]], Parts]:
    """Return the configuration, options of each encoder, and all but networks and head."""
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not an exported model: it has no {CONFIG}.",
            then="medbench export FOLDER --out model",
        )
    for name in (CONFIG, CLASSES, POINTS, EVIDENCE, *([HEAD] if with_networks else [])):
        check_file(folder / name)
    with _damaged(folder):
        config = config_files.read_json(folder / CONFIG)
        about = config_files.about_of(config)
    configs = _configs(folder, config, about, [MODEL] if with_networks else [])
    nothing: Any = None
    with _damaged(folder):
        of = config_files.encoder_of if len(configs) == 1 else config_files.member_of
        towers = tuple(Tower(of(one), nothing) for one in configs)
        fused = about.get("joint")
        joint = None if fused is None else config_files.joint_of(fused)
        classes, kind, learnt = config_files.classes_of(config_files.read_json(folder / CLASSES))
        points = config_files.points_of(config_files.read_json(folder / POINTS), classes)
        evidence = config_files.evidence_of(config_files.read_json(folder / EVIDENCE), classes)
        found = _kept(folder, about["sha256"])
        typical = Typical.of(found[TYPICAL]) if TYPICAL in found else None
        seen = SeenImages.of(found[SEEN]) if SEEN in found else None
    parts = Parts(
        towers,
        nothing,
        about["protocol"],
        classes,
        kind,
        about["precision"],
        points,
        evidence,
        typical,
        joint,
        seen,
        learnt,
    )
    return about, [config_files.arguments_of(config) for config in configs], parts


def _kept(folder: Path, sums: Mapping[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of the files that a folder may lack. Raises ValueError."""
    found = {}
    for name in (TYPICAL, SEEN):
        if name in sums:
            check_file(folder / name)
            found[name] = tensor_files.arrays(folder / name, sums[name])
    return found


def _configs(
    folder: Path, config: Any, about: Mapping[str, Any], files: Sequence[str]
) -> list[Any]:
    """config.json of each encoder. files: that must lie beside it."""
    n = about.get("members", 1)
    found = []
    for place in _places(n):
        if n > 1:
            check_member(folder / place)
            check_file(folder / place / CONFIG)
        for name in files:
            check_file(folder / place / name)
        with _damaged(folder):
            found.append(config_files.read_json(folder / place / CONFIG) if n > 1 else config)
    return found
