"""The chest as a radiograph shows it.

Anatomy from the front and from the side, and what disease adds to it.

A film is a map of attenuation (bright is dense) and the part of it that is aerated lung. Findings
change both. Body coordinates: x across, image right being the patient's left (from the side: front
to back), y down, the chest's half width near 1. Signs as in Hansell et al. 2008, Fleischner
Society: Glossary of Terms for Thoracic Imaging, doi:10.1148/radiol.2462070712.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from medbench.tasks.phantoms.drawing import Canvas, curve, noise, spots, step, stroke

RIGHT, LEFT = -1, 1  # of the patient: image left and right
CAVITY = 0.86  # half width of the rib cage inside


@dataclass
class Film:
    """One exposure.

    Each map (64, 64): `dense` attenuation in about [0, 1], `air` the aerated share in [0, 1],
    `cage` the inside of the rib cage.

    away: distance from the midline, or on a lateral film from the sternum backwards, in [0, CAVITY]
    inside the cage. base: height of each side's diaphragm. side: -1 and 1 by half, 0 for a lateral
    film, where both lungs lie on each other.
    """

    canvas: Canvas
    side: np.ndarray
    away: np.ndarray
    dense: np.ndarray
    air: np.ndarray
    cage: np.ndarray
    base: Mapping[int, float]
    supine: bool

    def half(self, side: int) -> np.ndarray:
        """Return (64, 64) of 0 and 1: where a finding of that lung shows."""
        return (
            np.ones_like(self.dense) if not self.side.any() else (self.side == side).astype(float)
        )

    def line(
        self,
        rng: np.random.Generator,
        start: complex,
        heading: float,
        length: float,
        bend: float,
        width: float,
    ) -> np.ndarray:
        """Return (64, 64) in [0, 1]: a wandering stroke in body coordinates, width in pixels."""
        return stroke(self.canvas.pixels(curve(rng, start, heading, length, bend)), width)


def frontal(
    canvas: Canvas,
    rng: np.random.Generator,
    ratio: float,
    lift: Mapping[int, float],
    facts: Mapping[str, float],
) -> Film:
    """Draw the chest from the front.

    ratio: heart's width to the rib cage's. lift: how far each diaphragm stands too high. rng draws
    what is the patient's own. facts: `age` in years, `breasts` in [0, 1], `supine` 0 or 1.
    """
    x, y = canvas.x, canvas.y
    side = np.where(x < 0, RIGHT, LEFT)
    away = np.abs(x)
    breath, apex = rng.uniform(-0.07, 0.07) - 0.08 * facts["supine"], rng.uniform(-0.92, -0.80)
    base = {s: 0.52 + breath - lift[s] - (0.06 if s == RIGHT else 0.0) for s in (RIGHT, LEFT)}
    lateral = CAVITY * np.sqrt(np.clip(1 - (np.clip(0.2 - y, 0, None) / (0.2 - apex)) ** 2, 0, 1))
    top = np.where(x < 0, base[RIGHT], base[LEFT]) + 0.30 * ((away - 0.42) / 0.44) ** 2
    cage = step(lateral - away, 0.015) * step(0.95 - y, 0.02)
    lung = (
        cage
        * step(away - 0.13 - 0.04 * np.exp(-(((y + 0.05) / 0.2) ** 2)), 0.015)
        * step(top - y, 0.015)
    )
    heart = _heart(
        x, y, 0.28 * ratio * CAVITY, 0.32 - 0.3 * breath, ratio * CAVITY, rng.uniform(0.66, 0.80)
    )
    knob = np.exp(-(((x - 0.17) / (0.07 + 0.0006 * facts["age"])) ** 2) - ((y + 0.32) / 0.12) ** 2)
    air = lung * (1 - heart) * (1 - 0.7 * step(knob - 0.5, 0.1))
    shoulder = 0.28 + 0.76 * step(y + 0.86 + 0.05 * breath, 0.07)
    body = step(shoulder - away, 0.03)
    dense = body * (0.66 + 0.12 * np.exp(-((x / 0.16) ** 2)) + 0.05 * step(y - top, 0.05))
    dense += 0.05 * body * np.exp(-((x / 0.1) ** 2)) * np.cos(2 * np.pi * y / 0.14)
    dense -= 0.16 * body * np.exp(-(((x - 0.01) / 0.05) ** 2)) * step(-0.22 - y, 0.05)
    period, slope = rng.uniform(0.19, 0.23), rng.uniform(0.25, 0.4)
    back, front = (
        np.cos(2 * np.pi * (y + tilt * away - bow * away**2) / period)
        for tilt, bow in ((0.10, slope), (-0.55, -0.1))
    )
    dense += (
        cage
        * (0.25 + 0.75 * air)
        * (0.065 * step(back - 0.2, 0.15) + 0.03 * step(front - 0.35, 0.15))
    )
    film = Film(canvas, side, away, dense, air, cage, base, bool(facts["supine"]))
    for s in (RIGHT, LEFT):
        collar = np.linspace(
            complex(s * 0.07, -0.60), complex(s * 0.85, -0.74 + rng.uniform(-0.06, 0.06)), 48
        )
        film.dense += 0.09 * stroke(canvas.pixels(collar), 0.07 * abs(canvas.turn))
        breast = np.exp(-((((away - 0.5) / 0.38) ** 2 + ((y - 0.42) / 0.34) ** 2) ** 2))
        film.dense += 0.09 * facts["breasts"] * breast * film.half(s)
    _vessels(film, rng, [complex(s * 0.2, 0.02) for s in (RIGHT, LEFT)], 4)
    if rng.random() < 0.6:  # the stomach's bubble of air
        film.dense -= 0.14 * spots(
            canvas, np.array([complex(0.4, base[LEFT] + 0.19)]), np.array([rng.uniform(0.06, 0.13)])
        )
    return film


def lateral(
    canvas: Canvas,
    rng: np.random.Generator,
    ratio: float,
    lift: Mapping[int, float],
    facts: Mapping[str, float],
) -> Film:
    """Draw the chest from the side, front to the image's left. Arguments as for `frontal`."""
    x, y = canvas.x, canvas.y
    breath, apex = rng.uniform(-0.07, 0.07), rng.uniform(-0.92, -0.80)
    base = {s: 0.46 + breath - lift[s] for s in (RIGHT, LEFT)}
    front = -0.66 + 0.42 * np.clip(-0.1 - y, 0, None)
    behind = 0.64 - 0.30 * np.clip(-0.2 - y, 0, None) ** 2
    top = (
        min(base.values())
        + 0.42 * np.clip(x + 0.15, 0, None) ** 1.6
        + 0.25 * np.clip(-0.15 - x, 0, None) ** 2
    )
    cage = (
        step(x - front, 0.02) * step(behind - x, 0.02) * step(y - apex, 0.03) * step(0.95 - y, 0.02)
    )
    lung = cage * step(top - y, 0.015)
    heart = _heart(-x, y, 0.24, 0.26, ratio * CAVITY * 0.85, rng.uniform(0.62, 0.76))
    body = step(x - front + 0.12, 0.03) * step(behind + 0.30 - x, 0.03)
    dense = body * (0.66 + 0.05 * step(y - top, 0.05))
    bone = np.exp(-(((x - behind + 0.02) / 0.10) ** 2))
    dense += body * bone * (0.12 + 0.07 * np.cos(2 * np.pi * y / 0.17))
    period = rng.uniform(0.2, 0.25)
    dense += cage * 0.045 * step(np.cos(2 * np.pi * (y - 0.55 * x) / period) - 0.2, 0.15)
    dense -= (
        0.12 * body * np.exp(-(((x - 0.05 - 0.1 * (y + 0.5)) / 0.05) ** 2)) * step(-0.25 - y, 0.05)
    )
    dense += (
        0.10
        * facts["breasts"]
        * np.exp(-((((x + 0.62) / 0.3) ** 2 + ((y - 0.35) / 0.3) ** 2) ** 2))
    )
    film = Film(
        canvas,
        np.zeros_like(x),
        np.clip(x + 0.5, 0, CAVITY),
        dense,
        lung * (1 - heart),
        cage,
        base,
        False,
    )
    _vessels(film, rng, [complex(0.0, 0.0)], 6)
    return film


