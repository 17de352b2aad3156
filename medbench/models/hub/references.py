"""`hf-hub:OWNER/NAME[@REVISION]` and its siblings, taken apart.

No network and no file is looked at here.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass

from medbench.schema import UserError

INDEX = ".index.json"  # of weights in several files


@dataclass(frozen=True)
class Door:
    """A package that reads encoders from the hub.

    extra: of medbench's install that brings it, "" where it is a dependency. configs: files with
    what must be known before any weights; of each group the first that is there. weights: likewise.
    """

    prefix: str
    package: str
    extra: str
    configs: tuple[tuple[str, ...], ...]
    weights: tuple[str, ...]
    readouts: tuple[str, ...]

    @property
    def usage(self) -> str:
        """How a repository behind this door is named: `hf-hub:OWNER/NAME`."""
        return f"{self.prefix}:OWNER/NAME"


_TORCH = ("model.safetensors", "pytorch_model.bin")
DOORS = {
    door.prefix: door
    for door in (
        Door(
            "hf-hub",
            "timm",
            "",
            (("config.json",),),
            _TORCH,
            ("pool", "cls", "mean", "cls+mean", "last4"),
        ),
        Door(
            "hf",
            "transformers",
            "hf",
            (("config.json",), ("preprocessor_config.json", "processor_config.json")),
            tuple(name for file in _TORCH for name in (file, file + INDEX)),
            ("pool", "cls", "mean", "cls+mean"),
        ),
        Door(
            "open_clip",
            "open_clip",
            "open-clip",
            (("open_clip_config.json",),),
            ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
            ("pool",),
        ),
    )
}


@dataclass(frozen=True)
class Reference:
    """A repository of the hub.

    revision: a branch, a tag, a commit or its first digits; "": the hub's main branch.
    """

    door: Door
    owner: str
    name: str
    revision: str = ""

    @property
    def repository(self) -> str:
        """The repository as the hub names it: OWNER/NAME."""
        return f"{self.owner}/{self.name}"

    @property
    def page(self) -> str:
        """The address of its page, where a person finds terms, licence and files."""
        return f"https://huggingface.co/{self.repository}"

    def __str__(self) -> str:
        return f"{self.door.prefix}:{self.repository}" + (
            f"@{self.revision}" if self.revision else ""
        )


def is_hub(text: str) -> bool:
    """Return whether a name asks for an encoder of the hub, well spelled or not."""
    return text.partition(":")[0] in DOORS


def parse(text: str) -> Reference:
    """Read a reference, `hf-hub:OWNER/NAME[@REVISION]`, or behind another door.

    text: begins with a door's prefix, see `is_hub`. Raises UserError for what is none.
    """
    prefix, _, rest = text.partition(":")
    door = DOORS[prefix]
    found = re.fullmatch(r"([\w.-]+)/([\w.-]+?)(?:@([\w./-]+))?", rest)
    if not found or ".." in rest:
        usage = [f"{one.usage}[@REVISION]" for one in DOORS.values()]
        raise UserError(
            f"'{text}' names no repository of the hub.",
            allowed=usage,
            then=f"medbench run --encoder {door.usage}",
        )
    owner, name, revision = found.groups()
    return Reference(door, owner, name, revision or "")


def check_installed(door: Door, text: str) -> None:
    """Raise UserError where the package that reads an encoder is not installed."""
    if importlib.util.find_spec(door.package) is None:
        raise UserError(
            f"'{text}' is read by {door.package}, which is not installed.",
            then=f"pip install 'medbench[{door.extra}]'",
        )


def check_readout(reference: Reference, readout: str, having: Sequence[str] = ()) -> None:
    """Raise UserError for a readout that a door does not give.

    having: those of the network itself, where they are known.
    """
    allowed = having or reference.door.readouts
    if readout not in allowed:
        what = f"Encoder '{reference}' has no readout '{readout}'."
        raise UserError(
            what,
            allowed=allowed,
            given=readout,
            then=f"medbench run --encoder {reference} --readout {allowed[0]}",
        )
