"""Whether two images are the same picture.

One is laid over the other as well as an affine map can, and the detail they share is measured.
Coarse: the detail of one image, mirrored, turned and scaled down in steps, is looked for in the
other at every shift, by FFT; both ways round, for either may be the crop. Fine: from the best
starts, an affine map is fitted by Gauss-Newton on the correlation (Evangelidis & Psarakis 2008,
doi:10.1109/TPAMI.2008.113). Only a band of spatial frequencies counts (`detail`): two lesions of
one shape and colour share the low frequencies and the step at the border, but not the hairs, the
network and the skin around.

What concerns one image alone (its bands, spectra, energies) is made once for all pairs of a batch.
A pair is left as soon as it falls behind what copies have reached by then: most candidates are
none, and half the time would go into fitting them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medbench.audit.dataset.detail import (
    FINE,
    FINER,
    WIDE,
    Detail,
    detail_of,
    grey_of,
    picture_of,
    resized,
)
from medbench.system.progress_listener import report_progress

if TYPE_CHECKING:
    import torch

    from medbench.audit.dataset.pack_rows import Rows

_BATCH = 16  # pairs at a time
_SCALES = (1.0, 0.85, 0.72, 0.61)  # of one image in the other
_COARSE, _MIDDLE = 40, 64  # px of the search, and of the first fit
_STARTS = 2  # best places of the search that are fitted
_WIDE_STEPS, _FINE_STEPS, _FINER_STEPS = 4, 8, 5  # of Gauss-Newton, at most
_STILL = 0.05  # px: a fit that moves less has arrived
_OVERLAP = 0.3  # of the first image's picture: below it, a good correlation says little
#: A map that stretches or zooms more is no copy's (4:3 turned by a quarter: 1.78): with it, much
#: can be made to agree.
_STRETCH, _ZOOM = 2.0, 2.2
#: Step of a fit -> correlation below which a pair is left. Copies end far above it, those alone
#: excepted on which a quarter and more is written over.
_WIDE_LEFT: Mapping[int, float] = {2: 0.45}
_UNMOVED_LEFT = 0.25  # and below it where nothing moved
_FINE_LEFT: Mapping[int, float] = {0: 0.15, 1: 0.2, 3: 0.25, 5: 0.3}


class Search(NamedTuple):
    """An image of s px as it is looked for in others, and others in it.

    Shifts go up to m // 2 px. T scales. turned: (P, 8, 1, f, f // 2 + 1) complex64, the spectra of
    its eight ways, each f - s px away from the corner that a shift starts in. scaled: (P, 1, T, f,
    f // 2 + 1) complex64, conjugate spectra of the image scaled down. room, fit: 1 over the
    energy's root at every shift: (P, 8, T, m, m) of the turned image where a scaled one lies; (P,
    1, T, m, m) of the scaled one where it lies inside, 0 where that is less than half of it.
    """

    turned: torch.Tensor
    scaled: torch.Tensor
    room: torch.Tensor
    fit: torch.Tensor

    def at(self, rows: torch.Tensor) -> Search:
        """Return the search of the pairs at `rows`, (n,) int64."""
        return Search(*(part[rows] for part in self))


def align(
    pack: np.ndarray | Rows,
    pairs: np.ndarray,
    *,
    all_the_way: bool = False,
    stage: str = "",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay the second image of each pair over the first: (correlation, overlap, map).

    pack: (N, S, S, 3) uint8. pairs: (P, 2) int, rows of it. correlation: (P,) in [-1, 1], of the
    detail of both where they overlap; 0 where no plausible map was found, and less than it could be
    for a pair that was left on the way, unless `all_the_way`. overlap: (P,) in [0, 1], of the first
    one's picture. map: (P, 2, 3) from the first one's to the second one's coordinates, both in [-1,
    1], as torch's affine_grid takes it. stage: as which it reports its progress; "": it does not.
    """
    import torch

    n = len(pairs)
    correlation, overlap, maps = np.zeros(n), np.zeros(n), np.zeros((n, 2, 3))
    with torch.inference_mode():
        for start in range(0, n, _BATCH):
            rows = slice(start, start + _BATCH)
            each, index = np.unique(pairs[rows], return_inverse=True)
            correlation[rows], overlap[rows], maps[rows] = _align(
                pack[each], torch.from_numpy(index.reshape(-1, 2)), all_the_way
            )
            if stage:
                report_progress(stage, min(start + _BATCH, n), n, "pairs")
    return correlation, overlap, maps


