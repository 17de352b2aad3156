"""Images and what is known of each: what a task's `load` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.schema.errors import EntryFault

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Drawn:
    """An image that is computed instead of read.

    `draw(seed)` gives (H, W, 3) uint8, always the same pixels for the same `key`. `draw` is a
    module-level function, so that the workers that fill a pack can receive it. `key` is the image's
    content identity: it names the drawing's version and everything else that changes a pixel.
    """

    draw: Callable[[int], np.ndarray]
    seed: int
    key: str


Image = Path | Drawn


class FilesBelow(Sequence[Path]):
    """Image files below one folder, as a sequence of paths.

    A path is made when it is asked for: a million `Path` objects take 400 MB. names (N,) bytes: of
    each its path from `root`, UTF-8.
    """

    def __init__(self, root: Path, names: np.ndarray):
        self.root, self.names = root, names

    @classmethod
    def of(cls, root: Path, names: Iterable[str]) -> FilesBelow:
        """Hold the files of these names, which are paths from `root` with forward slashes."""
        import numpy as np

        return cls(root, np.array([name.encode() for name in names], np.bytes_))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return FilesBelow(self.root, self.names[i])
        return self.root / self.names[i].decode()

    def take(self, index: np.ndarray) -> FilesBelow:
        """Return the files at `index` (n,) int, in that order."""
        return FilesBelow(self.root, self.names[index])


def of_class(labels: np.ndarray, c: int) -> np.ndarray:
    """Return which images are of class c: (N,) bool.

    labels: as in `Split`. Where an image may have several, those that have label c; an uncertain
    one counts as without.
    """
    found: np.ndarray = (labels if labels.ndim == 1 else labels[:, c]) == (
        c if labels.ndim == 1 else 1
    )
    return found


def length_fault(n: int, columns: Mapping[str, np.ndarray]) -> str:
    """Say which column has not one value for each of n images; "" where all have.

    columns: name -> (N,) or (N, C).
    """
    return next(
        (
            f"{n} images but {len(column) if column.ndim else 'no list of'} {name}"
            for name, column in columns.items()
            if column.ndim == 0 or len(column) != n
        ),
        "",
    )


@dataclass(frozen=True, eq=False)
class Split:
    """Hold one part of a task: N images and what is known of each.

    Attributes
    ----------
    images : sequence of N paths or `Drawn`
    ids : ndarray (N,) of str
        Unique, without personal data or folders.
    labels : ndarray (N,) int64, or (N, C) float64 for multi-label tasks
        Class index; or 0, 1 and NaN (uncertain).
    groups : ndarray (N,) of str
        What must not be torn between parts: the patient, else the lesion or the case.
    bags : ndarray (N,) of str
        The case: images of one lesion or study.
    meta : mapping from column name to ndarray (N,)
        Kept for audits and subgroups, never given to a protocol.
    """

    images: Sequence[Image]
    ids: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    bags: np.ndarray
    meta: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Split:
        """Return the images at `index` (n,) int, in that order.

        Raises EntryFault for a column that has not a value for each image.
        """
        import numpy as np

        columns = {
            name: np.asarray(column)
            for name, column in {
                "ids": self.ids,
                "labels": self.labels,
                "groups": self.groups,
                "bags": self.bags,
                **self.meta,
            }.items()
        }
        if fault := length_fault(len(self), columns):
            raise EntryFault(fault)
        return Split(
            self.images.take(index)
            if isinstance(self.images, FilesBelow)
            else [self.images[i] for i in index],
            columns["ids"][index],
            columns["labels"][index],
            columns["groups"][index],
            columns["bags"][index],
            {name: columns[name][index] for name in self.meta},
        )


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Images that nobody labelled, for in-domain pretraining alone.

    They are never drawn and never scored. images: N. ids: (N,) str. groups: (N,) str as in `Split`,
    in the same names as the task's, or None where nobody says whose they are.
    """

    name: str
    images: Sequence[Image]
    ids: np.ndarray
    groups: np.ndarray | None = None


def join_parts(splits: Iterable[Split]) -> Split:
    """Join parts to one: all images of the first, then of the next.

    At least one part. Metadata: the columns that every part has, in the order of the first.
    """
    import numpy as np

    parts = list(splits)
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("ids", "labels", "groups", "bags")
    }
    shared = [name for name in parts[0].meta if all(name in part.meta for part in parts)]
    meta = {name: np.concatenate([part.meta[name] for part in parts]) for name in shared}
    return Split(_joined_images([part.images for part in parts]), **columns, meta=meta)


def _joined_images(every: Sequence[Sequence[Image]]) -> Sequence[Image]:
    import numpy as np

    files = [images for images in every if isinstance(images, FilesBelow)]
    if len(files) == len(every) and len({images.root for images in files}) == 1:
        return FilesBelow(files[0].root, np.concatenate([images.names for images in files]))
    return [image for images in every for image in images]
