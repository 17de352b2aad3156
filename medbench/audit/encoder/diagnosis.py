"""Whether an encoder gets its images as it was trained.

What the checkpoint declares, and what its weights remember of their training images. A network with
batch norm remembers them: each layer's running mean and variance are those of the training images.
With the right value range, mean and std, reference images come closest to them, so a handful of
known preprocessings are tried and compared. The first layer tells more: a convolution is linear, so
the mean and covariance of the training pixels can be solved for from the statistics behind it, and
with them the order of the channels. A network with layer norm alone remembers none of it; there the
effective rank of the features is all that is measured, and what the checkpoint declares carries the
verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from medbench.audit.encoder.activations import ForwardTrace, is_norm, remembers
from medbench.audit.encoder.encoder_report import Candidate, EncoderFinding, EncoderReport
from medbench.audit.encoder.preprocessing_findings import (
    against_declaration,
    no_range,
    wrong_interpolation,
    wrong_order,
    wrong_values,
)
from medbench.audit.encoder.preprocessing_trials import STATED, try_preprocessings
from medbench.models import timm_answers
from medbench.schema import Encoder

VALUES = {"range", "mean and std"}  # one mistake, two names: a declaration decides between them
SAME = 1e-6  # of the largest feature: rounding
# nats: a layer whose statistics are this far off behind layers that fit does not belong to the
# weights around it
FLAT = 2.0


def diagnose(
    net: nn.Module,
    encoder: Encoder,
    images: Sequence[np.ndarray],
    declared: Mapping[str, Any] | None = None,
    *,
    cheap: bool = False,
) -> EncoderReport:
    """Check whether `net` (eval mode) gets its images as it was trained.

    That is, if they are given as `encoder` states. images: at least 8 of (H, W, 3) uint8 RGB as
    decoded, before resizing, as the network has seen in training: natural ones (`reference_images`)
    for ImageNet weights. declared: what the checkpoint says of itself, with the keys of timm's
    `pretrained_cfg` (mean, std, interpolation, input_size; others are ignored). cheap: only values
    are tried, no order of channels and no interpolation.

    The order of channels shows in the mean colour that the first batch norm remembers, if training
    did not subtract it (see MARGIN_ORDER), else in the misfit or not at all. Bilinear and bicubic
    are too close to be told apart by weights: of interpolations only nearest is measured, the
    others are declared. Raises ValueError for fewer than 8 images.
    """
    if len(images) < 8:
        raise ValueError(f"{len(images)} images are too few: 8 or more")
    trials = try_preprocessings(net, encoder, images, declared or {}, cheap=cheap)
    return judge(net, encoder, trials, declared or {})


def judge(
    net: nn.Module,
    encoder: Encoder,
    trials: Sequence[tuple[Candidate, ForwardTrace]],
    declared: Mapping[str, Any],
) -> EncoderReport:
    """Return the findings of `try_preprocessings`'s trials, and of the declaration."""
    found: list[EncoderFinding] = []
    notes: list[str] = []
    straight = [
        (c, s) for c, s in trials if (c.order, c.interpolation) == ("RGB", encoder.interpolation)
    ]
    seen = next(s for c, s in straight if c.name == STATED)
    best, at_best = min(straight, key=lambda trial: trial[0].misfit)
    turned = next((c for c, _ in trials if (c.name, c.order) == (STATED, "BGR")), None)
    # the other order alone explains more than other values do
    if turned and turned.misfit < best.misfit:
        best, at_best = next((c, s) for c, s in straight if c.name == STATED)
    readout, weights = _readout(net, encoder, seen, declared), _weights(net, at_best)
    stated = no_range(encoder)
    found += [finding for finding in (readout, weights, *stated) if finding]
    if weights:
        notes.append(
            "weights that are not all there say little of the preprocessing: it was compared with the declaration alone"
        )
    else:
        found += [] if stated else wrong_values(encoder, seen, best)
        found += wrong_order(trials, best, notes)
        found += wrong_interpolation(encoder, trials, best) if seen.norms else []
        if not seen.norms:
            notes.append(
                "no batch norm, so no memory of the training images: a mean and std that are a little off cannot be measured"
            )
    for finding in against_declaration(encoder, declared, notes):
        same = [f for f in found if f.what == finding.what or {f.what, finding.what} == VALUES]
        found = [f for f in found if f not in same]
        found.append(
            replace(finding, evidence="; ".join([finding.evidence, *(f.evidence for f in same)]))
        )
    return EncoderReport(
        tuple(found), tuple(sorted((c for c, _ in trials), key=lambda c: c.misfit)), tuple(notes)
    )


