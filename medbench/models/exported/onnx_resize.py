"""The nodes of an ONNX file that make a square of pixels of any height and width."""

from __future__ import annotations

from typing import Any

import numpy as np

from medbench.images.cropping import Crop, crop_of

OPSET = 18  # the first whose Resize knows antialiasing
Step = tuple[str, list[str], str]  # kind of a node, what it takes, what it makes


def resize(pixels: str, form: tuple[int, str, str], ir_version: int) -> Any:
    """Build the ONNX nodes that resize pixels to whole grey levels (N, 3, size, size).

    pixels: the input's name. form: size, interpolation and crop, as of `Encoder.form`. The result
    is named `whole_PIXELS`.
    """
    from onnx import TensorProto, helper, numpy_helper

    size, interpolation, crop = form[0], form[1], crop_of(form[2])

    def own(name: str) -> str:
        return name if name in ("", pixels) else f"{name}_{pixels}"

    steps: list[Step] = [
        ("Cast", [pixels], "grey"),
        ("Transpose", ["grey"], "first"),
        *([] if crop == Crop() else _sides(crop)),
        ("Resize", ["first", "", "", "side"], "resized"),
        ("Round", ["resized"], "round"),
        ("Clip", ["round", "least", "most"], "whole" if crop == Crop() else "level"),
        *([] if crop == Crop() else _middle(crop)),
    ]
    nodes = [
        helper.make_node(
            kind, list(map(own, given)), [own(made)], **_how(kind, made, interpolation)
        )
        for kind, given, made in steps
    ]
    fixed: dict[str, np.ndarray] = {
        "side" if crop == Crop() else "size": np.array([size, size], np.int64),
        "least": np.array(0, np.float32),
        "most": np.array(255, np.float32),
        **({} if crop == Crop() else _numbers(crop)),
    }
    shape: list[str | int | None] = ["n", own("height"), own("width"), 3]
    graph = helper.make_graph(
        nodes,
        "resize",
        [helper.make_tensor_value_info(pixels, TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(own("whole"), TensorProto.FLOAT, ["n", 3, size, size])],
        [numpy_helper.from_array(value, own(name)) for name, value in fixed.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=ir_version
    )


def _how(kind: str, made: str, interpolation: str) -> dict[str, Any]:
    """Return the attributes of a node."""
    from onnx import TensorProto

    types = {"grey": TensorProto.FLOAT, "is its own": TensorProto.BOOL}
    other = TensorProto.DOUBLE if made.endswith("double") else TensorProto.INT64
    attributes: dict[str, dict[str, Any]] = {
        "Cast": {"to": int(types.get(made, other))},
        "Transpose": {"perm": [0, 3, 1, 2]},
        "Shape": {"start": 2},
        "Concat": {"axis": 0},
        "Resize": {
            "mode": "cubic" if interpolation == "bicubic" else "linear",
            "antialias": 1,
            "axes": [2, 3],
            "coordinate_transformation_mode": "half_pixel",
            "cubic_coeff_a": -0.5,
        },
    }
    return attributes.get(kind, {})


def _sides(crop: Crop) -> list[Step]:
    """`side`: the height and width that `first` is resized to, as `Crop.resized` has it.

    The model's own size is kept.
    """
    wanted: dict[str, list[Step]] = {
        "squash": [("Identity", ["sides"], "wanted")],
        "center": [
            ("ReduceMin", ["found"], "shorter"),
            ("Mul", ["found", "sides"], "times"),
            ("Div", ["times", "shorter"], "wanted"),
        ],
        "border": [
            ("ReduceMax", ["found"], "longer"),
            ("Cast", ["found"], "found double"),
            ("Cast", ["longer"], "longer double"),
            ("Cast", ["sides"], "sides double"),
            ("Div", ["longer double", "sides double"], "ratio"),
            ("Div", ["found double", "ratio"], "exact"),
            ("Round", ["exact"], "rounded"),
            ("Max", ["rounded", "one"], "at least one"),
            ("Cast", ["at least one"], "wanted"),
        ],
    }
    return [
        ("Shape", ["first"], "found"),
        *wanted[crop.mode],
        ("Equal", ["found", "size"], "is one"),
        ("Cast", ["is one"], "is one as number"),
        ("ReduceMin", ["is one as number"], "both"),
        ("Cast", ["both"], "is its own"),
        ("Where", ["is its own", "size", "wanted"], "side"),
    ]


def _middle(crop: Crop) -> list[Step]:
    """`whole`: the middle of `level`, filled up where it has fewer pixels."""
    start: list[Step] = [("Identity", ["half"], "start")]
    if not crop.down:  # to the nearest even: 58.5 and 57.5 give 58
        start = [
            ("Mod", ["half", "two"], "is odd"),
            ("Add", ["over", "is odd"], "raised"),
            ("Div", ["raised", "two"], "start"),
        ]
    return [
        ("Sub", ["size", "side"], "lacking"),
        ("Max", ["lacking", "zero"], "fill"),
        ("Div", ["fill", "two"], "before"),
        ("Sub", ["fill", "before"], "behind"),
        ("Concat", ["before", "behind"], "pads"),
        ("Sub", ["level", "colour"], "less colour"),
        ("Pad", ["less colour", "pads", "", "axes"], "padded"),
        ("Add", ["padded", "colour"], "filled"),
        ("Sub", ["side", "size"], "more"),
        ("Max", ["more", "zero"], "over"),
        ("Div", ["over", "two"], "half"),
        *start,
        ("Add", ["start", "size"], "end"),
        ("Slice", ["filled", "start", "end", "axes"], "whole"),
    ]


def _numbers(crop: Crop) -> dict[str, np.ndarray]:
    """Return the constants of `_sides` and `_middle`."""
    whole = {"sides": [crop.side], "zero": [0], "two": [2], "axes": [2, 3]}
    return {
        **{name: np.array(values, np.int64) for name, values in whole.items()},
        **({"one": np.array([1], np.float64)} if crop.mode == "border" else {}),
        "colour": np.array(crop.fill, np.float32).reshape(1, 3, 1, 1),
    }
