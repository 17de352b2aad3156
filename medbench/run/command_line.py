"""A grid as the command that asks for it, without places on the machine: what a page or a paper may show."""

from __future__ import annotations

import shlex
from pathlib import PurePath, PureWindowsPath
from typing import Any

from medbench.schema import OPTIONS, Grid

_DEFAULT = Grid()


def command(grid: Grid) -> str:
    """`medbench run --task derm ...`: tasks, labels and seeds, then what differs from the default. Of a path the last name stays.

    >>> command(Grid(tasks=("folder:/home/ann/moles",), methods=("given",), weights="/home/ann/best.pth", data="/data"))
    'medbench run --task folder:moles --labels 1,10,100 --seeds 3 --methods given --weights best.pth --data DATA'
    """
    words = ["medbench", "run"]
    for name in sorted(OPTIONS, key=lambda name: not OPTIONS[name].always):
        value = getattr(grid, name)
        if OPTIONS[name].always or value != getattr(_DEFAULT, name):
            words += _words(name, value)
    return shlex.join(words)


def asking(name: str, value: Any = None) -> str:
    """The command that gives one field a value, its default where none is given: for the end of an error's message.

    >>> asking("seeds"), asking("target", "val")
    ('medbench run --seeds 3', 'medbench run --on val')
    """
    return shlex.join(["medbench", "run", *_words(name, getattr(_DEFAULT, name) if value is None else value)])


def _words(name: str, value: Any) -> list[str]:
    """What stands on the command line for a field's value."""
    option = OPTIONS[name]
    if isinstance(value, bool):
        return [option.flag if value else f"--no-{option.flag[2:]}"]
    if isinstance(value, tuple):
        parts = [_placeless(part) for part in value]
        return [word for part in parts for word in (option.flag, part)] if option.repeated else [option.flag, ",".join(parts)]
    hidden = option.placeholder and value != "phantom"
    return [option.flag, option.placeholder if hidden else _placeless(str(value))]


def _placeless(word: str) -> str:
    """`folder:/home/ann/x` -> `folder:x`; `5/class` and the like stay."""
    kind, colon, rest = word.partition(":") if word.split(":")[0] in ("folder", "features") else ("", "", word)
    inside = "/" in rest or "\\" in rest
    if not inside or rest.endswith("/class"):
        return word
    return kind + colon + PureWindowsPath(PurePath(rest).name).name
