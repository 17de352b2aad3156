"""Write a model as one ONNX file with resize, normalisation, head and temperature inside.

pixels (N, H, W, 3) uint8 of any height and width -> probabilities (N, C), calibrated (N, C) at the
temperature (as given where there is none), and features (N, D). The resize is antialiased and
rounded to whole grey levels, as Pillow's is but for its two roundings; pixels of the model's own
size pass it unchanged. Where the encoder crops, the crop is inside, too. A fusion whose members see an image at several sizes takes it as often:
pixels, pixels_2, ...
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.models.exported.layout import MOST, ONNX
from medbench.models.exported.onnx_resize import OPSET, resize
from medbench.schema import UserError
from medbench.stats.temperature import SMALLEST

if TYPE_CHECKING:
    import torch

    from medbench.models.exported.layout import Parts

ROOM = 64 << 20  # for all that is not a weight
OUTPUTS = ("probabilities", "calibrated", "features")
INSTALL = "pip install 'medbench[onnx]'"


def inputs(parts: Parts) -> list[str]:
    """Return the names of the inputs, one for each size that the model sees."""
    return ["pixels", *(f"pixels_{i + 1}" for i in range(1, len(parts.forms)))]


def check_onnx() -> None:
    """Raise UserError where onnx or onnxruntime is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--onnx needs a package that is not installed ({error.name}).", then=INSTALL
        ) from error


def write_onnx(file: Path, parts: Parts) -> None:
    """Write a model as one ONNX file. Raises OSError, and UserError for one that is too large."""
    import onnx
    import torch
    from onnx import compose

    _check_size(parts)
    inner, names = file.with_suffix(".inner"), inputs(parts)
    squeezed = [f"squeezed_{name}" for name in names]
    given = tuple(torch.zeros(2, 3, size, size) for size, *_ in parts.forms)
    with _resizing(), warnings.catch_warnings():
        # of the tracer: constants, and that another exporter is newer
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _scoring(parts),
            given,
            str(inner),
            input_names=squeezed,
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "n"} for name in (*squeezed, *OUTPUTS)},
            opset_version=OPSET,
            dynamo=False,
        )
    whole = onnx.load(str(inner))
    inner.unlink()
    fronts = list(zip(names, squeezed, parts.forms, strict=True))
    for name, inside, form in reversed(fronts):  # the last is the first input
        front = resize(name, form, whole.ir_version)
        whole = compose.merge_models(front, whole, io_map=[(f"whole_{name}", inside)])
    whole.producer_name = "medbench"
    onnx.checker.check_model(whole)
    onnx.save(whole, str(file))


def _check_size(parts: Parts) -> None:
    """Raise UserError for weights that one file does not hold: a protocol buffer ends at 2 GiB."""
    nets = [tower.net for tower in parts.towers]
    total = sum(value.nbytes for net in nets for value in net.state_dict().values())
    total += 2 * sum(value.nbytes for value in parts.head.arrays().values())
    if total > MOST[ONNX] - ROOM:
        raise UserError(
            f"The weights take {total / 2**30:.1f} GiB, more than one ONNX file holds.",
            then="leave --onnx out",
        )


@contextmanager
def _resizing() -> Iterator[None]:
    """Let torch's exporter, whose table is the whole process's, write `_bicubic` meanwhile.

    A fusion that was trained together, whose members have other sizes, resizes inside.
    """
    import torch

    exporter: Any = torch.onnx  # which does not name all that it has
    operator = "aten::_upsample_bicubic2d_aa"
    exporter.register_custom_op_symbolic(operator, _bicubic, OPSET)
    try:
        yield
    finally:
        exporter.unregister_custom_op_symbolic(operator, OPSET)


def _bicubic(g: Any, x: Any, size: Any, *_: Any) -> Any:
    """Write torch's antialiased resize, whose own exporter does not know it."""
    import torch

    starts, ends, axis = (g.op("Constant", value_t=torch.tensor([n])) for n in (0, 2, 0))
    kept = g.op("Slice", g.op("Shape", x), starts, ends, axis)
    sides = g.op("Concat", kept, size, axis_i=0)
    nothing = g.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
    return g.op(
        "Resize",
        x,
        nothing,
        nothing,
        sides,
        mode_s="cubic",
        antialias_i=1,
        coordinate_transformation_mode_s="half_pixel",
        cubic_coeff_a_f=-0.5,
    )


def _scoring(parts: Parts) -> torch.nn.Module:
    """Grey levels (N, 3, S, S) float32, one for each size -> OUTPUTS."""
    import torch

    from medbench.models.exported.onnx_heads import scoring_head

    possible = torch.from_numpy(np.array(parts.possible))
    t, forms = parts.points["temperature"] or 1.0, parts.forms

    class Scoring(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = torch.nn.ModuleList(one.net for one in parts.passes)
            self.head = scoring_head(parts.head, parts.kind, len(parts.classes))

        def forward(self, *images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            made = []
            for net, one in zip(self.nets, parts.seen, strict=True):
                image = images[forms.index(one.form)]
                mean, std = (
                    torch.tensor(of, dtype=torch.float64).view(1, 3, 1, 1)
                    for of in (one.mean, one.std)
                )
                factor, shift = (1 / (255 * std)).float(), (mean / std).float()
                made.append(net(image * factor - shift).float())
            features = torch.cat(made, 1) if len(made) > 1 else made[0]
            p = self.head(features)
            return p.float(), _tempered(p, possible, t, parts.kind).float(), features

    return Scoring().eval().cpu()


def _tempered(p: torch.Tensor, seen: torch.Tensor, t: float, kind: str) -> torch.Tensor:
    """`stats.temperature.tempered`. seen (C,) bool: the classes that can have a probability."""
    inside = p.clamp(SMALLEST, 1 - SMALLEST)
    if kind == "multilabel":
        return (((inside / (1 - inside)).log()) / t).sigmoid()
    raised = (inside.log() / t).exp() * seen.double()
    return raised / raised.sum(1, keepdim=True)
