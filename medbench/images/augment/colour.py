"""What happens to a view's values: jitter, blur.

All on (B, 3, s, s) in [0, 1], each image with its own parameters.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from medbench.images.augment.parameters import Parameters

if TYPE_CHECKING:
    import torch

GREY = (0.2989, 0.587, 0.114)  # of R, G, B (ITU-R BT.601), as in torchvision


@cache
def constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return numbers on a device, (n,) float32 for n values.

    They are copied there once in the life of the process.
    """
    import torch

    with torch.inference_mode(False):  # it outlives the pass that asks first
        return torch.tensor(values, dtype=torch.float32, device=device)


def mixing(drawn: Parameters, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return matrix (B, 3, 3) and share (B,) of the mean grey of each image's operation.

    At this step, but for hue: brightness, contrast and saturation are one matrix and offset an
    image.
    """
    import torch

    operation = drawn.order[:, step]
    factor = torch.where(operation < 3, drawn.jitter.gather(1, operation[:, None]).squeeze(1), 1.0)
    keep, fade, from_mean, from_gray = (
        v.float() for v in (factor, 1 - factor, operation == 1, operation == 2)
    )
    gray = torch.tensor(GREY)
    return keep[:, None, None] * torch.eye(3) + (fade * from_gray)[
        :, None, None
    ] * gray, fade * from_mean


def blend(view: torch.Tensor, matrix: torch.Tensor, fade: torch.Tensor) -> torch.Tensor:
    """Apply a step of `mixing`.

    view: (n, 3, s, s) in [0, 1]; matrix: (n, 3, 3); fade: (n,).
    """
    import torch

    b, _, s, _ = view.shape
    offset = fade * (view.mean((2, 3)) @ constant(GREY, view.device))
    return (
        torch.baddbmm(offset[:, None, None], matrix, view.view(b, 3, s * s))
        .clamp_(0, 1)
        .view_as(view)
    )


def shift_hue(view: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Shift the hue of views (n, 3, s, s) in [0, 1] by `turns` (n,), in whole turns.

    Value and saturation are kept: HSV and back in one formula. Returns the same shape.
    """
    import torch

    r, g, b = view.unbind(1)
    value, low = view.amax(1), view.amin(1)
    chroma = value - low
    divisor = torch.where(chroma == 0, 1, chroma)
    sixths = torch.where(
        value == r,
        (g - b) / divisor,
        torch.where(value == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor),
    )
    sixths += 6 * turns[:, None, None]
    k = (sixths[:, None] + constant((5, 3, 1), view.device).view(3, 1, 1)).remainder_(6)
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp_(0, 1)


def grayed(view: torch.Tensor) -> torch.Tensor:
    """Return the grey (n, 1, s, s) of views (n, 3, s, s)."""
    return (view * constant(GREY, view.device).view(3, 1, 1)).sum(1, keepdim=True)


def solarised(view: torch.Tensor) -> torch.Tensor:
    """Invert what is at least half as bright as can be, of (n, 3, s, s) in [0, 1]."""
    import torch

    return torch.where(view >= 0.5, 1 - view, view)


def blur(view: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Blur views (n, 3, s, s), each with its own kernel (n, taps), taps odd.

    Across and down, edges reflected. Returns the same shape.
    """
    from torch.nn import functional

    n, _, s, _ = view.shape
    radius, kernel = kernel.shape[1] // 2, kernel.repeat_interleave(3, 0)
    padded = functional.pad(view.view(1, 3 * n, s, s), (radius,) * 4, mode="reflect")
    across = functional.conv2d(padded, kernel[:, None, None, :], groups=3 * n)
    return functional.conv2d(across, kernel[:, None, :, None], groups=3 * n).view(n, 3, s, s)
