"""How alike two images are, once one lies over the other, so that a copy stands out from what all images of a data set share.

Correlation of the detail in three bands of spatial frequencies, block by block: a recompressed or resized copy has lost the fine band but not the others,
while two aligned chests or eyes agree in none of them as far as copies do. The quarter of the blocks that agrees least is left out: a label, a ruler
or a box of text that was put over a copy hides no more than that. What is shared by all (a dark frame) is no part of it, and how much two different
images of this data set agree is measured by whoever calls this: see `duplicates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medbench.audit.dataset.detail import FINE, banded, grey_of, picture_of

if TYPE_CHECKING:
    import torch

    from medbench.audit.dataset.pack_rows import Rows

_BANDS = 3  # octaves: the fine one, and the same of the image at half and at a quarter of its size
_BLOCKS = 8  # along a side
_FULL, _LEFT_OUT = 0.1, 0.25  # share of a block that must show both images; of the blocks, the least alike
_MOST = 0.9995  # correlation: above it, one copy is no better than another
_BATCH = 32  # pairs


def likeness(pack: np.ndarray | Rows, pairs: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """(P,) in [-1, 1]: correlation of the images of pairs (P, 2) under maps (P, 2, 3) as `registration.align` gives them, a mean over bands."""
    import torch

    with torch.inference_mode():
        found = [_likeness(pack, pairs[at : at + _BATCH], maps[at : at + _BATCH]) for at in range(0, len(pairs), _BATCH)]
    return np.concatenate(found) if found else np.zeros(0)


def _likeness(pack: np.ndarray | Rows, pairs: np.ndarray, maps: np.ndarray) -> np.ndarray:
    import torch
    from torch.nn import functional

    each, index = np.unique(pairs, return_inverse=True)
    grey = grey_of(pack[each])
    seen = picture_of(grey)
    first, second = torch.from_numpy(index.reshape(-1, 2)).T
    net = functional.affine_grid(torch.from_numpy(maps).float(), [len(pairs), *grey.shape[1:]], align_corners=False)
    there = functional.grid_sample(torch.cat([grey, seen], 1)[second], net, align_corners=False)
    both = torch.cat([grey[first], there[:, :1]], 1)
    mask = (there[:, 1:] > 0.5) * seen[first]
    bands = []
    for _ in range(_BANDS):
        bands.append(_trimmed(banded(both, mask, FINE), mask))
        shown = functional.avg_pool2d(mask, 2)
        both = functional.avg_pool2d(both * mask, 2) / shown.clamp_min(1e-3)
        mask = (shown >= 0.5).float()
    found: np.ndarray = torch.stack(bands).clamp(-_MOST, _MOST).atanh().mean(0).tanh().numpy()
    return found


def _trimmed(both: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(P,): correlation of both (P, 2, s, s) over the blocks of mask (P, 1, s, s) that agree most; 0 where no block shows both."""
    import torch
    from torch.nn import functional

    one, other = both[:, :1], both[:, 1:]
    sums = torch.cat([one * other, one**2, other**2, mask], 1)
    product, power, other_power, shown = functional.avg_pool2d(sums, max(1, mask.shape[-1] // _BLOCKS)).flatten(2).unbind(1)
    counts = shown > _FULL
    alike = torch.where(counts, product / (power * other_power).sqrt().clamp_min(1e-9), torch.full((), -2.0))
    kept = counts.sum(1, keepdim=True) - (_LEFT_OUT * counts.sum(1, keepdim=True)).floor()
    chosen = alike.argsort(1, descending=True).argsort(1) < kept
    inner, left, right = ((part * chosen).sum(1) for part in (product, power, other_power))
    correlation: torch.Tensor = inner / (left * right).sqrt().clamp_min(1e-9)
    return correlation
