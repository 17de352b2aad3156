"""Pictures that are taken alike, drawn: what `copies.py` tries the audit on.

n different ones each, as (name, picture).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

Named = list[tuple[str, Image.Image]]


def _image(grey: np.ndarray, tint: tuple[float, float, float] = (1, 1, 1)) -> Image.Image:
    return Image.fromarray(np.clip(grey[..., None] * np.array(tint), 0, 255).astype(np.uint8))


def fundus(n: int) -> Named:
    """Right eyes in one frame: a disc in black, vessels in four arcades about the same two places.

    420 x 280 px, the disc a third of it.
    """
    found = []
    for k in range(n):
        rng = np.random.default_rng([5, k])
        w, h, radius = 840, 560, 260
        centre = np.array([w / 2, h / 2]) + rng.normal(0, 4, 2)
        tone = np.array([190, 95, 40]) * rng.uniform(0.7, 1.1)
        y, x = np.mgrid[:h, :w]
        away = np.hypot(x - centre[0], y - centre[1]) / radius
        base = (
            tone
            * (1 - 0.45 * away[..., None] ** 2)
            * (
                1
                + 0.06
                * ndimage.zoom(rng.normal(0, 1, (7, 10)), (h / 7, w / 10), order=3)[..., None]
            )
        )
        image = Image.fromarray(
            np.clip(base + rng.normal(0, 2.5, base.shape), 0, 255).astype(np.uint8)
        )
        pen = ImageDraw.Draw(image)
        disc, size = (
            centre + np.array([0.47 * radius, 0]) + rng.normal(0, 5, 2),
            radius * rng.uniform(0.13, 0.16),
        )
        for share, colour in (
            (1.0, tuple(int(v) for v in np.clip(tone * 1.3 + [0, 40, 30], 0, 255))),
            (rng.uniform(0.3, 0.55), (250, 225, 170)),
        ):
            pen.ellipse([*(disc - share * size), *(disc + share * size)], fill=colour)
        dark = tuple(int(v) for v in tone * [0.55, 0.4, 0.5])
        for up in (-1, -1, 1, 1):
            t = np.linspace(0, 1, 60)
            high, wide = radius * rng.uniform(0.5, 0.68), radius * rng.uniform(1.0, 1.5)
            line = (
                disc
                + np.stack([-t * wide, up * high * np.sin(1.95 * t**0.7)], 1)
                + np.cumsum(rng.normal(0, 1.2, (60, 2)), 0)
            )
            pen.line([tuple(p) for p in line], fill=dark, width=5)
            for start in rng.integers(6, 55, 6):
                turn = rng.uniform(0, 2 * np.pi)
                way = np.array([np.cos(turn), np.sin(turn)]) * radius * rng.uniform(0.15, 0.4)
                branch = (
                    line[start]
                    + np.linspace(0, 1, 20)[:, None] * way
                    + np.cumsum(rng.normal(0, 1, (20, 2)), 0)
                )
                pen.line([tuple(p) for p in branch], fill=dark, width=2)
        pixels = np.array(image.filter(ImageFilter.GaussianBlur(1.3)))
        pixels[away > 1] = 0
        found.append(
            (f"eye{k}", Image.fromarray(pixels).resize((w // 2, h // 2), Image.Resampling.LANCZOS))
        )
    return found


def cells(n: int) -> Named:
    """A stained nucleus of one to four lobes in the middle of 80 x 80 px, pale cells about it,
    noise of the camera."""
    found = []
    for k in range(n):
        rng = np.random.default_rng([7, k])
        side = 240
        image = Image.new("RGB", (side, side), (235, 225, 222))
        pen = ImageDraw.Draw(image)

        def disc(
            place: np.ndarray,
            size: float,
            colour: tuple[int, int, int],
            pen: ImageDraw.ImageDraw = pen,
        ) -> None:
            pen.ellipse([*(place - size), *(place + size)], fill=colour)

        for place in rng.uniform(0, side, (rng.integers(4, 10), 2)):
            if np.hypot(*(place - side / 2)) > 0.33 * side:
                disc(place, side * rng.uniform(0.17, 0.21), (222, 180, 178))
                disc(place, side * 0.085, (229, 196, 194))
        middle, size = side / 2 + rng.normal(0, 2.4, 2), side * rng.uniform(0.26, 0.32)
        disc(middle, size, (205, 190, 215))
        lobes = int(rng.integers(1, 5))
        for lobe in range(lobes):
            turn = 2 * np.pi * lobe / lobes + rng.uniform(-0.4, 0.4)
            place = middle + 0.45 * size * (lobes > 1) * np.array([np.cos(turn), np.sin(turn)])
            disc(
                place,
                size * (0.75 if lobes == 1 else 0.42) * rng.uniform(0.85, 1.1),
                (115, 70, 150),
            )
        small = np.asarray(
            image.filter(ImageFilter.GaussianBlur(3.6)).resize((80, 80), Image.Resampling.LANCZOS),
            float,
        )
        noise = rng.normal(0, 2, (80, 80, 1)) + rng.normal(0, 1, (80, 80, 3))
        found.append((f"cell{k}", Image.fromarray(np.clip(small + noise, 0, 255).astype(np.uint8))))
    return found


def films(n: int) -> Named:
    """Chests in one pose: lungs, spine, twelve pairs of ribs and a heart whose places hardly
    differ; vessels of each one's own. 256 x 256 px."""
    found = []
    for k in range(n):
        rng = np.random.default_rng([21, k])
        y, x = (v / 256 - 0.5 for v in np.mgrid[:256, :256])
        x = x * rng.uniform(0.97, 1.03) + rng.normal(0, 0.008)
        y = y * rng.uniform(0.97, 1.03) + rng.normal(0, 0.008)
        lungs = sum(
            np.exp(-((((x - at) / 0.17) ** 2 + (y / 0.36) ** 2) ** 3)) for at in (-0.2, 0.2)
        )
        light = 175 - 95 * lungs + 40 * np.exp(-((x / 0.05) ** 2))
        for rib in range(10):
            slope = rng.normal(0.55, 0.03)
            away = (
                y
                - (-0.36 + 0.075 * rib)
                - rng.normal(0, 0.004)
                - slope * np.abs(x) * (1 - np.abs(x))
            )
            light = light + 16 * np.exp(-((away / 0.011) ** 2)) * (np.abs(x) < 0.42)
        heart = ((x - 0.06 - rng.normal(0, 0.01)) / rng.uniform(0.12, 0.16)) ** 2 + (
            (y - 0.17) / rng.uniform(0.13, 0.17)
        ) ** 2
        light = light + 60 / (1 + heart**4)
        vessels = ndimage.gaussian_filter(
            rng.normal(0, 1, (256, 256)), 2.2
        ) + 2 * ndimage.gaussian_filter(rng.normal(0, 1, (256, 256)), 5)
        light = light + 40 * vessels * lungs * np.exp(-np.abs(x) / 0.25)
        found.append(
            (f"film{k}", _image(light + ndimage.gaussian_filter(rng.normal(0, 4, (256, 256)), 0.7)))
        )
    return found


