"""What all images of a data set share, and what two of them share beyond it.

Chests, eyes and cells that are taken alike agree once one is laid over the other: in ribs, in the rim of the field, in the place of a nucleus. Their mean
detail and its leading principal components say what that is. For a pair they are taken out of both images, in the place where each image has them (a
copy that was mirrored or cropped carries them along), and what is left is correlated: a partial correlation, near 0 for two patients, near 1 for a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medbench.audit.dataset.detail import FINE, Detail, detail_of, grey_of, picture_of

if TYPE_CHECKING:
    import torch

    from medbench.audit.dataset.pack_rows import Rows

_SAMPLE = 400  # images
_COMPONENTS, _EACH = 24, 16  # at most, and images of the sample for each: few images would stand in their own components
_RIDGE = 1e-3
_BATCH = 32  # pairs, or images


class SharedAnatomy:
    """The mean fine detail of a sample of images of different groups and its leading components, in the images' frame."""

    def __init__(self, pack: np.ndarray | Rows, groups: np.ndarray):
        import torch

        self.pack = pack
        first = np.unique(groups, return_index=True)[1]
        rows = np.sort(np.random.default_rng(0).permutation(first)[:_SAMPLE])
        size = pack[np.zeros(1, np.int64)].shape[1]
        self.patterns = torch.zeros(0, size, size)
        count = min(_COMPONENTS, len(rows) // _EACH)
        if count:
            detail = self._detail(rows)
            values, seen = detail.values[:, 0], detail.seen[:, 0]
            mean = values.sum(0) / seen.sum(0).clamp_min(0.1 * len(rows))
            apart = ((values - mean) * seen).flatten(1)
            weights = torch.linalg.eigh((apart @ apart.T).double())[1][:, -count:].float()
            components = torch.nn.functional.normalize(weights.T @ apart, dim=1)
            self.patterns = torch.cat([mean[None], components.view(count, size, size)])

    def correlation(self, pairs: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """(P,) in [-1, 1]: partial correlation of the images of pairs (P, 2) under maps (P, 2, 3) as `registration.align` gives them."""
        found = [self._partial(pairs[at : at + _BATCH], maps[at : at + _BATCH]) for at in range(0, len(pairs), _BATCH)]
        return np.concatenate(found) if found else np.zeros(0)

    def _detail(self, rows: np.ndarray) -> Detail:
        import torch

        parts = []
        for start in range(0, len(rows), _BATCH):
            grey = grey_of(self.pack[rows[start : start + _BATCH]])
            parts.append(detail_of(grey, picture_of(grey), FINE))
        return Detail(torch.cat([part.values for part in parts]), torch.cat([part.seen for part in parts]))

    def _partial(self, pairs: np.ndarray, maps: np.ndarray) -> np.ndarray:
        import torch
        from torch.nn import functional

        each, index = np.unique(pairs, return_inverse=True)
        detail = self._detail(each)
        first, second = (detail.at(torch.from_numpy(rows)) for rows in index.reshape(-1, 2).T)
        net = functional.affine_grid(torch.from_numpy(maps).float(), list(first.values.shape), align_corners=False)
        here = self.patterns.expand(len(pairs), -1, -1, -1)
        there = functional.grid_sample(torch.cat([second.values, second.seen, here], 1), net, align_corners=False)
        mask = ((there[:, 1:2] > 0.5) * first.seen).flatten(2)
        both = torch.cat([first.values, there[:, :1]], 1).flatten(2) * mask
        known = torch.cat([torch.ones_like(first.values), here, there[:, 2:]], 1).flatten(2) * mask
        return _partial_correlation(both, known)


def _partial_correlation(both: torch.Tensor, known: torch.Tensor) -> np.ndarray:
    """(P,) of both (P, 2, n) beyond what is known (P, k, n)."""
    import torch

    gram = known @ known.mT
    ridge = _RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
    weights = torch.linalg.solve(gram + ridge[:, None, None] * torch.eye(gram.shape[1]), known @ both.mT)
    left = both - weights.mT @ known
    power = (left**2).sum(2)
    found: np.ndarray = ((left[:, 0] * left[:, 1]).sum(1) / power.prod(1).sqrt().clamp_min(1e-9)).numpy()
    return found
