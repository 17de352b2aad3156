"""A grid as the command that asks for it, without places on the machine.

What a page or a paper may show.
"""

from __future__ import annotations

import shlex
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from medbench.models.hub.references import is_hub
from medbench.schema import OPTIONS, Grid

_DEFAULT = Grid()


def command(grid: Grid) -> str:
    """Return the command line that plans this grid, for people: `medbench run --task derm ...`.

    Tasks, labels and seeds, then what differs from the default, quoted for a shell. A path is shown
    by its last name, so that nothing tells of the machine; `asking` keeps paths.

    >>> command(Grid(tasks=("folder:/home/ann/moles",), methods=("given",), weights="/home/ann/best.pth", data="/data"))
    'medbench run --task folder:moles --labels 1,10,100 --seeds auto --methods given --weights
    best.pth --data DATA'
    """
    words = ["medbench", "run"]
    for name in sorted(OPTIONS, key=lambda name: not OPTIONS[name].always):
        value = getattr(grid, name)
        if OPTIONS[name].always or value != getattr(_DEFAULT, name):
            words += _words(name, _hidden(name, value))
    return shlex.join(words)


def asking(**fields: Any) -> str:
    """Return the command that gives these fields of `Grid` these values.

    For a message to whoever sits at this machine: paths stay whole. None: not said.

    >>> asking(seeds=Grid.seeds), asking(tasks=("derm",), size=None, weights="/home/ann/best.pth")
    ('medbench run --seeds auto', 'medbench run --task derm --weights /home/ann/best.pth')
    """
    return shlex.join(
        [
            "medbench",
            "run",
            *(
                word
                for name, value in fields.items()
                if value is not None
                for word in _words(name, value)
            ),
        ]
    )


def _words(name: str, value: Any) -> list[str]:
    """Return what stands on the command line for a field's value."""
    option = OPTIONS[name]
    if isinstance(value, bool):
        return [option.flag if value else f"--no-{option.flag[2:]}"]
    if isinstance(value, tuple):
        return (
            [word for part in value for word in (option.flag, part)]
            if option.repeated
            else [option.flag, ",".join(value)]
        )
    return [option.flag, str(value)]


def _hidden(name: str, value: Any) -> Any:
    """Return a field's value without places on the machine."""
    if OPTIONS[name].verbatim:
        return value
    if isinstance(value, tuple):
        return tuple(map(_placeless, value))
    if OPTIONS[name].placeholder and value != "phantom":
        return OPTIONS[name].placeholder
    return _placeless(value) if isinstance(value, str) else value


def _placeless(word: str) -> str:
    """`folder:/home/ann/x` -> `folder:x`, `folder:/home/ann/x/list.csv` -> `folder:x/list.csv`."""
    if is_hub(word):
        return word
    whose, equals, place = word.partition("=")
    if equals and not {"/", "\\"} & set(whose):  # TASK=PATH
        return f"{whose}={_placeless(place)}"
    kind, colon, rest = (
        word.partition(":") if word.split(":")[0] in ("folder", "features") else ("", "", word)
    )
    inside = "/" in rest or "\\" in rest
    if not inside:
        return word
    path = PureWindowsPath(rest) if "\\" in rest else PurePath(rest)
    listed = kind == "folder" and path.suffix.lower() in (
        ".csv",
        ".tsv",
    )  # whose name says little: the folder's is what the data are called
    return kind + colon + (f"{_folder(path)}{path.name}" if listed else path.name)


def _folder(path: PurePath) -> str:
    """Return `x/` of a file in the folder x.

    "" where that is nobody's choice of a name: a person's home, a step of a path, a drive.
    """
    above = path.parent
    home = above.parent.name.casefold() in ("home", "users") or str(above) == str(Path.home())
    return "" if home or above.name in ("", ".", "..", "~") else f"{above.name}/"
