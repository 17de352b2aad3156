"""Which device computes, and whether it is there."""

from __future__ import annotations

from medbench.schema import UserError
from medbench.system.child_process import threads_each
from medbench.system.precision import check_rounds


def check_device(device: str, precision: str = "fp32") -> None:
    """Raise UserError for a device that is missing, or that cannot compute with this precision.

    `auto` and `cpu` need no look, but for tf32.
    """
    if device not in ("auto", "cpu"):
        _check_there(device)
    if precision == "tf32":
        check_rounds(resolve(device))


def _check_there(device: str) -> None:
    import torch

    count = torch.cuda.device_count()
    allowed = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if device not in allowed:
        raise UserError(
            f"Device '{device}' is not there.", allowed=allowed, given=device, then="--device cpu"
        )


def resolve(device: str) -> str:
    """Resolve a device's name: `auto` is the GPU where there is one."""
    import torch

    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def divide_threads(processes: int) -> None:
    """Give torch the threads of one of so many processes that share this machine's cores."""
    import torch

    torch.set_num_threads(threads_each(processes))
