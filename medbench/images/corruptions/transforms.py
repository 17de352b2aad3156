"""What each kind of damage does to a batch of pixels.

Values are float64 in [0, 1]; chance is drawn from the images' ids.

A function takes (values (B, S, S, 3), strength, seeds (B,) uint64, channels: 1 where all three are
to get the same) and returns values, which may leave [0, 1]. No image depends on another of its
batch.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medbench.images.corruptions.catalogue import Corruption

Floats = NDArray[np.floating[Any]]
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in Pillow
#: Optical density of haematoxylin, eosin and DAB in R, G, B (Ruifrok & Johnston 2001).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# float64 values at a time: 2 MB stay in the cache, which halves the time; images of 64 pixels go 21
# together
BLOCK = 2**18


def corrupt(pixels: np.ndarray, ids: np.ndarray, corruption: Corruption, level: int) -> np.ndarray:
    """Damage a batch of images: (B, S, S, 3) uint8 -> the same shape and type.

    ids: (B,) str, which are the only source of chance. level: 1 to 5.
    """
    strength, channels = corruption.strengths[level - 1], 1 if corruption.grey else 3
    out = np.empty_like(pixels)
    together = max(1, BLOCK // pixels[0].size) if len(pixels) else 1
    for start in range(0, len(pixels), together):
        rows = slice(start, start + together)
        values = pixels[rows].astype(np.float64) / 255
        damaged = KINDS[corruption.how](
            values, strength, _seeds(ids[rows], corruption.how), channels
        )
        out[rows] = np.rint(255 * np.clip(damaged, 0, 1)).astype(np.uint8)
    return out


def gaussian_noise(values: Floats, deviation: float, seeds: np.ndarray, channels: int) -> Floats:
    """Add normal noise of that standard deviation.

    values: (n, s, s, 3) float in [0, 1]; seeds: (n,) uint64, of the images' ids; channels: 1, the
    same for all three, or 3.
    """
    return values + deviation * _normal(seeds, values.shape[1], channels)


def speckle_noise(values: Floats, deviation: float, seeds: np.ndarray, channels: int) -> Floats:
    """Add noise in proportion to the value.

    values: (n, s, s, 3) float in [0, 1]; seeds: (n,) uint64, of the images' ids; channels: 1, the
    same for all three, or 3.
    """
    noisy: Floats = values * (1 + deviation * _normal(seeds, values.shape[1], channels))
    return noisy


def shot_noise(values: Floats, photons: float, seeds: np.ndarray, channels: int) -> Floats:
    """Add the noise of so many photons at full brightness; Poisson is taken for normal.

    values: (n, s, s, 3) float in [0, 1]; seeds: (n,) uint64, of the images' ids; channels: 1, the
    same for all three, or 3.
    """
    noisy: Floats = values + np.sqrt(values / photons) * _normal(seeds, values.shape[1], channels)
    return noisy


def impulse_noise(values: Floats, share: float, seeds: np.ndarray, channels: int) -> Floats:
    """Make a share of the values black or white, one half each.

    values: (n, s, s, 3) float in [0, 1]; seeds: (n,) uint64, of the images' ids; channels: 1, the
    same for all three, or 3. Returns the same shape.
    """
    drawn = _uniform(seeds, values.shape[1], channels)
    return np.where(drawn < share / 2, 0.0, np.where(drawn > 1 - share / 2, 1.0, values))


def disc_blur(values: Floats, radius: float, seeds: np.ndarray, channels: int) -> Floats:
    """Blur as a lens out of focus does: take the mean over a disc.

    radius: as a share of the side. Airy's transform of a disc.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used.
    """
    from scipy.special import j1

    def transfer(fy: Floats, fx: Floats, side: int) -> Floats:
        z = 2 * np.pi * radius * side * np.hypot(fy, fx)
        return np.where(z < 1e-9, 1.0, 2 * j1(z) / np.maximum(z, 1e-9))[None]

    return _filtered(values, transfer, radius)


def gaussian_blur(values: Floats, sigma: float, seeds: np.ndarray, channels: int) -> Floats:
    """Blur by a Gaussian whose standard deviation is `sigma`, a share of the side.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used. Returns the same shape.
    """
    return _filtered(
        values,
        lambda fy, fx, side: np.exp(-2 * (np.pi * sigma * side) ** 2 * (fy**2 + fx**2))[None],
        4 * sigma,
    )


def motion_blur(values: Floats, length: float, seeds: np.ndarray, channels: int) -> Floats:
    """Average along a line of that share of the side.

    Each image has a direction of its own, up to 45 degrees off the horizontal.

    values: (n, s, s, 3) float in [0, 1]; seeds: (n,) uint64, of the images' ids.
    """
    angle = (_uniform(seeds, 1, 1).ravel() - 0.5) * np.pi / 2

    def transfer(fy: Floats, fx: Floats, side: int) -> Floats:
        along = np.cos(angle)[:, None, None] * fx + np.sin(angle)[:, None, None] * fy
        return np.sinc(length * side * along)

    return _filtered(values, transfer, length / 2)


def pixelate(values: Floats, share: float, seeds: np.ndarray, channels: int) -> Floats:
    """Replace pixels by squares of one colour: that share of the pixels a side.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used.
    """
    side = values.shape[1]
    few = max(2, round(share * side))
    edges = np.arange(few + 1) * side / few
    overlap = np.minimum(edges[1:, None], np.arange(1, side + 1)) - np.maximum(
        edges[:-1, None], np.arange(side)
    )
    down = np.clip(overlap, 0, None) * few / side
    up = down[np.minimum((np.arange(side) + 0.5) * few // side, few - 1).astype(int)]
    squares: Floats = np.einsum("ab,nbcd,ec->naed", up, values, up, optimize=True)
    return squares


def jpeg(values: Floats, quality: float, seeds: np.ndarray, channels: int) -> Floats:
    """Write and read each image as JPEG by Pillow, with its own subsampling of colours.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used.
    """
    from PIL import Image

    out = np.empty_like(values)
    for i, image in enumerate(np.rint(255 * values).astype(np.uint8)):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=round(quality))
        out[i] = np.asarray(Image.open(stream)) / 255
    return out


def scale(values: Floats, factor: float, seeds: np.ndarray, channels: int) -> Floats:
    """Multiply the values by a factor; what leaves [0, 1] is cut by `corrupt`.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used.
    """
    return values * factor


def contrast(values: Floats, factor: float, seeds: np.ndarray, channels: int) -> Floats:
    """Change the contrast around the image's mean grey.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used.
    """
    mean = (values @ GREY).mean((1, 2))[:, None, None, None]
    spread: Floats = mean + factor * (values - mean)
    return spread


def gamma(values: Floats, power: float, seeds: np.ndarray, channels: int) -> Floats:
    """Raise the values to a power.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used.
    """
    brighter: Floats = values**power
    return brighter


def saturation(values: Floats, factor: float, seeds: np.ndarray, channels: int) -> Floats:
    """Move each pixel away from its own grey.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used.
    """
    grey = (values @ GREY)[..., None]
    coloured: Floats = grey + factor * (values - grey)
    return coloured


def stain(values: Floats, share: float, seeds: np.ndarray, channels: int) -> Floats:
    """Add that share of the one stain, and take it from the other.

    Which of haematoxylin and eosin, by the image's id.

    values: (n, s, s, 3) float in [0, 1]; seeds: (n,) uint64, of the images' ids.
    """
    unmix = np.linalg.inv(STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True))
    mix = np.linalg.inv(unmix)
    amounts = -np.log(np.maximum(values, 1 / 512)) @ unmix
    sign = np.where(_uniform(seeds, 1, 1).ravel() < 0.5, -1.0, 1.0)
    factors = np.stack([1 + share * sign, 1 - share * sign, np.ones(len(sign))], axis=1)
    return np.exp(-(amounts * factors[:, None, None, :]) @ mix)


def vignette(values: Floats, radius: float, seeds: np.ndarray, channels: int) -> Floats:
    """Darken the images outside a circle around the middle.

    radius: as a share of half the diagonal; the edge is soft over a twentieth of that.

    values: (n, s, s, 3) float in [0, 1]; seeds: not used.
    """
    at = (np.arange(values.shape[1]) + 0.5) / values.shape[1] * 2 - 1
    distance = np.hypot(at[:, None], at) / np.sqrt(2)
    dark: Floats = values * np.clip((radius - distance) / 0.05 + 0.5, 0, 1)[None, :, :, None]
    return dark


KINDS: dict[str, Callable[[Floats, float, np.ndarray, int], Floats]] = {
    function.__name__: function
    for function in (
        *(
            gaussian_noise,
            speckle_noise,
            shot_noise,
            impulse_noise,
            disc_blur,
            gaussian_blur,
            motion_blur,
        ),
        *(pixelate, jpeg, scale, contrast, gamma, saturation, stain, vignette),
    )
}


def _filtered(
    values: Floats, transfer: Callable[[Floats, Floats, int], Floats], reach: float
) -> Floats:
    """Values times `transfer` of frequencies (cycles a pixel; (H, 1), (1, W)) in Fourier's space.

    What lies outside the image is its mirror.

    reach: how far a pixel is carried, as a share of the side. The transforms are of each image
    alone, and exact for widths of less than a pixel.
    """
    from scipy import fft

    side = values.shape[1]
    margin = min(side, int(np.ceil(reach * side)) + 2)
    padded = np.pad(values, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    shape = (fft.next_fast_len(padded.shape[1], real=True),) * 2
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    more = shape[0] - padded.shape[1]
    padded = np.pad(padded, ((0, 0), (0, more), (0, more), (0, 0)), mode="edge")
    spectrum = fft.rfft2(padded, axes=(1, 2)) * transfer(fy, fx, side)[..., None]
    blurred: Floats = fft.irfft2(spectrum, shape, axes=(1, 2))
    return blurred[:, margin : margin + side, margin : margin + side]


def _seeds(ids: np.ndarray, how: str) -> np.ndarray:
    return np.array([_seed(how, name) for name in ids.tolist()], np.uint64)


@lru_cache(maxsize=1 << 16)
def _seed(how: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{how}:{name}".encode()).digest()[:8], "little")


def _uniform(seeds: np.ndarray, side: int, channels: int) -> Floats:
    """Return (B, side, side, channels) uniform numbers in (0, 1), from each seed.

    They come from SplitMix64 (Steele, Lea & Flood 2014), so that no image's numbers hang on
    another's.
    """
    n = side * side * channels
    z = seeds[:, None] + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    drawn: Floats = ((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return drawn.reshape(len(seeds), side, side, channels)


def _normal(seeds: np.ndarray, side: int, channels: int) -> Floats:
    from scipy.special import ndtri

    drawn: Floats = ndtri(_uniform(seeds, side, channels))
    return drawn