def ultrasound(n: int) -> Named:
    """A fan of speckle in black with two bright walls about a dark chamber. 240 x 200 px."""
    found = []
    y, x = (v.astype(float) for v in np.mgrid[:200, :240])
    depth, turn = np.hypot(x - 120, y + 20), np.arctan2(x - 120, y + 20)
    fan = (np.abs(turn) < 0.6) & (depth > 35) & (depth < 210)
    for k in range(n):
        rng = np.random.default_rng([22, k])
        speckle = np.abs(
            ndimage.gaussian_filter(rng.normal(0, 1, (200, 240)), (1.0, 1.8))
            + 1j * ndimage.gaussian_filter(rng.normal(0, 1, (200, 240)), (1.0, 1.8))
        )
        wall = np.hypot(
            (x - 120 - rng.normal(0, 4)) / rng.uniform(42, 52),
            (y - 110 - rng.normal(0, 4)) / rng.uniform(50, 60),
        )
        tissue = 0.25 + 0.9 * np.exp(-(((wall - 1) / 0.12) ** 2)) - 0.2 / (1 + wall**12)
        tissue = tissue * (1 + 0.5 * ndimage.zoom(rng.normal(0, 1, (5, 6)), 40, order=3))
        found.append(
            (
                f"heart{k}",
                _image(fan * 255 * np.clip(tissue, 0.02, None) * speckle / speckle.mean() * 0.45),
            )
        )
    return found