def refined(pack: np.ndarray | Rows, pairs: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Fit maps (P, 2, 3) of `align` anew to the same images in a finer pack.

    Those that stretch too far stay as they were.
    """
    import torch

    found = maps.copy()
    with torch.inference_mode():
        for start in range(0, len(pairs), _BATCH):
            rows = slice(start, start + _BATCH)
            each, index = np.unique(pairs[rows], return_inverse=True)
            grey, (a, b) = grey_of(pack[each]), torch.from_numpy(index.reshape(-1, 2)).T
            fine = detail_of(grey, picture_of(grey), FINER)
            new, _ = _refine(
                fine.at(a), fine.at(b), torch.from_numpy(maps[rows]).float(), _FINER_STEPS, {}
            )
            fits = _plausible(new).numpy()
            found[rows][fits] = new.numpy()[fits]
    return found


def _align(
    pixels: np.ndarray, pairs: torch.Tensor, all_the_way: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import torch

    grey = grey_of(pixels)
    seen = picture_of(grey)

    def detail(size: int, band: tuple[float, float]) -> Detail:
        return detail_of(resized(grey, size), (resized(seen, size) > 0.5).float(), band)

    a, b = pairs.T
    size = pixels.shape[1]
    search = _search(detail(min(_COARSE, size), (0.8, 4.0)).values[:, 0])
    forth, back = _starts(search.at(a), search.at(b)), _starts(search.at(b), search.at(a))
    # unscaled, back is forth once more
    new = [i for i in range(back[0].shape[1]) if i % len(_SCALES)]
    score = torch.cat([forth[0], back[0][:, new]], 1)
    best = score.topk(_STARTS, 1).indices
    start = torch.cat([forth[1], _inverse(back[1][:, new])], 1).gather(
        1, best[..., None, None].expand(-1, -1, 2, 3)
    )
    p, k = start.shape[:2]
    wide = detail(min(_MIDDLE, size), WIDE)
    first, second = (wide.at(rows.repeat_interleave(k)) for rows in (a, b))
    maps, reached = _refine(
        first, second, start.reshape(p * k, 2, 3), _WIDE_STEPS, {} if all_the_way else _WIDE_LEFT
    )
    reached = torch.where(_plausible(maps), reached, torch.full((), -1.0)).view(p, k).amax(1)
    fine = detail(size, FINE)
    whole, unmoved = _unmoved(fine, pairs)
    starts = torch.cat([maps.view(p, k, 2, 3), unmoved[:, None]], 1)
    correlation, overlap, found = torch.zeros(p), torch.zeros(p), unmoved.clone()
    left = (reached < min(_WIDE_LEFT.values())) & (whole < _UNMOVED_LEFT)
    on = torch.nonzero(~left | all_the_way)[:, 0]
    if len(on):
        first, second = fine.at(a[on]), fine.at(b[on])
        # a likeness in the wide band misleads
        near = torch.stack([_agreement(first, second, starts[on, i])[0] for i in range(k + 1)], 1)
        found[on], _ = _refine(
            first,
            second,
            starts[on, near.argmax(1)],
            _FINE_STEPS,
            {} if all_the_way else _FINE_LEFT,
        )
        correlation[on], overlap[on] = _agreement(first, second, found[on])
    return correlation.numpy(), overlap.numpy(), found.numpy()


def _unmoved(fine: Detail, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which of the first image's eight ways is most like the second where it lies.

    Correlations (P,) and maps (P, 2, 3). Most copies are whole; a box of text over one of them
    misleads the search for another place.
    """
    import torch

    values = torch.nn.functional.normalize(fine.values[:, 0].flatten(1), dim=1).view_as(
        fine.values[:, 0]
    )
    value, at = (_ways(values[pairs[:, 0]]) * values[pairs[:, 1], None]).sum((2, 3)).max(1)
    return value, torch.cat([_matrices()[at], torch.zeros(len(pairs), 2, 1)], 2)


def _search(x: torch.Tensor) -> Search:
    """x: (P, s, s), the detail of P images."""
    import torch
    from torch.nn import functional

    s = x.shape[-1]
    # px: further away, a centred square lies less than half inside, whatever its size
    most = s // 2 - 1
    side = s + s // 2  # of the transforms: no shift that counts wraps around
    net = functional.affine_grid(torch.eye(2, 3)[None], [1, 1, s, s], align_corners=False)
    shift, place = torch.arange(-most, most + 1)[:, None], torch.arange(s)[None]
    # (m, s): which rows of a shifted image lie in the other
    inside = ((place + shift >= 0) & (place + shift < s)).float()
    turned = _ways(x)
    scaled, room, fit = [], [], []
    for scale in _SCALES:
        within = (net[0, 0, :, 0].abs() <= scale).float()
        image = functional.grid_sample(
            x[:, None], (net / scale).expand(len(x), -1, -1, -1), align_corners=False
        )[:, 0]
        image = image * within * within[:, None]
        covered = within[(place - shift).clamp(0, s - 1)] * (
            (place - shift >= 0) & (place - shift < s)
        )  # (m, s): rows of the other below it
        share = (inside @ within) / within.sum()
        share = share * share[:, None]
        scaled.append(image)
        room.append(_inverse_root(covered @ turned**2 @ covered.T))
        # a small overlap agrees easily
        fit.append(
            _inverse_root(inside @ image**2 @ inside.T) * torch.where(share > 0.5, share.sqrt(), 0)
        )
    away = (most, side - s - most)
    return Search(
        torch.fft.rfft2(functional.pad(turned, (*away, *away)))[:, :, None],
        torch.fft.rfft2(torch.stack(scaled, 1), s=(side, side)).conj().resolve_conj()[:, None],
        torch.stack(room, 2),
        torch.stack(fit, 1)[:, None],
    )


def _starts(a: Search, b: Search) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every turn, mirror and scale of b within a, the best shift.

    Correlations (P, 8 T) and maps (P, 8 T, 2, 3).
    """
    import torch

    m, side = a.room.shape[-1], a.turned.shape[-2]
    s, most = 2 * side // 3, m // 2
    product = torch.fft.ifft(a.turned * b.scaled, dim=-2)[..., :m, :]
    product = torch.fft.irfft(product, n=side, dim=-1)[..., :m]
    value, at = (product * a.room * b.fit).flatten(3).max(3)
    shift = torch.stack([at % m - most, at // m - most], -1) * (2 / s)
    scale = torch.tensor(_SCALES)[:, None]
    turn = (_matrices()[:, None] / scale[..., None]).expand(*shift.shape[:3], 2, 2)
    return value.flatten(1), torch.cat([turn, -(shift / scale)[..., None]], -1).flatten(1, 2)


def _ways(x: torch.Tensor) -> torch.Tensor:
    """(P, 8, s, s): images (P, s, s) turned and mirrored, in the order of `_matrices`."""
    import torch

    return torch.stack([way.flip(axes) for way in (x, x.mT) for axes in ([], [2], [1], [1, 2])], 1)


@cache
def _matrices() -> torch.Tensor:
    """(8, 2, 2): from the coordinates of an image to those of each of its ways."""
    import torch

    swaps = (torch.eye(2), torch.eye(2).flip(0))
    return torch.stack(
        [
            torch.diag(torch.tensor([x, y])) @ swap
            for swap in swaps
            for y in (1.0, -1.0)
            for x in (1.0, -1.0)
        ]
    )


def _inverse_root(energy: torch.Tensor) -> torch.Tensor:
    return energy.clamp_min(1e-3).rsqrt()


def _refine(
    a: Detail, b: Detail, maps: torch.Tensor, steps: int, left: Mapping[int, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Refine maps (P, 2, 3) by Gauss-Newton steps that raise the correlation of a with b.

    Returns the best maps seen and their correlations (P,). steps: at most so many. left: step ->
    correlation below which a pair goes no further.
    """
    import torch
    from torch.nn import functional

    p, _, _, s = a.values.shape
    axis = (torch.arange(s) + 0.5) * (2 / s) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    place = torch.stack([x, y, torch.ones_like(x)], -1).view(-1, 3)
    squares = (place[:, :, None] * place[:, None]).view(-1, 9)
    padded = functional.pad(b.values, (1, 1, 1, 1), mode="replicate")
    # per unit of b's coordinates
    slope_x = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) * (s / 4)
    slope_y = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) * (s / 4)
    stack = torch.cat([b.values, b.seen, slope_x, slope_y], 1)
    best, best_maps = torch.full((p,), -1.0), maps.clone()
    # the pairs that are still fitted: rows of best and best_maps, while a, stack and maps hold
    # these alone
    on = torch.arange(p)
    for step in range(steps + 1):
        there = functional.grid_sample(
            stack, (place @ maps.mT).view(-1, s, s, 2), align_corners=False
        )
        one, other, mask, share = _centred(a, there[:, :1], there[:, 1:2])
        product, power = (one * other).sum(1), (other**2).sum(1)
        score = product / (one.norm(dim=1) * power.sqrt()).clamp_min(1e-9)
        score = torch.where(share > _OVERLAP, score, torch.full((), -1.0))
        better = score > best[on]
        best[on[better]], best_maps[on[better]] = score[better], maps[better]
        if step == steps:
            break
        slopes = there[:, 2:].flatten(2) * mask[:, None]
        gain = product / power.clamp_min(1e-9)
        residual = one / gain.clamp_min(0.1)[:, None] - other
        pull = (slopes * residual[:, None]) @ place  # (P, 2, 3)
        bend = (
            torch.stack([slopes[:, 0] ** 2, slopes[:, 0] * slopes[:, 1], slopes[:, 1] ** 2], 1)
            @ squares
        )
        xx, xy, yy = bend.view(-1, 3, 3, 3).unbind(1)
        hessian = torch.cat([torch.cat([xx, xy], 2), torch.cat([xy, yy], 2)], 1)
        damping = 1e-3 * hessian.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
        move = (
            torch.linalg.solve(hessian + damping[:, None, None] * torch.eye(6), pull.view(-1, 6, 1))
            .view(-1, 2, 3)
            .clamp(-0.1, 0.1)
        )
        maps = maps + move
        goes_on = (move.abs().sum(2).amax(1) * (s / 2) > _STILL) & (
            best[on] >= left.get(step, -1.0)
        )
        if not goes_on.all():
            on, maps, stack, a = on[goes_on], maps[goes_on], stack[goes_on], a.at(goes_on)
            if not len(on):
                break
    return best_maps, best