def _readout(
    net: nn.Module, encoder: Encoder, seen: ForwardTrace, declared: Mapping[str, Any]
) -> EncoderFinding | None:
    """Find what is wrong with the features themselves.

    No vectors, the same for all images, a flattened map, logits, or taken before the last norm.
    """
    shape = tuple(seen.features.shape[1:])
    if float((seen.features - seen.features[:1]).abs().max()) <= SAME * float(
        seen.features.abs().max()
    ):
        said = f"all {len(seen.features)} images give the same features"
        return EncoderFinding(
            "readout",
            said,
            "see what the network does with its input: no probe can tell these images apart",
        )
    if len(shape) != 1:
        return EncoderFinding(
            "readout", f"an image gives {shape}, not one vector", "pool over positions"
        )
    if (
        len(seen.map) > 1
        and shape[0] == math.prod(seen.map)
        and shape[0] not in (seen.map[0], seen.map[-1])
    ):
        return EncoderFinding(
            "readout",
            f"{shape[0]} features are the whole of a map {seen.map}",
            "pool over positions",
        )
    if isinstance(seen.last, nn.Linear) and shape[0] == declared.get("num_classes"):
        return EncoderFinding(
            "readout",
            f"{shape[0]} features are the classifier's logits",
            "take the features before the classifier",
        )
    idle = [
        name
        for name, m in net.named_modules()
        if is_norm(m) and name not in seen.called and any(True for _ in m.parameters())
    ]
    if idle:
        return EncoderFinding(
            "readout",
            f"no image passes {', '.join(idle)}: the features are not normalised",
            "read behind the last norm",
        )
    gone = _missing_norm(net, encoder)
    return (
        EncoderFinding(
            "readout",
            f"{encoder.architecture} ends with the norm '{gone}', this network has none",
            "keep it",
        )
        if gone
        else None
    )


def _missing_norm(net: nn.Module, encoder: Encoder) -> str:
    """Name the last norm of timm's architecture where the network has lost it."""
    if encoder.architecture not in timm_answers.architectures():
        return ""
    import timm

    with torch.device("meta"):
        norms = [
            name
            for name, m in timm.create_model(encoder.architecture).named_modules()
            if is_norm(m)
        ]
    own = [name for name, m in net.named_modules() if is_norm(m)]
    return (
        norms[-1] if norms and not any(f".{name}".endswith(f".{norms[-1]}") for name in own) else ""
    )


def _weights(net: nn.Module, seen: ForwardTrace) -> EncoderFinding | None:
    """Layers that are as a new network has them, or that do not fit those around them."""
    fix = "load the checkpoint strictly, and compare its keys with the network's"
    norms = {
        name: m
        for name, m in net.named_modules()
        if is_norm(m) and any(True for _ in m.parameters())
    }
    new = [name for name, m in norms.items() if _is_new(m)]
    if norms and len(new) == len(norms):
        return EncoderFinding(
            "weights", "every norm is as a new network has it: nothing was loaded", fix
        )
    new += [
        name
        for name, m in net.named_modules()
        if isinstance(m, nn.Linear | nn.Conv2d) and m.bias is not None and not m.bias.any()
    ]
    if new:
        return EncoderFinding("weights", f"as a new network has them: {', '.join(new)}", fix)
    off = [name for name, d in seen.norms.items() if d > FLAT]
    if off and float(np.median(list(seen.norms.values()))) < FLAT / 4:
        return EncoderFinding(
            "weights",
            f"what reaches {off[0]} is {seen.norms[off[0]]:.1f} nats from what it was trained on",
            fix,
        )
    return None


def _is_new(norm: Any) -> bool:
    fresh = bool((norm.weight == 1).all()) and not norm.bias.any()
    return fresh and (
        not remembers(norm) or (not norm.running_mean.any() and bool((norm.running_var == 1).all()))
    )
