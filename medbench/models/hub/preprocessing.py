"""How images enter, as a repository's config says it: timm's, transformers' or open_clip's.

Pure: JSON in, numbers out.

What is stated of pixels in [0, 255], or times a scale of their own, is given as mean and std of
values in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from medbench.images.cropping import LEAST, MODES, SQUASH, WHOLE, CropRule, crop_of, fill_of

Three = tuple[float, float, float]
# Pillow's numbers
HOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
OURS = ("bicubic", "bilinear")  # what packs are made with
# open_clip's own defaults
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Preprocessing:
    """How images enter an encoder, as far as a pack and a batch can follow it.

    size: px. mean, std: of pixels in [0, 1]. apart: what the publisher's own code does and medbench
    does not, in words, "" where nothing.
    """

    size: int
    mean: Three
    std: Three
    interpolation: str
    apart: str = ""
    crop: CropRule = WHOLE


def said_of(seen: Preprocessing) -> str:
    """Say what a reader must know of what becomes of an image.

    "" where it is squashed as its publisher does it.
    """
    crop = seen.crop.at(seen.size)
    done = "" if crop == SQUASH else f"{crop_of(crop).words(seen.size)}: borders may be lost"
    if crop != SQUASH and crop_of(crop).mode == "border":
        done = crop_of(crop).words(seen.size)
    apart = f"its own processor {seen.apart}, medbench does not" if seen.apart else ""
    return "; ".join(filter(None, (done, apart)))


def of_timm(config: Mapping[str, Any]) -> Preprocessing:
    """Read the `config.json` of a repository that timm wrote, or of a folder of `medbench export`.

    Raises ValueError where it states no preprocessing, or one that cannot be followed.
    """
    stated = config.get("pretrained_cfg", config)
    if not isinstance(stated, Mapping) or "mean" not in stated or "std" not in stated:
        raise ValueError("it states no mean and std as timm writes them")
    channels, *sides = stated.get("input_size", (3, 224, 224))
    arguments = config.get("model_args", {})
    if isinstance(arguments, Mapping) and (made := arguments.get("img_size")):
        sides = [made] if isinstance(made, int) else list(made)
    pct, mode = stated.get("crop_pct", 0.875), stated.get("crop_mode") or "center"
    crop, apart = WHOLE, ""
    if type(pct) in (int, float) and LEAST <= pct <= 1 and mode in MODES:
        crop = CropRule(mode, pct, fill=fill_of(_three(stated["mean"])))
    else:
        apart = f"crops by '{mode}' with crop_pct {pct!r:.20}"
    return _checked(
        sides,
        stated["mean"],
        stated["std"],
        stated.get("interpolation", "bicubic"),
        apart,
        crop,
        channels=channels,
    )


def of_transformers(stated: Mapping[str, Any], image_size: object = None) -> Preprocessing:
    """Read the `preprocessor_config.json` of a repository that transformers reads.

    With the defaults of its class. image_size: of the network's own config. Raises ValueError where
    it states none, or one that cannot be followed.
    """
    stated = stated.get("image_processor", stated)
    if stated.get("do_flip_channel_order"):
        raise ValueError("it takes blue, green and red, in this order")
    sides, crop, apart = _transformers_crop(stated)
    scale = 255 * (
        float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0
    )
    scale = round(scale, 9)  # 1/255 is stated with sixteen digits
    mean, std = (
        ((0, 0, 0), (1, 1, 1))
        if not stated.get("do_normalize", True)
        else (stated.get("image_mean"), stated.get("image_std"))
    )
    if mean is None or std is None:
        raise ValueError("it states no image_mean and image_std")
    shift = 1.0 if stated.get("rescale_offset") else 0.0
    mean, std = ([(m + shift) / scale for m in _three(mean)], [s / scale for s in _three(std)])
    how = stated.get("resample", 3)
    return _checked(
        sides or _sides(image_size),
        mean,
        std,
        HOW.get(how, str(how)) if isinstance(how, int) else str(how),
        apart,
        crop,
    )


def _transformers_crop(stated: Mapping[str, Any]) -> tuple[list[int], CropRule, str]:
    """Return the sides of what comes out, how it is cropped, and what medbench does not do."""
    size = stated.get("size") if stated.get("do_resize", True) else None
    sides = _sides(size)
    by_shorter = isinstance(size, Mapping) and set(size) == {"shortest_edge"}
    if stated.get("do_center_crop") and stated.get("crop_size"):
        cut = _sides(stated["crop_size"])
        # a number alone is CLIP's older form
        center = by_shorter or (len(sides) == 1 and not isinstance(size, Mapping))
        square = len({*sides}) == len({*cut}) == 1 and 0 < cut[0] <= sides[0]
        if square and (center or len(sides) == 2):
            mode = "center" if center else SQUASH
            return cut, CropRule(mode, Fraction(cut[0], sides[0]), down=True), ""
        return cut, WHOLE, f"crops the middle {cut[0] if cut else 'of no stated size'}"
    if by_shorter and (pct := stated.get("crop_pct")):  # ConvNeXt's, which crops up to 384 px
        crop = CropRule("center", float(pct), down=True) if sides[0] < 384 else WHOLE
        return sides, crop, ""
    if len(sides) == 1 and isinstance(size, Mapping):
        return sides, WHOLE, f"resizes the shorter side to {sides[0]} and keeps the ratio"
    return sides, WHOLE, ""


def of_open_clip(config: Mapping[str, Any]) -> Preprocessing:
    """Read an `open_clip_config.json`, with open_clip's defaults.

    Raises ValueError where its preprocessing cannot be followed.
    """
    stated = config.get("preprocess_cfg", {})
    sides = _sides(
        stated.get("size")
        or config.get("model_cfg", {}).get("vision_cfg", {}).get("image_size", 224)
    )
    mode = stated.get("resize_mode") or "shortest"
    grey = stated.get("fill_color") or 0  # of all channels, or of each
    r, g, b = grey if isinstance(grey, list) and len(grey) == 3 else [grey] * 3
    crops = {
        "shortest": CropRule("center"),
        "longest": CropRule("border", fill=(r, g, b)),
        SQUASH: WHOLE,
    }
    mean, std = stated.get("mean", CLIP[0]), stated.get("std", CLIP[1])
    return _checked(
        sides,
        mean,
        std,
        stated.get("interpolation", "bicubic"),
        "" if mode in crops else f"resizes by '{mode}'",
        crops.get(mode, WHOLE),
    )


def _sides(size: Any) -> list[int]:
    """Pixels of one or two sides, [] where none are stated."""
    if isinstance(size, Mapping):
        both = [size[name] for name in ("height", "width") if name in size]
        return (
            both or [size[name] for name in ("shortest_edge", "longest_edge") if name in size][:1]
        )
    return (
        list(size)
        if isinstance(size, Sequence) and not isinstance(size, str)
        else []
        if size is None
        else [size]
    )


def _three(values: Any) -> list[float]:
    listed = (
        [values] * 3
        if type(values) in (int, float)
        else list(values)
        if isinstance(values, Sequence)
        else []
    )
    if len(listed) != 3 or not all(type(x) in (int, float) and math.isfinite(x) for x in listed):
        raise ValueError(f"{values!r:.60} is not three numbers")
    return [float(x) for x in listed]


def _checked(
    sides: Sequence[Any],
    mean: Any,
    std: Any,
    how: str,
    apart: str,
    crop: CropRule,
    channels: int = 3,
) -> Preprocessing:
    if (
        channels != 3
        or not sides
        or len(set(sides)) > 1
        or type(sides[0]) is not int
        or not 1 <= sides[0] <= 4096
    ):
        raise ValueError(
            f"it takes {channels} channels of {' x '.join(map(str, sides)) or 'no stated'} px, not three of one square"
        )
    (mr, mg, mb), (sr, sg, sb) = _three(mean), _three(std)
    if min(sr, sg, sb) <= 0:
        raise ValueError(f"its std {std!r:.60} is not above 0")
    if not LEAST <= crop.pct <= 1:
        raise ValueError(f"it crops to {float(crop.pct):.4g} of a side, which is not {LEAST} to 1")
    if any(type(x) is not int or not 0 <= x <= 255 for x in crop.fill):
        raise ValueError(f"its fill_color {crop.fill!r:.60} is not 0 to 255")
    other = f"resizes by {how}" if how not in OURS else ""
    apart = "; ".join(filter(None, (apart, other)))
    return Preprocessing(
        sides[0], (mr, mg, mb), (sr, sg, sb), how if how in OURS else "bicubic", apart, crop
    )
