"""How exactly an encoder multiplies.

On a GPU torch rounds the factors of a float32 convolution unless it is told not to: here it is
told.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medbench.schema import UserError

if TYPE_CHECKING:
    import torch

#: fp32: float32 factors as they are, on every device. tf32: a GPU rounds them to 10 bits (NVIDIA's
#: TF32) and adds in float32. bf16: torch's autocast to bfloat16; what it leaves in float32 is
#: computed as in fp32.
PRECISIONS = ("fp32", "tf32", "bf16")


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Compute convolutions and matrix products of float32 inside as `precision` says.

    fp32 and bf16: without rounding factors; tf32: their factors rounded to 10 bits, on a GPU.
    Whatever torch's own switches said before; those are put back afterwards. The switches are the
    whole process's: an encoder of the user's own may have turned them too.
    """
    import torch

    backends: Any = torch.backends  # torch has no types for the newer ones
    gpu = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    # a CPU rounds too, where torch.set_float32_matmul_precision says so
    cpu = (backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul)
    before = [switch.fp32_precision for switch in (*gpu, *cpu)]

    def turn(values: list[str]) -> None:
        with warnings.catch_warnings():  # torch 2.9 says once that there are newer switches
            warnings.filterwarnings(
                "ignore", message="Please use the new API settings", category=UserWarning
            )
            # the older switch: torch refuses to answer code that asks it while they disagree
            backends.cudnn.allow_tf32 = values[0] == "tf32"
        for switch, value in zip((*gpu, *cpu), values, strict=True):
            switch.fp32_precision = value

    try:
        turn(["tf32" if precision == "tf32" else "ieee"] * len(gpu) + ["ieee"] * len(cpu))
        yield
    finally:
        turn(before)


def autocast(device: str | torch.device, precision: str) -> torch.autocast:
    """Return torch's autocast to bfloat16 where that is the precision, else nothing."""
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def check_rounds(device: str) -> None:
    """Raise UserError where tf32 would round nothing: a row must not say what was not done."""
    import torch

    if torch.device(device).type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        raise UserError(
            f"Precision 'tf32' needs an NVIDIA GPU of compute capability 8.0 or newer, and the device is {device}.",
            allowed=[name for name in PRECISIONS if name != "tf32"],
            then="medbench run --precision fp32",
        )


def kind(device: str) -> str:
    """Return the part of a device's name that belongs into the key of something cached.

    It changes the last bits: `cpu`, or a GPU whose fp32 is fp32. A GPU's keys have a number: until
    2 what was kept as fp32 had rounded convolutions.
    """
    name = device.partition(":")[0]
    return name if name == "cpu" else f"{name} 2"
