"""What is examined: an encoder with its weights as a run would use it.

Beside it images to show it, and what its checkpoint declares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from medbench import images
from medbench.audit.encoder.activations import reference_images
from medbench.data import reader_answers, task_data
from medbench.models import encoders, user_encoder, weights
from medbench.models.hub import named, vision_tower
from medbench.models.stated import NOTHING, Stated
from medbench.schema import Encoder, UserError, registry, user_path

IMAGES = 24


def subject(
    name: str,
    *,
    file: str | None = None,
    size: int | None = None,
    readout: str = "pool",
    task: str | None = None,
    root: str | None = None,
    said: Stated = NOTHING,
) -> tuple[nn.Module, Encoder, Sequence[np.ndarray], Mapping[str, Any]]:
    """Load the network (eval mode), its encoder, images (H, W, 3) uint8 and what is declared.

    file: a checkpoint of the user's, or the name of an official one (`--weights`). task, root: show
    it 24 training images of this task, found as a run finds them, instead of natural ones: for
    weights that were trained on such images. said: of the preprocessing, instead of the encoder's
    own. Raises UserError for features, which have no network, and as `models.encoders.encoder`.
    """
    encoder = encoders.encoder(
        name, size, readout=readout, weights=user_path(file) if file else None, stated=said
    )
    if encoder.kind == "features":
        raise UserError(
            f"{encoder.name} holds features: there is no encoder to examine.",
            then="medbench doctor --encoder FILE.py:NAME",
        )
    shown: Sequence[np.ndarray] = _of_task(task, root) if task else reference_images(IMAGES)
    if encoder.kind == "function":
        return user_encoder.module(encoder), encoder, shown, {}
    cache = images.cache_folder()
    if encoder.kind == "hub":
        return vision_tower.tried(encoder, named.weights(encoder)), encoder, shown, {}
    start = (
        weights.own(encoder, cache)
        if encoder.kind == "weights"
        else weights.supervised(encoder, cache)
    )
    own = {
        key: value
        for key in ("mean", "std", "interpolation")
        if (value := getattr(start, key)) is not None
    }
    from timm.models import get_pretrained_cfg

    declared: Any = get_pretrained_cfg(
        f"{encoder.architecture}.{encoder.checkpoint}"
        if encoder.checkpoint
        else encoder.architecture
    )
    about = declared.to_dict() if declared else {}
    if encoder.kind == "weights" and not own:  # a tag speaks of its own file
        about = {
            name: value
            for name, value in about.items()
            if name not in ("mean", "std", "interpolation", "input_size")
        }
    return weights.build_encoder(encoder, start, 0), replace(encoder, **own), shown, about | own


def _of_task(name: str, root: str | None) -> list[np.ndarray]:
    task = registry.task(name)
    found, why = task_data.locate(task, root, images.cache_folder())
    if found is None and task.phantom is None:
        raise UserError(
            f"The data of '{task.name}' ({task.data}) {why}, and it has no phantom.",
            then=f"medbench data list {task.name}",
        )
    split = reader_answers.loaded(task, found)["train"]
    index = np.random.default_rng(0).permutation(len(split))[:IMAGES]
    if len(index) < 8:
        raise UserError(
            f"The training part of '{task.name}' has {len(index)} images; 8 are needed."
        )
    return [images.decode(split.images[i]) for i in index]
