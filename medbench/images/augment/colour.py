"""What happens to a view's values: jitter, blur. All on (B, 3, s, s) in [0, 1], each image with its own parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medbench.images.augment.parameters import Parameters

if TYPE_CHECKING:
    import torch

GREY = (0.2989, 0.587, 0.114)  # of R, G, B (ITU-R BT.601), as in torchvision


def blend(view: torch.Tensor, drawn: Parameters, step: int) -> torch.Tensor:
    """Each image's operation at this step, but for hue: brightness, contrast and saturation are one matrix and offset an image."""
    import torch

    b, _, s, _ = view.shape
    operation = drawn.order[:, step]
    factor = torch.where(operation < 3, drawn.jitter.gather(1, operation[:, None]).squeeze(1), 1.0)
    keep, fade, from_mean, from_gray = (v.to(view) for v in (factor, 1 - factor, operation == 1, operation == 2))
    gray = view.new_tensor(GREY)
    matrix = keep[:, None, None] * torch.eye(3).to(view) + (fade * from_gray)[:, None, None] * gray
    offset = fade * from_mean * (view.mean((2, 3)) @ gray)
    return torch.baddbmm(offset[:, None, None], matrix, view.view(b, 3, s * s)).clamp_(0, 1).view_as(view)


def shift_hue(view: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Hue of (n, 3, s, s) shifted by `turns` (n,), value and saturation kept: HSV and back in one formula."""
    import torch

    r, g, b = view.unbind(1)
    value, low = view.amax(1), view.amin(1)
    chroma = value - low
    divisor = torch.where(chroma == 0, 1, chroma)
    sixths = torch.where(value == r, (g - b) / divisor, torch.where(value == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor))
    sixths += 6 * turns.to(view)[:, None, None]
    k = (sixths[:, None] + view.new_tensor([5, 3, 1]).view(3, 1, 1)).remainder_(6)
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp_(0, 1)


def blur(view: torch.Tensor, sigma: torch.Tensor, radius: int) -> torch.Tensor:
    """Gaussian blur of (n, 3, s, s), each image with its own sigma (n,) in pixels, edges reflected."""
    import torch
    from torch.nn import functional

    n, _, s, _ = view.shape
    taps = torch.arange(-radius, radius + 1)
    kernel = (-0.5 * (taps / sigma[:, None]) ** 2).softmax(1).repeat_interleave(3, 0).to(view)
    padded = functional.pad(view.view(1, 3 * n, s, s), (radius,) * 4, mode="reflect")
    across = functional.conv2d(padded, kernel[:, None, None, :], groups=3 * n)
    return functional.conv2d(across, kernel[:, None, :, None], groups=3 * n).view(n, 3, s, s)
