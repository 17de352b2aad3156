"""Are two images the same picture? One is laid over the other as well as an affine map can, and the detail they share is measured.

Coarse: the detail of one image, mirrored, turned and scaled down in steps, is looked for in the other at every shift, by FFT; both ways round,
for either may be the crop. Fine: from the best starts, an affine map is fitted by Gauss-Newton on the correlation (Evangelidis & Psarakis
2008, doi:10.1109/TPAMI.2008.113). Only a band of spatial frequencies counts, in units of its local contrast: two lesions of one shape and
colour share the low frequencies and the step at the border, but not the hairs, the network and the skin around. A dark frame that touches the
image's border, as dermatoscopes and endoscopes leave it, is no part of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

_BATCH = 16  # pairs at a time
_SCALES = (1.0, 0.85, 0.72, 0.61)  # of one image in the other
_COARSE, _MIDDLE = 40, 64  # px of the search, and of the first fit
_STARTS = 2  # best places of the search that are fitted
_STEPS = 8  # Gauss-Newton steps of each fit
_WIDE, _FINE = (1.0, 6.0), (0.7, 3.0)  # bands in px: finest and coarsest standard deviation. The fine one is what is judged
_FLOOR = 0.01  # of the grey range: contrast below it is noise of the camera or the compression
_DARK, _RIM = 0.2, 6  # a frame's grey level, and how many px of its soft edge belong to it
_OVERLAP = 0.3  # of an image's area: below it, a good correlation says little
#: A map that stretches or zooms more is no copy's (4:3 turned by a quarter: 1.78): with it, much can be made to agree.
_STRETCH, _ZOOM = 2.0, 2.2


class Detail(NamedTuple):
    """values (P, 1, s, s): a band of the image over its local contrast, 0 in the frame. seen: 1.0 where there is a picture, 0.0 in the frame."""

    values: torch.Tensor
    seen: torch.Tensor

    def repeat(self, k: int) -> Detail:
        return Detail(self.values.repeat_interleave(k, 0), self.seen.repeat_interleave(k, 0))


def align(
    a: np.ndarray,
    b: np.ndarray,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How well each image of `b` can be laid over its partner in `a`: (correlation, overlap, map).

    a, b: (P, S, S, 3) uint8. correlation: (P,) in [-1, 1], of the detail of both where they overlap; 0 where no plausible map was found.
    overlap: (P,) in [0, 1], of a's area. map: (P, 2, 3) from a's to b's coordinates, both in [-1, 1], as torch's affine_grid takes it.
    """
    import torch

    n = len(a)
    correlation, overlap, maps = np.zeros(n), np.zeros(n), np.zeros((n, 2, 3))
    with torch.inference_mode():
        for start in range(0, n, _BATCH):
            rows = slice(start, start + _BATCH)
            correlation[rows], overlap[rows], maps[rows] = _align(a[rows], b[rows])
            progress(min(start + _BATCH, n), n)
    return correlation, overlap, maps


