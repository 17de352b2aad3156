"""The JSON files of an exported model.

Nothing of them is believed before it is looked at, and nothing is allowed that no such file has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medbench.images.cropping import SQUASH, share_of
from medbench.models.exported.head import HEADS
from medbench.models.exported.layout import (
    CLASSES,
    CONFIG,
    EVIDENCE,
    HEAD,
    MODEL,
    MOST_MEMBERS,
    ONNX,
    POINTS,
    SEEN,
    TYPICAL,
    VERSION,
    Tower,
    member_folder,
)
from medbench.models.hub.timm_form import check_words, is_class
from medbench.schema import KINDS, READOUTS, Encoder, Kind, checked, parsed
from medbench.schema.plain_text import is_plain

MOST_CLASSES = 10_000
_SEEN = {
    **{"input_size": list, "interpolation": str, "crop_pct": float, "crop_mode": str},
    **{"mean": list, "std": list, "num_classes": int},
}
_TIMM = {
    "architecture": str,
    "num_classes": int,
    "num_features": int,
    "model_args": dict,
    "pretrained_cfg": dict,
}
_ABOUT = {"version": int, "protocol": str, "head": str, "precision": str, "sha256": dict}
_FUSED = {**_ABOUT, "members": int, "joint": (dict, type(None))}


def read_json(file: Path) -> Any:
    """Parse a file. Raises ValueError with its name."""
    try:
        return parsed(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def preprocessing(encoder: Encoder) -> dict[str, Any]:
    """Return how the encoder's images enter, as the entries of timm's `pretrained_cfg`.

    Raises ValueError for a crop that timm cannot make.
    """
    crop_mode, crop_pct = share_of(encoder.crop, encoder.size)
    return {
        "input_size": [3, encoder.size, encoder.size],
        "interpolation": encoder.interpolation,
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "num_classes": 0,
    }


def timm_config(tower: Tower, width: int) -> dict[str, Any]:
    """Return timm's `local-dir:` form, and under "medbench" what timm does not know.

    width: of its features.
    """
    from medbench.models.timm_answers import config_of

    encoder, arguments = tower.encoder, tower.arguments
    about: dict[str, Any] = {"readout": encoder.readout, **_cropped(encoder)}
    if arguments is None:
        # made for one image size, as ViTs are
        fixed = config_of(encoder.architecture, encoder.checkpoint).fixed_input_size
        given: dict[str, Any] = {"img_size": encoder.size} if fixed else {}
    else:
        about["classes"] = {word: one for word, one in arguments.items() if is_class(one)}
        given = {word: one for word, one in arguments.items() if not is_class(one)}
    return {
        "architecture": encoder.architecture,
        "num_classes": 0,
        "num_features": width,
        "model_args": given,
        "pretrained_cfg": preprocessing(encoder),
        "medbench": about,
    }


def joint_config(joint: Encoder) -> dict[str, Any]:
    """Return how a jointly trained fusion sees an image, as `joint_of` reads it."""
    return {**preprocessing(joint), **_cropped(joint)}


def joint_of(record: Any) -> Encoder:
    """Return the encoder as which a fusion trained jointly sees an image.

    record: what `joint_config` wrote. Size, mean, std, interpolation and crop are the record's; it
    is called "fusion" and has no weights. Raises TypeError, KeyError or ValueError for a record of
    another form.
    """
    seen = {name: value for name, value in record.items() if name != "crop"}
    return seen_of(seen, "fusion", "pool", record.get("crop", SQUASH))


def _cropped(encoder: Encoder) -> dict[str, Any]:
    """Return the crop with its rounding and its colour, which timm's form does not hold."""
    return {} if encoder.crop == SQUASH else {"crop": encoder.crop}


def arguments_of(record: Any) -> dict[str, Any]:
    """Return what timm's architecture is called with, classes as texts."""
    return {**record["model_args"], **record["medbench"].get("classes", {})}


def _only(record: Any, kinds: Mapping[str, Any], of: str) -> None:
    """Check that a record has these keys and no other.

    timm would follow a file, an address or code that a further key names. Raises TypeError or
    ValueError.
    """
    checked(record, kinds, of)
    more = sorted(set(record) - set(kinds))
    if more:
        raise ValueError(f"{of} has '{more[0]:.40}', which no exported model has")


def is_fused(record: Any) -> bool:
    """Return whether a config.json is a fusion's, whose encoders lie in folders of their own."""
    return isinstance(record, Mapping) and set(record) == {"medbench"}


