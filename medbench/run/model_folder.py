"""An exported model is written, read back and tried on test images; only then it gets its name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medbench.images.decoding import decode
from medbench.models.exported import ExportedModel, NeighbourHead, Parts, load, write
from medbench.models.exported.model import Pixels, forms_of
from medbench.models.exported.seen_images import SeenImages, seen_images
from medbench.run.prepare import task_pack
from medbench.run.refit import Refit, apart_from
from medbench.schema import Encoder, Image, UserError, check_writable
from medbench.system import atomic_write
from medbench.system.progress_listener import report_progress

#: Of a probability from the written folder on the same pixels, whose batches are others than those
#: of the run; times in half precision.
BATCHES, HALF = 1e-4, 100
#: Of images whose nearest neighbours are as near but for rounding, which a graph breaks otherwise.
OTHER_NEIGHBOUR = 0.02
ONNX_BATCH = 32
BLOCK = 256  # images read at a time
TRIED = 512  # test images that the written folder is tried on


@dataclass(frozen=True)
class OnnxDifferences:
    """Hold the largest difference of a probability of model.onnx from the folder's own.

    On the same pixels, and from files, which it resizes itself.
    """

    pixels: float
    images: int
    files: float
    of_files: int
    beyond: int = 0  # images of which another neighbour votes

    @property
    def sentence(self) -> str:
        """Write the differences in words.

        `a probability differs by 1.2e-06 at most from the folder's own on the pixels of 64 images;
        ...`.
        """
        own = f"a probability differs by {self.pixels:.2g} at most from the folder's own on the pixels of {self.images} images"
        if self.beyond:
            own += f" but {self.beyond}, where two neighbours are as near but for rounding"
        if not self.of_files:
            return f"{own}; from files it was not measured"
        return f"{own}, and by {self.files:.2g} at most from {self.of_files} whole files, which it resizes itself without Pillow's rounding in between"


def save(
    made: Refit,
    parts: Parts,
    out: Path,
    card: Callable[[float, OnnxDifferences | None], str],
    *,
    onnx: bool = False,
    seen: bool = True,
) -> float:
    """Write a model's folder, read it back and try it on test images; only then it gets its name.

    card: writes the card from the largest difference of a probability in [0, 1], which is returned,
    and that of model.onnx. onnx: write that file, too. seen: with the bits by which `validate`
    notices images of the run. Raises UserError for a folder that is there, and where the difference
    is more than rounding.
    """
    check_target(out)
    parts = replace(parts, seen_images=_seen(made, parts)) if seen else parts
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write.naming(out),
        tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place,
    ):
        trial = Path(place) / "model"
        trial.mkdir()
        write(trial, parts, "", onnx=onnx)
        apart = _tried(made, load(trial, made.device))
        if not apart <= BATCHES * (1 if parts.precision == "fp32" else HALF):
            raise UserError(
                f"The written model gives a probability that is {apart:.2g} from the saved one: nothing was exported."
            )
        by_onnx = _tried_onnx(made, trial) if onnx else None
        (trial / "README.md").write_text(card(apart, by_onnx), encoding="utf-8")
        shutil.move(trial, out)
    return apart


def check_target(out: Path) -> None:
    """Raise UserError for a place that holds something, or that cannot be written."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UserError(
            f"{out} is there already, and is not overwritten.",
            then="name another folder: --out model-2",
        )
    check_writable(out, "name another place", folder=True)
    if out.exists():
        out.rmdir()


def _tried(made: Refit, model: ExportedModel) -> float:
    pixels = _first_pixels(made, model.parts)
    found, _ = model.score(pixels)
    return apart_from(found, made.saved[: len(found)])


def _seen(made: Refit, parts: Parts) -> SeenImages:
    """Return the bits of all images of the task, as the model sees them first."""
    encoder = parts.seen[0]
    pixels = task_pack(made.unit.data, encoder, made.plan.cache_dir).array

    def each() -> Iterator[np.ndarray]:
        for i in range(0, len(pixels), BLOCK):
            report_progress("noting images", i, len(pixels), "images")
            yield from np.asarray(pixels[i : i + BLOCK])
        report_progress("noting images", len(pixels), len(pixels), "images")

    return seen_images(each(), len(pixels))


def _first_pixels(made: Refit, parts: Parts) -> Pixels:
    """Return the first images of the scored part, at each size that the model sees."""
    where = made.unit.data.where(made.plan.target)
    few = slice(where.start, min(where.stop, where.start + TRIED))
    of: dict[tuple[int, str, str], Encoder] = {one.form: one for one in parts.seen}
    found = [
        np.asarray(task_pack(made.unit.data, of[form], made.plan.cache_dir).array[few])
        for form in parts.forms
    ]
    return found[0] if len(found) == 1 else tuple(found)


def _tried_onnx(made: Refit, folder: Path) -> OnnxDifferences:
    """Measure how far it is from the folder's own.

    Raises UserError where it differs on the same pixels by more than rounding.
    """
    own, other = load(folder, "cpu"), load(folder, runtime="onnx")
    pixels = _first_pixels(made, own.parts)
    (wanted, decisions), forms = own.score(pixels), forms_of(pixels)
    n = len(wanted)
    batches = [tuple(of[i : i + ONNX_BATCH] for of in forms) for i in range(0, n, ONNX_BATCH)]
    given = [batch if len(batch) > 1 else batch[0] for batch in batches]
    scored = [other.score(batch) for batch in given]
    found, decided = (np.concatenate([one[i] for one in scored]) for i in (0, 1))
    each = np.abs(found.astype(float) - wanted).max(1)
    beyond = len(each) if np.isnan(each).any() else int((each > BATCHES).sum())
    allowed = OTHER_NEIGHBOUR * n if own.parts.head.name == NeighbourHead.name else 0
    if not beyond <= allowed:
        raise UserError(
            f"model.onnx gives a probability that is {each.max():.2g} from the model's own: nothing was exported."
        )
    # what rounding turns is neither a tie in both nor far from one
    settled = (each == 0) | ((each <= BATCHES) & (_margin(wanted, own.kind) > 2 * BATCHES))
    turned = (decided != decisions).reshape(n, -1).any(1) & settled
    if turned.any():
        raise UserError(
            f"model.onnx decides {int(turned.sum())} of {n} images otherwise than the model: nothing was exported."
        )
    apart = float(each[each <= BATCHES].max(initial=0))
    wholes = [
        apart_from(other.score(_whole(one, len(forms)))[0], wanted[i : i + 1])
        for i, one in enumerate(_shown(made, n))
    ]
    return OnnxDifferences(apart, n, max(wholes, default=0.0), len(wholes), beyond)


def _margin(probabilities: np.ndarray, kind: str) -> np.ndarray:
    """Return how much probability each image's decision, or its nearest label, has to spare."""
    if kind == "multilabel":
        nearest: np.ndarray = 2 * np.abs(probabilities - 0.5).min(1)
        return nearest
    last, first = np.sort(probabilities, axis=1)[:, -2:].T
    return np.asarray(first - last)


def _whole(image: Image, forms: int) -> Pixels:
    """Return a stack of one image as its file has it, for each size that it is resized to."""
    pixels = decode(image)[None]
    return pixels if forms == 1 else (pixels,) * forms


def _shown(made: Refit, n: int) -> Sequence[Image]:
    """Return the first n images of the scored part."""
    return list(made.unit.data.parts[made.plan.target].images[:n])
