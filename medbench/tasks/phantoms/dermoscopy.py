"""Dermoscopy that is drawn: seven classes as in HAM10000.

A lesion is a shape, a mixture of signs and a colour. Only the signs depend on the class: they are
what clinicians read (terms in Kittler et al. 2016, doi:10.1016/j.jaad.2015.12.038). Each shows in a
part of the class's lesions only, with a strength of its own, and now and then in another class.
Size, skin, light, hair and the lesion's mean absorption are drawn alike for all classes.

The difficulty is frozen: every change of a pixel makes another benchmark and needs a raise of
DERM_VERSION.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from medbench.schema import PARTS, Drawn, Split
from medbench.stats import splits
from medbench.tasks.phantoms.dermoscopic_features import NAMES, PAINT, body
from medbench.tasks.phantoms.drawing import (
    SIZE,
    Canvas,
    Layers,
    bell,
    curve,
    noise,
    splat,
    step,
    stroke,
    view,
)

DERM_VERSION = 1
#: SHA-256 of the pixels of each class's first 10 lesions, first view, in the order of the lesions'
#: numbers.
DERM_PIXELS = "304feeeec43936761ebccc6dbd41ae61ecbe1d78a19bf61e830bd80975c8b1ec"
#: `splits.ids_hash` of the test part.
DERM_TEST = "7e12620d018a8f149cc216a15d40a2186cf13a0f8f3c3d8f27eeafdba32fadaf"
CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
#: HAM10000's lesions with 1, 2, 3 and 4 or more images (its metadata file); the phantom holds a
#: fifth of each, rounded up.
LESIONS = {
    "akiec": (151, 57, 18, 2),
    "bcc": (175, 118, 33, 1),
    "bkl": (440, 220, 55, 12),
    "df": (39, 26, 8, 0),
    "mel": (230, 278, 100, 6),
    "nv": (4415, 699, 268, 21),
    "vasc": (64, 25, 8, 1),
}
FRACTION = 5
SHARES = (0.7, 0.1, 0.2)
VIEWS = 8  # room for views in a seed: seed = lesion * VIEWS + view

#: How often a lesion of the class shows the sign, in [0, 1]. Signs that are not listed stray in
#: with probability STRAY.
SIGNS: Mapping[str, Mapping[str, float]] = {
    "akiec": {
        "strawberry": 0.75,
        "scale": 0.7,
        "soft": 0.8,
        "erosion": 0.3,
        "dotted": 0.3,
        "ragged": 0.3,
    },
    "bcc": {
        "vessels": 0.75,
        "leaves": 0.65,
        "erosion": 0.4,
        "shiny": 0.3,
        "soft": 0.5,
        "veil": 0.15,
    },
    "bkl": {
        "cysts": 0.7,
        "openings": 0.6,
        "fissures": 0.55,
        "sharp": 0.8,
        "ragged": 0.4,
        "network": 0.1,
    },
    "df": {"scar": 0.85, "network": 0.6, "soft": 0.7, "shiny": 0.2},
    "mel": {
        "lopsided": 0.75,
        "ragged": 0.75,
        "patches": 0.75,
        "atypical": 0.6,
        "dots": 0.6,
        "veil": 0.5,
        "streaks": 0.35,
        "shiny": 0.15,
    },
    "nv": {
        "network": 0.6,
        "globules": 0.4,
        "soft": 0.3,
        "lopsided": 0.15,
        "patches": 0.1,
        "dots": 0.08,
        "ragged": 0.15,
        "atypical": 0.1,
    },
    "vasc": {"lacunae": 0.92, "sharp": 0.6, "veil": 0.1},
}
STRAY = 0.05
FAINTEST = 0.3  # of a sign that shows; the strongest is 1
# towards a mean absorption that is drawn alike for all classes; 1: every lesion gets exactly that
PULL = 0.65

# Optical density of one unit of each pigment in red, green, blue: melanin near the surface, blood,
# melanin deep in the dermis (looks blue).
BROWN, RED, BLUE = np.array([[0.45, 0.95, 1.30], [0.18, 1.05, 0.75], [1.15, 0.90, 0.50]])
WHITE = np.array([0.93, 0.88, 0.86])
SKINS = np.array([[0.93, 0.76, 0.68], [0.84, 0.64, 0.52], [0.96, 0.72, 0.74], [0.80, 0.66, 0.66]])


def derm() -> dict[str, Split]:
    """Return drawn dermoscopy, about 1,500 lesions with 1 to 4 views: train, val, test.

    Draws nothing: an image is drawn when it is read.

    Labels (N,) int64 in the order of CLASSES. Groups and bags: the lesion. meta: age (years), sex,
    localization, independent of the class.
    """
    kinds, views = _lesions()
    lesion = np.repeat(np.arange(len(kinds)), views)
    view = np.concatenate([np.arange(v) for v in views])
    rng = np.random.Generator(np.random.PCG64([DERM_VERSION, 2]))
    age = np.clip(np.round(52 + 17 * bell(rng, len(kinds))) // 5 * 5, 0, 85)
    sex = np.array(["female", "male"])[(rng.random(len(kinds)) < 0.54).astype(int)]
    sites = np.array(
        ["abdomen", "back", "chest", "face", "lower extremity", "trunk", "upper extremity"]
    )
    site = sites[(rng.random(len(kinds)) * len(sites)).astype(int)]
    seeds = lesion * VIEWS + view
    names = np.array([f"phantom_{i:04d}" for i in range(len(kinds))])[lesion]
    whole = Split(
        images=[
            Drawn(draw_derm, int(seed), f"derm-phantom-{DERM_VERSION}:{seed}") for seed in seeds
        ],
        ids=np.array([f"{name}_{'abcdefgh'[v]}" for name, v in zip(names, view, strict=True)]),
        labels=kinds[lesion],
        groups=names,
        bags=names,
        meta={"age": age[lesion], "sex": sex[lesion], "localization": site[lesion]},
    )
    part = splits.partition(whole.labels, whole.groups, SHARES, key=f"derm-phantom-{DERM_VERSION}")
    return {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS)}


def draw_derm(seed: int) -> np.ndarray:
    """Return (64, 64, 3) uint8, the same pixels for the same seed.

    seed = 8 * lesion + view; the lesion's number gives its class.

    float64 throughout, so that the last bit of a machine's exp or cos practically never reaches the
    rounding to 256 levels.
    """
    lesion = seed // VIEWS
    rng = np.random.Generator(np.random.PCG64([DERM_VERSION, 0, lesion]))
    at = np.random.Generator(np.random.PCG64([DERM_VERSION, 1, seed]))
    kind = CLASSES[_lesions()[0][lesion]]
    size = rng.uniform(14, 25)
    canvas = view(at, size)
    shown = SIGNS[kind]
    chances = np.array([shown.get(sign, STRAY) for sign in NAMES])
    present = rng.random(len(chances)) < chances
    strength = dict(
        zip(
            NAMES,
            np.where(present, rng.uniform(FAINTEST, 1, len(chances)), 0.0).tolist(),
            strict=True,
        )
    )
    layers = body(canvas, rng, strength)
    for sign, paint in PAINT.items():
        if strength[sign]:
            paint(canvas, rng, layers, strength[sign])
    image = _skin(canvas, rng) * np.exp(-_absorption(rng, layers))
    white = np.clip(layers.white, 0, 0.85)[..., None]
    return _photograph(at, image * (1 - white) + WHITE * white)


@cache
def _lesions() -> tuple[np.ndarray, np.ndarray]:
    """Class index and number of views of each lesion, in an order without meaning."""
    rows = [
        (c, v + 1)
        for c, name in enumerate(CLASSES)
        for v, n in enumerate(LESIONS[name])
        for _ in range(-(-n // FRACTION))
    ]
    order = np.argsort(
        np.random.Generator(np.random.PCG64([DERM_VERSION, 3])).random(len(rows)), kind="stable"
    )
    table = np.array(rows, np.int64)[order]
    return table[:, 0], table[:, 1]


def _absorption(rng: np.random.Generator, layers: Layers) -> np.ndarray:
    """Return the optical density >= 0: (64, 64, 3).

    Its mean over the lesion is pulled to one that is drawn alike for all classes.
    """
    pigments = np.clip(np.stack([layers.brown, layers.red, layers.blue], -1), 0, None)
    density = np.einsum("yxp,pc->yxc", pigments, np.stack([BROWN, RED, BLUE]))
    mix = rng.random(3) * np.array([1.0, 0.6, 0.3])
    wanted = rng.uniform(0.3, 1.35) * np.einsum(
        "p,pc->c", mix / mix.sum(), np.stack([BROWN, RED, BLUE])
    )
    mean = np.einsum("yxc,yx->c", density, layers.inside) / layers.inside.sum()
    scaled: np.ndarray = density * np.clip((wanted / np.maximum(mean, 1e-3)) ** PULL, 0.3, 3)
    return scaled


def _skin(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """(64, 64, 3) in [0, 1]: tone, mottling, furrows."""
    mix = rng.random(len(SKINS)) ** 2
    tone = np.einsum("k,kc->c", mix / mix.sum(), SKINS)
    grain = (
        0.04 * noise(canvas, rng, 0.8)
        + 0.04 * noise(canvas, rng, 4.5)
        + 0.03 * noise(canvas, rng, 9)
    )
    skin: np.ndarray = (
        tone * (1 + grain)[..., None]
        - np.array([0.0, 0.08, 0.06]) * rng.random() * step(noise(canvas, rng, 1.8), 0.3)[..., None]
    )
    return skin


def _photograph(at: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Photograph the skin: (64, 64, 3) uint8.

    Hair, gel bubbles, ruler, light, white balance, vignette, focus, noise.
    """
    for _ in range(int(at.uniform(0, 7)) if at.random() < 0.4 else 0):
        start = complex(*at.uniform(-10, SIZE + 10, 2))
        path = curve(at, start, at.uniform(0, 2 * np.pi), at.uniform(30, 80), 0.25)
        image = image * (1 - at.uniform(0.4, 0.8) * stroke(path, at.uniform(0.5, 1.2)))[..., None]
    rows, columns = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    if at.random() < 0.08:
        x, y, size = at.uniform(-0.5, 0.5), at.uniform(-0.5, 0.5), at.uniform(0.03, 0.1)
        ring = np.exp(-(((np.hypot(columns - x, rows - y) - size) / 0.015) ** 2))
        image = image + 0.25 * ring[..., None]
    if at.random() < 0.05:
        ticks = np.concatenate(
            [
                np.linspace(0, 5 if k % 5 else 9, 24) + 1j * (k * 4 + at.uniform(0, 1))
                for k in range(17)
            ]
        )
        image = image * (1 - 0.7 * np.minimum(splat(ticks + 1 + 1j) * 0.4, 1))[..., None]
    light = at.uniform(0.85, 1.15) * (
        1 + at.uniform(-0.25, 0.25) * columns + at.uniform(-0.25, 0.25) * rows
    )
    light *= 1 - at.uniform(0, 0.5) ** 2 * 2 * (columns**2 + rows**2)
    if at.random() < 0.07:
        light *= step(at.uniform(0.52, 0.66) - np.hypot(columns, rows), 0.012)
    image = image * light[..., None] * (1 + at.uniform(-0.10, 0.10, 3))
    blur = at.uniform(0, 0.25)
    for axis in (0, 1):
        image = (1 - 2 * blur) * image + blur * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    image = image + at.uniform(0.004, 0.02) * (at.random((SIZE, SIZE, 3)) - 0.5) * 2
    levels: np.ndarray = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels
