"""Big Transfer's ResNets in their authors' names -> timm's `resnetv2_*_bit`.

Archives of NumPy (google-research/big_transfer), and checkpoints of TensorFlow 2, as REMEDIS
publishes its own.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medbench.models.checkpoints import tensorflow
from medbench.schema import UserError, fingerprint
from medbench.system import archive_errors
from medbench.system.download import sha256

if TYPE_CHECKING:
    from torch import Tensor

_KERNEL, _NORM = "standardized_conv2d/kernel", r"group_norm/(gamma|beta)"
_NAMES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (rf"root_block/{_KERNEL}", lambda m: "stem.conv.weight"),
    (
        rf"block(\d)/unit(\d+)/([abc])/{_KERNEL}",
        lambda m: f"{_unit(m)}.conv{'abc'.index(m[3]) + 1}.weight",
    ),
    (
        rf"block(\d)/unit(\d+)/([abc])/{_NORM}",
        lambda m: f"{_unit(m)}.norm{'abc'.index(m[3]) + 1}.{_part(m[4])}",
    ),
    (rf"block(\d)/unit(\d+)/a/proj/{_KERNEL}", lambda m: f"{_unit(m)}.downsample.conv.weight"),
    (r"head/conv2d/(kernel|bias)", lambda m: f"head.fc.{'weight' if m[1] == 'kernel' else 'bias'}"),
    (_NORM, lambda m: f"norm.{_part(m[1])}"),
)
_OWN = "write a function that builds it: medbench run --encoder FILE.py:NAME (docs/encoders.md)"


def _unit(found: re.Match[str]) -> str:
    return f"stages.{int(found[1]) - 1}.blocks.{int(found[2]) - 1}"


def _part(name: str) -> str:
    return {"gamma": "weight", "beta": "bias"}[name]


def is_one(file: Path) -> bool:
    """Return whether a file is a checkpoint of a Big Transfer ResNet.

    Of TensorFlow (its index), or an archive of NumPy.
    """
    if tensorflow.is_index(file):
        return True
    try:
        with archive_errors.reading(ValueError), zipfile.ZipFile(file) as archive:
            return any(name.endswith(f"root_block/{_KERNEL}.npy") for name in archive.namelist())
    except ValueError:
        return False


def content_hash(file: Path) -> str:
    """Return the SHA-256 of a checkpoint file.

    For the index of a checkpoint of TensorFlow, its data files count, too.
    """
    own = sha256(file)
    return (
        fingerprint("tensorflow", own, *map(sha256, tensorflow.data_files(file)))
        if tensorflow.is_index(file)
        else own
    )


def read(file: Path) -> dict[str, Tensor]:
    """Read an archive of NumPy, or the index of a checkpoint of TensorFlow, in timm's names.

    Raises UserError for another network's.
    """

    def damaged(why: str) -> UserError:
        what = f"{file.name} cannot be read as a checkpoint of TensorFlow or an archive of NumPy"
        return UserError(f"{what}: {why}.", then="fetch it again")

    with archive_errors.reading(damaged):
        values = tensorflow.variables(file) if tensorflow.is_index(file) else _numpy(file)
    return renamed(values, file.name)


def _numpy(file: Path) -> Mapping[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def renamed(values: Mapping[str, np.ndarray], called: str) -> dict[str, Tensor]:
    """Give variables the names of timm's network: name -> float32 tensor.

    Kernels from (H, W, in, out) to (out, in, H, W). called: the file, for a message. Raises
    UserError for another network's.
    """
    import torch

    found, strange = {}, []
    for name, value in values.items():
        new = _timms(name.partition(":")[0])
        if new is None:
            strange.append(name)
            continue
        turned = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        found[new] = torch.from_numpy(np.array(turned, np.float32, order="C"))
    if any("base_model/" in name for name in strange):
        what = f"{called} is a checkpoint of Google's SimCLR, whose ResNets are of once, twice or four times the width."
        then = "convert 1x by tonylins/simclr-converter (medbench list checkpoints: simclr-rn50-google); timm has no ResNet of 2x or 4x: "
        raise UserError(what, then=then + _OWN)
    if "stem.conv.weight" not in found:
        shown = ", ".join(sorted(values)[:3])
        what = f"{called} holds no ResNet of Big Transfer, but {shown}{', ...' if len(values) > 3 else ''} ({len(values)} in all)."
        raise UserError(
            what,
            then=f"name an encoder of timm's that has these weights (medbench list encoders), or {_OWN}",
        )
    return found


def _timms(name: str) -> str | None:
    """Return timm's name of a variable; None for one of no ResNet, an optimiser's for example."""
    for pattern, new in _NAMES:
        match = re.search(rf"(?:^|/){pattern}$", name)
        if match:
            return new(match)
    return None
