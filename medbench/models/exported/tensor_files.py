"""Tensors of an exported model on the disk: safetensors, which hold no code."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.models.exported.layout import HEAD, Tower
from medbench.schema import Encoder
from medbench.system import atomic_write

if TYPE_CHECKING:
    import torch


def put_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as safetensors, whole or not at all. Raises OSError."""
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    atomic_write.write(file, _on_disk(lambda partial: save_file(whole, partial)))


def put_network(file: Path, net: torch.nn.Module) -> None:
    """Write the weights of timm's model as safetensors, under timm's names. Raises OSError."""
    from safetensors.torch import save_file

    state = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in inside(net).state_dict().items()
    }
    atomic_write.write(
        file, _on_disk(lambda partial: save_file(state, partial, metadata={"format": "pt"}))
    )


def _on_disk(save: Callable[[Path], object]) -> Callable[[Path], None]:
    """Make safetensors raise what the disk says: its own error has that as words alone."""
    from safetensors import SafetensorError

    def saved(file: Path) -> None:
        file.touch()
        mode = file.stat().st_mode & 0o777  # of any new file there
        try:
            save(file)
        except SafetensorError as error:
            code = re.search(r"\(os error (\d+)\)", str(error))
            if not code:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
        file.chmod(mode)  # safetensors writes for its owner alone; a service is another user

    return saved


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_sum(file: Path, wanted: str) -> None:
    """Raise ValueError for a file whose SHA-256 is not `wanted`, which config.json names."""
    if sha256(file) != wanted:
        raise ValueError(
            f"{file.name} is not the file that config.json names (its SHA-256 is another)"
        )


def arrays(file: Path, wanted: str) -> dict[str, np.ndarray]:
    """Read named arrays from a safetensors file.

    wanted: the file's SHA-256. Raises ValueError for another one, and for what is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: dict[str, np.ndarray] = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file.name} is not a safetensors file ({error})") from error
    check_sum(file, wanted)
    return found


def check_width(towers: tuple[Tower, ...], width: int) -> None:
    """Raise ValueError where encoders give another number of features than a head takes.

    width: the head's. An image of zeros goes through each encoder.
    """
    import torch

    made = 0
    for tower in towers:
        with torch.inference_mode():
            shape = tower.net(torch.zeros(1, 3, *[tower.encoder.size] * 2)).shape
        if len(shape) != 2 or shape[0] != 1:
            raise ValueError(f"{tower.encoder.architecture} gives {tuple(shape)} for an image")
        made += shape[1]
    if made != width:
        raise ValueError(f"{HEAD} is for {width} features, the encoder gives {made}")


def network(file: Path, encoder: Encoder, options: dict[str, Any], wanted: str) -> torch.nn.Module:
    """Read an encoder with its readout, in eval mode.

    options: what timm's architecture is called with. wanted: the file's SHA-256. Names and shapes
    are compared before memory is taken for them. Raises ValueError for another file, and for
    weights of another network.
    """
    import timm
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    from medbench.models.encoder_checks import broken_statistics
    from medbench.models.hub.known import with_classes
    from medbench.models.readout import with_readout

    words = with_classes(options)

    def made() -> Any:
        model: Any = timm.create_model(encoder.architecture, pretrained=False, **words)
        model.reset_classifier(0)
        return model

    with torch.device("meta"):  # names and shapes alone
        expected = {name: tuple(value.shape) for name, value in made().state_dict().items()}
    try:
        with safe_open(file, "pt") as opened:
            there = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file.name} is not a safetensors file ({error})") from error
    if expected != there:
        both = {*expected, *there}
        wrong = sorted(name for name in both if expected.get(name) != there.get(name))
        raise ValueError(
            f"{file.name} does not fit {encoder.architecture}: {len(wrong)} tensors differ, first '{wrong[0]:.60}'"
        )
    check_sum(file, wanted)
    with torch.random.fork_rng(devices=[]):
        model = made()
    model.load_state_dict(load_file(file))
    net = with_readout(model, encoder.readout).eval()
    if broken := broken_statistics(net):
        raise ValueError(
            f"{file.name} has batch norms whose statistics are not numbers ({broken[0]})"
        )
    return net


def inside(net: torch.nn.Module) -> Any:
    """Return timm's model, without what reads a vector out of it."""
    from medbench.models.readout import Readout

    return net.model if isinstance(net, Readout) else net
