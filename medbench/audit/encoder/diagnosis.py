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
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from medbench.audit.encoder.activations import (
    NATURAL_MEAN,
    ForwardTrace,
    is_norm,
    look,
    remembers,
    resize_images,
    training_pixels,
)
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
#: How much lower, in nats, a preprocessing's misfit must be than that of the stated one. Set on the
#: networks of `benchmarks/doctor.py`.
MARGIN_BATCH_NORM, MARGIN_RANK = 0.2, 0.14
# of a squared distance between mean colours, in units of the training pixels' variance
MARGIN_ORDER = 0.02
BEYOND = 2.0  # no mean and no std of pixels in [0, 1] comes near it
STATED = "as stated"
VALUES = {"range", "mean and std"}  # one mistake, two names: a declaration decides between them
SAME = 1e-6  # of the largest feature: rounding
# nats: a layer whose statistics are this far off behind layers that fit does not belong to the
# weights around it
FLAT = 2.0


@dataclass(frozen=True)
class EncoderFinding:
    """One finding on an encoder's input or output.

    what: "range", "mean and std", "channel order", "interpolation", "size", "readout" or "weights".
    """

    what: str
    evidence: str
    fix: str


@dataclass(frozen=True)
class Candidate:
    """A preprocessing that was tried.

    misfit: nats, lower is better; comparable within one network.
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    order: str
    interpolation: str
    misfit: float


@dataclass(frozen=True)
class EncoderReport:
    """findings: what is wrong.

    candidates: what was tried, best first. notes: what was measured, and what could not be.
    """

    findings: tuple[EncoderFinding, ...]
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]

    def records(self) -> list[dict[str, Any]]:
        """Return a record per finding, note and tried preprocessing."""
        kinds = (
            ("finding", map(asdict, self.findings)),
            ("note", ({"text": note} for note in self.notes)),
        )
        return [
            {"kind": kind, **one}
            for kind, every in (*kinds, ("preprocessing", map(asdict, self.candidates)))
            for one in every
        ]

    def lines(self) -> list[str]:
        """As a person reads it."""
        shown = [f"{f.what.upper()}: {f.evidence}. Fix: {f.fix}" for f in self.findings] or [
            "nothing found"
        ]
        shown += [f"note: {note}" for note in self.notes]
        if self.candidates:
            width = max(len(c.name) for c in self.candidates)
            shown.append(
                f"{'preprocessing':<{width}}  order  interpolation  misfit (nats, lower is better)"
            )
            shown += [
                f"{c.name:<{width}}  {c.order:<5}  {c.interpolation:<13}  {c.misfit:+.2f}"
                for c in self.candidates
            ]
        return shown


def diagnose(
    net: nn.Module,
    encoder: Encoder,
    images: Sequence[np.ndarray],
    declared: Mapping[str, Any] | None = None,
    *,
    cheap: bool = False,
) -> EncoderReport:
    """Whether `net` (eval mode) gets its images as it was trained.

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
        found += [] if stated else _values(encoder, seen, best)
        found += _order(trials, best, notes)
        found += _interpolation(encoder, trials, best) if seen.norms else []
        if not seen.norms:
            notes.append(
                "no batch norm, so no memory of the training images: a mean and std that are a little off cannot be measured"
            )
    for finding in _as_declared(encoder, declared, notes):
        same = [f for f in found if f.what == finding.what or {f.what, finding.what} == VALUES]
        found = [f for f in found if f not in same]
        found.append(
            replace(finding, evidence="; ".join([finding.evidence, *(f.evidence for f in same)]))
        )
    return EncoderReport(
        tuple(found), tuple(sorted((c for c, _ in trials), key=lambda c: c.misfit)), tuple(notes)
    )


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


def _range(mean: Sequence[float], std: Sequence[float]) -> str:
    if max(std) < 0.05:
        return "0 to 255"
    return "0 to 1" if tuple(std) == (1, 1, 1) and not any(mean) else "centred"


def no_range(encoder: Encoder) -> list[EncoderFinding]:
    """Values that no network was trained with.

    They are of pixels in [0, 255], and leave of those in [0, 1] next to nothing.
    """
    if max(encoder.mean) <= BEYOND and max(encoder.std) <= BEYOND:
        return []
    spread = 1 / max(encoder.std)
    scaled = [
        [value / 255 for value in values] if max(*encoder.mean, *encoder.std) > BEYOND else values
        for values in (encoder.mean, encoder.std)
    ]
    mean, std = (" ".join(f"{v:g}" for v in values) for values in (encoder.mean, encoder.std))
    evidence = f"mean {mean}, std {std}: pixels are in [0, 1], so that black and white enter {spread:.2g} apart"
    return [
        EncoderFinding(
            "range",
            evidence,
            f"mean {_numbers(scaled[0])}, std {_numbers(scaled[1])} of values in [0, 1]",
        )
    ]