def about_of(record: Any) -> Mapping[str, Any]:
    """Return what scoring needs beside the encoders: "medbench" of config.json, checked.

    Raises TypeError or ValueError for a record of another form.
    """
    fused = is_fused(record)
    _only(record, {"medbench": dict} if fused else {**_TIMM, "medbench": dict}, CONFIG)
    about: Mapping[str, Any] = record["medbench"]
    # first: of another form the keys are others
    if isinstance(about.get("version"), int) and about["version"] != VERSION:
        raise ValueError(f"its form is {about['version']}, this medbench reads {VERSION}")
    _only(about, _FUSED if fused else {**_ABOUT, **_own(about)}, f"{CONFIG} medbench")
    if fused and not 2 <= about["members"] <= MOST_MEMBERS:
        raise ValueError(f"members is {about['members']}")
    _only(about["sha256"], _sums(about), f"{CONFIG} sha256")
    _check_words(about, {"head": tuple(HEADS), "precision": ("fp32", "tf32", "bf16")})
    if not is_plain(about["protocol"]) or len(about["protocol"]) > 60:
        raise ValueError("protocol is not a name")
    return about


def _sums(about: Mapping[str, Any]) -> dict[str, Any]:
    """Which files it must name by their hash."""
    more = [name for name in (TYPICAL, SEEN, ONNX) if name in about["sha256"]]
    models = [MODEL]
    if "members" in about:
        models = [f"{member_folder(i)}/{MODEL}" for i in range(about["members"])]
    return dict.fromkeys((*models, HEAD, *more), str)


def _check_words(record: Mapping[str, Any], allowed: Mapping[str, Any]) -> None:
    for name, words in allowed.items():
        if record[name] not in words:
            raise ValueError(f"{name} is {record[name]!r:.60}")


def member_of(record: Any) -> Encoder:
    """Return the encoder of a member's config.json.

    Raises KeyError, TypeError or ValueError for a record of another form.
    """
    _only(record, {**_TIMM, "medbench": dict}, CONFIG)
    _only(record["medbench"], _own(record["medbench"]), f"{CONFIG} medbench")
    return encoder_of(record)


def encoder_of(record: Any) -> Encoder:
    """Read the encoder of a config.json in timm's form.

    Raises KeyError, TypeError or ValueError for a record of another form.
    """
    about, given = record["medbench"], record["model_args"]
    _check_words(about, {"readout": READOUTS})
    crop = about.get("crop", SQUASH)
    encoder = seen_of(record["pretrained_cfg"], record["architecture"], about["readout"], crop)
    if "classes" in about:
        check_words(given)
        check_words(about["classes"])
        if not all(map(is_class, about["classes"].values())) or any(map(is_class, given.values())):
            raise ValueError(f"classes is {about['classes']!r:.60}")
    elif given not in ({}, {"img_size": encoder.size}):
        raise ValueError(f"model_args is {given!r:.60}")
    return encoder


