"""What trials and a declaration say of the value range, mean and std, channels and interpolation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medbench.audit.encoder.activations import ForwardTrace, training_pixels
from medbench.audit.encoder.encoder_report import Candidate, EncoderFinding
from medbench.schema import Encoder

#: How much lower, in nats, a preprocessing's misfit must be than that of the stated one. Set on the
#: networks of `benchmarks/doctor.py`.
MARGIN_BATCH_NORM, MARGIN_RANK = 0.2, 0.14
# of a squared distance between mean colours, in units of the training pixels' variance
MARGIN_ORDER = 0.02
BEYOND = 2.0  # no mean and no std of pixels in [0, 1] comes near it


def _range(mean: Sequence[float], std: Sequence[float]) -> str:
    if max(std) < 0.05:
        return "0 to 255"
    return "0 to 1" if tuple(std) == (1, 1, 1) and not any(mean) else "centred"


def no_range(encoder: Encoder) -> list[EncoderFinding]:
    """Find mean and std with which no network was trained.

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


def wrong_values(encoder: Encoder, seen: ForwardTrace, best: Candidate) -> list[EncoderFinding]:
    """Judge range, mean and std by the misfit."""
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


def wrong_order(
    trials: Sequence[tuple[Candidate, ForwardTrace]], best: Candidate, notes: list[str]
) -> list[EncoderFinding]:
    """Find R and B exchanged, by the mean colour of the first layer, else by the misfit."""
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


def wrong_interpolation(
    encoder: Encoder, trials: Sequence[tuple[Candidate, ForwardTrace]], best: Candidate
) -> list[EncoderFinding]:
    """Find nearest interpolation where another one fits better.

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


def against_declaration(
    encoder: Encoder, declared: Mapping[str, Any], notes: list[str]
) -> list[EncoderFinding]:
    """Return what of the preprocessing in use is not what the weights' config declares.

    declared: "mean", "std" and the like of the config; what it does not hold is not compared.
    notes: what is worth saying and no finding is appended there.
    """
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
