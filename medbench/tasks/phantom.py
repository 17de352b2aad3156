"""Procedural stand-ins for the tasks' images. So far one: dermoscopy, seven classes as in HAM10000.

A lesion is a shape, a mixture of signs and a colour. Only the signs depend on the class: they are what clinicians read (terms in Kittler
et al. 2016, doi:10.1016/j.jaad.2015.12.038). Each shows in a part of the class's lesions only, with a strength of its own, and now and
then in another class. Size, skin, light, hair and the lesion's mean absorption are drawn alike for all classes.

The difficulty is frozen: every change of a pixel makes another benchmark and needs a raise of DERM_VERSION.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from medbench import sampling
from medbench.spec import PARTS, Drawn, Split

DERM_VERSION = 1
#: SHA-256 of the pixels of each class's first 10 lesions, first view, in the order of the lesions' numbers.
DERM_PIXELS = "304feeeec43936761ebccc6dbd41ae61ecbe1d78a19bf61e830bd80975c8b1ec"
#: `sampling.ids_hash` of the test part.
DERM_TEST = "7e12620d018a8f149cc216a15d40a2186cf13a0f8f3c3d8f27eeafdba32fadaf"
SIZE = 64  # pixels, both sides
CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
#: HAM10000's lesions with 1, 2, 3 and 4 or more images (its metadata file); the phantom holds a fifth of each, rounded up.
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

#: How often a lesion of the class shows the sign, in [0, 1]. Signs that are not listed stray in with probability STRAY.
SIGNS: Mapping[str, Mapping[str, float]] = {
    "akiec": {"strawberry": 0.75, "scale": 0.7, "soft": 0.8, "erosion": 0.3, "dotted": 0.3, "ragged": 0.3},
    "bcc": {"vessels": 0.75, "leaves": 0.65, "erosion": 0.4, "shiny": 0.3, "soft": 0.5, "veil": 0.15},
    "bkl": {"cysts": 0.7, "openings": 0.6, "fissures": 0.55, "sharp": 0.8, "ragged": 0.4, "network": 0.1},
    "df": {"scar": 0.85, "network": 0.6, "soft": 0.7, "shiny": 0.2},
    "mel": {"lopsided": 0.75, "ragged": 0.75, "patches": 0.75, "atypical": 0.6, "dots": 0.6, "veil": 0.5, "streaks": 0.35, "shiny": 0.15},
    "nv": {"network": 0.6, "globules": 0.4, "soft": 0.3, "lopsided": 0.15, "patches": 0.1, "dots": 0.08, "ragged": 0.15, "atypical": 0.1},
    "vasc": {"lacunae": 0.92, "sharp": 0.6, "veil": 0.1},
}
STRAY = 0.05
FAINTEST = 0.3  # of a sign that shows; the strongest is 1
PULL = 0.65  # towards a mean absorption that is drawn alike for all classes; 1: every lesion gets exactly that

# Optical density of one unit of each pigment in red, green, blue: melanin near the surface, blood, melanin deep in the dermis (looks blue).
BROWN, RED, BLUE = np.array([[0.45, 0.95, 1.30], [0.18, 1.05, 0.75], [1.15, 0.90, 0.50]])
WHITE = np.array([0.93, 0.88, 0.86])
SKINS = np.array([[0.93, 0.76, 0.68], [0.84, 0.64, 0.52], [0.96, 0.72, 0.74], [0.80, 0.66, 0.66]])


@dataclass(frozen=True)
class _Canvas:
    """One view of a lesion. x, y: (64, 64) lesion coordinates of the pixels, the lesion's border being near radius 1."""

    x: np.ndarray
    y: np.ndarray
    turn: complex  # pixels in one lesion unit, and rotation
    centre: complex  # the lesion's centre, pixels

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Complex lesion coordinates -> complex pixel coordinates."""
        return points * self.turn + self.centre


@dataclass
class _Layers:
    """What lies on the skin, each (64, 64): amounts of pigment >= 0, and `white`, the opaque share in [0, 1]. inside: the lesion's mask."""

    inside: np.ndarray
    brown: np.ndarray
    red: np.ndarray
    blue: np.ndarray
    white: np.ndarray