def _values(encoder: Encoder, seen: ForwardTrace, best: Candidate) -> list[EncoderFinding]:
    """Range, mean and std: by the misfit."""
    margin = MARGIN_BATCH_NORM if seen.norms else MARGIN_RANK
    if seen.misfit - best.misfit <= margin:
        return []
    what = (
        "mean and std"
        if _range(best.mean, best.std) == _range(encoder.mean, encoder.std)
        else "range"
    )
    evidence = f"misfit {seen.misfit:+.2f} as stated ({_numbers(encoder.mean)} / {_numbers(encoder.std)}), {best.misfit:+.2f} with {best.name}"
    if seen.stem and seen.pixels:
        mean, std, _ = training_pixels(*seen.stem)
        evidence += f"; the first layer was trained on pixels of mean {_numbers(mean)} and std {_numbers(std)}"
        evidence += f" and gets {_numbers(seen.pixels[0])} and {_numbers(seen.pixels[1])}"
    return [
        EncoderFinding(
            what,
            evidence,
            f"mean {_numbers(best.mean)}, std {_numbers(best.std)} of values in [0, 1]",
        )
    ]


def _order(
    trials: Sequence[tuple[Candidate, ForwardTrace]], best: Candidate, notes: list[str]
) -> list[EncoderFinding]:
    """R and B exchanged: by the mean colour that the first layer remembers, else by the misfit."""
    pair = {
        c.order: (c, s)
        for c, s in trials
        if (c.mean, c.std, c.interpolation) == (best.mean, best.std, best.interpolation)
    }
    if "BGR" not in pair:
        return []
    (rgb, seen), (bgr, turned) = pair["RGB"], pair["BGR"]
    fix = "the network wants B, G, R: turn the channels round, or its first convolution's weights"
    if seen.stem and seen.pixels and turned.pixels:
        mean, std, off = training_pixels(*seen.stem)
        as_rgb, as_bgr = (
            float((((p[0] - mean) / std) ** 2).sum()) for p in (seen.pixels, turned.pixels)
        )
        if off < 0.3 and abs(as_rgb - as_bgr) > MARGIN_ORDER:
            evidence = f"the first layer was trained on a mean of {_numbers(mean)} and gets {_numbers(seen.pixels[0])}"
            return [EncoderFinding("channel order", evidence, fix)] if as_bgr < as_rgb else []
    if rgb.misfit - bgr.misfit > (MARGIN_BATCH_NORM if seen.norms else MARGIN_RANK):
        return [
            EncoderFinding(
                "channel order",
                f"misfit {rgb.misfit:+.2f} in the order R, G, B, {bgr.misfit:+.2f} in the order B, G, R",
                fix,
            )
        ]
    if bgr.misfit - rgb.misfit < (MARGIN_BATCH_NORM if seen.norms else MARGIN_RANK):
        notes.append(
            f"the order of channels could not be measured (misfit {rgb.misfit:+.2f} and {bgr.misfit:+.2f})"
        )
    return []


def _interpolation(
    encoder: Encoder, trials: Sequence[tuple[Candidate, ForwardTrace]], best: Candidate
) -> list[EncoderFinding]:
    """Nearest where another fits better.

    Bilinear and bicubic lie within what the reference images' own sharpness changes.
    """
    tried = {
        c.interpolation: c.misfit
        for c, _ in trials
        if (c.mean, c.std, c.order) == (best.mean, best.std, "RGB")
    }
    lowest = min(tried, key=lambda how: tried[how])
    if encoder.interpolation != "nearest" or lowest == "nearest":
        return []
    return [
        EncoderFinding(
            "interpolation",
            f"misfit {tried['nearest']:+.2f} with nearest, {tried[lowest]:+.2f} with {lowest}",
            f"resize with {lowest}",
        )
    ]


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
    import timm

    if encoder.architecture not in timm.list_models():
        return ""
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


def _as_declared(
    encoder: Encoder, declared: Mapping[str, Any], notes: list[str]
) -> list[EncoderFinding]:
    found = []
    for word, used in (("mean", encoder.mean), ("std", encoder.std)):
        if word in declared and not np.allclose(declared[word], used, atol=1e-3):
            mean, std = (
                tuple(declared.get("mean", encoder.mean)),
                tuple(declared.get("std", encoder.std)),
            )
            what = (
                "mean and std"
                if _range(mean, std) == _range(encoder.mean, encoder.std)
                else "range"
            )
            evidence = f"stated {_numbers(encoder.mean)} / {_numbers(encoder.std)}, declared {_numbers(mean)} / {_numbers(std)}"
            found.append(
                EncoderFinding(
                    what,
                    evidence,
                    f"mean {_numbers(mean)}, std {_numbers(std)} of values in [0, 1]",
                )
            )
            break
    how = declared.get("interpolation", encoder.interpolation)
    if how != encoder.interpolation:
        found.append(
            EncoderFinding(
                "interpolation",
                f"stated {encoder.interpolation}, declared {how}",
                f"resize with {how}",
            )
        )
    size = declared.get("input_size", (3, encoder.size, encoder.size))[-1]
    if not size / 2 <= encoder.size <= size * 2:
        found.append(
            EncoderFinding(
                "size",
                f"{encoder.size} px, trained at {size}",
                f"--size {size}, or at least {size // 2}",
            )
        )
    elif size != encoder.size:
        notes.append(f"{encoder.size} px, trained at {size}: cheaper, and a little off")
    return found


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{v:.3g}" for v in values)
