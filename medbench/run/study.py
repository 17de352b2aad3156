"""A study: a Python file with a docstring and one constant `GRID`, which says only what it chooses.

    \"\"\"Does the penalty matter? 40 s on two cores; supervised AUC about .8 at all labels.\"\"\"
    from medbench import Grid
    GRID = Grid(tasks=("derm",), methods=("random", "supervised"), data="phantom")

The file runs as any program does: run only those that you trust. Paths in it count from the working
folder.
"""

from __future__ import annotations

import inspect
import re
import runpy
import traceback
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from medbench.run.command_line import asking
from medbench.schema import Grid, UserError, told, user_path
from medbench.system.contained_exit import exits_are_errors

EXAMPLE = 'GRID = Grid(tasks=("derm",), labels=("1", "10", "100"))'


@dataclass(frozen=True)
class Study:
    """Hold what a study's file says.

    name: of the file without its suffix, the results go to runs/NAME. text: its docstring, "" where
    it has none.
    """

    name: str
    text: str
    grid: Grid

    def but(self, options: Grid, given: Collection[str]) -> Grid:
        """Return the study's grid with the fields named in `given` taken from `options`.

        A user's word on the command line comes last.
        """
        return replace(self.grid, **{name: getattr(options, name) for name in given})


def load_study(text: str, command: str = "medbench run FILE.py") -> Study:
    """Run a study's file and take its grid.

    text: the path of the file. command: what takes one, for a message. Raises UserError for a file
    that is none, fails, or has no `GRID` of the right types.
    """
    file = user_path(text)
    if file.suffix != ".py" or not file.is_file():
        what = (
            f"No study file '{text}'"
            if file.suffix == ".py"
            else f"'{text}' is not a study, which is a Python file with a constant GRID"
        )
        near = [
            str(other)
            for folder in (file.parent, Path("benchmarks"))
            if folder.is_dir()
            for other in sorted(folder.glob("*.py"))
        ]
        then = command if file.suffix == ".py" else f"{asking(tasks=(text,))}, or {command}"
        if (file / "rows.jsonl").is_file():
            then = f"medbench table '{text}', or check --rows '{text}': it is a results folder"
        raise UserError(f"{what}.", allowed=near, given=text, then=then)
    with exits_are_errors():
        try:
            found = runpy.run_path(str(file), run_name=f"medbench_study_{file.stem}")
        except (
            Exception,
            SystemExit,
        ) as error:  # somebody else's code can fail in every way; the message carries the reason
            raise _failed(file, error) from error
    if "GRID" not in found:
        grids = [name for name, value in found.items() if isinstance(value, Grid)]
        raise UserError(
            f"{file} has no constant GRID{f', but {grids[0]}' if grids else ''}.",
            then=f"write {EXAMPLE}",
        )
    if not isinstance(found["GRID"], Grid):
        raise UserError(
            f"GRID in {file} is a {type(found['GRID']).__name__}, not a medbench.Grid.",
            then=f"write {EXAMPLE}",
        )
    check_types(found["GRID"], f"{file}: GRID")
    return Study(file.stem, inspect.cleandoc(found.get("__doc__") or ""), found["GRID"])


def check_types(grid: Grid, where: str) -> None:
    """Raise UserError for a field of a grid whose value is not of the type that `Grid` states.

    `labels="10"` would be read letter by letter. where: the grid's name, for the message.
    """
    for name, hint in get_type_hints(Grid).items():
        value = getattr(grid, name)
        if not _fits(value, hint):
            wanted = {
                tuple: "a tuple of texts",
                int: "a whole number",
                bool: "True or False",
                str: "a text",
            }[_kind(hint)]
            wanted += "".join(f" or {word!r}" for word in _words(hint))
            raise UserError(
                f"{where}.{name} is {value!r}; it must be {wanted}{_instead(name, value, hint)}."
            )


def _kind(hint: Any) -> type:
    kind = get_args(hint)[0] if _is_union(hint) else get_origin(hint) or hint
    assert isinstance(kind, type)
    return kind


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _words(hint: Any) -> tuple[str, ...]:
    """Return the words that a field takes beside values of its type: "auto"."""
    return tuple(
        word for part in get_args(hint) if get_origin(part) is Literal for word in get_args(part)
    )


def _fits(value: Any, hint: Any) -> bool:
    if (_is_union(hint) and type(None) in get_args(hint) and value is None) or (
        isinstance(value, str) and value in _words(hint)
    ):
        return True
    kind = _kind(hint)
    if kind is tuple:
        return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _instead(name: str, value: Any, hint: Any) -> str:
    """Say what was meant, where that can be told."""
    if _kind(hint) is not tuple:
        return ""
    parts = (
        [value]
        if isinstance(value, str | int | float)
        else list(value)
        if isinstance(value, list | tuple)
        else []
    )
    return f", as {name}={tuple(map(str, parts))!r}" if parts else ""


def _failed(file: Path, error: BaseException) -> UserError:
    """One line: what went wrong, and in which line of the study."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__) if line is None else ():
        line = frame.lineno if Path(frame.filename) == file else line
    where = f"{file}, line {line}" if line else f"{file}"
    unknown = re.search(
        r"Grid\.__init__\(\) got an unexpected keyword argument '(\w+)'", told(error)
    )
    if unknown:
        return UserError(
            f"{where}: Grid has no '{unknown[1]}'.",
            allowed=[field.name for field in fields(Grid)],
            given=unknown[1],
        )
    reason = f"SyntaxError: {error.msg}" if isinstance(error, SyntaxError) else told(error)
    return UserError(f"{where} failed: {reason}", then="fix the study")