def _heart(
    x: np.ndarray, y: np.ndarray, across: float, down: float, half: float, slim: float
) -> np.ndarray:
    """(64, 64): an egg whose long axis points down and to the patient's left.

    half: half its width; slim: short by long axis.
    """
    cos, sin = 0.83, 0.56
    long = half / (cos**2 + (slim * sin) ** 2) ** 0.5
    u, v = x - across, y - down
    along, aside = u * cos + v * sin, v * cos - u * sin
    return step(1 - (np.abs(along) / long) ** 2.3 - (np.abs(aside) / (slim * long)) ** 2.3, 0.07)


def _vessels(film: Film, rng: np.random.Generator, roots: list[complex], n: int) -> None:
    for root in roots:
        outwards = 0.0 if root.real >= 0 else np.pi
        for k in range(n):
            spread = (k / (n - 1) - 0.5) * (2.3 if film.side.any() else 5.5) + rng.uniform(
                -0.2, 0.2
            )
            path = film.line(
                rng, root, outwards + spread, rng.uniform(0.3, 0.55), 0.6, rng.uniform(0.9, 1.5)
            )
            film.dense += (
                0.15
                * path
                * film.air
                * np.exp(-np.abs(film.canvas.x + 1j * film.canvas.y - root) / 0.3)
            )
    for root in roots:
        film.dense += (
            0.12
            * film.air
            * np.exp(
                -(((film.canvas.x - root.real) / 0.1) ** 2)
                - ((film.canvas.y - root.imag) / 0.16) ** 2
            )
        )


