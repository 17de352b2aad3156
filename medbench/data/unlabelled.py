"""Images without labels that a run was given: where they lie, and what every table says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medbench.data.pool_owners import Owners
from medbench.data.roots import data_roots
from medbench.schema import Grid, Image, Mark, UserError, fingerprint, user_path


@dataclass(frozen=True)
class NamedPool:
    """A published set of images without labels.

    folders: where it is looked for under a data root. owners: the table that names them, if any.
    """

    name: str
    data: str
    folders: tuple[str, ...]
    get: str
    owners: Owners | None = None


POOLS = {
    pool.name: pool
    for pool in (
        NamedPool(
            "hyperkvasir",
            "HyperKvasir, unlabelled",
            tuple(
                f"{place}unlabeled-images"
                for place in (
                    "hyperkvasir/",
                    "hyper-kvasir/",
                    "HyperKvasir/",
                    "hyper-kvasir-unlabeled-images/",
                    "",
                )
            ),
            "unpack hyper-kvasir-unlabeled-images.zip of datasets.simula.no/hyper-kvasir into hyperkvasir/",
        ),
        NamedPool(
            "isic2020",
            "ISIC 2020",
            ("isic2020", "ISIC_2020_Training_JPEG", "ISIC_2020", "ISIC2020"),
            "unpack ISIC_2020_Training_JPEG.zip of challenge.isic-archive.com/data into isic2020/, "
            "and put ISIC_2020_Training_GroundTruth_v2.csv, which names the patients, beside it",
            Owners(
                "patient",
                (
                    (
                        "ISIC_2020_Training_GroundTruth_v2.csv",
                        "ISIC_2020_Training_GroundTruth.csv",
                        "train.csv",
                    ),
                    ("ISIC_2020_Test_Metadata.csv", "test.csv"),
                ),
                (("image_name", "patient_id"), ("image", "patient")),
            ),
        ),
    )
}


@dataclass(frozen=True, eq=False)
class UnlabelledPool:
    """What of a task's unlabelled images a pretraining may see.

    hashes: of the images' content. groups: (N,) str. grouped: whether these are the names that the
    task has for its own, so that all images of validation and test groups could be left out. word:
    what a group is. copies, patients: how many images were left out as copies of validation and
    test images, and as images of their groups. owners: what it names instead, "patient" beside a
    task of lesions. away: other data sets whose images were looked for, too.
    """

    names: tuple[str, ...]
    images: Sequence[Image]
    hashes: list[str]
    groups: np.ndarray
    grouped: bool
    word: str
    copies: int = 0
    patients: int = 0
    owners: str = ""
    away: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def sha256(self) -> str:
        """The hash that names its content, and what is known of its groups."""
        return fingerprint("unlabelled", list(self.hashes), self.groups.tolist())

    def mark(self, labelled: int) -> Mark:
        """Say what a table must say of weights that have seen it beside so many labelled images."""
        share = 100 * len(self) / (len(self) + labelled)
        said = f"in-domain pretraining also saw {len(self):,} images without labels ({', '.join(self.names)}; {share:.0f} % of its images"
        also = f", and of images of {', '.join(self.away)}" if self.away else ""
        said += f"; {self.sha256[:12]}); left out: {self.copies:,} copies of validation and test images{also}"
        if self.grouped:
            return Mark(
                "unlabelled",
                f"{said}, {self.patients:,} images of {self.word}s of the validation and test parts",
            )
        whose = f"{self.owners}s, and no {self.word}" if self.owners else f"no {self.word}"
        return Mark(
            "unlabelled",
            f"{said}; it names {whose}, so that those of the test part may be among them",
        )


class Source(NamedTuple):
    """What `--unlabelled` names: as tables call it, where it lies, and who owns its images."""

    name: str
    place: Path
    owners: Owners | None = None


def sources(grid: Grid, task: str, tasks: Sequence[str], cache_dir: Path) -> list[Source]:
    """Find what `--unlabelled` names for a task of a run, in the order given.

    tasks: the names of all of them. Raises UserError for a word that names no task of several, or
    no place.
    """
    found = []
    for word in grid.unlabelled:
        whose, equals, place = word.partition("=")
        if not equals or whose not in tasks:
            if len(tasks) > 1:
                what = f"--unlabelled {word} does not say for which of the {len(tasks)} tasks of this run."
                raise UserError(what, allowed=[f"{name}=PATH" for name in tasks], given=whose)
            whose, place = task, word
        if whose == task:
            found.append(_place(place, grid, cache_dir))
    return found


def _place(word: str, grid: Grid, cache_dir: Path) -> Source:
    if word in POOLS:
        pool = POOLS[word]
        roots = (
            [user_path(grid.data)] if grid.data not in (None, "phantom") else data_roots(cache_dir)
        )
        there = [root / name for root in roots for name in pool.folders if (root / name).is_dir()]
        if not there:
            where = " or ".join(map(str, roots))
            raise UserError(
                f"The images of '{word}' ({pool.data}) were not found in {where}.",
                allowed=pool.folders,
                then=pool.get,
            )
        return Source(pool.data, there[0], pool.owners)
    place = user_path(word)
    if not place.exists():
        beside = sorted(one.name for one in place.parent.iterdir()) if place.parent.is_dir() else []
        raise UserError(
            f"--unlabelled {word} does not exist.", allowed=[*POOLS, *beside], given=place.name
        )
    return Source(place.name, place)
