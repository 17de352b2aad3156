"""What chance decides about a view: the parameters of a whole batch, drawn at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medbench.images.augment.policies import Crop

if TYPE_CHECKING:
    import torch

_TRIES = 10  # pairs of area and ratio that are drawn for a crop, as in torchvision
#: Uniform numbers a view takes, whatever its kind uses: switching one operation off leaves the
#: draws of the others.
_UNIFORM = {
    "area": _TRIES,
    "ratio": _TRIES,
    "place": 2,
    "flip": 2,
    "turned": 1,
    "angle": 1,
    "distorted": 1,
    "corners": 8,
    "jittered": 1,
    "jitter": 4,
}
_UNIFORM |= {"order": 4, "gray": 1, "blurred": 1, "sigma": 1, "solarise": 1}
_NO_JITTER = (1.0, 1.0, 1.0, 0.0)
# of an image, clockwise from the top left
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


@dataclass(frozen=True, eq=False)
class Parameters:
    """What was drawn for B views of one kind.

    On the CPU, where also every decision is made: a GPU is never waited for.

    box: (B, 4) left, top, right, bottom in [0, 1]. flip: (B, 2) bool, horizontal and vertical.
    angle: (B,) degrees, counter-clockwise. corners: (B, 4, 2) x and y in [-1, 1], where perspective
    moves the image's corners (top left, then clockwise). jitter: (B, 4) brightness, contrast and
    saturation factors and hue shift (turns); (1, 1, 1, 0) is none. order: (B, 4) which of them is
    applied when. gray, solarise: (B,) bool. sigma: (B,) in pixels of a full view of
    `Crop.made_for`, 0 for no blur.
    """

    box: torch.Tensor
    flip: torch.Tensor
    angle: torch.Tensor
    corners: torch.Tensor
    jitter: torch.Tensor
    order: torch.Tensor
    gray: torch.Tensor
    sigma: torch.Tensor
    solarise: torch.Tensor


def draw_parameters(crop: Crop, n: int, generator: torch.Generator) -> Parameters:
    """Draw the parameters of n views of one kind at once.

    generator: a CPU generator, which gives the same parameters for every device.
    """
    import torch

    drawn = torch.split(
        torch.rand(n, sum(_UNIFORM.values()), generator=generator), list(_UNIFORM.values()), 1
    )
    u = {name: block.squeeze(1) for name, block in zip(_UNIFORM, drawn, strict=True)}
    box = _boxes(crop, u["area"], u["ratio"], u["place"])
    corners = torch.tensor(CORNERS)
    distortion = crop.perspective * (u["distorted"] < crop.perspective_p)
    strength, none = torch.tensor(crop.jitter), torch.tensor(_NO_JITTER)
    jitter = uniform(
        u["jitter"], (none - strength).clamp(min=torch.tensor([0.0, 0, 0, -0.5])), none + strength
    )
    return Parameters(
        box=box,
        flip=u["flip"] < torch.tensor([crop.flip, crop.vertical_flip]),
        angle=uniform(u["angle"], -crop.rotation, crop.rotation) * (u["turned"] < crop.rotation_p),
        corners=corners - corners * u["corners"].view(n, 4, 2) * distortion.view(n, 1, 1),
        jitter=torch.where(u["jittered"][:, None] < crop.jitter_p, jitter, none),
        order=torch.where(strength > 0, u["order"], 2).argsort(1),
        gray=u["gray"] < crop.gray_p,
        sigma=uniform(u["sigma"], *crop.blur_sigma) * (u["blurred"] < crop.blur_p),
        solarise=u["solarise"] < crop.solarise_p,
    )


def _boxes(
    crop: Crop, area: torch.Tensor, ratio: torch.Tensor, place: torch.Tensor
) -> torch.Tensor:
    """Return (n, 4) boxes of crops, as torchvision's `RandomResizedCrop` draws them.

    In a square image, but for its rounding to whole pixels. An area and a log-ratio, both uniform,
    are drawn together until the crop fits, so that large crops are rare. Where no pair fits, the
    largest crop in the middle is taken whose ratio is allowed. area, ratio: (n, tries) uniform
    numbers. place: (n, 2) uniform numbers, of the left and the top side.
    """
    import torch

    area = uniform(area, *crop.scale)
    ratio = uniform(ratio, *map(math.log, crop.ratio)).exp()
    # (n, tries, 2): width and height
    extents = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 2)
    fits = (extents <= 1).all(2)
    first = fits.byte().argmax(1)  # of equal values the first
    extent = extents[torch.arange(len(first)), first]
    nearest = min(max(1.0, crop.ratio[0]), crop.ratio[1])
    largest = torch.tensor([min(1.0, nearest), min(1.0, 1 / nearest)])
    found = fits.any(1, keepdim=True)
    extent = torch.where(found, extent, largest)
    start = torch.where(found, place, 0.5) * (1 - extent)
    return torch.cat([start, start + extent], 1)


def uniform(u: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float) -> torch.Tensor:
    """Stretch uniform numbers u in [0, 1) to [low, high), which broadcast with u."""
    return low + u * (high - low)