def layers(n: int) -> Named:
    """Sections of a retina: seven layers under one dip, their courses and speckle of each one's
    own. 256 x 160 px."""
    found = []
    y, x = (v.astype(float) for v in np.mgrid[:160, :256])
    for k in range(n):
        rng = np.random.default_rng([23, k])
        light = np.full((160, 256), 25.0)
        dip = 22 * np.exp(-(((x - 128 - rng.normal(0, 5)) / 28) ** 2))
        top = 45 + dip + ndimage.gaussian_filter1d(rng.normal(0, 30, 256), 25)
        for thick, tone in zip(
            (9, 11, 8, 12, 14, 6, 18), (150, 95, 130, 70, 50, 190, 110), strict=True
        ):
            edge = ndimage.gaussian_filter1d(rng.normal(0, 4, 256), 6)
            light = np.where(y > top + edge, tone, light)
            top = top + thick * rng.uniform(0.9, 1.1) - dip * 0.15
        light = np.where(y > top, 45.0, light)
        speckle = 1 + ndimage.gaussian_filter(rng.normal(0, 0.45, (160, 256)), 0.8)
        found.append((f"section{k}", _image(ndimage.gaussian_filter(light, 1) * speckle)))
    return found


def noise(n: int) -> Named:
    """Textures of nothing but noise of one spectrum. 128 x 128 px."""
    found = []
    for k in range(n):
        rng = np.random.default_rng([24, k])
        parts = [
            ndimage.gaussian_filter(rng.normal(0, 1, (128, 128)), width) * width
            for width in (0.8, 2, 5, 12)
        ]
        found.append((f"noise{k}", _image(128 + 30 * sum(parts), (1, 0.8, 0.9))))
    return found


def tiles(n: int) -> Named:
    """Tissue of one stain: nuclei in rings about glands. 160 x 160 px."""
    found = []
    for k in range(n):
        rng = np.random.default_rng([25, k])
        image = Image.new("RGB", (320, 320), (228, 190, 212))
        pen = ImageDraw.Draw(image)
        for gland in rng.uniform(0, 320, (7, 2)):
            size = rng.uniform(26, 46)
            pen.ellipse([*(gland - 0.6 * size), *(gland + 0.6 * size)], fill=(244, 236, 242))
            for turn in np.linspace(0, 2 * np.pi, 16)[:-1] + rng.normal(0, 0.1, 15):
                place = gland + size * rng.uniform(0.9, 1.1) * np.array(
                    [np.cos(turn), np.sin(turn)]
                )
                pen.ellipse([*(place - 5), *(place + rng.uniform(4, 6, 2))], fill=(112, 78, 148))
        for place in rng.uniform(0, 320, (90, 2)):
            pen.ellipse([*(place - 3), *(place + rng.uniform(2, 5, 2))], fill=(120, 85, 150))
        found.append(
            (
                f"tile{k}",
                image.filter(ImageFilter.GaussianBlur(1.6)).resize(
                    (160, 160), Image.Resampling.LANCZOS
                ),
            )
        )
    return found


def knees(n: int) -> Named:
    """Two bones that meet in one place, their dense rims, soft parts about them.

    Struts of bone of each one's own. 240 x 300 px.
    """
    found = []
    for k in range(n):
        rng = np.random.default_rng([26, k])
        y, x = (v.astype(float) for v in np.mgrid[:300, :240])
        x, y = (
            (x - 120) * rng.uniform(0.98, 1.02) + rng.normal(0, 1.5),
            (y - 150) * rng.uniform(0.98, 1.02) + rng.normal(0, 1.5),
        )
        light = 30 + 55 / (1 + (x / (88 + 4 * np.cos(y / 60))) ** 12)
        struts = ndimage.gaussian_filter(
            rng.normal(0, 1, x.shape), (3.0, 0.9)
        ) + ndimage.gaussian_filter(rng.normal(0, 1, x.shape), (0.9, 2.0))
        for side, gap in ((-1, rng.normal(5, 0.7)), (1, rng.normal(6, 0.7))):
            away = side * y - gap - 5 * np.cos(x / 17) * (side < 0)
            half = 28 + 40 * np.exp(-((away / 38) ** 2)) + rng.normal(0, 0.8)
            bone = 1 / (1 + np.exp(-away / 1.2)) / (1 + np.exp((np.abs(x) - half) / 1.5))
            rim = np.exp(-((np.abs(x) - half + 4) ** 2) / 12) * (away > 0) + np.exp(
                -((away - 3) ** 2) / 8
            ) * (np.abs(x) < half)
            light = light + bone * (70 + 45 * struts) + 40 * rim
        light = light + 25 * np.exp(-(((x**2 + (y + 30) ** 2) / 900) ** 3))
        found.append(
            (f"knee{k}", _image(light + ndimage.gaussian_filter(rng.normal(0, 4, x.shape), 0.6)))
        )
    return found


DRAWN: dict[str, Callable[[int], Named]] = {
    f.__name__: f for f in (fundus, cells, films, ultrasound, layers, noise, tiles, knees)
}
