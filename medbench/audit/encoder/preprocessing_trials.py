"""The known preprocessings, tried on reference images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from medbench.audit.encoder.activations import NATURAL_MEAN, ForwardTrace, look, resize_images
from medbench.audit.encoder.encoder_report import Candidate
from medbench.schema import Encoder

#: The preprocessings that are tried: (mean, std) of values in [0, 1].
KNOWN: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "0 to 255": ((0.0,) * 3, (1 / 255,) * 3),
    "0 to 255, mean subtracted": (NATURAL_MEAN, (1 / 255,) * 3),
    "0 to 1": ((0.0,) * 3, (1.0,) * 3),
    "-1 to 1": ((0.5,) * 3, (0.5,) * 3),
    "ImageNet mean and std": (NATURAL_MEAN, (0.229, 0.224, 0.225)),
    "CLIP mean and std": (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
}
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
STATED = "as stated"


def try_preprocessings(
    net: nn.Module,
    encoder: Encoder,
    images: Sequence[np.ndarray],
    declared: Mapping[str, Any],
    *,
    cheap: bool = False,
) -> list[tuple[Candidate, ForwardTrace]]:
    """Run the images through every known preprocessing at the stated interpolation.

    Then, unless it must be cheap, the other order and the other interpolations for the best of
    them.

    images: (H, W, 3) uint8 each.
    """
    affine = {STATED: (encoder.mean, encoder.std), **KNOWN}
    if {"mean", "std"} <= set(declared):
        affine["as declared"] = (tuple(declared["mean"]), tuple(declared["std"]))
    distinct = {key: name for name, key in reversed(affine.items())}
    pixels = {
        how: resize_images(images, encoder.size, how, encoder.crop)
        for how in ({encoder.interpolation} if cheap else {*INTERPOLATIONS, encoder.interpolation})
    }

    def trial(name: str, key: Any, order: str, how: str) -> tuple[Candidate, ForwardTrace]:
        seen = look(net, pixels[how] if order == "RGB" else pixels[how].flip(1), *key)
        mean, std = key
        return Candidate(name, mean, std, order, how, seen.misfit), seen

    tried = [
        trial(name, key, "RGB", encoder.interpolation) for key, name in reversed(distinct.items())
    ]
    if cheap:
        return tried
    best = min((c for c, _ in tried), key=lambda c: c.misfit)
    key = (best.mean, best.std)
    turned = {best.name: key, STATED: (encoder.mean, encoder.std)}
    tried += [trial(name, values, "BGR", encoder.interpolation) for name, values in turned.items()]
    return tried + [
        trial(best.name, key, "RGB", how) for how in pixels if how != encoder.interpolation
    ]
