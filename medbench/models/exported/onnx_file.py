"""Write a model as one ONNX file with resize, normalisation, head and temperature inside.

pixels (N, H, W, 3) uint8 of any height and width -> probabilities (N, C), calibrated (N, C) at the
temperature (as given where there is none), and features (N, D). The resize is antialiased and
rounded to whole grey levels, as Pillow's is but for its two roundings; pixels of the model's own
size pass it unchanged.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medbench.schema import Encoder, Kind, UserError
from medbench.stats.temperature import SMALLEST

if TYPE_CHECKING:
    import torch

OPSET = 18  # the first whose Resize knows antialiasing
OUTPUTS = ("probabilities", "calibrated", "features")
INSTALL = "pip install 'medbench[onnx]'"


class Scored(Protocol):
    """What of a folder's parts the file holds."""

    @property
    def encoder(self) -> Encoder: ...

    @property
    def net(self) -> torch.nn.Module: ...

    @property
    def head(self) -> Any: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def points(self) -> Mapping[str, Any]: ...


def check_onnx(protocol: str) -> None:
    """Check that a protocol's classifier can be written as ONNX.

    Raises UserError for one that is not, and where a package is missing.
    """
    if protocol != "linear":
        raise UserError(
            f"--onnx takes the protocol linear, not {protocol}.",
            then="leave --onnx out, or --only protocol=linear",
        )
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--onnx needs a package that is not installed ({error.name}).", then=INSTALL
        ) from error


def write_onnx(file: Path, parts: Scored) -> None:
    """Write the file. parts: a folder's. Raises OSError."""
    import onnx
    import torch
    from onnx import compose

    encoder, module = parts.encoder, _scoring(parts)
    inner = file.with_suffix(".inner")
    given = torch.zeros(2, 3, encoder.size, encoder.size)
    with warnings.catch_warnings():
        # of the tracer: constants, and that another exporter is newer
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (given,),
            str(inner),
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "n"} for name in ("image", *OUTPUTS)},
            opset_version=OPSET,
            dynamo=False,
        )
    body = onnx.load(str(inner))
    inner.unlink()
    whole = compose.merge_models(
        _resize(encoder.size, encoder.interpolation, body.ir_version),
        body,
        io_map=[("squeezed", "image")],
    )
    whole.producer_name = "medbench"
    onnx.checker.check_model(whole)
    onnx.save(whole, str(file))


def _scoring(parts: Scored) -> torch.nn.Module:
    """Grey levels (N, 3, S, S) float32 -> OUTPUTS."""
    import torch

    head: Any = parts.head
    fits, columns, base = (
        head.model.fits,
        torch.as_tensor(head.model.columns),
        torch.as_tensor(head.model.base),
    )
    several, n = parts.kind in ("binary", "multilabel"), len(parts.classes)
    t = parts.points["temperature"] or 1.0
    seen = torch.zeros(n, dtype=torch.bool)
    seen[columns if parts.kind != "binary" else slice(None)] = True

    mean, std = (
        torch.tensor(of, dtype=torch.float64).view(1, 3, 1, 1)
        for of in (parts.encoder.mean, parts.encoder.std)
    )
    factor, shift = (1 / (255 * std)).float(), (mean / std).float()

    class Scoring(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = parts.net
            weight, bias = fits.weight[0, 0].flatten(0, 1), fits.bias[0, 0].flatten()
            made = {"weight": weight, "bias": bias, "mean": fits.mean[0], "scale": fits.scale[0]}
            for name, value in made.items():
                self.register_buffer(name, value.detach().cpu().double())

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            features = self.net(image * factor - shift).float()
            limit = float(fits.limit[0])
            x = ((features.double() - self.mean) * self.scale).clamp(-limit, limit)
            logits = x @ self.weight.T + self.bias
            p = _filled(logits, columns, base, several, n)
            return p.float(), _tempered(p, seen, t, parts.kind).float(), features

    return Scoring().eval().cpu()


def _filled(
    logits: torch.Tensor, columns: torch.Tensor, base: torch.Tensor, several: bool, n: int
) -> torch.Tensor:
    """Probabilities (N, C) float64, as `models.logistic` gives them."""
    import torch

    own = logits.sigmoid() if several else logits.softmax(1)
    width = len(base)
    spread = torch.zeros(len(columns), width, dtype=torch.float64)
    spread[torch.arange(len(columns)), columns] = 1
    rest = base.clone().double()
    rest[columns] = 0
    p = own @ spread + rest
    return torch.cat([1 - p, p], 1) if width == 1 and n == 2 else p


def _tempered(p: torch.Tensor, seen: torch.Tensor, t: float, kind: str) -> torch.Tensor:
    """`stats.temperature.tempered`. seen (C,): the classes that have a probability."""
    inside = p.clamp(SMALLEST, 1 - SMALLEST)
    if kind == "multilabel":
        return (((inside / (1 - inside)).log()) / t).sigmoid()
    raised = (inside.log() / t).exp() * seen.double()
    return raised / raised.sum(1, keepdim=True)


def _resize(size: int, interpolation: str, ir_version: int) -> Any:
    """Pixels of any size to whole grey levels (N, 3, size, size)."""
    from onnx import TensorProto, helper, numpy_helper

    mode = "cubic" if interpolation == "bicubic" else "linear"
    how: dict[str, Any] = {
        "mode": mode,
        "antialias": 1,
        "axes": [2, 3],
        "coordinate_transformation_mode": "half_pixel",
        "cubic_coeff_a": -0.5,
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["grey"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["first", "", "", "side"], ["resized"], **how),
        helper.make_node("Round", ["resized"], ["whole"]),
        helper.make_node("Clip", ["whole", "least", "most"], ["squeezed"]),
    ]
    fixed: dict[str, np.ndarray] = {
        "side": np.array([size, size], np.int64),
        "least": np.array(0, np.float32),
        "most": np.array(255, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "resize",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", "height", "width", 3])],
        [helper.make_tensor_value_info("squeezed", TensorProto.FLOAT, ["n", 3, size, size])],
        [numpy_helper.from_array(value, name) for name, value in fixed.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=ir_version
    )
