"""What a user says of how images enter an encoder, and what stands beside a checkpoint file.

Light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medbench.images.cropping import SQUASH, CropRule, crop_of, refilled, rule_of
from medbench.models.foreign_errors import NOT_ITS_OWN
from medbench.models.hub import preprocessing
from medbench.models.hub.preprocessing import OURS, Preprocessing, Three
from medbench.schema import UserError, parsed

SAY = "say it: --mean M,M,M --std S,S,S --size N --crop squash"


@dataclass(frozen=True)
class Stated:
    """Preprocessing and training data that a user or a config states; None and (): not stated.

    crop: its mode and, where that is stated, `crop_pct`.
    """

    mean: Three | None = None
    std: Three | None = None
    interpolation: str | None = None
    trained_on: tuple[str, ...] = ()
    crop: tuple[str, float | None] | None = None

    def __bool__(self) -> bool:
        return bool(self.mean or self.std or self.interpolation or self.trained_on)

    def over(self, own: Callable[[], Preprocessing], size: int | None = None) -> Preprocessing:
        """Return what is stated, and the encoder's own where nothing is.

        The encoder's own is asked for only if it is needed: a crop but for squash takes its share,
        its rounding and its colour.
        """
        if self.mean and self.std and size and self.crop == (SQUASH, None):
            how = self.interpolation or OURS[0]
            return Preprocessing(size, self.mean, self.std, how)
        found = own()
        side, crop = size or found.size, self.cropped(found.crop)
        if self.mean:
            crop = replace(crop, fill=refilled(crop.fill, found.mean, self.mean))
        theirs = found.crop.at(side)
        apart = "" if crop.at(side) == theirs else crop_of(theirs).words(side)
        return Preprocessing(
            side,
            self.mean or found.mean,
            self.std or found.std,
            self.interpolation or found.interpolation,
            "; ".join(filter(None, (apart, found.apart))),
            crop,
        )

    def cropped(self, own: CropRule) -> CropRule:
        """Return the crop that is stated, else the encoder's own.

        `crop_pct` is the encoder's own, too, where the mode alone is stated.
        """
        if self.crop is None:
            return own
        mode, pct = self.crop
        share = 1 if mode == SQUASH else own.pct
        return replace(own, mode=mode, pct=share if pct is None else pct)


NOTHING = Stated()


def stated(
    mean: Sequence[str],
    std: Sequence[str],
    interpolation: str | None,
    trained_on: Sequence[str],
    crop: str | None = None,
) -> Stated:
    """Read preprocessing from the words of a command line or a study.

    Raises UserError for words that are no preprocessing.
    """
    if interpolation is not None and interpolation not in OURS:
        raise UserError(
            f"Unknown interpolation '{interpolation}'.", allowed=OURS, given=interpolation
        )
    found = Stated(
        *(_three("--mean", mean), _three("--std", std), interpolation, tuple(trained_on)),
        rule_of(crop) if crop is not None else None,
    )
    if found.std and min(found.std) <= 0:
        raise UserError(
            f"--std {','.join(std)}: a standard deviation is above 0.",
            then="--std 0.229,0.224,0.225",
        )
    return found


def _three(flag: str, words: Sequence[str]) -> Three | None:
    if not words:
        return None
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = [math.nan]
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise UserError(
            f"{flag} {','.join(words)} is not three numbers, or one for all channels.",
            then=f"{flag} 0.5,0.5,0.5",
        )
    r, g, b = values * (3 // len(values))
    return r, g, b


def beside(file: Path) -> tuple[Preprocessing | None, str]:
    """Return how images enter, as a config beside a checkpoint file says it, and its name.

    (None, "") where none does. Raises UserError for a `preprocessor_config.json` that says it in no
    known way; `config.json` is many programs' name for their own.
    """
    for name, read in (
        ("preprocessor_config.json", preprocessing.of_transformers),
        ("config.json", preprocessing.of_timm),
    ):
        config = file.parent / name
        if not config.is_file():
            continue
        try:
            about = parsed(config.read_bytes())
            if not isinstance(about, dict):
                raise ValueError("it is not a table of names and values")
            return read(about), name
        except NOT_ITS_OWN as error:
            if name == "config.json":
                continue
            what = f"{config} does not say how images enter as transformers writes it: {error}."
            raise UserError(what, then=f"fix it, or {SAY}") from error
    return None, ""
