"""Where a view's pixels come from.

Crop, resize and flip as matrix products, rotation and perspective by sampling.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medbench.images.augment.parameters import CORNERS, Parameters, uniform
from medbench.images.augment.policies import Crop

if TYPE_CHECKING:
    import torch


def filters(
    box: torch.Tensor, flip: torch.Tensor, side: int, s: int, interpolation: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the filters across and down, each (B, s, side), that crop, resize and flip.

    box (B, 4) in pixels, flip (B, 2).

    Antialiased as in Pillow: the filter widens with the scale.
    """
    across, down = (
        _weights(box[:, axis], box[:, axis + 2], flip[:, axis], side, s, interpolation)
        for axis in (0, 1)
    )
    return across, down


def resize(pixels: torch.Tensor, across: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Resize pixels by their filters, in two matrix products: (B, 3, s, s) in [0, 1].

    pixels: (B, S, 3 * S), rows of R, G, B, R, ... across, down: (B, s, S), of `filters`.
    """
    (b, side), s = pixels.shape[:2], across.shape[1]
    rows = (down @ pixels).view(b, s, side, 3).permute(0, 3, 1, 2).reshape(b, 3 * s, side)
    return (rows @ across.mT).view(b, 3, s, s).clamp_(0, 1)


def _weights(
    low: torch.Tensor, high: torch.Tensor, flip: torch.Tensor, side: int, s: int, interpolation: str
) -> torch.Tensor:
    """(B, s, side) weights of the input pixels in each output pixel; low, high (B,) in pixels."""
    import torch

    scale = (high - low)[:, None] / s
    steps = torch.arange(s, device=low.device) + 0.5
    centres = torch.where(
        flip[:, None], high[:, None] - steps * scale, low[:, None] + steps * scale
    )
    inputs = torch.arange(side, device=low.device) + 0.5
    d = (inputs - centres[:, :, None]).div_(scale.clamp(min=1)[:, :, None]).abs_()
    if interpolation == "bilinear":
        weights = (1 - d).clamp_(min=0)
    else:  # Keys' cubic with a = -0.5
        d.clamp_(max=2)
        weights = torch.where(
            d < 1, (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
        )
    return weights.div_(weights.sum(2, keepdim=True))


def sampling_places(
    drawn: Parameters, crop: Crop, side: int, s: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the pixels of views lie, across and down, each (B, n) in [-1, 1].

    Views of s pixels, in the rotated and distorted images of `side` pixels. Where crops may be
    larger than the view, n is a whole multiple of its pixels, against aliasing.
    """
    import torch

    b = len(drawn.box)
    dense = s * max(
        1,
        math.ceil(
            side / s * min(1, math.sqrt(crop.scale[1] * max(crop.ratio[1], 1 / crop.ratio[0])))
        ),
    )
    start, end = drawn.box.view(b, 2, 2).mul(2).sub(1).unbind(1)
    start, end = torch.where(drawn.flip, end, start), torch.where(drawn.flip, start, end)
    steps = (torch.arange(dense) + 0.5) / dense
    x, y = (uniform(steps, start[:, axis, None], end[:, axis, None]) for axis in (0, 1))
    return x, y


def grid(x: torch.Tensor, y: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """Return where in the images the `sampling_places` x and y lie: (B, n, n, 2).

    After perspective and rotation about the image's centre; m (B, 9, 1, 1): `homography`.
    """
    import torch

    x, y = x[:, None, :], y[:, :, None]
    # what lies behind the viewer falls far outside the image
    depth = (m[:, 6] * x + m[:, 7] * y + m[:, 8]).clamp(min=1e-6)
    return torch.stack(
        [
            (m[:, 0] * x + m[:, 1] * y + m[:, 2]) / depth,
            (m[:, 3] * x + m[:, 4] * y + m[:, 5]) / depth,
        ],
        3,
    )


def sampled(pixels: torch.Tensor, places: torch.Tensor, s: int) -> torch.Tensor:
    """Sample views (B, 3, s, s) of pixels (B, S, 3 * S).

    It takes one bilinear sampling at `grid` places, of which several make a pixel; black outside
    the image.
    """
    from torch.nn import functional

    (b, side), dense = pixels.shape[:2], places.shape[1]
    planes = pixels.view(b, side, side, 3).permute(0, 3, 1, 2).contiguous()
    found = functional.grid_sample(planes, places, align_corners=False)
    return functional.avg_pool2d(found, dense // s) if dense > s else found


def homography(drawn: Parameters) -> torch.Tensor:
    """Return (B, 3, 3) float32, from the rotated, distorted image to places in the original.

    Both span [-1, 1].
    """
    import torch

    moved, fixed = (
        drawn.corners.double(),
        torch.tensor(CORNERS, dtype=torch.float64).expand(len(drawn.corners), 4, 2),
    )
    one, none = torch.ones_like(moved[..., :1]), torch.zeros_like(moved)
    right = -fixed[..., None] * moved[..., None, :]  # (B, 4, 2, 2)
    rows_x = torch.cat([moved, one, none, one * 0, right[..., 0, :]], 2)
    rows_y = torch.cat([none, one * 0, moved, one, right[..., 1, :]], 2)
    solved = torch.linalg.solve(
        torch.cat([rows_x, rows_y], 1), torch.cat([fixed[..., 0], fixed[..., 1]], 1)
    )
    perspective = torch.cat([solved, one[:, 0]], 1).view(-1, 3, 3)
    turn = drawn.angle.double().deg2rad()
    rotation = torch.eye(3, dtype=torch.float64).repeat(len(turn), 1, 1)
    rotation[:, 0, 0] = rotation[:, 1, 1] = turn.cos()
    rotation[:, 0, 1], rotation[:, 1, 0] = -turn.sin(), turn.sin()
    return (perspective @ rotation).float()
