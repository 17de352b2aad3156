"""How alike two images are, once one lies over the other.

A copy must stand out from what all images of a data set share. Agreement of the directions of the
grey levels' gradients in three octaves, block by block. A direction stays where it is in a copy
that was lit otherwise, equalised or compressed; and each place counts alike, however strong its
contrast is: aligned chests share their ribs, a few strong edges, but not the faint texture between
them, of which there is more. The quarter of the blocks that agrees least is left out: a label, a
ruler or a box of text that was put over a copy hides no more than that. What is shared by all (a
dark frame) is no part of it, and how much two different images of this data set agree is measured
by whoever calls this: see `duplicates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medbench.audit.dataset.detail import blur, grey_of, picture_of

if TYPE_CHECKING:
    import torch

    from medbench.audit.dataset.pack_rows import Rows

_OCTAVES = 3  # the image, and the same at half and at a quarter of its size
# px: standard deviations of what a gradient is taken of, and of the place whose contrast it is
# measured by
_SMOOTH, _AROUND = 0.7, 4.0
# of that contrast, and of the grey range: a gradient below counts less, for its direction is noise
_FAINT, _FLOOR = 0.5, 0.003
_EDGE = 2  # px about what does not show both images, whose gradients are cut
_BLOCKS = 8  # along a side
# share of a block that must show both images; of the blocks, the least alike
_FULL, _LEFT_OUT = 0.1, 0.25
_MOST = 0.9995  # agreement: above it, one copy is no better than another
_BATCH = 32  # pairs


def likeness(pack: np.ndarray | Rows, pairs: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return how well the images of each pair agree: (P,) in [-1, 1].

    pairs are (P, 2), under maps (P, 2, 3) as `registration.align` gives them. A mean over octaves.
    """
    import torch

    with torch.inference_mode():
        found = [
            _likeness(pack, pairs[at : at + _BATCH], maps[at : at + _BATCH])
            for at in range(0, len(pairs), _BATCH)
        ]
    return np.concatenate(found) if found else np.zeros(0)


def _likeness(pack: np.ndarray | Rows, pairs: np.ndarray, maps: np.ndarray) -> np.ndarray:
    import torch
    from torch.nn import functional

    each, index = np.unique(pairs, return_inverse=True)
    grey = grey_of(pack[each])
    seen = picture_of(grey)
    first, second = torch.from_numpy(index.reshape(-1, 2)).T
    net = functional.affine_grid(
        torch.from_numpy(maps).float(), [len(pairs), *grey.shape[1:]], align_corners=False
    )
    there = functional.grid_sample(torch.cat([grey, seen], 1)[second], net, align_corners=False)
    both = torch.cat([grey[first], there[:, :1]], 1)
    mask = (there[:, 1:] > 0.5) * seen[first]
    octaves = []
    for _ in range(_OCTAVES):
        octaves.append(_agreement(*_directions(both, mask)))
        shown = functional.avg_pool2d(mask, 2)
        both = functional.avg_pool2d(both * mask, 2) / shown.clamp_min(1e-3)
        mask = (shown >= 0.5).float()
    found: np.ndarray = torch.stack(octaves).clamp(-_MOST, _MOST).atanh().mean(0).tanh().numpy()
    return found


def _directions(both: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gradients none longer than 1, and where they are whole.

    both is (P, 2, s, s), mask (P, 1, s, s); the gradients are (P, 2 images, 2 axes, s, s), the
    second (P, 1, s, s).
    """
    import torch
    from torch.nn import functional

    smooth = functional.pad(
        blur(both * mask, _SMOOTH) / blur(mask, _SMOOTH).clamp_min(1e-3),
        (1, 1, 1, 1),
        mode="replicate",
    )
    across, down = (
        smooth[:, :, 1:-1, 2:] - smooth[:, :, 1:-1, :-2],
        smooth[:, :, 2:, 1:-1] - smooth[:, :, :-2, 1:-1],
    )
    whole = 1 - functional.max_pool2d(1 - mask, 2 * _EDGE + 1, 1, _EDGE)
    power = across**2 + down**2
    around = blur(power * whole, _AROUND) / blur(whole, _AROUND).clamp_min(1e-3)
    return torch.stack([across, down], 2) / (power + _FAINT**2 * around + _FLOOR**2).sqrt()[
        :, :, None
    ], whole


def _agreement(both: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the correlation over the blocks that agree most: (P,).

    both is (P, 2, 2, s, s), mask (P, 1, s, s). 0 where no block shows both.
    """
    import torch
    from torch.nn import functional

    one, other = (both * mask[:, None]).unbind(1)
    sums = torch.cat(
        [
            (left * right).sum(1, keepdim=True)
            for left, right in ((one, other), (one, one), (other, other))
        ]
        + [mask],
        1,
    )
    product, power, other_power, shown = (
        functional.avg_pool2d(sums, max(1, mask.shape[-1] // _BLOCKS)).flatten(2).unbind(1)
    )
    counts = shown > _FULL
    alike = torch.where(
        counts, product / (power * other_power).sqrt().clamp_min(1e-9), torch.full((), -2.0)
    )
    kept = counts.sum(1, keepdim=True) - (_LEFT_OUT * counts.sum(1, keepdim=True)).floor()
    chosen = alike.argsort(1, descending=True).argsort(1) < kept
    inner, left, right = ((part * chosen).sum(1) for part in (product, power, other_power))
    correlation: torch.Tensor = inner / (left * right).sqrt().clamp_min(1e-9)
    return correlation