def derm() -> dict[str, Split]:
    """Drawn dermoscopy, about 1,500 lesions with 1 to 4 views: train, val, test. Draws nothing: an image is drawn when it is read.

    Labels (N,) int64 in the order of CLASSES. Groups and bags: the lesion. meta: age (years), sex, localization, independent of the class.
    """
    kinds, views = _lesions()
    lesion = np.repeat(np.arange(len(kinds)), views)
    view = np.concatenate([np.arange(v) for v in views])
    rng = np.random.Generator(np.random.PCG64([DERM_VERSION, 2]))
    age = np.clip(np.round(52 + 17 * _bell(rng, len(kinds))) // 5 * 5, 0, 85)
    sex = np.array(["female", "male"])[(rng.random(len(kinds)) < 0.54).astype(int)]
    sites = np.array(["abdomen", "back", "chest", "face", "lower extremity", "trunk", "upper extremity"])
    site = sites[(rng.random(len(kinds)) * len(sites)).astype(int)]
    seeds = lesion * VIEWS + view
    names = np.array([f"phantom_{i:04d}" for i in range(len(kinds))])[lesion]
    whole = Split(
        images=[Drawn(draw_derm, int(seed), f"derm-phantom-{DERM_VERSION}:{seed}") for seed in seeds],
        ids=np.array([f"{name}_{'abcdefgh'[v]}" for name, v in zip(names, view, strict=True)]),
        labels=kinds[lesion],
        groups=names,
        bags=names,
        meta={"age": age[lesion], "sex": sex[lesion], "localization": site[lesion]},
    )
    part = sampling.partition(whole.labels, whole.groups, SHARES, key=f"derm-phantom-{DERM_VERSION}")
    return {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS)}


def draw_derm(seed: int) -> np.ndarray:
    """(64, 64, 3) uint8, the same pixels for the same seed. seed = 8 * lesion + view; the lesion's number gives its class.

    float64 throughout, so that the last bit of a machine's exp or cos practically never reaches the rounding to 256 levels.
    """
    lesion = seed // VIEWS
    rng = np.random.Generator(np.random.PCG64([DERM_VERSION, 0, lesion]))
    at = np.random.Generator(np.random.PCG64([DERM_VERSION, 1, seed]))
    kind = CLASSES[_lesions()[0][lesion]]
    size = rng.uniform(14, 25)
    canvas = _canvas(at, size)
    shown = SIGNS[kind]
    chances = np.array([shown.get(sign, STRAY) for sign in _SIGN_NAMES])
    present = rng.random(len(chances)) < chances
    strength = dict(zip(_SIGN_NAMES, np.where(present, rng.uniform(FAINTEST, 1, len(chances)), 0.0).tolist(), strict=True))
    layers = _body(canvas, rng, strength)
    for sign, paint in _PAINT.items():
        if strength[sign]:
            paint(canvas, rng, layers, strength[sign])
    image = _skin(canvas, rng) * np.exp(-_absorption(rng, layers))
    white = np.clip(layers.white, 0, 0.85)[..., None]
    return _photograph(at, image * (1 - white) + WHITE * white)


