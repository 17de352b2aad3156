"""Fundus photographs that are drawn: five grades of diabetic retinopathy, both eyes of a patient.

Disc, macula, arcades of arteries and veins; a left eye is a right one mirrored. Which lesions stand
in which grade follows the international scale (Wilkinson et al. 2003, Ophthalmology 110:1677,
doi:10.1016/S0161-6420(03)00475-5): microaneurysms alone, then haemorrhages, exudates and cotton
wool, then haemorrhages in all quadrants, beaded veins and intraretinal vessels, then new vessels,
bleeding before the retina and scars of laser treatment. Pigment, camera, light, focus, dust and
drusen are drawn alike for all grades.

The difficulty is frozen: every change of a pixel makes another benchmark and needs a raise of
RETINA_VERSION.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from medbench.schema import PARTS, Drawn, Split
from medbench.stats import splits
from medbench.tasks.phantoms.drawing import SIZE, Canvas, curve, noise, scatter, spots, step, stroke

RETINA_VERSION = 1
#: SHA-256 of the pixels of every 19th image, in the order of `retina`'s parts.
RETINA_PIXELS = "ac423829590445e97a68370f7b60632152f8f8d24b211548ccc3230731ea2b9d"
#: `splits.ids_hash` of the test part.
RETINA_TEST = "d93e0cf52bef11180f982f9e70a231a2e52bf988049479f7c2054734f9a559e5"
#: APTOS 2019's images of each grade, of 3,662 (its train.csv).
GRADES = (1805, 370, 999, 193, 295)
PATIENTS = 620
ALIKE = 0.75  # both eyes have one grade; else the second is drawn anew from all grades
SHARES = (0.7, 0.1, 0.2)
DISC, FOVEA = complex(0.52, 0.03), complex(-0.12, 0.06)
_Camera = tuple[tuple[float, float, float], float, float]
#: Tint, sharpness in [0, 1], and how much of the round field the sensor cuts off above and below.
CAMERAS: dict[str, _Camera] = {
    "A": ((1.0, 1.0, 1.0), 0.9, 0.0),
    "B": ((1.06, 0.95, 0.85), 0.6, 0.18),
    "C": ((0.93, 1.05, 1.1), 0.35, 0.0),
}
# grounds that a retina is mixed from
SKIN = np.array([[0.86, 0.42, 0.16], [0.72, 0.38, 0.20], [0.80, 0.33, 0.12]])
BLOOD, FAT, WOOL = (
    np.array([0.30, 0.85, 0.75]),
    np.array([0.98, 0.86, 0.45]),
    np.array([0.93, 0.82, 0.68]),
)


@dataclass(frozen=True)
class GradeSigns:
    """What an eye of one grade shows.

    Counts as (fewest, most), both included; the others are how often, in [0, 1].
    """

    aneurysms: tuple[int, int]
    blots: tuple[int, int] = (0, 0)
    quadrants: int = 0  # at most, that blots lie in
    exudates: float = 0.0
    wool: float = 0.0
    beads: float = 0.0
    tangles: float = 0.0  # intraretinal vessels
    new_vessels: float = 0.0
    bleeding: float = 0.0  # before the retina
    scars: float = 0.0


PLANS = (
    GradeSigns((0, 0)),
    GradeSigns((2, 5)),
    GradeSigns((4, 11), (2, 6), 3, exudates=0.65, wool=0.3),
    GradeSigns((8, 16), (10, 20), 4, exudates=0.6, wool=0.65, beads=0.7, tangles=0.6),
    GradeSigns(
        (4, 14),
        (3, 14),
        4,
        exudates=0.5,
        wool=0.45,
        beads=0.5,
        tangles=0.3,
        new_vessels=0.85,
        bleeding=0.4,
        scars=0.4,
    ),
)
FAINTEST = 0.4  # of an eye's lesions; the strongest are 1


def retina() -> dict[str, Split]:
    """Return drawn fundus photographs, both eyes of 620 patients: train, val, test.

    Draws nothing: an image is drawn when it is read.

    Labels (N,) int64: the grade, 0 to 4. Groups and bags: the patient. meta: eye, camera,
    independent of the grade.
    """
    grades, cameras = _patients()
    patient, eye = np.repeat(np.arange(PATIENTS), 2), np.tile([0, 1], PATIENTS)
    names = np.array([f"phantom{i:04d}" for i in range(PATIENTS)])[patient]
    sides = np.array(["left", "right"])[eye]
    seeds = patient * 2 + eye
    whole = Split(
        images=[
            Drawn(draw_retina, int(seed), f"retina-phantom-{RETINA_VERSION}:{seed}")
            for seed in seeds
        ],
        ids=np.array([f"{name}_{side}" for name, side in zip(names, sides, strict=True)]),
        labels=grades[patient, eye],
        groups=names,
        bags=names,
        meta={"eye": sides, "camera": cameras[patient]},
    )
    part = splits.partition(whole.labels, names, SHARES, key=f"retina-phantom-{RETINA_VERSION}")
    return {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS)}


def draw_retina(seed: int) -> np.ndarray:
    """Return (64, 64, 3) uint8, the same pixels for the same seed.

    seed = 2 * patient + eye, eye 0 being the left one.
    """
    patient, eye = divmod(seed, 2)
    grades, cameras = _patients()
    own = np.random.Generator(np.random.PCG64([RETINA_VERSION, 0, patient]))
    rng = np.random.Generator(np.random.PCG64([RETINA_VERSION, 1, seed]))
    ill = np.random.Generator(np.random.PCG64([RETINA_VERSION, 2, seed]))
    at = np.random.Generator(np.random.PCG64([RETINA_VERSION, 3, seed]))
    canvas = _pose(at)
    ground = _ground(canvas, own, rng)
    blood, fat, wool, beads = _lesions(canvas, ill, PLANS[int(grades[patient, eye])])
    _blemishes(canvas, at, blood, fat)
    image = ground * np.exp(-(blood + _vessels(canvas, rng, beads))[..., None] * BLOOD)
    for amount, colour in ((fat, FAT), (wool, WOOL)):
        image = image * (1 - amount[..., None]) + colour * amount[..., None]
    return _photograph(
        canvas, own, at, image if eye else image[:, ::-1], CAMERAS[str(cameras[patient])]
    )


def _pose(at: np.random.Generator) -> Canvas:
    zoom, angle = at.uniform(28, 32), at.uniform(-0.12, 0.12)
    turn = complex(zoom * np.cos(angle), zoom * np.sin(angle))
    centre = complex(*(SIZE / 2 + at.uniform(-2, 2, 2)))
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    spot = (columns + 1j * rows - centre) / turn
    return Canvas(spot.real, spot.imag, turn, centre)


def _ground(canvas: Canvas, own: np.random.Generator, rng: np.random.Generator) -> np.ndarray:
    """(64, 64, 3) in [0, 1]: pigment, choroid, disc with its cup, macula; own.

    What both eyes share.
    """
    mix = own.random(len(SKIN)) ** 2
    tone = np.einsum("k,kc->c", mix / mix.sum(), SKIN) * own.uniform(0.75, 1.1)
    tiger = own.uniform(0, 0.10) * noise(canvas, rng, 6) + 0.06 * noise(canvas, rng, 2)
    place = canvas.x + 1j * canvas.y
    dip = np.exp(-((np.abs(place - FOVEA) / 0.22) ** 2))
    image = tone * (1 + tiger - own.uniform(0.2, 0.45) * dip)[..., None]
    size = own.uniform(0.13, 0.18)
    oval = np.abs((place - DISC).real + 0.9j * (place - DISC).imag)
    rim = step(size - oval, 0.015)[..., None]
    cup = step(size * own.uniform(0.25, 0.6) - oval, 0.015)[..., None]
    image = image * (1 - 0.85 * rim) + 0.85 * rim * np.array([0.97, 0.72, 0.42])
    ground: np.ndarray = image * (1 - 0.6 * cup) + 0.6 * cup * np.array([1.0, 0.9, 0.7])
    return ground


def _vessels(canvas: Canvas, rng: np.random.Generator, beads: float) -> np.ndarray:
    """Draw two arcades around the macula and two nasal trunks: (64, 64) >= 0.

    Each arcade is an artery and a vein with branches. beads in [0, 1]: how uneven the veins are.
    """
    total = np.zeros((SIZE, SIZE))
    t = np.linspace(0, 1, 48)
    for up in (-1, 1):
        for vein in (0, 1):
            tall = rng.uniform(0.50, 0.64) + 0.06 * vein
            arc = (
                DISC
                - 1.35 * t**1.15
                + 1j * up * tall * np.sqrt(t) * (1.35 - 0.75 * t)
                + _wander(rng, 0.035)
            )
            width = (0.040 + 0.018 * vein) * abs(canvas.turn)
            total += (0.5 + 0.3 * vein) * stroke(canvas.pixels(arc), width)
            if beads and vein:
                total += 0.8 * beads * spots(canvas, arc[8::5], np.full(8, 0.045))
            for k in (10, 24) if vein else (17,):
                away = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.5, 0.9)
                branch = curve(
                    rng,
                    complex(arc[k]),
                    float(np.angle(arc[k + 1] - arc[k])) + away,
                    rng.uniform(0.35, 0.6),
                    0.35,
                )
                total += (0.35 + 0.2 * vein) * stroke(canvas.pixels(branch), 0.6 * width)
        nasal = curve(rng, DISC, up * rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.6), 0.3)
        total += 0.5 * stroke(canvas.pixels(nasal), 0.04 * abs(canvas.turn))
    return total


def _wander(rng: np.random.Generator, size: float) -> np.ndarray:
    """(48,) complex: a smooth deviation that begins at 0."""
    t = np.linspace(0, 1, 48)
    a = rng.uniform(-1, 1, (2, 3)) * size
    waves = np.stack([np.sin(np.pi * (k + 1) * t) for k in range(3)])
    swing: np.ndarray = np.einsum("k,kt->t", a[0] + 1j * a[1], waves)
    return swing


def _lesions(
    canvas: Canvas, ill: np.random.Generator, plan: GradeSigns
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(64, 64) each: blood >= 0, hard exudates and cotton wool in [0, 1].

    The last is how uneven the veins are.
    """
    s = FAINTEST + (1 - FAINTEST) * ill.random()
    blood, fat, wool = (np.zeros((SIZE, SIZE)) for _ in range(3))
    shows = ill.random(7) < np.array(
        [
            plan.exudates,
            plan.wool,
            plan.beads,
            plan.tangles,
            plan.new_vessels,
            plan.bleeding,
            plan.scars,
        ]
    )
    n = _count(ill, plan.aneurysms)
    if n:
        blood += 1.1 * s * spots(canvas, _retinal(ill, n, 0.10, 0.85), ill.uniform(0.022, 0.03, n))
    n = _count(ill, plan.blots)
    if n:
        first, wide = (
            ill.uniform(0, 2 * np.pi),
            (1 + int(ill.random() * plan.quadrants)) if plan.quadrants < 4 else 4,
        )
        angle = first + np.pi / 2 * wide * ill.random(n)
        places = FOVEA + np.sqrt(ill.uniform(0.04, 0.55, n)) * np.exp(1j * angle)
        blood += 1.2 * s * spots(canvas, places, ill.uniform(0.03, 0.07, n))
    if shows[0]:
        n = 6 + int(ill.random() * 9)
        middle = FOVEA + complex(scatter(ill, 1, 0.12, 0.45)[0])
        fat += (
            0.85
            * s
            * spots(canvas, middle + scatter(ill, n, 0.05, 0.17), ill.uniform(0.022, 0.04, n))
        )
    if shows[1]:
        n = 1 + int(ill.random() * 3)
        wool += 0.6 * s * spots(canvas, _retinal(ill, n, 0.25, 0.7), ill.uniform(0.06, 0.10, n))
    if shows[3]:
        blood += 0.6 * s * _tangle(canvas, ill, complex(_retinal(ill, 1, 0.3, 0.6)[0]), 3)
    if shows[4]:
        root = DISC if ill.random() < 0.5 else complex(_retinal(ill, 1, 0.4, 0.7)[0])
        blood += 0.7 * s * _tangle(canvas, ill, root, 8)
    if shows[5]:
        at = complex(ill.uniform(-0.5, 0.3), ill.uniform(0.1, 0.5))
        boat = spots(canvas, np.array([at]), ill.uniform(0.14, 0.3, 1)) * step(
            canvas.y - at.imag, 0.02
        )
        blood += 1.6 * s * boat
    if shows[6]:
        n = 18 + int(ill.random() * 20)
        places, radius = scatter(ill, n, 0.62, 0.95), ill.uniform(0.025, 0.04, n)
        wool += 0.5 * s * spots(canvas, places, radius)
        blood += 0.5 * s * spots(canvas, places, 0.4 * radius)
    return blood, np.clip(fat, 0, 0.9), np.clip(wool, 0, 0.8), s * float(shows[2])


def _count(ill: np.random.Generator, bounds: tuple[int, int]) -> int:
    return bounds[0] + int(ill.random() * (bounds[1] - bounds[0] + 1))


def _retinal(ill: np.random.Generator, n: int, inner: float, outer: float) -> np.ndarray:
    """(n,) complex places around the fovea, none on the disc."""
    places = FOVEA + scatter(ill, n, inner, outer)
    return np.where(np.abs(places - DISC) < 0.22, np.conj(places) - 0.35, places)


def _tangle(canvas: Canvas, ill: np.random.Generator, root: complex, n: int) -> np.ndarray:
    """(64, 64) in [0, 1]: thin vessels that coil from one place."""
    total = np.zeros((SIZE, SIZE))
    for _ in range(n):
        path = curve(
            ill,
            root + complex(*ill.uniform(-0.05, 0.05, 2)),
            ill.uniform(0, 2 * np.pi),
            ill.uniform(0.15, 0.36),
            1.6,
        )
        total += stroke(canvas.pixels(path), 0.7)
    return np.minimum(total, 1)


def _blemishes(canvas: Canvas, at: np.random.Generator, blood: np.ndarray, fat: np.ndarray) -> None:
    """Dust on the lens, pigment and drusen: they look like lesions and say nothing of the grade."""
    if at.random() < 0.3:
        n = 1 + int(at.random() * 3)
        blood += at.uniform(0.3, 0.9) * spots(
            canvas, scatter(at, n, 0, 0.9), at.uniform(0.02, 0.05, n)
        )
    if at.random() < 0.15:
        n = 4 + int(at.random() * 8)
        fat += at.uniform(0.15, 0.4) * spots(
            canvas, FOVEA + scatter(at, n, 0, 0.35), at.uniform(0.02, 0.05, n)
        )


def _photograph(
    canvas: Canvas,
    own: np.random.Generator,
    at: np.random.Generator,
    image: np.ndarray,
    camera: _Camera,
) -> np.ndarray:
    """Light, haze, camera, focus, the round field and noise -> (64, 64, 3) uint8."""
    tint, sharp, cut = camera
    rows, columns = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    light = at.uniform(0.8, 1.15) * (
        1 + at.uniform(-0.5, 0.5) * columns + at.uniform(-0.5, 0.5) * rows
    )
    light *= 1 - at.uniform(0.3, 1.1) * (columns**2 + rows**2)
    haze = own.uniform(0, 0.25) ** 2 * 3
    image = (
        (image * (1 - haze) + haze * np.array([0.62, 0.50, 0.36]))
        * light[..., None]
        * (np.array(tint) * (1 + at.uniform(-0.05, 0.05, 3)))
    )
    blur = (1 - sharp) * 0.2 + at.uniform(0, 0.12)
    for axis in (0, 1):
        image = (1 - 2 * blur) * image + blur * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    field = step(1 - np.hypot(canvas.x, canvas.y), 0.012) * (np.abs(rows) < 0.5 - cut / 2)
    image = (
        image * field[..., None] + at.uniform(0.004, 0.02) * (at.random((SIZE, SIZE, 3)) - 0.5) * 2
    )
    levels: np.ndarray = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels


@cache
def _patients() -> tuple[np.ndarray, np.ndarray]:
    """Grades (patients, 2) int64 of the left and the right eye; camera (patients,) str."""
    rng = np.random.Generator(np.random.PCG64([RETINA_VERSION, 4]))
    shares = np.cumsum(np.array(GRADES) / sum(GRADES))
    drawn = np.minimum(
        np.searchsorted(shares, rng.random((PATIENTS, 2)), side="right"), len(GRADES) - 1
    )
    drawn[:, 1] = np.where(rng.random(PATIENTS) < ALIKE, drawn[:, 0], drawn[:, 1])
    names = np.array(list(CAMERAS))
    return drawn.astype(np.int64), names[(rng.random(PATIENTS) * len(names)).astype(int)]
