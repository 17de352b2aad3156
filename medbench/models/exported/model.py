"""An exported model in memory: pixels or image files -> probabilities and decisions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medbench.images.packing import squeeze
from medbench.models.exported.folder import Parts, read
from medbench.models.features import BATCH, forward
from medbench.schema import UserError
from medbench.stats.temperature import tempered
from medbench.system.devices import check_device, resolve

OWN = "own"  # the decision that the protocol itself takes: the most probable class, each label from 0.5 on


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Pixels in memory, as `models.features.forward` reads a pack."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A model that `medbench export` wrote; `load` reads it.

    Attributes
    ----------
    classes : tuple of str
        In the order of the columns of `predict_proba`.
    kind : str
        "binary", "multiclass", "ordinal", or "multilabel": then each column is a probability of its own.
    points : tuple of str
        Names of the operating points that `decide` takes.
    """

    parts: Parts
    device: str

    @property
    def classes(self) -> tuple[str, ...]:
        return self.parts.classes

    @property
    def kind(self) -> str:
        return self.parts.kind

    @property
    def points(self) -> tuple[str, ...]:
        return (OWN, *self.parts.points["points"])

    def decode(self, image: Path | str) -> np.ndarray:
        """(S, S, 3) uint8 of an image file, squashed to the model's size. Raises UserError that names a file that cannot be read."""
        return squeeze(Path(image), self.parts.encoder.size, self.parts.encoder.interpolation)

    def score(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (M, C) float32 and the protocol's own decisions (M,), multi-label (M, C), of pixels (M, S, S, 3) uint8."""
        encoder = self.parts.encoder
        index = np.arange(len(pixels))
        features = np.concatenate(list(forward(self.parts.net, _Decoded(pixels), index, encoder, self.device, self.parts.precision)))
        if not np.isfinite(features).all():
            raise UserError("The encoder's features are not finite: its weights do not fit the images.")
        return self.parts.head.score(features)

    def predict_proba(self, images: Sequence[Path | str | np.ndarray], *, calibrated: bool = False) -> np.ndarray:
        """Probabilities of image files, or of decoded images.

        Parameters
        ----------
        images : sequence of paths, or of (S, S, 3) uint8 arrays as `decode` gives them
        calibrated : bool
            At the temperature that was fitted to held-out scores.

        Returns
        -------
        (M, C) float32 array, in the order of `classes`

        Raises
        ------
        UserError
            For a file that cannot be read, and where there is no temperature.
        """
        made = [np.zeros((0, len(self.classes)), np.float32)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for i in range(0, len(images), BATCH):
                pixels = list(pool.map(lambda image: image if isinstance(image, np.ndarray) else self.decode(image), images[i : i + BATCH]))
                made.append(self.score(np.stack(pixels))[0])
        found = np.concatenate(made)
        return self.calibrate(found) if calibrated else found

    def calibrate(self, probabilities: np.ndarray) -> np.ndarray:
        """(M, C) float32 at the temperature. Raises UserError where there is none."""
        t = self.parts.points["temperature"]
        if t is None:
            raise UserError(
                "This model has no temperature: too little was held out inside its labelled subset.", then="leave --calibrated out"
            )
        return tempered(probabilities, t, self.parts.kind).astype(np.float32)

    def check_point(self, point: str) -> None:
        """Raise UserError for an operating point that the model does not have.

        Or that has no threshold for a class.
        """
        if point not in self.points:
            raise UserError(f"This model has no operating point '{point}'.", allowed=self.points, given=point)
        if point != OWN:
            lacking = [name for name, threshold in self.parts.points["points"][point]["thresholds"].items() if threshold is None]
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
                chosen[:, self.classes.index(name)] = values > threshold if rule["compare"] == ">" else values >= threshold
            if self.kind == "binary":
                chosen[:, 0] = ~chosen[:, 1]
        return ["|".join(name for name, is_one in zip(self.classes, row, strict=True) if is_one) for row in chosen]


def load(folder: Path | str, device: str = "auto") -> ExportedModel:
    """The model in a folder that `medbench export` wrote, without its data set.

    Parameters
    ----------
    folder : path
    device : str
        "auto", "cpu", "cuda", "cuda:1".

    Raises
    ------
    UserError
        For a folder that is no exported model, is damaged, or names anything outside itself.
    """
    parts = read(Path(folder))
    check_device(device, parts.precision)
    return ExportedModel(parts, resolve(device))
