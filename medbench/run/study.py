"""A study: a Python file with a docstring and one constant `GRID`, which says only what it chooses.

    \"\"\"Does the penalty matter? 40 s on two cores; supervised AUC about .8 at all labels.\"\"\"
    from medbench import Grid
    GRID = Grid(tasks=("derm",), methods=("random", "supervised"), data="phantom")

The file runs as any program does: run only those that you trust. Paths in it count from the working
folder.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import runpy
import shlex
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
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
    """Hold what a study's file says. text: its docstring, "" where it has none."""

    file: Path
    text: str
    grid: Grid

    @property
    def name(self) -> str:
        """The name of the file without its suffix: the results go to runs/NAME."""
        return self.file.stem

    def but(self, options: Grid, given: Collection[str]) -> Grid:
        """Return the study's grid with the fields named in `given` taken from `options`.

        A user's word on the command line comes last.
        """
        return replace(self.grid, **{name: getattr(options, name) for name in given})

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Raise a UserError inside for a word that the file holds with the file and its line."""
        try:
            yield
        except UserError as error:
            line = self._line(error.given)
            if line is None:  # the command line's, or made by the file's own code
                raise
            raise UserError(f"{self.file}, line {line}: {error}", given=error.given) from error

    def _line(self, word: str | None) -> int | None:
        asked = word.strip().casefold() if word else None
        for node in ast.walk(ast.parse(self.file.read_bytes())):
            if isinstance(node, ast.Constant) and str(node.value).strip().casefold() == asked:
                return node.lineno
        return None


def study_file(text: str, command: str = "medbench run FILE.py") -> Path:
    """Return the path of a study's file.

    command: what takes one in place of FILE, for a message. Raises UserError for what is no Python
    file, with the nearest one.
    """
    file = user_path(text)
    if file.suffix != ".py" or not file.is_file():
        what = (
            f"No study file '{text}'"
            if file.suffix == ".py"
            else f"'{text}' is not a study, which is a Python file with a constant GRID"
        )
        folders = dict.fromkeys(
            [*[above for above in file.parents if above.is_dir()][:1], Path("benchmarks")]
        )
        kept = [str(other) for folder in folders for other in sorted(folder.glob("*.py"))]
        near = difflib.get_close_matches(text, kept, n=1, cutoff=0.5)
        command = command.replace("FILE.py", shlex.quote(near[0])) if near else command
        then = command if file.suffix == ".py" else f"{asking(tasks=(text,))}, or {command}"
        if (file / "rows.jsonl").is_file():
            then = f"medbench table '{text}', or check --rows '{text}': it is a results folder"
        raise UserError(f"{what}.", allowed=kept, given=text, then=then)
    return file


def load_study(text: str, command: str = "medbench run FILE.py") -> Study:
    """Run a study's file and take its grid.

    text: the path of the file. command: as `study_file` takes it. Raises UserError for a file that
    is none, fails, or has no `GRID` of the right types.
    """
    file = study_file(text, command)
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
    return Study(file, inspect.cleandoc(found.get("__doc__") or ""), found["GRID"])


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
