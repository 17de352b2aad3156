"""An exported model in memory: pixels or image files -> probabilities and decisions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medbench.images.squeezing import PackForm, squeezed
from medbench.models.exported.layout import Parts, Tower
from medbench.models.features import BATCH, forward
from medbench.schema import UserError
from medbench.stats import conformal
from medbench.stats.temperature import tempered

# the decision that the protocol itself takes: the most probable class, each label from 0.5 on
OWN = "own"
#: Of one image, or of several in a stack: of a fusion whose members see an image at several sizes,
#: one for each.
Pixels = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Pixels in memory, as `models.features.forward` reads a pack."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)


@dataclass(frozen=True, eq=False)
class Answer:
    """Hold a model's answers on M images.

    probabilities: (M, C) float32. own: the protocol's decisions (M,), multi-label (M, C). unlike:
    (M,) bool, the images lie far from the training images; False throughout where the model does
    not know where these lie.
    """

    probabilities: np.ndarray
    own: np.ndarray
    unlike: np.ndarray


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A model that `medbench export` wrote; `load` reads it.

    Attributes
    ----------
    classes : tuple of str
        In the order of the columns of `predict_proba`.
    kind : str
        "binary", "multiclass", "ordinal", or "multilabel": then each column is a probability of its
        own.
    points : tuple of str
        Names of the operating points that `decide` takes.
    """

    parts: Parts
    device: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the C classes, in the order of the columns of probabilities."""
        return self.parts.classes

    @property
    def kind(self) -> str:
        """The kind of its task: binary, multiclass, ordinal or multilabel."""
        return self.parts.kind

    @property
    def points(self) -> tuple[str, ...]:
        """The names of its operating points: its own decisions first, then those of the folder."""
        return (OWN, *self.parts.points["points"])

    def decode(self, image: Path | str | bytes) -> Pixels:
        """Decode an image file, or what one holds, to (S, S, 3) uint8 of the model's size.

        Of a fusion whose members see it at several sizes, a tuple of them. Raises UserError that
        names a file that cannot be read.
        """
        file = image if isinstance(image, bytes) else Path(image)
        found = squeezed(file, [PackForm(*form) for form in self.parts.forms])
        return found[0] if len(found) == 1 else tuple(found)

    def _pixels_of(self, image: Any) -> Pixels:
        """Return the pixels of one of the images of `predict_proba`. Raises UserError."""
        if isinstance(image, Path | str | bytes):
            return self.decode(image)
        arrays = image if isinstance(image, tuple) else (image,)
        shapes = [(size, size, 3) for size, *_ in self.parts.forms]
        right = len(arrays) == len(shapes) and all(
            isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.shape == shape
            for one, shape in zip(arrays, shapes, strict=True)
        )
        if not right:
            told = " and ".join(map(_told, arrays)) or "nothing"
            wanted = " and ".join("x".join(map(str, shape)) for shape in shapes)
            raise UserError(
                f"predict_proba was given {told}, which is not an image file.",
                allowed=["paths", "bytes of files", f"what decode gives ({wanted} uint8, RGB)"],
                then="model.predict_proba([PATH, ...]): a file's own bytes decide how it is decoded and resized",
            )
        pixels: Pixels = image
        return pixels

    def seen_bit(self, pixels: Pixels) -> tuple[int, bool] | None:
        """Return the place of one image's bit among those of the run, and whether it is set.

        It is of a fifth of other images, too. None where the model has no such bits. pixels: what
        `decode` gives.
        """
        seen = self.parts.seen_images
        return None if seen is None else seen.bit(forms_of(pixels)[0])

    def features(self, pixels: Pixels) -> np.ndarray:
        """Return (M, D) float32 of pixels (M, S, S, 3) uint8; of a fusion all members' features.

        Raises UserError where they are not finite.
        """
        seen = dict(zip(self.parts.forms, forms_of(pixels), strict=True))
        made = [self._passed(one, seen[one.encoder.form]) for one in self.parts.passes]
        features = made[0] if len(made) == 1 else np.concatenate(made, axis=1)
        if not np.isfinite(features).all():
            raise UserError(
                "The encoder's features are not finite: its weights do not fit the images."
            )
        return features

    def _passed(self, tower: Tower, pixels: np.ndarray) -> np.ndarray:
        """(M, D) float32 of one network."""
        index, precision = np.arange(len(pixels)), self.parts.precision
        batches = forward(tower.net, _Decoded(pixels), index, tower.encoder, self.device, precision)
        return np.concatenate(list(batches))

    def answer(self, pixels: Pixels) -> Answer:
        """Answer for pixels (M, S, S, 3) uint8, as `decode` gives them, stacked.

        Raises UserError for features that are not finite.
        """
        features = self.features(pixels)
        typical = self.parts.typical
        unlike = np.zeros(len(features), bool) if typical is None else typical.unlike(features)
        return Answer(*self.parts.head.score(features), unlike)

    def score(self, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities (M, C) float32 and the protocol's own decisions.

        Decisions are (M,), multi-label (M, C). pixels: (M, S, S, 3) uint8. Raises UserError as
        `answer`.
        """
        found = self.answer(pixels)
        return found.probabilities, found.own

    def predict_proba(
        self, images: Iterable[Path | str | bytes | Pixels], *, calibrated: bool = False
    ) -> np.ndarray:
        """Return the probabilities of image files, or of decoded images.

        Parameters
        ----------
        images : paths, the bytes of image files, or what `decode` gives: (S, S, 3) uint8 arrays
            In one list also side by side. Pictures of other libraries are refused: how a file is
            decoded and resized moves its probabilities.
        calibrated : bool
            At the temperature that was fitted to held-out scores.

        Returns
        -------
        (M, C) float32 array, in the order of `classes`

        Raises
        ------
        UserError
            For a file that cannot be read, for what is no image, and where there is no temperature.
        """
        if isinstance(images, str | bytes | Path) or not isinstance(images, Iterable):
            raise UserError(
                f"predict_proba takes a list of images, and was given {_told(images)}.",
                then="model.predict_proba([PATH])",
            )
        given, made = list(images), [np.zeros((0, len(self.classes)), np.float32)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for i in range(0, len(given), BATCH):
                pixels = list(pool.map(self._pixels_of, given[i : i + BATCH]))
                made.append(self.score(stacked(pixels))[0])
        found = np.concatenate(made)
        return self.calibrate(found) if calibrated else found

    def calibrate(self, probabilities: np.ndarray) -> np.ndarray:
        """Return probabilities at the temperature, (M, C) float32.

        probabilities: (M, C), as `score` gives them. Raises UserError where there is no
        temperature.
        """
        t = self.parts.points["temperature"]
        if t is None:
            raise UserError(
                "This model has no temperature: too little was held out inside its labelled subset.",
                then="leave --calibrated out",
            )
        possible = np.array(self.parts.possible)
        return tempered(probabilities, t, self.parts.kind, possible).astype(np.float32)

    def quantile(self, coverage: float) -> float:
        """Return the quantile in [0, 1] of conformal sets (`stats.conformal`).

        coverage: in (0, 1), one of those that the folder holds. Raises UserError for one that the
        model cannot promise.
        """
        known = self.parts.points["sets"]
        if not known:
            why = (
                "each label is decided for itself"
                if self.kind == "multilabel"
                else "too little was held out inside its labelled subset"
            )
            raise UserError(
                f"This model has no sets of classes: {why}.",
                then="leave --coverage out, or --at sensitivity-0.9",
            )
        found = conformal.quantile_of(known, coverage)
        if found is None:
            most = max(
                (name for name, quantile in known.items() if quantile is not None), default="none"
            )
            raise UserError(
                f"This model cannot promise a coverage of {coverage:g}: it has whole percents from 0.50 to {most}."
            )
        return found

    def sets(self, probabilities: np.ndarray, coverage: float) -> list[str]:
        """Return the set of classes of each image, joined by `|`.

        The right one is among them with the probability `coverage`, for an image of a new patient
        like those of the labelled subset. probabilities: (M, C), as `score` gives them. Raises
        UserError as `quantile`.
        """
        chosen = conformal.sets(probabilities, self.quantile(coverage))
        return [
            "|".join(name for name, is_one in zip(self.classes, row, strict=True) if is_one)
            for row in chosen
        ]

    def check_point(self, point: str) -> None:
        """Raise UserError for an operating point that the model does not have.

        Also for one that has no threshold for a class.
        """
        if point not in self.points:
            raise UserError(
                f"This model has no operating point '{point}'.", allowed=self.points, given=point
            )
        if point != OWN:
            lacking = [
                name
                for name, threshold in self.parts.points["points"][point]["thresholds"].items()
                if threshold is None
            ]
            if lacking:
                what = f"'{point}' has no threshold for {', '.join(lacking[:5])}: too few held-out images."
                raise UserError(what, allowed=self.points, then=f"--at {OWN}")

    def decide(self, probabilities: np.ndarray, own: np.ndarray, point: str = OWN) -> list[str]:
        """Decide each image; return one text per image.

        The class that the protocol decided for, or all classes (labels) beyond their threshold,
        joined by `|`. probabilities: as `score` gives them, not calibrated: thresholds are of
        these. own: the protocol's own decisions.
        """
        if point == OWN:
            chosen = own == 1 if own.ndim == 2 else own[:, None] == np.arange(len(self.classes))
        else:
            rule: Any = self.parts.points["points"][point]
            chosen = np.zeros(probabilities.shape, bool)
            for name, threshold in rule["thresholds"].items():
                values = probabilities[:, self.classes.index(name)].astype(float)
                chosen[:, self.classes.index(name)] = (
                    values > threshold if rule["compare"] == ">" else values >= threshold
                )
            if self.kind == "binary":
                chosen[:, 0] = ~chosen[:, 1]
        return [
            "|".join(name for name, is_one in zip(self.classes, row, strict=True) if is_one)
            for row in chosen
        ]


def _told(image: Any) -> str:
    """Say what somebody gave instead of an image."""
    if isinstance(image, str | bytes | Path):
        return "a single one"
    shape, kind = getattr(image, "shape", None), getattr(image, "dtype", None)
    if shape is None:
        return f"{type(image).__module__}.{type(image).__name__}".removeprefix("builtins.")
    return f"{type(image).__name__} of {'x'.join(map(str, shape)) or 'no shape'} {kind}"


def forms_of(pixels: Pixels) -> tuple[np.ndarray, ...]:
    """Return the pixels at each of the sizes.

    Each is (N, S, S, 3) uint8, S its size.
    """
    return pixels if isinstance(pixels, tuple) else (pixels,)


def stacked(images: Sequence[Pixels]) -> Pixels:
    """Put what `decode` gives of several images into one stack (M, S, S, 3) of each size."""
    found = [np.stack(of) for of in zip(*map(forms_of, images), strict=True)]
    return found[0] if len(found) == 1 else tuple(found)
