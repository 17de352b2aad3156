"""Lymph node patches that are drawn.

With metastasis or without, as in PatchCamelyon, several patches a slide.

A patch is positive where tumour reaches into its central third (Veeling et al. 2018,
arXiv:1806.03962, section 3); tumour in the rim alone leaves it negative. Tumour cells lie in nests,
are larger, paler, of unequal size and shape, and show nucleoli; lymphocytes are small, round, dark
and dense. Germinal centres, sinuses, fat, blood and fibrous tissue lie in both classes. Stain,
thickness, scanner and focus vary by slide alike for both.

The difficulty is frozen: every change of a pixel makes another benchmark and needs a raise of
LYMPH_VERSION.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from medbench.schema import PARTS, Drawn, Split
from medbench.stats import splits
from medbench.tasks.phantoms.drawing import SIZE, Canvas, bell, curve, noise, spots, step, stroke

LYMPH_VERSION = 1
#: SHA-256 of the pixels of every 19th image, in the order of `lymph`'s parts.
LYMPH_PIXELS = "58a1547c576788911f096e3eb3fd449419cfaf12af3d6f081db22ca25a2db783"
#: `splits.ids_hash` of the test part.
LYMPH_TEST = "c79b6e212b68149092484d5a3847bfee4e2d2d4faee04a2c189f860d56e05c97"
SLIDES = 120
PATCHES = (6, 18)  # of a slide; PCam's classes are equally large
DISEASED = 0.6  # slides with tumour; of their patches POSITIVE, of the others none
POSITIVE = 0.5 / DISEASED
RIM = 0.30  # negative patches of a diseased slide with tumour outside the centre
SHARES = (0.7, 0.1, 0.2)
CENTRE = SIZE / 3 / 2  # half a side of the central third, pixels
REACH = 6  # pixels: what a nucleus outside the centre can reach into it
FAINTEST = 0.1  # how unlike lymphoid cells a slide's tumour cells are; the most is 1
PULL = 0.8  # of a patch's mean stain towards one that is drawn alike for both classes

# Optical density of one unit of haematoxylin and eosin in red, green, blue (Ruifrok & Johnston
# 2001, Anal Quant Cytol Histol 23:291).
HAEMATOXYLIN, EOSIN = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
# white of the empty glass
SCANNERS = {"A": np.array([0.96, 0.94, 0.97]), "B": np.array([0.97, 0.96, 0.92])}


@dataclass(frozen=True)
class Cells:
    """The n nuclei of a patch.

    place: (n,) complex pixels. radius, stretch (long by short axis), angle, dark, nucleolus: (n,)
    each.
    """

    place: np.ndarray
    radius: np.ndarray
    stretch: np.ndarray
    angle: np.ndarray
    dark: np.ndarray
    nucleolus: np.ndarray


def lymph() -> dict[str, Split]:
    """Return drawn lymph node patches, about 1,400 of 120 slides: train, val, test.

    Draws nothing: an image is drawn when it is read.

    Labels (N,) int64: 0 normal, 1 metastasis. Groups and bags: the slide. meta: scanner,
    independent of the class.
    """
    slide, number, label = _patches()
    scanner = _scanners()
    seeds = slide * 64 + number
    names = np.array([f"phantom_{i:03d}" for i in range(SLIDES)])[slide]
    whole = Split(
        images=[
            Drawn(draw_lymph, int(seed), f"lymph-phantom-{LYMPH_VERSION}:{seed}") for seed in seeds
        ],
        ids=np.array([f"{name}_{n:02d}" for name, n in zip(names, number, strict=True)]),
        labels=label,
        groups=names,
        bags=names,
        meta={"scanner": scanner[slide]},
    )
    part = splits.partition(label, names, SHARES, key=f"lymph-phantom-{LYMPH_VERSION}")
    return {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS)}


def draw_lymph(seed: int) -> np.ndarray:
    """Return (64, 64, 3) uint8, the same pixels for the same seed. seed = 64 * slide + patch."""
    slide, number = divmod(seed, 64)
    slides, numbers, labels = _patches()
    positive = bool(labels[np.flatnonzero((slides == slide) & (numbers == number))[0]])
    own = np.random.Generator(np.random.PCG64([LYMPH_VERSION, 0, slide]))
    rng = np.random.Generator(np.random.PCG64([LYMPH_VERSION, 1, seed]))
    unlike = FAINTEST + (1 - FAINTEST) * own.random()
    ill = bool(labels[slides == slide].any())
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    canvas = Canvas(
        (columns - SIZE / 2) / 16,
        (rows - SIZE / 2) / 16,
        complex(16, 0),
        complex(SIZE / 2, SIZE / 2),
    )
    tumour = _tumour(canvas, rng, positive, rim=ill and rng.random() < RIM)
    haematoxylin, eosin, clear = _tissue(canvas, rng, tumour, unlike)
    return _scan(own, rng, haematoxylin, eosin, clear, SCANNERS[str(_scanners()[slide])])


def _tumour(canvas: Canvas, rng: np.random.Generator, positive: bool, rim: bool) -> np.ndarray:
    """(64, 64) of 0 and 1: where tumour grows: over the centre, or only around it, or nowhere."""
    n = 1 + int(rng.random() * 3)
    size = rng.uniform(0.45, 1.5, n) if rng.random() < 0.75 else rng.uniform(1.5, 2.6, n)
    where = rng.uniform(-0.45, 0.45, n) + 1j * rng.uniform(-0.45, 0.45, n)
    where[1:] += rng.uniform(-1.3, 1.3, n - 1) + 1j * rng.uniform(-1.3, 1.3, n - 1)
    wobble = 1 + 0.45 * noise(canvas, rng, 1.1)
    corner = np.exp(1j * (np.pi / 4 + np.pi / 2 * int(rng.random() * 4)))
    if not positive:
        where = corner * rng.uniform(1.5, 2.2, n)
    inside = np.zeros((SIZE, SIZE), bool)
    for spot, reach in zip(where, size, strict=True):
        inside |= np.hypot(canvas.x - spot.real, canvas.y - spot.imag) < reach * wobble
    central = np.maximum(np.abs(canvas.x), np.abs(canvas.y)) * 16 < CENTRE + REACH
    if positive:
        return inside.astype(float)
    return (inside & ~central).astype(float) if rim else np.zeros((SIZE, SIZE))


def _tissue(
    canvas: Canvas, rng: np.random.Generator, tumour: np.ndarray, unlike: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(64, 64) each: haematoxylin and eosin >= 0, and the clear share in [0, 1]: fat and cracks."""
    field = noise(canvas, rng, 0.7)
    follicle = (
        step(field - rng.uniform(0.25, 0.7), 0.03) if rng.random() < 0.5 else np.zeros_like(field)
    )
    sinus = (
        step(noise(canvas, rng, 0.9) - rng.uniform(0.2, 0.6), 0.05)
        if rng.random() < 0.5
        else np.zeros_like(field)
    )
    clear = _fat(canvas, rng)
    free = (1 - tumour) * (1 - clear)
    small = _crowd(
        rng,
        4.6,
        (1.9, 2.5),
        (1.0, 1.25),
        (0.85, 1.15),
        0.05,
        free * (1 - 0.95 * follicle) * (1 - 0.8 * sinus),
    )
    large = _crowd(rng, 6.2, (2.5, 3.4), (1.0, 1.4), (0.5, 0.85), 0.3, free * follicle)
    pale = _crowd(rng, 7.5, (1.8, 2.4), (1.2, 2.0), (0.5, 0.8), 0.1, free * sinus)
    spread = 0.06 + 0.22 * unlike
    middle = 2.3 + 1.5 * unlike
    nests = _crowd(
        rng,
        5.0 + 2.6 * unlike,
        (middle * (1 - spread), middle * (1 + spread)),
        (1.0, 1.25 + 0.6 * unlike),
        (0.85 - 0.3 * unlike, 1.1),
        0.1 + 0.6 * unlike,
        tumour * (1 - clear),
    )
    haematoxylin = sum(_nuclei(cells) for cells in (small, large, pale, nests))
    fibres = np.abs(noise(canvas, rng, 1.3))
    eosin = (
        0.28 + 0.12 * noise(canvas, rng, 3) + 0.25 * np.exp(-((fibres / 0.08) ** 2)) + 0.15 * sinus
    )
    eosin = eosin + tumour * (0.08 + 0.18 * unlike) + 0.05 * follicle
    if rng.random() < 0.3:
        for _ in range(1 + int(rng.random() * 3)):
            path = curve(
                rng,
                complex(*rng.uniform(0, SIZE, 2)),
                rng.uniform(0, 2 * np.pi),
                rng.uniform(30, 70),
                0.2,
            )
            band = stroke(path, rng.uniform(1.5, 4))
            eosin = eosin + 0.45 * band
            haematoxylin = haematoxylin * (1 - 0.6 * band)
    if rng.random() < 0.2:  # blood
        cells = (
            rng.uniform(-1.8, 1.8, 1)
            + 1j * rng.uniform(-1.8, 1.8, 1)
            + rng.uniform(-0.6, 0.6, 14)
            + 1j * rng.uniform(-0.6, 0.6, 14)
        )
        eosin = eosin + 0.7 * spots(canvas, cells, np.full(14, 0.13))
    return haematoxylin * (1 - clear), np.clip(eosin, 0, None) * (1 - clear), clear


