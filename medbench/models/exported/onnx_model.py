"""Score with model.onnx, where there is no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medbench.models.exported.folder import read_without_torch
from medbench.models.exported.head import decided
from medbench.models.exported.layout import ONNX
from medbench.models.exported.model import Answer, ExportedModel, Pixels, forms_of
from medbench.models.exported.onnx_file import INSTALL, OUTPUTS, inputs
from medbench.schema import UserError


@dataclass(frozen=True, eq=False)
class OnnxModel(ExportedModel):
    """An exported model that onnxruntime scores. session: of model.onnx. head: its head's name."""

    session: Any = None
    head: str = ""

    def answer(self, pixels: Pixels) -> Answer:
        """Answer for pixels as `decode` gives them, stacked: (M, S, S, 3) uint8 of each size.

        Raises UserError for features that are not finite.
        """
        given = zip(inputs(self.parts), map(np.ascontiguousarray, forms_of(pixels)), strict=True)
        p, _, features = self.session.run(list(OUTPUTS), dict(given))
        if not np.isfinite(features).all():
            raise UserError(
                "The encoder's features are not finite: its weights do not fit the images."
            )
        typical = self.parts.typical
        unlike = np.zeros(len(p), bool) if typical is None else typical.unlike(features)
        return Answer(p, decided(self.head, p, self.parts.kind), unlike)


def load_onnx(folder: Path) -> OnnxModel:
    """Read the folder for onnxruntime: neither torch nor timm is needed.

    Raises UserError as `load`, and where it has no such file.
    """
    parts, head = read_without_torch(folder)
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime is not installed.", then=INSTALL) from error
    try:
        options = onnxruntime.SessionOptions()
        session = onnxruntime.InferenceSession(
            str(folder / ONNX), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no class of their own
        raise UserError(
            f"{folder / ONNX} cannot be run: {str(error).splitlines()[0]:.200}"
        ) from error
    if [one.name for one in session.get_outputs()] != list(OUTPUTS) or [
        one.name for one in session.get_inputs()
    ] != inputs(parts):
        raise UserError(
            f"{folder / ONNX} is not a file of medbench's: it has other inputs or outputs."
        )
    return OnnxModel(parts, "cpu", session, head)
