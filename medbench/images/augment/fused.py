"""The pointwise work of a view as few kernels, on a GPU for which torch can compile them.

On one, each operation is a kernel of its own, and most of the time of a small batch goes into
starting them. Equal to `colour` up to rounding; what a choice leaves out is computed all the same,
and dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from medbench.images.augment.colour import GREY

log = logging.getLogger("medbench")


@cache
def can_fuse(device: torch.device) -> bool:
    """Return whether torch compiles for this device.

    It needs Triton, a C compiler and a GPU that Triton knows. Tried once, with a line where it
    cannot.
    """
    if device.type != "cuda":
        return False
    try:
        compiled(_trial)(torch.zeros(8, device=device))
    except Exception as error:  # of Triton, of a compiler, of a driver: each has its own
        log.info(
            "views are made without fused kernels: %s",
            " ".join(f"{type(error).__name__}: {error}".split())[:200],
        )
        return False
    return True


def _trial(x: torch.Tensor) -> torch.Tensor:
    return x + 1


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for batches of any size, once a process; torch keeps it on the disk."""
    made: Any = torch.compile(function, dynamic=True)
    return made  # type: ignore[no-any-return]


def colour_step(
    view: torch.Tensor, matrix: torch.Tensor, fade: torch.Tensor, turns: torch.Tensor
) -> torch.Tensor:
    """Apply one step of the colours to all views (B, 3, s, s) in [0, 1].

    `blend` with matrix (B, 3, 3) and fade (B,), then `shift_hue` where `turns` (B,) is not 0.
    Returns the same shape.
    """
    planes = view.unbind(1)
    mean = view.mean((2, 3))
    offset = (fade * (GREY[0] * mean[:, 0] + GREY[1] * mean[:, 1] + GREY[2] * mean[:, 2]))[
        :, None, None
    ]
    m = matrix[..., None, None]
    r, g, b = (
        (offset + m[:, i, 0] * planes[0] + m[:, i, 1] * planes[1] + m[:, i, 2] * planes[2]).clamp(
            0, 1
        )
        for i in range(3)
    )
    value, low = torch.maximum(torch.maximum(r, g), b), torch.minimum(torch.minimum(r, g), b)
    chroma = value - low
    divisor = torch.where(chroma == 0, 1, chroma)
    sixths = torch.where(
        value == r,
        (g - b) / divisor,
        torch.where(value == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor),
    )
    turn = turns[:, None, None]
    out = []
    for plane, place in ((r, 5.0), (g, 3.0), (b, 1.0)):
        k = torch.remainder(sixths + 6 * turn + place, 6)
        out.append(
            torch.where(turn != 0, value - chroma * torch.minimum(k, 4 - k).clamp(0, 1), plane)
        )
    return torch.stack(out, 1)


def gray_step(view: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Turn views (B, 3, s, s) grey where `chosen` (B,) is 1, and leave them where it is 0."""
    gray = GREY[0] * view[:, 0] + GREY[1] * view[:, 1] + GREY[2] * view[:, 2]
    return torch.where(chosen[:, None, None, None] > 0, gray[:, None], view)


def last_step(
    view: torch.Tensor, solarise: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Solarise and normalise views (B, 3, s, s) in [0, 1].

    solarise: (B,), above 0 where an image is solarised. mean, std: (B, 3).
    """
    inverted = torch.where((view >= 0.5) & (solarise[:, None, None, None] > 0), 1 - view, view)
    return (inverted - mean[:, None, None]) / std[:, None, None]
