"""The files of an exported model: their names, how large each may be, and what it is in memory."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.models.exported.head import Head
from medbench.models.exported.seen_images import SeenImages
from medbench.models.exported.typical import Typical
from medbench.schema import Encoder, Kind, UserError

if TYPE_CHECKING:
    import torch

VERSION = 4  # of the folder's form
MODEL, HEAD, TYPICAL, SEEN, ONNX = (
    "model.safetensors",
    "head.safetensors",
    "typical.safetensors",
    "seen.safetensors",
    "model.onnx",
)
CONFIG, CLASSES, POINTS, EVIDENCE = (
    "config.json",
    "classes.json",
    "operating_points.json",
    "evidence.json",
)
CARD = "README.md"
#: Bytes of each file: what is larger is not opened. An ONNX file is a protocol buffer, which ends
#: at 2 GiB.
MOST = {
    **dict.fromkeys((CONFIG, CLASSES, POINTS, EVIDENCE), 8 << 20),
    **{MODEL: 64 << 30, HEAD: 4 << 30, TYPICAL: 256 << 20, SEEN: 256 << 20, ONNX: 2 << 30},
}
AGAIN = "medbench export writes such a folder"
MOST_MEMBERS = 64


def member_folder(i: int) -> str:
    """Name the folder of a member of a fusion: `member-1`, ... i: its place, from 0."""
    return f"member-{i + 1}"


@dataclass(frozen=True, eq=False)
class Tower:
    """An encoder with its readout, in eval mode, and how it sees an image.

    arguments: what timm's architecture is called with, for a repository of the hub; None for one of
    timm's own, as it is.
    """

    encoder: Encoder
    net: torch.nn.Module
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Parts:
    """What a folder holds.

    towers: one encoder, or the members of a fusion in the order in which their features stand side
    by side. points: operating_points.json. evidence: evidence.json, as `report.clinical.evidence`
    makes it. joint: how a fusion sees an image whose members were trained together, each of which
    gets its own size of that; None where each member sees the file for itself.
    """

    towers: tuple[Tower, ...]
    head: Head
    protocol: str
    classes: tuple[str, ...]
    kind: Kind
    precision: str
    points: Mapping[str, Any]
    evidence: Mapping[str, Any]
    typical: Typical | None = None
    joint: Encoder | None = None
    seen_images: SeenImages | None = None
    learnt: tuple[bool, ...] = ()  # of classes.json; () before there is one

    @property
    def possible(self) -> tuple[bool, ...]:
        """Whether each class can have a probability."""
        return self.learnt or tuple(map(bool, self.head.possible))

    @cached_property
    def passes(self) -> tuple[Tower, ...]:
        """Networks that pixels go through, in eval mode, each with how it sees an image.

        One for each member where these were trained apart; one for all, a `JointEncoder`, where
        they were trained jointly.
        """
        if self.joint is None:
            return self.towers
        from medbench.models.fusion.joint_encoder import JointEncoder

        of = [tower.encoder for tower in self.towers]
        sizes, means, stds = [e.size for e in of], [e.mean for e in of], [e.std for e in of]
        nets = [tower.net for tower in self.towers]
        joined = JointEncoder(nets, sizes, means, stds, self.joint.mean, self.joint.std)
        return (Tower(self.joint, joined.eval()),)

    @property
    def seen(self) -> tuple[Encoder, ...]:
        """How each of `passes` sees an image: their encoders, without building a network."""
        return (
            tuple(tower.encoder for tower in self.towers) if self.joint is None else (self.joint,)
        )

    @property
    def forms(self) -> tuple[tuple[int, str, str], ...]:
        """Each way an image is seen, once: (size in pixels, interpolation, crop)."""
        return tuple(dict.fromkeys(one.form for one in self.seen))


def check_file(file: Path) -> None:
    """Raise UserError for a file that is missing, leads elsewhere, or is larger than `MOST` says.

    Raises OSError for what may not be read.
    """
    try:
        found = file.lstat()
    except FileNotFoundError:
        raise UserError(
            f"{file.parent} is not an exported model: it has no {file.name}.", then=AGAIN
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise _elsewhere(file, "a link" if stat.S_ISLNK(found.st_mode) else "no file")
    # raises what the disk says; safetensors would say that the file is not there
    file.open("rb").close()
    if found.st_size > MOST[file.name]:
        raise UserError(
            f"{file} has {found.st_size:,} bytes, more than any exported model's.", then=AGAIN
        )


def check_member(folder: Path) -> None:
    """Raise UserError for a member's folder that is missing or leads elsewhere."""
    if folder.is_symlink():
        raise _elsewhere(folder, "a link")
    if not folder.is_dir():
        raise UserError(
            f"{folder.parent} is not an exported model: it has no {folder.name}.", then=AGAIN
        )


def _elsewhere(file: Path, what: str) -> UserError:
    return UserError(
        f"{file} is {what}: an exported model holds its files itself.",
        then="copy the whole folder",
    )
