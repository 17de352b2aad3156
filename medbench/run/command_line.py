"""A grid as the command that asks for it, without places on the machine: what a page or a paper may show."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import PurePath, PureWindowsPath

from medbench.schema import Grid

#: Fields that an option of another name fills.
OPTIONS = {"tasks": "task", "encoders": "encoder", "readouts": "readout", "target": "on", "shifts": "shift"}
_REPEATED = ("tasks", "shifts")
_ALWAYS = ("tasks", "labels", "seeds")


def command(grid: Grid) -> str:
    """`medbench run --task derm ...`: tasks, labels and seeds, then what differs from the default. Of a path the last name stays.

    >>> command(Grid(tasks=("folder:/home/ann/moles",), methods=("given",), weights="/home/ann/best.pth", data="/data"))
    'medbench run --task folder:moles --labels 1,10,100 --seeds 3 --methods given --weights best.pth --data DATA'
    """
    default, words = Grid(), ["medbench", "run"]
    named = [*_ALWAYS, *(field.name for field in fields(Grid) if field.name not in _ALWAYS)]
    for name in named:
        value = getattr(grid, name)
        if value == getattr(default, name) and name not in _ALWAYS:
            continue
        flag = f"--{OPTIONS.get(name, name).replace('_', '-')}"
        if name == "data":
            words += [flag, value if value == "phantom" else "DATA"]
        elif isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif name in _REPEATED:
            words += [word for part in value for word in (flag, _placeless(part))]
        else:
            words += [flag, ",".join(map(_placeless, value)) if isinstance(value, tuple) else _placeless(str(value))]
    return shlex.join(words)


def _placeless(word: str) -> str:
    """`folder:/home/ann/x` -> `folder:x`; `5/class` and the like stay."""
    kind, colon, rest = word.partition(":") if word.split(":")[0] in ("folder", "features") else ("", "", word)
    inside = "/" in rest or "\\" in rest
    if not inside or rest.endswith("/class"):
        return word
    return kind + colon + PureWindowsPath(PurePath(rest).name).name
