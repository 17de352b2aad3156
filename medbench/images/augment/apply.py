"""From images to finished views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from medbench.images.augment.colour import GREY, blend, blur, shift_hue
from medbench.images.augment.geometry import resize, warp
from medbench.images.augment.parameters import CORNERS, Parameters, draw_parameters
from medbench.images.augment.policies import Crop

if TYPE_CHECKING:
    import numpy as np
    import torch


def views(
    images: torch.Tensor, crops: Sequence[Crop], size: int, mean: Sequence[float], std: Sequence[float], generator: torch.Generator
) -> list[torch.Tensor]:
    """For each kind in turn, `count` views of every image, as `finished` gives them.

    images: (B, S, S, 3) uint8, on any device; the views are made there. generator: a CPU generator, the only source of chance, so that
    views are the same on every device up to rounding.
    """
    drawn = ((crop, draw_parameters(crop, len(images), generator)) for crop in crops for _ in range(crop.count))
    return [finished(images, parameters, crop, size, mean, std) for crop, parameters in drawn]


def finished(images: torch.Tensor, drawn: Parameters, crop: Crop, size: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """One view of each image, (B, 3, s, s) float32, channels_last: (x - mean) / std with x in [0, 1]; s = crop.pixels(size).

    images: (B, S, S, 3) uint8. drawn: as `draw_parameters` gives it, for B images.
    """
    import torch

    with torch.autocast(images.device.type, enabled=False):  # the caller's half precision is for the encoder
        view = render_views(images, drawn, crop, crop.pixels(size))
    return _normalised(view, mean, std).contiguous(memory_format=torch.channels_last)


def normalised_images(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return the unchanged images (B, 3, S, S) float32, channels_last, normalised as a view is.

    images: (B, S, S, 3) uint8.
    """
    return _normalised(images.permute(0, 3, 1, 2).float().div_(255), mean, std)


def _normalised(x: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """In place."""
    import torch

    centre, spread = (torch.tensor(v, dtype=torch.float32, device=x.device).view(3, 1, 1) for v in (mean, std))
    return x.sub_(centre).div_(spread)


def render_views(images: torch.Tensor, drawn: Parameters, crop: Crop, s: int) -> torch.Tensor:
    """Render the views (B, 3, s, s) in [0, 1] that `drawn` describes, of (B, S, S, 3) uint8."""
    import torch

    b, side = images.shape[:2]
    pixels = images.reshape(b, side, side * 3).float().div_(255)
    warped = (drawn.angle != 0) | (drawn.corners != torch.tensor(CORNERS)).flatten(1).any(1)
    if warped.all():
        view = warp(pixels, drawn, crop, s)
    else:
        view = resize(pixels, drawn, crop, s)
        _change(view, warped, lambda _, i: warp(pixels[i.to(pixels.device)], _take(drawn, i), crop, s))
    used = sum(strength > 0 for strength in crop.jitter)
    for step in range(used):
        view = blend(view, drawn, step)
        _change(view, (drawn.order[:, step] == 3) & (drawn.jitter[:, 3] != 0), lambda x, i: shift_hue(x, drawn.jitter[i, 3]))
    _change(view, drawn.gray, lambda x, _: (x * x.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True))
    _change(
        view,
        drawn.sigma > 0,
        lambda x, i: blur(x, drawn.sigma[i] * s / (crop.made_for * crop.size), max(1, int(crop.blur_kernel * s) // 2)),
    )
    _change(view, drawn.solarise, lambda x, _: torch.where(x >= 0.5, 1 - x, x))
    return view


def _take(drawn: Parameters, index: torch.Tensor) -> Parameters:
    return Parameters(**{one.name: getattr(drawn, one.name)[index] for one in fields(drawn)})


def _change(view: torch.Tensor, chosen: torch.Tensor, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """In place, on the images that are `chosen` (B,) bool alone: change(those images, their CPU index)."""
    if chosen.any():
        index = chosen.nonzero().squeeze(1)
        place = index.to(view.device)
        view[place] = change(view[place], index)


def draw_views(images: torch.Tensor, crops: Sequence[Crop], size: int, generator: torch.Generator) -> np.ndarray:
    """Draw a picture (rows, columns, 3) uint8 of images and their views.

    One row per image, first the original, then its views; smaller ones in the middle of their tile.
    images: (B, S, S, 3) uint8.
    """
    import numpy as np

    made = views(images, crops, size, (0.0,) * 3, (1.0,) * 3, generator)
    columns = [images.cpu().numpy(), *((v.permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()) for v in made)]
    tile = max(column.shape[1] for column in columns) + 2
    picture = np.full((len(images) * tile, len(columns) * tile, 3), 255, np.uint8)
    for j, column in enumerate(columns):
        side = column.shape[1]
        for i, image in enumerate(column):
            top, left = i * tile + (tile - side) // 2, j * tile + (tile - side) // 2
            picture[top : top + side, left : left + side] = image
    return picture
