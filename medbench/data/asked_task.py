"""A task as a command takes it, which its name need not be."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path


def as_asked(name: str, tasks: Sequence[str]) -> str:
    """Return a task as it was asked for, quoted for a shell: `folder:` with its path.

    name: of the task, maybe with what another division (`--hold-out-by`) adds to it. tasks: as a
    person gave them. The name itself where none of them, or several, can be meant.
    """

    def names(text: str) -> list[str]:
        kind, _, place = text.partition(":")
        return [f"folder:{one}" for one in Path(place).parts[-2:]] if kind == "folder" else [text]

    named = [
        text
        for text in tasks
        if any(name == one or name.startswith(f"{one}:") for one in names(text))
    ]
    return shlex.quote(named[0]) if len(named) == 1 else name