@cache
def _lesions() -> tuple[np.ndarray, np.ndarray]:
    """Class index and number of views of each lesion, in an order without meaning."""
    rows = [(c, v + 1) for c, name in enumerate(CLASSES) for v, n in enumerate(LESIONS[name]) for _ in range(-(-n // FRACTION))]
    order = np.argsort(np.random.Generator(np.random.PCG64([DERM_VERSION, 3])).random(len(rows)), kind="stable")
    table = np.array(rows, np.int64)[order]
    return table[:, 0], table[:, 1]


def _bell(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n,) about normal, mean 0, sd 1: from uniform numbers, whose stream numpy has never changed."""
    draws: np.ndarray = (rng.random((n, 4)).sum(1) - 2) * 3**0.5
    return draws


def _canvas(at: np.random.Generator, size: float) -> _Canvas:
    zoom = at.uniform(0.85, 1.2) * size
    angle = at.uniform(0, 2 * np.pi)
    turn = complex(zoom * np.cos(angle), zoom * np.sin(angle))
    centre = complex(*(SIZE / 2 + at.uniform(-6, 6, 2)))
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    spot = (columns + 1j * rows - centre) / turn
    return _Canvas(spot.real, spot.imag, turn, centre)


def _noise(canvas: _Canvas, rng: np.random.Generator, frequency: float) -> np.ndarray:
    """(64, 64) smooth noise in [-1, 1], fixed to the lesion, `frequency` cells in a lesion unit."""
    table = rng.uniform(-1, 1, (16, 16))
    right, below = np.roll(table, -1, 1), np.roll(table, -1, 0)
    u, v = canvas.x * frequency + 64, canvas.y * frequency + 64
    i, j = u.astype(np.int64), v.astype(np.int64)
    fu, fv = u - i, v - j
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    cell = ((j & 15) << 4) + (i & 15)
    top = table.ravel()[cell] + fu * (right - table).ravel()[cell]
    return top + fv * ((below - table).ravel()[cell] + fu * (np.roll(below, -1, 1) - below - right + table).ravel()[cell])


def _step(value: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 around value 0, over about four widths."""
    return 1 / (1 + np.exp(np.clip(-value / width, -40, 40)))


def _spots(canvas: _Canvas, points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(64, 64) in [0, 1]: discs with a soft edge around complex points (n,), radius (n,) in lesion units."""
    centre = canvas.pixels(points)
    reach = np.maximum(radius * abs(canvas.turn), 0.8)[:, None] * 1.2
    grid = np.arange(SIZE) + 0.5
    across = np.exp(-(((grid - centre.real[:, None]) / reach) ** 2))
    down = np.exp(-(((grid - centre.imag[:, None]) / reach) ** 2))
    return _step(np.einsum("ny,nx->yx", down, across) - 0.5, 0.08)


def _stroke(path: np.ndarray, width: float) -> np.ndarray:
    """(64, 64) in [0, 1]: how much of each pixel a line covers. path (n,) complex pixels, about evenly spaced; width in pixels."""
    step = np.abs(np.diff(path)).mean()
    along = np.gradient(path)
    across = 1j * along / np.maximum(np.abs(along), 1e-9)
    lanes = max(2, int(np.ceil(width * 2)))
    dots = (path[:, None] + across[:, None] * (np.arange(lanes) + 0.5 - lanes / 2) * width / lanes).ravel()
    covered: np.ndarray = np.minimum(_splat(dots) * step * width / lanes, 1)
    return covered


def _splat(dots: np.ndarray) -> np.ndarray:
    """(64, 64): a unit for each complex pixel position (n,), shared by the four nearest pixels."""
    dots = dots[(dots.real > 1) & (dots.real < SIZE - 1) & (dots.imag > 1) & (dots.imag < SIZE - 1)] - (0.5 + 0.5j)
    i, j = dots.real.astype(np.int64), dots.imag.astype(np.int64)
    u, v = dots.real - i, dots.imag - j
    where = np.concatenate([j * SIZE + i, j * SIZE + i + 1, (j + 1) * SIZE + i, (j + 1) * SIZE + i + 1])
    share = np.concatenate([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
    return np.bincount(where, share, SIZE * SIZE).reshape(SIZE, SIZE)


def _curve(rng: np.random.Generator, start: complex, heading: float, length: float, bend: float) -> np.ndarray:
    """(64,) complex: a line that wanders from `start`."""
    turns = heading + bend * np.cumsum(rng.uniform(-1, 1, 8)).repeat(8) * 0.5
    return start + np.cumsum(np.exp(1j * turns)) * (length / 64)


def _scatter(rng: np.random.Generator, n: int, inner: float, outer: float) -> np.ndarray:
    """(n,) complex points between two radii, even by area."""
    points: np.ndarray = np.sqrt(rng.uniform(inner**2, outer**2, n)) * np.exp(2j * np.pi * rng.random(n))
    return points


def _comb(canvas: _Canvas, rng: np.random.Generator, period: float, warp: float) -> np.ndarray:
    """(64, 64) in [-1.5, 3]: a honeycomb, high in the holes and low on the lines; `warp` (lesion units) makes it irregular."""
    angle = rng.uniform(0, np.pi)
    x, y = canvas.x + warp * _noise(canvas, rng, 2.5), canvas.y + warp * _noise(canvas, rng, 2.5)
    waves = [angle + k * np.pi / 3 for k in range(3)]
    total: np.ndarray = sum(np.cos((x * np.cos(a) + y * np.sin(a)) * (2 * np.pi / period)) for a in waves)
    return total


def _body(canvas: _Canvas, rng: np.random.Generator, strength: Mapping[str, float]) -> _Layers:
    """Shape and ground colour: border, symmetry, how the pigment fades."""
    radius = np.hypot(canvas.x, canvas.y) + 1e-9
    unit = (canvas.x + 1j * canvas.y) / radius
    swing = np.array([0.20, 0.06, 0.04, 0.03, 0.02, 0.02]) * rng.uniform(0.2, 1.2, 6)
    swing[1:] += strength["ragged"] * np.array([0.10, 0.09, 0.07, 0.06, 0.05]) * rng.uniform(0.3, 1, 5)
    phase = np.exp(2j * np.pi * rng.random(6))
    edge, power = np.ones_like(radius), unit
    for a, p in zip(swing, phase, strict=True):
        power = power * unit
        edge += a * (power * p).real
    edge += (0.08 + 0.12 * strength["ragged"]) * _noise(canvas, rng, 3.5)
    softness = rng.uniform(0.05, 0.10) + 0.10 * strength["soft"] - 0.035 * strength["sharp"]
    inside = _step(edge - radius, softness)
    tilt = np.exp(2j * np.pi * rng.random())
    lean = (canvas.x * tilt.real + canvas.y * tilt.imag) * (0.12 + 0.55 * strength["lopsided"])
    ground = np.clip(0.55 + 0.2 * (edge - radius) + lean + 0.18 * _noise(canvas, rng, 1.5) + 0.16 * _noise(canvas, rng, 5), 0.08, 1.6)
    patches = strength["patches"] * 1.1 * _step(_noise(canvas, rng, 1.6), 0.12)
    pink = rng.uniform(0.1, 0.6)
    zero = np.zeros_like(radius)
    return _Layers(inside, inside * (ground + patches) * (1 - 0.6 * pink), inside * ground * pink, zero.copy(), zero.copy())


def _network(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    lines = _step(-0.1 - _comb(canvas, rng, rng.uniform(0.22, 0.30), 0.10), 0.3)
    layers.brown += s * layers.inside * (0.8 * lines - 0.25) * (1 + 0.5 * _noise(canvas, rng, 1.5))


def _atypical(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    lines = _step(0.2 - _comb(canvas, rng, rng.uniform(0.3, 0.45), 0.28), 0.25)
    layers.brown += s * layers.inside * 1.3 * lines * _step(_noise(canvas, rng, 1.3), 0.15)


def _globules(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    balls = _step(_comb(canvas, rng, rng.uniform(0.25, 0.36), 0.10) - 1.0, 0.3)
    layers.brown += s * layers.inside * (1.0 * balls - 0.2) * (1 + 0.5 * _noise(canvas, rng, 1.5))


def _dots(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    points = _scatter(rng, 9, 0, 0.5) + _scatter(rng, 1, 0.2, 0.5)
    layers.brown += s * 1.8 * _spots(canvas, points, rng.uniform(0.04, 0.11, 9))


def _veil(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    spot = _spots(canvas, _scatter(rng, 3, 0, 0.35) + _scatter(rng, 1, 0.1, 0.4), rng.uniform(0.2, 0.42, 3))
    spot = spot * _step(0.35 + _noise(canvas, rng, 3) + 0.5 * _noise(canvas, rng, 7), 0.25)
    layers.blue += s * 0.9 * spot
    layers.brown *= 1 - 0.7 * s * spot
    layers.white += 0.22 * s * spot


def _streaks(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    middle, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.4)
    for angle in middle + np.linspace(-width, width, 7) + rng.uniform(-0.1, 0.1, 7):
        path = _curve(rng, 0.8 * np.exp(1j * angle), angle, rng.uniform(0.25, 0.5), 0.15)
        layers.brown += s * 1.2 * _stroke(canvas.pixels(path), 0.09 * abs(canvas.turn))


def _cysts(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    layers.white += s * 0.7 * _spots(canvas, _scatter(rng, 9, 0.05, 0.85), rng.uniform(0.035, 0.075, 9))


def _openings(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    points, radius = _scatter(rng, 7, 0.05, 0.85), rng.uniform(0.06, 0.12, 7)
    layers.brown += s * 1.6 * _spots(canvas, points, radius)
    layers.white *= 1 - _spots(canvas, points, radius)


def _fissures(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    ridge = np.abs(_noise(canvas, rng, 2.6) + 0.3 * _noise(canvas, rng, 5))
    layers.brown += s * layers.inside * (1.3 * np.exp(-((ridge / 0.1) ** 2)) - 0.2)


def _vessels(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    for _ in range(2):
        start = complex(_scatter(rng, 1, 0.6, 1.0)[0])
        heading = np.angle(-start) + rng.uniform(-0.5, 0.5)
        stem = _curve(rng, start, heading, rng.uniform(0.9, 1.5), 0.5)
        layers.red += s * 1.6 * _stroke(canvas.pixels(stem), 0.085 * abs(canvas.turn))
        for k in (14, 28, 42):
            away = rng.uniform(0.4, 1.1) * (1 if rng.random() < 0.5 else -1)
            branch = _curve(rng, complex(stem[k]), heading + away, rng.uniform(0.35, 0.8), 0.6)
            layers.red += s * 1.4 * _stroke(canvas.pixels(branch), 0.05 * abs(canvas.turn))


def _leaves(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    roots = _scatter(rng, 4, 0.6, 0.9)
    fingers = np.concatenate([roots, *(roots * (1 + d) * np.exp(1j * a) for d, a in ((0.22, 0.16), (0.26, 0.0), (0.22, -0.16)))])
    lobes = _spots(canvas, fingers, np.concatenate([rng.uniform(0.12, 0.18, 4), rng.uniform(0.06, 0.09, 12)]))
    mix = rng.uniform(0.3, 0.9)
    layers.brown *= 1 - 0.5 * s
    layers.brown += s * 0.9 * mix * lobes
    layers.blue += s * 0.9 * (1 - mix) * lobes


def _erosion(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    spot = _spots(canvas, _scatter(rng, 1, 0, 0.5) + _scatter(rng, 4, 0, 0.2), rng.uniform(0.1, 0.2, 4))
    layers.red += s * 1.3 * spot * (1 + 0.5 * _noise(canvas, rng, 7))
    layers.brown += s * 0.5 * spot * _step(_noise(canvas, rng, 6), 0.1)


def _shiny(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    angle = rng.uniform(0, np.pi)
    for start in _scatter(rng, 4, 0, 0.7):
        for turn in (angle, angle + np.pi / 2):
            path = _curve(rng, complex(start), turn, rng.uniform(0.2, 0.4), 0.05)
            layers.white += s * 0.5 * _stroke(canvas.pixels(path), 0.05 * abs(canvas.turn))


def _strawberry(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    comb = _comb(canvas, rng, rng.uniform(0.26, 0.38), 0.14)
    layers.brown *= 1 - 0.5 * s
    layers.red += s * layers.inside * 0.8 * _step(0.6 - comb, 0.4)
    layers.white += s * layers.inside * 0.5 * _step(comb - 1.5, 0.35) * (1 + 0.6 * _noise(canvas, rng, 2))


def _scale(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    flakes = _step(_noise(canvas, rng, 6.5) + 0.5 * _noise(canvas, rng, 2) - 0.5, 0.05)
    layers.white += s * 0.65 * layers.inside * flakes


def _dotted(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    layers.red += s * 1.5 * _spots(canvas, _scatter(rng, 16, 0, 0.8), rng.uniform(0.03, 0.05, 16))


def _scar(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    core = _spots(canvas, _scatter(rng, 3, 0, 0.18), rng.uniform(0.2, 0.38, 3)) * _step(0.5 + _noise(canvas, rng, 4), 0.3)
    layers.brown *= 1 - 0.75 * s * core
    layers.white += s * 0.55 * core


def _lacunae(canvas: _Canvas, rng: np.random.Generator, layers: _Layers, s: float) -> None:
    ring = 0.62 * np.exp(2j * np.pi * (np.arange(6) + rng.uniform(-0.2, 0.2, 6)) / 6) * rng.uniform(0.8, 1.15, 6)
    pools = _spots(canvas, np.append(ring, complex(_scatter(rng, 1, 0, 0.15)[0])), rng.uniform(0.12, 0.30, 7))
    deep = rng.uniform(0, 1)
    layers.brown *= 1 - 0.8 * s
    layers.red += s * pools * (1.6 - 0.6 * deep)
    layers.blue += s * pools * deep


_Paint = Callable[[_Canvas, np.random.Generator, _Layers, float], None]
#: In the order in which they lie on each other.
_PAINT: Mapping[str, _Paint] = {
    "leaves": _leaves,
    "lacunae": _lacunae,
    "strawberry": _strawberry,
    "network": _network,
    "atypical": _atypical,
    "globules": _globules,
    "fissures": _fissures,
    "streaks": _streaks,
    "dots": _dots,
    "veil": _veil,
    "scar": _scar,
    "scale": _scale,
    "erosion": _erosion,
    "dotted": _dotted,
    "vessels": _vessels,
    "cysts": _cysts,
    "openings": _openings,
    "shiny": _shiny,
}
_SIGN_NAMES = ("lopsided", "ragged", "patches", "soft", "sharp", *_PAINT)  # the first five shape the body


def _absorption(rng: np.random.Generator, layers: _Layers) -> np.ndarray:
    """(64, 64, 3) optical density >= 0, its mean over the lesion pulled to one that is drawn alike for all classes."""
    pigments = np.clip(np.stack([layers.brown, layers.red, layers.blue], -1), 0, None)
    density = np.einsum("yxp,pc->yxc", pigments, np.stack([BROWN, RED, BLUE]))
    mix = rng.random(3) * np.array([1.0, 0.6, 0.3])
    wanted = rng.uniform(0.3, 1.35) * np.einsum("p,pc->c", mix / mix.sum(), np.stack([BROWN, RED, BLUE]))
    mean = np.einsum("yxc,yx->c", density, layers.inside) / layers.inside.sum()
    scaled: np.ndarray = density * np.clip((wanted / np.maximum(mean, 1e-3)) ** PULL, 0.3, 3)
    return scaled


def _skin(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    """(64, 64, 3) in [0, 1]: tone, mottling, furrows."""
    mix = rng.random(len(SKINS)) ** 2
    tone = np.einsum("k,kc->c", mix / mix.sum(), SKINS)
    grain = 0.04 * _noise(canvas, rng, 0.8) + 0.04 * _noise(canvas, rng, 4.5) + 0.03 * _noise(canvas, rng, 9)
    skin: np.ndarray = (
        tone * (1 + grain)[..., None] - np.array([0.0, 0.08, 0.06]) * rng.random() * _step(_noise(canvas, rng, 1.8), 0.3)[..., None]
    )
    return skin


def _photograph(at: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Hair, gel bubbles, ruler, light, white balance, vignette, focus, noise -> (64, 64, 3) uint8."""
    for _ in range(int(at.uniform(0, 7)) if at.random() < 0.4 else 0):
        start = complex(*at.uniform(-10, SIZE + 10, 2))
        path = _curve(at, start, at.uniform(0, 2 * np.pi), at.uniform(30, 80), 0.25)
        image = image * (1 - at.uniform(0.4, 0.8) * _stroke(path, at.uniform(0.5, 1.2)))[..., None]
    rows, columns = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    if at.random() < 0.08:
        x, y, size = at.uniform(-0.5, 0.5), at.uniform(-0.5, 0.5), at.uniform(0.03, 0.1)
        ring = np.exp(-(((np.hypot(columns - x, rows - y) - size) / 0.015) ** 2))
        image = image + 0.25 * ring[..., None]
    if at.random() < 0.05:
        ticks = np.concatenate([np.linspace(0, 5 if k % 5 else 9, 24) + 1j * (k * 4 + at.uniform(0, 1)) for k in range(17)])
        image = image * (1 - 0.7 * np.minimum(_splat(ticks + 1 + 1j) * 0.4, 1))[..., None]
    light = at.uniform(0.85, 1.15) * (1 + at.uniform(-0.25, 0.25) * columns + at.uniform(-0.25, 0.25) * rows)
    light *= 1 - at.uniform(0, 0.5) ** 2 * 2 * (columns**2 + rows**2)
    if at.random() < 0.07:
        light *= _step(at.uniform(0.52, 0.66) - np.hypot(columns, rows), 0.012)
    image = image * light[..., None] * (1 + at.uniform(-0.10, 0.10, 3))
    blur = at.uniform(0, 0.25)
    for axis in (0, 1):
        image = (1 - 2 * blur) * image + blur * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    image = image + at.uniform(0.004, 0.02) * (at.random((SIZE, SIZE, 3)) - 0.5) * 2
    levels: np.ndarray = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels
