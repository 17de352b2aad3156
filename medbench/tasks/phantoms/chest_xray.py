"""Chest radiographs that are drawn.

Five findings as in CheXpert, several studies a patient, a lateral view beside some.

The findings change the film as a reader knows them (`chest_anatomy`); each shows with a strength of
its own, and a faint look-alike strays into films without it. View, sex, age, build, lines, exposure
and collimation are drawn alike for all. Films are developed to a brightness and a contrast that do
not depend on what they show.

The difficulty is frozen: every change of a pixel makes another benchmark and needs a raise of
CHEST_VERSION.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from medbench.schema import PARTS, Drawn, Split
from medbench.stats import splits
from medbench.tasks.phantoms import chest_anatomy
from medbench.tasks.phantoms.chest_anatomy import LEFT, RIGHT, Film
from medbench.tasks.phantoms.drawing import SIZE, Canvas, bell, curve, stroke

CHEST_VERSION = 1
#: SHA-256 of the pixels of every 19th image, in the order of `chest`'s parts.
CHEST_PIXELS = "3bdbfa2eed1fe761d0d7fbfc93c054d6800a7ba0735d6c7cd6310f2ffc4af6ef"
#: `splits.ids_hash` of the test part.
CHEST_TEST = "f2b792e093459f1af1bbe290eae53ba39b7fd81be92e7fbb3f8733a9c01b4a40"
FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
#: Rows of CheXpert's train.csv that say 1 and -1, of 223,414.
STATED = np.array([33_376, 27_000, 14_783, 52_246, 86_187]) / 223_414
OPEN = np.array([33_739, 8_087, 27_742, 12_984, 11_628]) / 223_414
#: Half of what a report leaves open is taken to be there: the phantom's own choice.
PRESENT = STATED + OPEN / 2
PATIENTS = 430
#: Share of patients with 1, 2, ... studies; CheXpert has 187,641 studies of 64,540 patients, 65 %
#: of them with two or more images.
STUDIES = np.array([0.44, 0.19, 0.10, 0.08, 0.06, 0.05, 0.04, 0.04])
LATERAL = 33_994 / 187_641  # studies with two or more views
SHARES = (0.7, 0.1, 0.2)
FAINTEST = 0.25  # of a finding that is there; the strongest is 1
STRAY = 0.15  # a film without the finding imitates it, at most so strongly:
STRAYEST = 0.35
KEPT = 0.6  # of a patient's findings, from study to study
SICK = 0.35  # patients with failing hearts: the findings come together
ROOM = 8  # studies a patient can have: seed = (patient * ROOM + study) * 2 + view


@dataclass(frozen=True, eq=False)
class Cases:
    """The S studies of the drawn patients.

    patient (S,), number within the patient (S,), lateral (S,) bool, pa (S,) bool, present (S, 5)
    bool.
    """

    patient: np.ndarray
    number: np.ndarray
    lateral: np.ndarray
    pa: np.ndarray
    present: np.ndarray


def chest(unsure: float = np.nan) -> dict[str, Split]:
    """Return drawn chest radiographs, about 1,350 of 430 patients: train, val, test.

    Draws nothing: an image is drawn when it is read.

    Labels (N, 5) float64 in the order of FINDINGS. In train and val they are a report's: some
    findings are left open, which becomes `unsure` (NaN, 0 or 1); test holds the truth, as
    CheXpert's does. Groups: the patient. Bags: the study. meta: age (years), sex, view, projection,
    independent of the findings.
    """
    cases = _cases()
    study = np.repeat(np.arange(len(cases.patient)), 1 + cases.lateral)
    view = np.concatenate([np.arange(1 + two) for two in cases.lateral])
    patient, number = cases.patient[study], cases.number[study]
    rng = np.random.Generator(np.random.PCG64([CHEST_VERSION, 3]))
    male, age = _people()
    open_chance = np.where(cases.present, OPEN / 2 / PRESENT, OPEN / 2 / (1 - PRESENT))
    left_open = (rng.random(cases.present.shape) < open_chance)[study]
    truth = cases.present[study].astype(float)
    seeds = (patient * ROOM + number) * 2 + view
    names = np.array([f"phantom{i:04d}" for i in range(PATIENTS)])[patient]
    bags = np.array([f"{name}/study{n + 1}" for name, n in zip(names, number, strict=True)])
    ids = np.array(
        [
            f"{bag}/view{v + 1}_{'lateral' if v else 'frontal'}"
            for bag, v in zip(bags, view, strict=True)
        ]
    )
    meta = {
        "age": age[patient],
        "sex": np.where(male, "Male", "Female")[patient],
        "view": np.where(view == 1, "Lateral", "Frontal"),
        "projection": np.where(view == 1, "", np.where(cases.pa[study], "PA", "AP")),
    }
    images = [
        Drawn(draw_chest, int(seed), f"chest-phantom-{CHEST_VERSION}:{seed}") for seed in seeds
    ]
    whole = Split(images, ids, truth, names, bags, meta)
    part = splits.partition(truth, names, SHARES, key=f"chest-phantom-{CHEST_VERSION}")
    reported = Split(images, ids, np.where(left_open, unsure, truth), names, bags, meta)
    return {
        name: (whole if name == "test" else reported).take(np.flatnonzero(part == p))
        for p, name in enumerate(PARTS)
    }


def draw_chest(seed: int) -> np.ndarray:
    """Return (64, 64, 3) uint8, grey, the same pixels for the same seed.

    seed = (8 * patient + study) * 2 + view, view 1 being the lateral one.
    """
    patient, number = divmod(seed // 2, ROOM)
    cases = _cases()
    row = int(_first()[patient]) + number
    male, age = _people()
    body = np.random.Generator(np.random.PCG64([CHEST_VERSION, 0, patient]))
    ill = np.random.Generator(np.random.PCG64([CHEST_VERSION, 1, patient, number]))
    at = np.random.Generator(np.random.PCG64([CHEST_VERSION, 2, seed]))
    present = cases.present[row]
    chance, weak = ill.random(len(FINDINGS)), ill.random(len(FINDINGS))
    strength = np.where(
        present, FAINTEST + (1 - FAINTEST) * weak, np.where(chance < STRAY, STRAYEST * weak, 0.0)
    )
    s = dict(zip(FINDINGS, strength.tolist(), strict=True))
    ap = not cases.pa[row]
    supine = float(ap and ill.random() < 0.4)
    facts = {
        "age": float(age[patient]),
        "breasts": 0.0 if male[patient] else body.uniform(0.3, 1),
        "supine": supine,
    }
    ratio = (
        body.uniform(0.40, 0.48)
        + (0.02 + 0.15 * s["Cardiomegaly"] if s["Cardiomegaly"] else 0.0)
        + 0.03 * ap
    )
    high = RIGHT if ill.random() < 0.5 else LEFT
    lift = {
        side: body.uniform(0, 0.05) + 0.20 * s["Atelectasis"] * (side == high)
        for side in (RIGHT, LEFT)
    }
    take = chest_anatomy.lateral if seed % 2 else chest_anatomy.frontal
    film = take(_pose(body, at, supine), body, ratio, lift, facts)
    for name, paint in chest_anatomy.PAINT.items():
        if s[name]:
            paint(film, ill, s[name])
    _lines(film, at)
    return _develop(film, at)


@cache
def _cases() -> Cases:
    rng = np.random.Generator(np.random.PCG64([CHEST_VERSION, 4]))
    n = 1 + np.searchsorted(np.cumsum(STUDIES / STUDIES.sum()), rng.random(PATIENTS), side="right")
    n = np.minimum(n, ROOM)
    patient = np.repeat(np.arange(PATIENTS), n)
    number = np.concatenate([np.arange(k) for k in n])
    sick = rng.random(PATIENTS) < SICK
    # Twice as often in failing hearts, and less often in others, so that the shares over all stay
    # those of PRESENT.
    chance = np.where(
        sick[:, None],
        np.minimum(2.0 * PRESENT, 0.9),
        (PRESENT - SICK * np.minimum(2.0 * PRESENT, 0.9)) / (1 - SICK),
    )
    usual = rng.random((PATIENTS, len(FINDINGS))) < chance
    anew = rng.random((len(patient), len(FINDINGS))) < chance[patient]
    present = np.where(rng.random(anew.shape) < KEPT, usual[patient], anew)
    lateral = rng.random(len(patient)) < LATERAL
    # Who can stand gets two views, the frontal one from behind (PA).
    pa = rng.random(len(patient)) < np.where(lateral, 0.75, 0.02)
    return Cases(patient, number, lateral, pa, present)


@cache
def _first() -> np.ndarray:
    """(patients,): each patient's first row in `_cases`."""
    return np.searchsorted(_cases().patient, np.arange(PATIENTS))


