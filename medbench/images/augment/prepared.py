"""What making views takes beside their pixels, worked out on the CPU.

A GPU gets all of it at once, and then decides nothing.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from medbench.images.augment.colour import mixing
from medbench.images.augment.geometry import homography, sampling_places
from medbench.images.augment.parameters import CORNERS, Parameters
from medbench.images.augment.policies import Crop

if TYPE_CHECKING:
    import torch

Prepared = dict[str, "torch.Tensor"]


def prepared(drawn: Parameters, crop: Crop, s: int, side: int) -> Prepared:
    """Compute the tensors, by name, that n views of s pixels of images of `side` pixels need.

    What no view needs is not there; an index, of those that need it, is int64.

    box (n, 4) in pixels and flip (n, 2), unless all are warped; warped, across, down, homography:
    of views that are rotated or distorted. For each step of the colours matrix (n, 3, 3) and fade
    (n,), hue and turns. gray, solarise: indices; blur and kernel (k, taps).
    """
    import torch

    found: Prepared = {}
    warped = (drawn.angle != 0) | (drawn.corners != torch.tensor(CORNERS)).flatten(1).any(1)
    whole = bool(warped.all())
    if not whole:
        found |= {"box": drawn.box * side, "flip": drawn.flip}
    if warped.any():
        found["warped"] = _index(warped)
        some = drawn if whole else taken(drawn, found["warped"])
        found["across"], found["down"] = sampling_places(some, crop, side, s)
        found["homography"] = homography(some).view(-1, 9, 1, 1)
    for step in range(used_steps(crop)):
        found[f"matrix {step}"], found[f"fade {step}"] = mixing(drawn, step)
        turned = (drawn.order[:, step] == 3) & (drawn.jitter[:, 3] != 0)
        if turned.any():
            found[f"hue {step}"] = _index(turned)
            found[f"turns {step}"] = drawn.jitter[turned, 3]
    blurred = drawn.sigma > 0
    if blurred.any():
        sigma = drawn.sigma[blurred] * s / (crop.made_for * crop.size)
        taps = torch.arange(-radius(crop, s), radius(crop, s) + 1)
        found |= {
            "blur": _index(blurred),
            "kernel": (-0.5 * (taps / sigma[:, None]) ** 2).softmax(1),
        }
    found |= {
        name: _index(chosen)
        for name, chosen in (("gray", drawn.gray), ("solarise", drawn.solarise))
        if chosen.any()
    }
    return found


def masks(found: Prepared, n: int, steps: int) -> Prepared:
    """Return the same choices for all n views, as one kernel takes them.

    Turns of 0 for those whose hue stays, 0 and 1 for the others.
    """
    import torch

    dense: Prepared = {}
    for step in range(steps):
        turns = torch.zeros(n)
        if f"hue {step}" in found:
            turns[found[f"hue {step}"]] = found[f"turns {step}"]
        dense[f"all turns {step}"] = turns
    for name in ("gray", "solarise"):
        if name in found:
            dense[f"all {name}"] = torch.zeros(n).index_fill_(0, found[name], 1)
    return dense


def used_steps(crop: Crop) -> int:
    """Count the colour operations of a view that change something, 0 to 4."""
    return sum(strength > 0 for strength in crop.jitter)


def radius(crop: Crop, s: int) -> int:
    """Return the radius of the blur's kernel in pixels, at least 1, for views of s pixels."""
    return max(1, int(crop.blur_kernel * s) // 2)


def taken(drawn: Parameters, index: torch.Tensor | slice) -> Parameters:
    """Return the drawn parameters of the views at `index`, (n,) int64 or a slice."""
    return Parameters(**{one.name: getattr(drawn, one.name)[index] for one in fields(drawn)})


def joined(several: list[Parameters]) -> Parameters:
    """Join the drawn parameters of several batches of one kind of view along their first axis."""
    import torch

    return Parameters(
        **{
            one.name: torch.cat([getattr(drawn, one.name) for drawn in several])
            for one in fields(several[0])
        }
    )


def _index(chosen: torch.Tensor) -> torch.Tensor:
    return chosen.nonzero().squeeze(1)