def _own(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the kinds of what a record says of an encoder."""
    more = {"crop": str, "classes": dict}
    return {"readout": str, **{name: kind for name, kind in more.items() if name in about}}


def seen_of(seen: Any, name: str, readout: str, crop: str = SQUASH) -> Encoder:
    """Return the encoder that a record of `preprocessing` describes, without weights.

    name: its architecture. crop: as in `Encoder.crop`. Raises TypeError or ValueError for a record
    of another form, for sides outside 32 to 1024 pixels, and for a mean, std or interpolation that
    no encoder has.
    """
    _only(seen, _SEEN, f"{CONFIG} pretrained_cfg")
    size = seen["input_size"][-1] if seen["input_size"] else None
    if type(size) is not int or not 32 <= size <= 1024 or seen["input_size"] != [3, size, size]:
        raise ValueError(
            f"input_size is {seen['input_size']!r:.60}, not 3 channels and 32 to 1024 pixels"
        )
    for of in ("mean", "std"):
        values = seen[of]
        right = len(values) == 3 and all(
            type(v) in (int, float) and abs(v) < 1e3 and (of == "mean" or v > 1e-3) for v in values
        )
        if not right:
            raise ValueError(f"{of} is {values!r:.60}")
    interpolations, (mode, pct) = ("bicubic", "bilinear"), share_of(crop, size)
    allowed = {"interpolation": interpolations, "crop_mode": (mode,), "crop_pct": (pct,)}
    _check_words(seen, allowed)
    (mr, mg, mb), (sr, sg, sb) = seen["mean"], seen["std"]
    mean, std = (mr, mg, mb), (sr, sg, sb)
    return Encoder(name, name, "", size, mean, std, seen["interpolation"], readout, crop=crop)


def classes_of(record: Any) -> tuple[tuple[str, ...], Kind, tuple[bool, ...]]:
    """Return the classes of classes.json, their kind, and whether each can have a probability.

    Raises TypeError or ValueError for a record of another form.
    """
    _only(record, {"classes": list, "kind": str, "learnt": list}, CLASSES)
    names = record["classes"]
    if (
        not 2 - (record["kind"] == "multilabel") <= len(names) <= MOST_CLASSES
        or record["kind"] not in KINDS
    ):
        raise ValueError(f"{CLASSES} has {len(names)} classes of kind {record['kind']!r:.20}")
    if not all(isinstance(name, str) and is_plain(name) for name in names) or len(set(names)) < len(
        names
    ):
        raise ValueError(f"{CLASSES} names no classes")
    if record["kind"] == "binary" and len(names) != 2:
        raise ValueError(f"{CLASSES} has {len(names)} classes of a binary task")
    learnt = record["learnt"]
    if len(learnt) != len(names) or set(map(type, learnt)) != {bool} or not any(learnt):
        raise ValueError(f"learnt is {learnt!r:.60}")
    return tuple(names), record["kind"], tuple(learnt)


def points_of(record: Any, classes: tuple[str, ...]) -> Mapping[str, Any]:
    """Check the record of operating_points.json and return it.

    {"temperature": number in (0, 1e6) or None, "held_out_images": int, "points": {name: {"compare":
    ">" or ">=", "thresholds": {class: number in [0, 1] or None}}}, "sets": {share "0.dd": quantile
    in [0, 1] or None}}. classes: the names that it may use. Raises TypeError or ValueError for a
    record of another form.
    """
    _only(
        record,
        {"temperature": (float, type(None)), "held_out_images": int, "points": dict, "sets": dict},
        POINTS,
    )
    for name, quantile in record["sets"].items():
        if not re.fullmatch(r"0\.\d\d", name) or not (
            quantile is None or (type(quantile) in (int, float) and 0 <= quantile <= 1)
        ):
            raise ValueError(f"{POINTS} sets holds {name!r:.20}: {quantile!r:.40}")
    t = record["temperature"]
    if t is not None and not 0 < t < 1e6:
        raise ValueError(f"temperature is {t!r:.60}")
    for name, point in record["points"].items():
        _only(point, {"compare": str, "thresholds": dict}, f"{POINTS} {name:.40}")
        if point["compare"] not in (">", ">=") or not set(point["thresholds"]) <= set(classes):
            raise ValueError(
                f"{POINTS} {name:.40} compares by {point['compare']!r:.20}, or names other classes"
            )
        for value in point["thresholds"].values():
            if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
                raise ValueError(f"{POINTS} {name:.40} holds the threshold {value!r:.40}")
    return dict(record)


def evidence_of(record: Any, classes: tuple[str, ...]) -> Mapping[str, Any]:
    """Check the record of evidence.json and return it.

    classes: the names that it may use. Raises TypeError or ValueError for a record of another form.
    """
    kinds = {
        "target": str,
        "images": int,
        "groups": int,
        "auc": list,
        "calibration": dict,
        "classes": dict,
    }
    _only(record, kinds, EVIDENCE)
    numbers = [record["auc"], *record["calibration"].values()]
    if not set(record["classes"]) <= set(classes):
        raise ValueError(f"{EVIDENCE} names other classes")
    for name, of in record["classes"].items():
        checked(of, {"n": int, "prevalence": list, "auc": list}, f"{EVIDENCE} {name:.40}")
        numbers += [of["auc"], of["prevalence"]]
        for point in of.keys() - {"n", "auc", "prevalence"}:
            _only(
                of[point],
                {"sensitivity": list, "specificity": list},
                f"{EVIDENCE} {name:.40} {point:.40}",
            )
            numbers += of[point].values()
    for three in numbers:
        if not (
            isinstance(three, list)
            and len(three) == 3
            and all(one is None or type(one) in (int, float) for one in three)
        ):
            raise ValueError(f"{EVIDENCE} holds {three!r:.60}, no value with its interval")
    return dict(record)