@cache
def _people() -> tuple[np.ndarray, np.ndarray]:
    """Male (patients,) bool; age (patients,) in years."""
    rng = np.random.Generator(np.random.PCG64([CHEST_VERSION, 5]))
    return rng.random(PATIENTS) < 0.55, np.clip(np.round(60 + 17 * bell(rng, PATIENTS)), 18, 90)


def _pose(body: np.random.Generator, at: np.random.Generator, supine: float) -> Canvas:
    """Size, shift and tilt. A patient who lies is tilted more."""
    zoom = body.uniform(27, 31) * at.uniform(0.94, 1.06)
    angle = at.uniform(-0.05, 0.05) * (1 + supine)
    turn = complex(zoom * np.cos(angle), zoom * np.sin(angle))
    centre = complex(SIZE / 2 + at.uniform(-3, 3), SIZE / 2 + 1 + at.uniform(-3, 3))
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    spot = (columns + 1j * rows - centre) / turn
    return Canvas(spot.real, spot.imag, turn, centre)


def _lines(film: Film, at: np.random.Generator) -> None:
    """Catheters, wires, a pacemaker: they say nothing about the findings."""
    if at.random() < 0.35:
        path = curve(
            at,
            complex(at.uniform(-0.5, 0.5), -0.95),
            at.uniform(1.2, 1.9),
            at.uniform(0.7, 1.2),
            0.2,
        )
        film.dense += 0.25 * stroke(film.canvas.pixels(path), 0.9)
    for _ in range(int(at.uniform(1, 4)) if at.random() < 0.3 else 0):
        path = curve(
            at,
            complex(at.uniform(-0.9, 0.9), at.uniform(-0.8, 0.6)),
            at.uniform(0, 2 * np.pi),
            at.uniform(0.5, 1.3),
            0.35,
        )
        film.dense += 0.18 * stroke(film.canvas.pixels(path), 0.8)
    if at.random() < 0.06:
        box = np.maximum(np.abs(film.canvas.x - 0.6) / 0.15, np.abs(film.canvas.y + 0.45) / 0.11)
        film.dense += np.where(box < 1, 0.45, 0.0)