def effusion(film: Film, rng: np.random.Generator, s: float) -> None:
    """Draw fluid: a blunt angle, and from there a level that climbs along the ribs (meniscus).

    Lying down, a veil over the half of the chest. film: is changed. s: how much.
    """
    both = rng.random() < 0.35
    one = RIGHT if rng.random() < 0.55 else LEFT
    for side in (RIGHT, LEFT) if both else (one,):
        height = (0.10 + 0.62 * s) * rng.uniform(0.75, 1.1)
        climb = (film.away / CAVITY) ** 4
        surface = 0.84 - height * (0.35 + 0.65 * climb)
        where = film.half(side) * film.cage
        if film.supine and rng.random() < 0.6:
            film.dense += 0.20 * s * where * film.air * np.clip(0.5 + 0.5 * film.canvas.y, 0, 1)
            surface = 0.84 - 0.5 * height * (0.3 + 0.7 * climb)
        film.air *= 1 - where * step(film.canvas.y - surface, 0.02)


def consolidation(film: Film, rng: np.random.Generator, s: float) -> None:
    """Draw a patch with a soft border.

    In it the vessels are lost and the bronchi stay dark.
    """
    side = RIGHT if rng.random() < 0.5 else LEFT
    centre = complex(side * rng.uniform(0.35, 0.65), rng.uniform(-0.5, 0.35))
    if not film.side.any():
        centre = complex(rng.uniform(-0.4, 0.45), centre.imag)
    blobs = centre + rng.uniform(-0.17, 0.17, 4) + 1j * rng.uniform(-0.14, 0.14, 4)
    patch = spots(film.canvas, blobs, rng.uniform(0.10, 0.20, 4)) * np.clip(
        0.75 + 0.5 * noise(film.canvas, rng, 5), 0, 1
    )
    tube = film.line(rng, centre - 0.12 * side, rng.uniform(0, 2 * np.pi), 0.3, 0.4, 1.0)
    film.air *= 1 - (0.25 + 0.6 * s) * patch * (1 - 0.5 * tube)


def atelectasis(film: Film, rng: np.random.Generator, s: float) -> None:
    """Draw plates of collapsed lung above the diaphragm.

    It stands higher there (`lift` of the film).
    """
    low = min(film.base, key=lambda side: film.base[side])
    for _ in range(1 + int(rng.random() * 2.5)):
        start = complex(low * rng.uniform(0.22, 0.4), film.base[low] - rng.uniform(0.06, 0.26))
        if not film.side.any():
            start = complex(rng.uniform(-0.2, 0.2), start.imag)
        tilt = (0.0 if start.real >= 0 else np.pi) + rng.uniform(-0.35, 0.35)
        film.dense += (
            (0.10 + 0.16 * s)
            * film.cage
            * film.line(rng, start, tilt, rng.uniform(0.25, 0.42), 0.12, rng.uniform(1.1, 1.9))
        )
    wedge = np.exp(
        -(((film.away - 0.25) / 0.2) ** 2) - ((film.canvas.y - film.base[low]) / 0.14) ** 2
    )
    film.air *= 1 - 0.6 * s * wedge * film.half(low)


def oedema(film: Film, rng: np.random.Generator, s: float) -> None:
    """Draw a haze around both hila, thick upper vessels, and short lines at the ribs.

    The lines stand above the angles (Kerley B).
    """
    wing = np.exp(-(((film.away - 0.30) / 0.27) ** 2) - ((film.canvas.y - 0.02) / 0.42) ** 2)
    film.dense += (0.04 + 0.20 * s) * film.air * wing * (1 + 0.5 * noise(film.canvas, rng, 4))
    sides = (RIGHT, LEFT) if film.side.any() else (LEFT,)
    for side in sides:
        for up in (-0.75, -1.25):
            path = film.line(
                rng, complex(side * 0.2, -0.05), up if side == LEFT else np.pi - up, 0.5, 0.3, 1.8
            )
            film.dense += 0.10 * s * film.air * path
        for k in range(4):
            start = complex(
                side * (0.80 if film.side.any() else 0.5),
                0.22 + 0.09 * k + rng.uniform(-0.02, 0.02),
            )
            path = film.line(
                rng, start, np.pi if side == LEFT else 0.0, rng.uniform(0.08, 0.15), 0.05, 0.8
            )
            film.dense += 0.22 * s * film.cage * path


#: Cardiomegaly is the ratio itself, and atelectasis also lifts the diaphragm: both stand in the
#: film before these are painted.
PAINT: Mapping[str, Callable[[Film, np.random.Generator, float], None]] = {
    "Edema": oedema,
    "Consolidation": consolidation,
    "Atelectasis": atelectasis,
    "Pleural Effusion": effusion,
}
