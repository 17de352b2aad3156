"""A lesion's own coordinates, and what is drawn in them: noise, edges, spots, strokes, combs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZE = 64  # pixels, both sides


@dataclass(frozen=True)
class Canvas:
    """One view of a lesion.

    x, y: (64, 64) lesion coordinates of the pixels, the lesion's border being near radius 1.
    """

    x: np.ndarray
    y: np.ndarray
    turn: complex  # pixels in one lesion unit, and rotation
    centre: complex  # the lesion's centre, pixels

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Map complex lesion coordinates to complex pixel coordinates, of any shape."""
        return points * self.turn + self.centre


@dataclass
class Layers:
    """What lies on the skin, each (64, 64).

    Amounts of pigment >= 0, and `white`, the opaque share in [0, 1]. inside: the lesion's mask.
    """

    inside: np.ndarray
    brown: np.ndarray
    red: np.ndarray
    blue: np.ndarray
    white: np.ndarray


def bell(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return (n,) about normal, mean 0, sd 1.

    From uniform numbers, whose stream numpy has never changed.
    """
    draws: np.ndarray = (rng.random((n, 4)).sum(1) - 2) * 3**0.5
    return draws


def view(at: np.random.Generator, size: float) -> Canvas:
    """Draw the canvas of one image: a random zoom, turn and place.

    Zoom: 0.85 to 1.2 times `size` (px). Turn: any. Place: up to 6 px from the middle, either way.
    """
    zoom = at.uniform(0.85, 1.2) * size
    angle = at.uniform(0, 2 * np.pi)
    turn = complex(zoom * np.cos(angle), zoom * np.sin(angle))
    centre = complex(*(SIZE / 2 + at.uniform(-6, 6, 2)))
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    spot = (columns + 1j * rows - centre) / turn
    return Canvas(spot.real, spot.imag, turn, centre)


def noise(canvas: Canvas, rng: np.random.Generator, frequency: float) -> np.ndarray:
    """Return (64, 64) smooth noise in [-1, 1], `frequency` cells in a lesion unit, fixed to it."""
    table = rng.uniform(-1, 1, (16, 16))
    right, below = np.roll(table, -1, 1), np.roll(table, -1, 0)
    u, v = canvas.x * frequency + 64, canvas.y * frequency + 64
    i, j = u.astype(np.int64), v.astype(np.int64)
    fu, fv = u - i, v - j
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    cell = ((j & 15) << 4) + (i & 15)
    top = table.ravel()[cell] + fu * (right - table).ravel()[cell]
    return top + fv * (
        (below - table).ravel()[cell]
        + fu * (np.roll(below, -1, 1) - below - right + table).ravel()[cell]
    )


def step(value: np.ndarray, width: float) -> np.ndarray:
    """Rise smoothly from 0 to 1 around value 0, element by element.

    Over about four widths. value: of any shape, which is returned.
    """
    return 1 / (1 + np.exp(np.clip(-value / width, -40, 40)))


def spots(canvas: Canvas, points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Draw discs with a soft edge around complex points (n,): (64, 64) in [0, 1].

    radius (n,) in lesion units.
    """
    centre = canvas.pixels(points)
    reach = np.maximum(radius * abs(canvas.turn), 0.8)[:, None] * 1.2
    grid = np.arange(SIZE) + 0.5
    across = np.exp(-(((grid - centre.real[:, None]) / reach) ** 2))
    down = np.exp(-(((grid - centre.imag[:, None]) / reach) ** 2))
    return step(np.einsum("ny,nx->yx", down, across) - 0.5, 0.08)


def stroke(path: np.ndarray, width: float) -> np.ndarray:
    """Return (64, 64) in [0, 1]: how much of each pixel a line covers.

    path (n,) complex pixels, about evenly spaced; width in pixels.
    """
    step = np.abs(np.diff(path)).mean()
    along = np.gradient(path)
    across = 1j * along / np.maximum(np.abs(along), 1e-9)
    lanes = max(2, int(np.ceil(width * 2)))
    dots = (
        path[:, None] + across[:, None] * (np.arange(lanes) + 0.5 - lanes / 2) * width / lanes
    ).ravel()
    covered: np.ndarray = np.minimum(splat(dots) * step * width / lanes, 1)
    return covered


def splat(dots: np.ndarray) -> np.ndarray:
    """Return (64, 64), one unit a complex position (n,), shared by the four nearest pixels."""
    dots = dots[
        (dots.real > 1) & (dots.real < SIZE - 1) & (dots.imag > 1) & (dots.imag < SIZE - 1)
    ] - (0.5 + 0.5j)
    i, j = dots.real.astype(np.int64), dots.imag.astype(np.int64)
    u, v = dots.real - i, dots.imag - j
    where = np.concatenate(
        [j * SIZE + i, j * SIZE + i + 1, (j + 1) * SIZE + i, (j + 1) * SIZE + i + 1]
    )
    share = np.concatenate([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
    return np.bincount(where, share, SIZE * SIZE).reshape(SIZE, SIZE)


def curve(
    rng: np.random.Generator, start: complex, heading: float, length: float, bend: float
) -> np.ndarray:
    """Return (64,) complex: a line that wanders from `start`."""
    turns = heading + bend * np.cumsum(rng.uniform(-1, 1, 8)).repeat(8) * 0.5
    return start + np.cumsum(np.exp(1j * turns)) * (length / 64)


def scatter(rng: np.random.Generator, n: int, inner: float, outer: float) -> np.ndarray:
    """Return (n,) complex points between two radii, even by area."""
    points: np.ndarray = np.sqrt(rng.uniform(inner**2, outer**2, n)) * np.exp(
        2j * np.pi * rng.random(n)
    )
    return points


def honeycomb(canvas: Canvas, rng: np.random.Generator, period: float, warp: float) -> np.ndarray:
    """Return (64, 64) in [-1.5, 3].

    A honeycomb, high in the holes and low on the lines; `warp` (lesion units) makes it irregular.
    """
    angle = rng.uniform(0, np.pi)
    x, y = canvas.x + warp * noise(canvas, rng, 2.5), canvas.y + warp * noise(canvas, rng, 2.5)
    waves = [angle + k * np.pi / 3 for k in range(3)]
    total: np.ndarray = sum(
        np.cos((x * np.cos(a) + y * np.sin(a)) * (2 * np.pi / period)) for a in waves
    )
    return total
