"""The signs that clinicians read in dermoscopy.

Each is painted into the layers of one lesion with a strength in (0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from medbench.tasks.phantoms.drawing import (
    Canvas,
    Layers,
    curve,
    honeycomb,
    noise,
    scatter,
    spots,
    step,
    stroke,
)


def body(canvas: Canvas, rng: np.random.Generator, strength: Mapping[str, float]) -> Layers:
    """Draw shape and ground colour: border, symmetry, how the pigment fades."""
    radius = np.hypot(canvas.x, canvas.y) + 1e-9
    unit = (canvas.x + 1j * canvas.y) / radius
    swing = np.array([0.20, 0.06, 0.04, 0.03, 0.02, 0.02]) * rng.uniform(0.2, 1.2, 6)
    swing[1:] += (
        strength["ragged"] * np.array([0.10, 0.09, 0.07, 0.06, 0.05]) * rng.uniform(0.3, 1, 5)
    )
    phase = np.exp(2j * np.pi * rng.random(6))
    edge, power = np.ones_like(radius), unit
    for a, p in zip(swing, phase, strict=True):
        power = power * unit
        edge += a * (power * p).real
    edge += (0.08 + 0.12 * strength["ragged"]) * noise(canvas, rng, 3.5)
    softness = rng.uniform(0.05, 0.10) + 0.10 * strength["soft"] - 0.035 * strength["sharp"]
    inside = step(edge - radius, softness)
    tilt = np.exp(2j * np.pi * rng.random())
    lean = (canvas.x * tilt.real + canvas.y * tilt.imag) * (0.12 + 0.55 * strength["lopsided"])
    ground = np.clip(
        0.55
        + 0.2 * (edge - radius)
        + lean
        + 0.18 * noise(canvas, rng, 1.5)
        + 0.16 * noise(canvas, rng, 5),
        0.08,
        1.6,
    )
    patches = strength["patches"] * 1.1 * step(noise(canvas, rng, 1.6), 0.12)
    pink = rng.uniform(0.1, 0.6)
    zero = np.zeros_like(radius)
    return Layers(
        inside,
        inside * (ground + patches) * (1 - 0.6 * pink),
        inside * ground * pink,
        zero.copy(),
        zero.copy(),
    )


def _network(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    lines = step(-0.1 - honeycomb(canvas, rng, rng.uniform(0.22, 0.30), 0.10), 0.3)
    layers.brown += s * layers.inside * (0.8 * lines - 0.25) * (1 + 0.5 * noise(canvas, rng, 1.5))


def _atypical(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    lines = step(0.2 - honeycomb(canvas, rng, rng.uniform(0.3, 0.45), 0.28), 0.25)
    layers.brown += s * layers.inside * 1.3 * lines * step(noise(canvas, rng, 1.3), 0.15)


def _globules(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    balls = step(honeycomb(canvas, rng, rng.uniform(0.25, 0.36), 0.10) - 1.0, 0.3)
    layers.brown += s * layers.inside * (1.0 * balls - 0.2) * (1 + 0.5 * noise(canvas, rng, 1.5))


def _dots(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    points = scatter(rng, 9, 0, 0.5) + scatter(rng, 1, 0.2, 0.5)
    layers.brown += s * 1.8 * spots(canvas, points, rng.uniform(0.04, 0.11, 9))


def _veil(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    spot = spots(
        canvas, scatter(rng, 3, 0, 0.35) + scatter(rng, 1, 0.1, 0.4), rng.uniform(0.2, 0.42, 3)
    )
    spot = spot * step(0.35 + noise(canvas, rng, 3) + 0.5 * noise(canvas, rng, 7), 0.25)
    layers.blue += s * 0.9 * spot
    layers.brown *= 1 - 0.7 * s * spot
    layers.white += 0.22 * s * spot


def _streaks(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    middle, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.4)
    for angle in middle + np.linspace(-width, width, 7) + rng.uniform(-0.1, 0.1, 7):
        path = curve(rng, 0.8 * np.exp(1j * angle), angle, rng.uniform(0.25, 0.5), 0.15)
        layers.brown += s * 1.2 * stroke(canvas.pixels(path), 0.09 * abs(canvas.turn))


def _cysts(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    layers.white += (
        s * 0.7 * spots(canvas, scatter(rng, 9, 0.05, 0.85), rng.uniform(0.035, 0.075, 9))
    )


def _openings(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    points, radius = scatter(rng, 7, 0.05, 0.85), rng.uniform(0.06, 0.12, 7)
    layers.brown += s * 1.6 * spots(canvas, points, radius)
    layers.white *= 1 - spots(canvas, points, radius)


def _fissures(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    ridge = np.abs(noise(canvas, rng, 2.6) + 0.3 * noise(canvas, rng, 5))
    layers.brown += s * layers.inside * (1.3 * np.exp(-((ridge / 0.1) ** 2)) - 0.2)


def _vessels(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    for _ in range(2):
        start = complex(scatter(rng, 1, 0.6, 1.0)[0])
        heading = np.angle(-start) + rng.uniform(-0.5, 0.5)
        stem = curve(rng, start, heading, rng.uniform(0.9, 1.5), 0.5)
        layers.red += s * 1.6 * stroke(canvas.pixels(stem), 0.085 * abs(canvas.turn))
        for k in (14, 28, 42):
            away = rng.uniform(0.4, 1.1) * (1 if rng.random() < 0.5 else -1)
            branch = curve(rng, complex(stem[k]), heading + away, rng.uniform(0.35, 0.8), 0.6)
            layers.red += s * 1.4 * stroke(canvas.pixels(branch), 0.05 * abs(canvas.turn))


def _leaves(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    roots = scatter(rng, 4, 0.6, 0.9)
    fingers = np.concatenate(
        [
            roots,
            *(
                roots * (1 + d) * np.exp(1j * a)
                for d, a in ((0.22, 0.16), (0.26, 0.0), (0.22, -0.16))
            ),
        ]
    )
    lobes = spots(
        canvas, fingers, np.concatenate([rng.uniform(0.12, 0.18, 4), rng.uniform(0.06, 0.09, 12)])
    )
    mix = rng.uniform(0.3, 0.9)
    layers.brown *= 1 - 0.5 * s
    layers.brown += s * 0.9 * mix * lobes
    layers.blue += s * 0.9 * (1 - mix) * lobes


def _erosion(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    spot = spots(
        canvas, scatter(rng, 1, 0, 0.5) + scatter(rng, 4, 0, 0.2), rng.uniform(0.1, 0.2, 4)
    )
    layers.red += s * 1.3 * spot * (1 + 0.5 * noise(canvas, rng, 7))
    layers.brown += s * 0.5 * spot * step(noise(canvas, rng, 6), 0.1)


def _shiny(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    angle = rng.uniform(0, np.pi)
    for start in scatter(rng, 4, 0, 0.7):
        for turn in (angle, angle + np.pi / 2):
            path = curve(rng, complex(start), turn, rng.uniform(0.2, 0.4), 0.05)
            layers.white += s * 0.5 * stroke(canvas.pixels(path), 0.05 * abs(canvas.turn))


def _strawberry(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    comb = honeycomb(canvas, rng, rng.uniform(0.26, 0.38), 0.14)
    layers.brown *= 1 - 0.5 * s
    layers.red += s * layers.inside * 0.8 * step(0.6 - comb, 0.4)
    layers.white += (
        s * layers.inside * 0.5 * step(comb - 1.5, 0.35) * (1 + 0.6 * noise(canvas, rng, 2))
    )


def _scale(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    flakes = step(noise(canvas, rng, 6.5) + 0.5 * noise(canvas, rng, 2) - 0.5, 0.05)
    layers.white += s * 0.65 * layers.inside * flakes


def _dotted(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    layers.red += s * 1.5 * spots(canvas, scatter(rng, 16, 0, 0.8), rng.uniform(0.03, 0.05, 16))


def _scar(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    core = spots(canvas, scatter(rng, 3, 0, 0.18), rng.uniform(0.2, 0.38, 3)) * step(
        0.5 + noise(canvas, rng, 4), 0.3
    )
    layers.brown *= 1 - 0.75 * s * core
    layers.white += s * 0.55 * core


def _lacunae(canvas: Canvas, rng: np.random.Generator, layers: Layers, s: float) -> None:
    ring = (
        0.62
        * np.exp(2j * np.pi * (np.arange(6) + rng.uniform(-0.2, 0.2, 6)) / 6)
        * rng.uniform(0.8, 1.15, 6)
    )
    pools = spots(
        canvas, np.append(ring, complex(scatter(rng, 1, 0, 0.15)[0])), rng.uniform(0.12, 0.30, 7)
    )
    deep = rng.uniform(0, 1)
    layers.brown *= 1 - 0.8 * s
    layers.red += s * pools * (1.6 - 0.6 * deep)
    layers.blue += s * pools * deep


_Paint = Callable[[Canvas, np.random.Generator, Layers, float], None]
#: In the order in which they lie on each other.
PAINT: Mapping[str, _Paint] = {
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
NAMES = ("lopsided", "ragged", "patches", "soft", "sharp", *PAINT)  # the first five shape the body