def _agreement(a: Detail, b: Detail, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the correlation (P,) and the overlap (P,) of a with b under maps (P, 2, 3).

    The correlation is 0 for an implausible map.
    """
    import torch
    from torch.nn import functional

    net = functional.affine_grid(maps, list(a.values.shape), align_corners=False)
    there = functional.grid_sample(torch.cat([b.values, b.seen], 1), net, align_corners=False)
    left, right, _, share = _centred(a, there[:, :1], there[:, 1:])
    correlation = (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1)).clamp_min(1e-9)
    return torch.where((share > _OVERLAP) & _plausible(maps), correlation, torch.zeros(())), share


def _plausible(maps: torch.Tensor) -> torch.Tensor:
    import torch

    wide, narrow = torch.linalg.svdvals(maps[:, :, :2]).T
    fits: torch.Tensor = (wide < _STRETCH * narrow) & (wide < _ZOOM) & (narrow > 1 / _ZOOM)
    return fits


def _centred(
    a: Detail, there: torch.Tensor, seen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both images (P, s*s) about their means where both show something, 0 elsewhere.

    Where that is, and its share (P,) of a's picture.
    """
    # outside the other image, what is sampled is 0
    mask = (seen > 0.5).float().flatten(1) * a.seen.flatten(1)
    count = mask.sum(1, keepdim=True).clamp_min(1)
    left, right = a.values.flatten(1), there.flatten(1)
    left = (left - (left * mask).sum(1, keepdim=True) / count) * mask
    right = (right - (right * mask).sum(1, keepdim=True) / count) * mask
    return left, right, mask, mask.sum(1) / a.seen.flatten(1).sum(1).clamp_min(1)


def _inverse(maps: torch.Tensor) -> torch.Tensor:
    """(..., 2, 3): b to a instead of a to b."""
    import torch

    inverse = torch.linalg.inv(maps[..., :2])
    return torch.cat([inverse, -(inverse @ maps[..., 2:])], -1)
