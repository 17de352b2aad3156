"""The detail of an image, which two pictures of one thing share.

A band of spatial frequencies in units of its local contrast.

A dark frame that touches the image's border, as dermatoscopes, endoscopes and fundus cameras leave
it, is no part of the picture.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

#: Bands in px: finest and coarsest standard deviation. The finer one is the fine one in
#: `closer_look.SIZE` px.
WIDE, FINE, FINER = (1.0, 6.0), (0.7, 3.0), (1.0, 4.3)
_FLOOR = 0.01  # of the grey range: contrast below it is noise of the camera or the compression
# median amplitudes of the image: a line of text or a marker has more, and must not hide what lies
# around it
_CLIP = 4.5
_BLACK, _DARK, _RIM = (
    0.06,
    0.35,
    6,
)  # a frame's grey level, also as a share of the picture's median, and how many px of its soft edge belong to it
_MOST = 0.85  # of the image, for a frame


class Detail(NamedTuple):
    """Hold the fine structure of P images, by which copies are told from look-alikes.

    values: (P, 1, s, s) float32, a band of the image over its local contrast, 0 in the frame. seen:
    of the same shape, 1.0 where there is a picture, 0.0 in the frame.
    """

    values: torch.Tensor
    seen: torch.Tensor

    def at(self, rows: torch.Tensor) -> Detail:
        """Return the details of the images at `rows`, (n,) int64."""
        return Detail(self.values[rows], self.seen[rows])


def grey_of(pixels: np.ndarray) -> torch.Tensor:
    """Return (P, 1, S, S) float32 in [0, 1] of (P, S, S, 3) uint8."""
    import torch

    return torch.from_numpy(np.array(pixels)).float().mean(-1)[:, None] / 255


def picture_of(grey: torch.Tensor) -> torch.Tensor:
    """Return where an image shows something: (P, 1, S, S) float32.

    0 in a dark frame that touches the border, and at its soft edge; 1 elsewhere.
    """
    import torch
    from scipy import ndimage

    found = np.ones(grey.shape, np.float32)
    for out, x in zip(found[:, 0], grey[:, 0].numpy(), strict=True):
        light = x[x > _BLACK]
        dark = x < max(_BLACK, _DARK * float(np.median(light)) if len(light) else 0.0)
        border = np.zeros_like(dark)
        border[[0, -1]] = dark[[0, -1]]
        border[:, [0, -1]] = dark[:, [0, -1]]
        if border.any():
            pieces, count = ndimage.label(dark)
            touches = np.zeros(count + 1, bool)
            touches[pieces[border]] = True
            frame = ndimage.binary_dilation(touches[pieces], iterations=_RIM)
            if frame.mean() < _MOST:
                out[frame] = 0
    return torch.from_numpy(found)


def detail_of(grey: torch.Tensor, seen: torch.Tensor, band: tuple[float, float]) -> Detail:
    """Return the local contrast of grey images (n, 1, s, s) between two scales of blur.

    seen: (n, 1, s, s), 1 where there is a picture. band: the two scales, in pixels.
    """
    fine, coarse = band
    x = _clipped(blur(grey, fine) - blur(grey, coarse))
    contrast = blur(x * x, 2 * coarse).sqrt()
    return Detail(x / (contrast + _FLOOR) * seen, seen)


def _clipped(x: torch.Tensor) -> torch.Tensor:
    """Within a few of the image's median amplitudes, which leaves out NaN; that becomes 0."""
    most = _CLIP * (
        x.abs().flatten(2).nanmedian(2).values[..., None, None].nan_to_num() + _FLOOR / 2
    )
    return x.nan_to_num().clamp(-most, most)


def resized(x: torch.Tensor, size: int) -> torch.Tensor:
    """Resize (n, c, s, s) to (n, c, size, size), antialiased."""
    from torch.nn import functional

    return (
        x
        if x.shape[-1] == size
        else functional.interpolate(
            x, size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
    )


def blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur (..., s, s) by a Gaussian of `sigma` pixels."""
    kernel = _smoothing(x.shape[-1], sigma)
    return kernel @ x @ kernel.T


@cache
def _smoothing(size: int, sigma: float) -> torch.Tensor:
    """(size, size): a Gaussian about each place, mirrored at both ends."""
    import torch
    from torch.nn import functional

    radius = min(max(1, int(3 * sigma + 0.5)), size - 1)
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    padded = functional.pad(torch.eye(size)[None], (radius, radius), mode="reflect")
    return functional.conv1d(padded.view(size, 1, -1), (kernel / kernel.sum()).view(1, 1, -1))[
        :, 0
    ].T.contiguous()
