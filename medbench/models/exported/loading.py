"""Load an exported model by the runtime that is there."""

from __future__ import annotations

from pathlib import Path

from medbench.models.exported.folder import read
from medbench.models.exported.model import ExportedModel
from medbench.schema import UserError
from medbench.system.devices import check_device, resolve

RUNTIMES = ("auto", "torch", "onnx")


def load(folder: Path | str, device: str = "auto", runtime: str = "auto") -> ExportedModel:
    """Load the model in a folder that `medbench export` wrote, without its data set.

    Parameters
    ----------
    folder : path
    device : str
        "auto", "cpu", "cuda", "cuda:1". onnxruntime takes the CPU.
    runtime : str
        "torch", or "onnx": model.onnx, with neither torch nor timm. "auto": torch where it is
        installed.

    Raises
    ------
    UserError
        For a folder that is no exported model, is damaged, or names anything outside itself.
    """
    if runtime not in RUNTIMES:
        raise UserError(f"Unknown runtime '{runtime}'.", allowed=RUNTIMES, given=runtime)
    if runtime == "onnx" or (runtime == "auto" and not _has_torch()):
        from medbench.models.exported.onnx_model import load_onnx

        return load_onnx(Path(folder))
    parts = read(Path(folder))
    check_device(device, parts.precision)
    return ExportedModel(parts, resolve(device))


def _has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True