def _align(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import torch

    grey = [_grey(pixels) for pixels in (a, b)]
    seen = [_picture(x) for x in grey]

    def detail(size: int, band: tuple[float, float]) -> list[Detail]:
        return [_detail(_resize(x, size), (_resize(s, size) > 0.5).float(), band) for x, s in zip(grey, seen, strict=True)]

    size = a.shape[1]
    first, second = detail(min(_COARSE, size), (0.8, 4.0))
    forth, back = _starts(first.values, second.values), _starts(second.values, first.values)
    score = torch.cat([forth[0], back[0]], 1)
    best = score.topk(min(_STARTS, score.shape[1]), 1).indices
    start = torch.cat([forth[1], _inverse(back[1])], 1).gather(1, best[..., None, None].expand(-1, -1, 2, 3))
    p, k = start.shape[:2]
    first, second = (x.repeat(k) for x in detail(min(_MIDDLE, size), _WIDE))
    maps, reached = _refine(first, second, start.reshape(p * k, 2, 3))
    maps = maps.view(p, k, 2, 3)[torch.arange(p), reached.view(p, k).argmax(1)]
    first, second = detail(size, _FINE)
    maps, _ = _refine(first, second, maps)
    correlation, overlap = _agreement(first, second, maps)
    return correlation.numpy(), overlap.numpy(), maps.numpy()


def _starts(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every turn, mirror and scale of b within a, the best shift: correlations (P, T) and maps (P, T, 2, 3). a, b: (P, 1, s, s)."""
    import torch
    from torch.nn import functional

    p, _, _, s = a.shape
    shape = (2 * s, 2 * s)  # padded, so that a shift does not wrap around
    spectrum, power, inside = (torch.fft.rfft2(x, s=shape) for x in (a[:, 0], a[:, 0] ** 2, torch.ones(s, s)))
    scores, maps = [], []
    for matrix in _matrices():
        where = torch.cat([matrix, torch.zeros(2, 1)], 1)
        net = functional.affine_grid(where[None], [1, 1, s, s], align_corners=False)
        mask = (net.abs().amax(-1) <= 1).float()[0]
        template = functional.grid_sample(b, net.expand(p, -1, -1, -1), align_corners=False)[:, 0] * mask
        f_template, f_mask, f_energy = (torch.fft.rfft2(x, s=shape).conj() for x in (template, mask, template**2))
        product = torch.fft.irfft2(spectrum * f_template, s=shape)
        energy = torch.fft.irfft2(power * f_mask, s=shape) * torch.fft.irfft2(inside * f_energy, s=shape)
        share = torch.fft.irfft2(inside * f_mask, s=shape) / mask.sum()
        # a small overlap agrees by chance more easily
        ncc = torch.where(share > 0.5, product / energy.clamp_min(1e-6).sqrt() * share.clamp(0, 1).sqrt(), torch.zeros(()))
        value, at = ncc.flatten(1).max(1)
        shift = torch.stack([at % shape[1], at // shape[1]], 1).float()
        shift = torch.where(shift >= s, shift - 2 * s, shift) * (2 / s)
        maps.append(torch.cat([matrix.expand(p, 2, 2), -(matrix @ shift[..., None])], 2))
        scores.append(value)
    return torch.stack(scores, 1), torch.stack(maps, 1)


def _matrices() -> list[torch.Tensor]:
    """(2, 2) each: from the coordinates of a to those of b, which lies scaled down in it."""
    import torch

    found = []
    for turn in range(0, 360, 90):
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        for flip in (1.0, -1.0):
            matrix = torch.tensor([[flip * cos, flip * -sin], [sin, cos]])
            found += [matrix / scale for scale in _SCALES]
    return found


def _refine(a: Detail, b: Detail, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """maps (P, 2, 3) after Gauss-Newton steps that raise the correlation of a with b under them, and the correlations (P,): the best seen."""
    import torch
    from torch.nn import functional

    p, _, _, s = a.values.shape
    axis = (torch.arange(s) + 0.5) * (2 / s) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    place = torch.stack([x, y, torch.ones_like(x)], -1).view(-1, 3)
    padded = functional.pad(b.values, (1, 1, 1, 1), mode="replicate")
    slope_x = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) * (s / 4)  # per unit of b's coordinates
    slope_y = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) * (s / 4)
    stack = torch.cat([b.values, b.seen, slope_x, slope_y], 1)
    best, best_maps = torch.full((p,), -1.0), maps
    for step in range(_STEPS + 1):
        net = functional.affine_grid(maps, [p, 1, s, s], align_corners=False)
        there = functional.grid_sample(stack, net, align_corners=False)
        left, right, mask, share = _centred(a, there[:, :1], there[:, 1:2], net)
        score = (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1)).clamp_min(1e-9)
        score = torch.where(share > _OVERLAP, score, torch.full((), -1.0))
        better = score > best
        best, best_maps = torch.where(better, score, best), torch.where(better[:, None, None], maps, best_maps)
        if step == _STEPS:
            break
        slopes = there[:, 2:].flatten(2)
        jacobian = torch.cat([slopes[:, 0, :, None] * place, slopes[:, 1, :, None] * place], 2) * mask[..., None]  # (P, s*s, 6)
        gain = (left * right).sum(1, keepdim=True) / (right**2).sum(1, keepdim=True).clamp_min(1e-9)
        residual = left / gain.clamp_min(0.1) - right
        hessian = jacobian.transpose(1, 2) @ jacobian
        damping = 1e-3 * hessian.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
        move = torch.linalg.solve(hessian + damping[:, None, None] * torch.eye(6), jacobian.transpose(1, 2) @ residual[..., None])
        maps = maps + move.view(p, 2, 3).clamp(-0.1, 0.1)
    return best_maps, best


def _agreement(a: Detail, b: Detail, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlation (P,), 0 for an implausible map, and overlap (P,) of a with b under maps (P, 2, 3)."""
    import torch
    from torch.nn import functional

    net = functional.affine_grid(maps, list(a.values.shape), align_corners=False)
    there = functional.grid_sample(torch.cat([b.values, b.seen], 1), net, align_corners=False)
    left, right, _, share = _centred(a, there[:, :1], there[:, 1:], net)
    correlation = (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1)).clamp_min(1e-9)
    wide, narrow = torch.linalg.svdvals(maps[:, :, :2]).T
    plausible = (share > _OVERLAP) & (wide < _STRETCH * narrow) & (wide < _ZOOM) & (narrow > 1 / _ZOOM)
    return torch.where(plausible, correlation, torch.zeros(())), share


def _centred(
    a: Detail, there: torch.Tensor, seen: torch.Tensor, net: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both images (P, s*s) about their means where both show something, 0 elsewhere; where that is, and its share (P,) of a."""
    mask = ((net.abs().amax(-1) <= 1) & (seen[:, 0] > 0.5)).float().flatten(1) * a.seen.flatten(1)
    count = mask.sum(1, keepdim=True).clamp_min(1)
    left, right = a.values.flatten(1), there.flatten(1)
    left = (left - (left * mask).sum(1, keepdim=True) / count) * mask
    right = (right - (right * mask).sum(1, keepdim=True) / count) * mask
    return left, right, mask, mask.mean(1)


def _inverse(maps: torch.Tensor) -> torch.Tensor:
    """(..., 2, 3): b to a instead of a to b."""
    import torch

    inverse = torch.linalg.inv(maps[..., :2])
    return torch.cat([inverse, -(inverse @ maps[..., 2:])], -1)


def _grey(pixels: np.ndarray) -> torch.Tensor:
    """(P, 1, S, S) float32 in [0, 1] of (P, S, S, 3) uint8."""
    import torch

    return torch.from_numpy(np.array(pixels)).float().mean(-1)[:, None] / 255


def _picture(grey: torch.Tensor) -> torch.Tensor:
    """(P, 1, S, S) float32: 0 in a dark frame that touches the border, and at its soft edge; 1 elsewhere."""
    import torch
    from scipy import ndimage

    found = np.ones(grey.shape, np.float32)
    for out, x in zip(found[:, 0], grey[:, 0].numpy(), strict=True):
        dark = x < _DARK
        border = np.zeros_like(dark)
        border[[0, -1]] = dark[[0, -1]]
        border[:, [0, -1]] = dark[:, [0, -1]]
        if border.any():
            frame = ndimage.binary_dilation(ndimage.binary_propagation(border, mask=dark), iterations=_RIM)
            if frame.mean() < 0.5:  # else it is the picture that is dark
                out[frame] = 0
    return torch.from_numpy(found)


def _detail(grey: torch.Tensor, seen: torch.Tensor, band: tuple[float, float]) -> Detail:
    fine, coarse = band
    x = _blur(grey, fine) - _blur(grey, coarse)
    contrast = _blur(x * x, 2 * coarse).sqrt()
    return Detail(x / (contrast + _FLOOR) * seen, seen)


def _resize(x: torch.Tensor, size: int) -> torch.Tensor:
    from torch.nn import functional

    return x if x.shape[-1] == size else functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def _blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    import torch
    from torch.nn import functional

    radius = min(max(1, int(3 * sigma + 0.5)), x.shape[-1] - 1)
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(x, (radius, radius, radius, radius), mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