def _develop(film: Film, at: np.random.Generator) -> np.ndarray:
    """Exposure, contrast, scatter, grain, collimation and a side marker -> (64, 64, 3) uint8."""
    image = film.dense - 0.50 * film.air * (1 - 0.25 * film.dense)
    rows, columns = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    image = image + at.uniform(-0.08, 0.08) * columns + at.uniform(-0.08, 0.08) * rows
    image = (image - image.mean()) / image.std() * at.uniform(0.17, 0.25) + at.uniform(0.40, 0.58)
    image = np.clip(image, 0, 1.2) ** at.uniform(0.8, 1.25)
    blur = at.uniform(0, 0.22)
    for axis in (0, 1):
        image = (1 - 2 * blur) * image + blur * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    image = image + at.uniform(0.01, 0.035) * (at.random((SIZE, SIZE)) - 0.5) * 2
    if at.random() < 0.5:
        top, left = (
            int(at.uniform(3, 9)),
            int(at.uniform(3, 9)) if at.random() < 0.5 else int(at.uniform(52, 58)),
        )
        image[top : top + 4, left : left + 3] = np.maximum(
            image[top : top + 4, left : left + 3], 0.92
        )
        image[top + 1 : top + 3, left + 1] *= 0.5
    if at.random() < 0.25:
        edge = [int(e) for e in at.uniform(0, 4, 4)]
        shut = np.ones_like(image)
        shut[edge[0] : SIZE - edge[1], edge[2] : SIZE - edge[3]] = 0
        image = image * (1 - shut)
    levels: np.ndarray = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)
