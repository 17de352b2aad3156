"""Graded damage to test images, as their modality knows it: which kinds fit, five levels of each.

Which kind fits which modality follows the registry of MedMNIST-C (Di Salvo, Doerrich & Ledig 2024,
arXiv:2406.17536; medmnistc, `corruptions/registry.py`): dermoscopy as its dermamnist, x-ray as
chestmnist and pneumoniamnist, fundus as retinamnist, histology as pathmnist, cytology as
bloodmnist. It has no endoscopy: those images get what a colour camera in motion does. Where no
modality is known, kinds that fit every picture are left. Not taken over: zoom blur, written
characters, bubbles, deposits of stain. Added: `stain`, the amounts of haematoxylin and eosin
(Tellez et al. 2018, doi:10.1109/TMI.2018.2820199).

Strengths of noise (of few photons and of speckle: milder), brightness, contrast and gamma are that
registry's. It was made for 224 pixels; whatever has a length is a fraction of the image's side
here, so that a level means the same at every size, and begins milder, for an image of 64 pixels has
lost fine detail already. JPEG works on blocks of 8 pixels whatever the size: its qualities begin
higher.

Images are damaged at the size of the pack, whole batches at a time, while they are read: nothing is
stored but the features. What chance there is depends on the image's id and the kind alone: more of
the same at a higher level, whoever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medbench.schema import UserError, fingerprint
from medbench.schema.own_code import code_hash, imported

VERSION = 1  # raise it with every change of a pixel
LEVELS = 5
ALL = "all"
#: The functions that medbench ships, known by `VERSION`. Of any other the code of the file counts.
SHIPPED = (
    "gaussian_noise speckle_noise shot_noise impulse_noise disc_blur gaussian_blur motion_blur "
    "pixelate jpeg scale contrast gamma saturation stain vignette"
)


@dataclass(frozen=True)
class Corruption:
    """One kind of damage.

    how: a function of `pixels`. strengths: one a level, in the unit that `how` states. grey: films
    have one channel.
    """

    name: str
    how: str
    strengths: tuple[float, ...]
    grey: bool = False

    def identity(self, level: int) -> str:
        """Return the hash of what makes the pixels at a level, beside the image and its id.

        level: 1 to LEVELS.
        """
        code = [] if self.how in SHIPPED.split() else [_code_of_transforms()]
        return fingerprint(
            "corruption", VERSION, self.how, self.strengths[level - 1], self.grey, *code
        )


@cache
def _code_of_transforms() -> str:
    file = Path(__file__).with_name("transforms.py")
    return code_hash([file, *imported(file)])


_BRIGHTER = ("brighter", "scale", (1.1, 1.2, 1.3, 1.4, 1.5))
_DARKER = ("darker", "scale", (0.9, 0.8, 0.7, 0.6, 0.5))
_SHARPER = ("contrast-up", "contrast", (1.1, 1.2, 1.3, 1.4, 1.6))
_FLATTER = ("contrast-down", "contrast", (0.8, 0.7, 0.6, 0.5, 0.4))
_NOISE = ("noise", "gaussian_noise", (0.04, 0.08, 0.12, 0.18, 0.26))
_SPECKLE = ("speckle", "speckle_noise", (0.05, 0.1, 0.2, 0.3, 0.45))
_IMPULSE = ("impulse", "impulse_noise", (0.01, 0.03, 0.06, 0.09, 0.17))
_SHOT = ("shot", "shot_noise", (400, 150, 60, 25, 12))
_PIXELATE = ("pixelate", "pixelate", (0.7, 0.5, 0.4, 0.3, 0.25))
_JPEG = ("jpeg", "jpeg", (60, 40, 25, 15, 8))
_DISC = ("blur", "disc_blur", tuple(radius / 224 for radius in (2, 4, 6, 8, 11)))
_SOFT = ("blur", "gaussian_blur", tuple(sigma / 224 for sigma in (1, 1.6, 2.4, 3.4, 4.5)))
_MOTION = ("motion", "motion_blur", tuple(length / 224 for length in (8, 14, 20, 26, 34)))
_VIGNETTE = ("vignette", "vignette", (0.9, 0.8, 0.7, 0.6, 0.5))
_SATURATION = ("saturation", "saturation", (1.2, 1.4, 1.7, 2.0, 2.5))
_STAIN = ("stain", "stain", (0.1, 0.2, 0.3, 0.45, 0.6))
_GAMMA_UP = ("gamma-up", "gamma", (1.1, 1.2, 1.3, 1.4, 1.6))
_GAMMA_DOWN = ("gamma-down", "gamma", (0.9, 0.8, 0.7, 0.6, 0.4))
_LIGHT = (_BRIGHTER, _DARKER, _SHARPER, _FLATTER)
_KINDS: dict[str, tuple[tuple[str, str, tuple[float, ...]], ...]] = {
    "": (_NOISE, _DISC, _PIXELATE, _JPEG, *_LIGHT),
    "dermoscopy": (
        _NOISE,
        _SPECKLE,
        _IMPULSE,
        _SHOT,
        _DISC,
        _MOTION,
        _PIXELATE,
        _JPEG,
        *_LIGHT,
        _VIGNETTE,
    ),
    "x-ray": (
        _NOISE,
        _SPECKLE,
        _IMPULSE,
        _SHOT,
        _SOFT,
        _PIXELATE,
        _JPEG,
        *_LIGHT,
        _GAMMA_UP,
        _GAMMA_DOWN,
    ),
    "fundus": (_NOISE, _SPECKLE, _DISC, _MOTION, _PIXELATE, _JPEG, _DARKER, _FLATTER),
    "histology": (_DISC, _MOTION, _PIXELATE, _JPEG, *_LIGHT, _SATURATION, _STAIN),
    "cytology": (_DISC, _MOTION, _PIXELATE, _JPEG, *_LIGHT, _SATURATION),
    "endoscopy": (
        _NOISE,
        _DISC,
        _MOTION,
        _PIXELATE,
        _JPEG,
        _BRIGHTER,
        _DARKER,
        _FLATTER,
        _SATURATION,
    ),
}
#: Modality, as in `schema.MODALITIES` -> name -> the kind of damage.
BY_MODALITY: Mapping[str, Mapping[str, Corruption]] = {
    modality: {kind[0]: Corruption(*kind, grey=modality == "x-ray") for kind in kinds}
    for modality, kinds in _KINDS.items()
}


def chosen(task: str, modality: str, names: Sequence[str]) -> list[Corruption]:
    """Return the corruptions of `names` ("all": every kind that fits), each once.

    modality: of the images of `task`. Raises UserError for one that is unknown or does not fit
    them.
    """
    fitting = BY_MODALITY[modality]
    wanted = [kind for name in names for kind in (fitting if name == ALL else [name])]
    for name in wanted:
        if name not in fitting:
            known = any(name in kinds for kinds in BY_MODALITY.values())
            what = (
                f"Corruption '{name}' does not fit {modality or 'images of unknown modality'}, as in '{task}'"
                if known
                else ""
            )
            raise UserError(
                f"{what or f'Unknown corruption {name!r}'}.",
                allowed=[ALL, *fitting],
                given=name,
                then="medbench run --corruptions all",
            )
    return [fitting[name] for name in dict.fromkeys(wanted)]


def levels(given: Iterable[str]) -> list[int]:
    """Return the levels of corruptions that texts name, each once, in order.

    Raises UserError for none, and for one that is not 1 to LEVELS.
    """
    found = []
    for text in given:
        if text not in map(str, range(1, LEVELS + 1)):
            raise UserError(
                f"Level '{text}' of a corruption is out of range.",
                allowed=[f"1 to {LEVELS}"],
                then="medbench run --levels 1,3,5",
            )
        found.append(int(text))
    if not found:
        raise UserError(
            "No level of the corruptions was given.",
            allowed=[f"1 to {LEVELS}"],
            then="medbench run --levels 1,3,5",
        )
    return sorted(set(found))