def _fat(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Draw vacuoles: (64, 64) in [0, 1].

    They leave the centre free, so that they never hide what makes a patch positive.
    """
    if rng.random() > 0.25:
        return np.zeros((SIZE, SIZE))
    n = 1 + int(rng.random() * 4)
    angle = rng.uniform(0, 2 * np.pi) + rng.uniform(-0.6, 0.6, n)
    return spots(canvas, rng.uniform(1.6, 2.4, n) * np.exp(1j * angle), rng.uniform(0.25, 0.6, n))


def _crowd(
    rng: np.random.Generator,
    apart: float,
    radius: tuple[float, float],
    stretch: tuple[float, float],
    dark: tuple[float, float],
    nucleolus: float,
    where: np.ndarray,
) -> Cells:
    """Place nuclei about `apart` pixels from each other on a shaken grid.

    Kept with the probability that `where` (64, 64) has there.
    """
    side = int(np.ceil(SIZE / apart)) + 2
    i, j = np.divmod(np.arange(side * side), side)
    shaken = rng.uniform(-0.36, 0.36, (2, side * side))
    x = (j + 0.5 * (i % 2) - 0.5 + shaken[0]) * apart
    y = (i - 0.5 + shaken[1]) * apart
    chance = where[
        np.clip(y, 0, SIZE - 1).astype(np.int64), np.clip(x, 0, SIZE - 1).astype(np.int64)
    ]
    draws = rng.random((6, side * side))
    kept = draws[0] < 0.92 * chance
    low = np.array([radius[0], stretch[0], 0.0, dark[0]])[:, None]
    high = np.array([radius[1], stretch[1], np.pi, dark[1]])[:, None]
    values = (low + (high - low) * draws[1:5])[:, kept]
    return Cells(
        (x + 1j * y)[kept],
        values[0],
        values[1],
        values[2],
        values[3],
        (draws[5][kept] < nucleolus).astype(float),
    )


def _nuclei(cells: Cells) -> np.ndarray:
    """(64, 64): haematoxylin of the nuclei, denser at the membrane; what overlaps adds up."""
    if not len(cells.place):
        return np.zeros((SIZE, SIZE))
    reach = int(np.ceil((cells.radius * np.sqrt(cells.stretch)).max() * 1.25)) + 1
    grid = np.arange(-reach, reach + 1)
    column, row = (
        np.floor(cells.place.real).astype(np.int64),
        np.floor(cells.place.imag).astype(np.int64),
    )
    dx = (column[:, None] + grid + 0.5 - cells.place.real[:, None])[:, None, :]
    dy = (row[:, None] + grid + 0.5 - cells.place.imag[:, None])[:, :, None]
    cos, sin = np.cos(cells.angle)[:, None, None], np.sin(cells.angle)[:, None, None]
    long = (cells.radius * np.sqrt(cells.stretch))[:, None, None]
    short = (cells.radius / np.sqrt(cells.stretch))[:, None, None]
    away = ((dx * cos + dy * sin) / long) ** 2 + ((dy * cos - dx * sin) / short) ** 2
    amount = cells.dark[:, None, None] * step(1 - away, 0.14) * (0.75 + 0.35 * np.minimum(away, 1))
    amount += (
        0.5 * cells.nucleolus[:, None, None] * np.exp(-((dx - 0.3) ** 2 + (dy + 0.2) ** 2) / 0.7)
    )
    x, y = column[:, None, None] + grid[None, None, :], row[:, None, None] + grid[None, :, None]
    seen = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
    flat = (y * SIZE + x)[seen]
    total: np.ndarray = np.bincount(flat, amount[seen], SIZE * SIZE).reshape(SIZE, SIZE)
    return total


def _scan(
    own: np.random.Generator,
    rng: np.random.Generator,
    haematoxylin: np.ndarray,
    eosin: np.ndarray,
    clear: np.ndarray,
    white: np.ndarray,
) -> np.ndarray:
    """Stain, thickness, light, focus, noise -> (64, 64, 3) uint8.

    The mean of each stain over the tissue is pulled to one drawn for the slide.
    """
    tissue = np.maximum((1 - clear).sum(), 1.0)
    image = np.zeros((SIZE, SIZE, 3))
    for amount, vector, low, high in (
        (haematoxylin, HAEMATOXYLIN, 0.32, 0.75),
        (eosin, EOSIN, 0.22, 0.5),
    ):
        wanted = own.uniform(low, high) * rng.uniform(0.85, 1.18)
        scaled = np.minimum(amount, 2.2) * np.clip(
            (wanted / max(amount.sum() / tissue, 0.05)) ** PULL, 0.3, 3
        )
        image += scaled[..., None] * (vector * (1 + own.uniform(-0.18, 0.18, 3)))
    image = white * np.exp(-1.05 * image) * (1 + own.uniform(-0.05, 0.05, 3))
    blur = own.uniform(0, 0.15) + rng.uniform(0, 0.1)
    for axis in (0, 1):
        image = (1 - 2 * blur) * image + blur * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    image = (
        image * rng.uniform(0.96, 1.03)
        + rng.uniform(0.01, 0.03) * (rng.random((SIZE, SIZE, 3)) - 0.5) * 2
    )
    levels: np.ndarray = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels


@cache
def _patches() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slide, number within the slide and label of each patch, each (N,) int64."""
    rng = np.random.Generator(np.random.PCG64([LYMPH_VERSION, 2]))
    n = (rng.uniform(PATCHES[0], PATCHES[1] + 1, SLIDES)).astype(np.int64)
    slide = np.repeat(np.arange(SLIDES), n)
    diseased = rng.random(SLIDES) < DISEASED
    label = (diseased[slide] & (rng.random(len(slide)) < POSITIVE)).astype(np.int64)
    return slide, np.concatenate([np.arange(k) for k in n]), label


@cache
def _scanners() -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64([LYMPH_VERSION, 3]))
    chosen: np.ndarray = np.array(list(SCANNERS))[(bell(rng, SLIDES) > 0).astype(int)]
    return chosen
