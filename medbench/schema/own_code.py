"""Hashes Python files by what they do: comments, layout and prose may change.

A user's own file is known by this hash; what medbench ships is known by the versions that it
states.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path


def code_hash(files: Iterable[Path]) -> str:
    """Return the SHA-256 of several Python files, in the order given, as `file_hash` sees them."""
    return hashlib.sha256("".join(map(file_hash, files)).encode()).hexdigest()


def stated_version(version: int, code: str) -> int | str:
    """Return what an identity says of an entry: its version, and the code of a user's own file.

    >>> stated_version(2, ""), stated_version(1, "0f3a9c")
    (2, '1 of code 0f3a9c')
    """
    return f"{version} of code {code}" if code else version


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a Python file's syntax tree without its docstrings.

    How a number is spelled does not count either: 1e-3 is 0.001.
    """
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return hashlib.sha256(tree_text(tree).encode()).hexdigest()


def tree_text(node: object) -> str:
    """Write a syntax tree as text that every Python writes alike.

    `ast.dump` prints fields that only some versions have.
    """
    if isinstance(node, ast.AST):
        fields = (
            (name, value)
            for name, value in ast.iter_fields(node)
            if value is not None and value != [] and name != "kind"
        )
        return f"{type(node).__name__}({', '.join(f'{name}={tree_text(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{', '.join(map(tree_text, node))}]"
    return repr(node)


def imported(file: Path, package: str = "", entries: tuple[str, ...] = ()) -> list[Path]:
    """List the Python files that a file imports, and those that they import.

    What is installed is left out: versions of packages stand in a row's provenance. So is
    medbench's own code, but for modules whose names begin with one of `entries`.

    Parameters
    ----------
    file : Path
    package : str
        The package that the file is a module of; "": of none.
    entries : tuple of str

    Returns
    -------
    list of Path
        Sorted by the names of their modules, without `file`.
    """
    found: dict[str, Path] = {}
    waiting: list[tuple[Path, str]] = [(file, package)]
    while waiting:
        one, inside = waiting.pop()
        for name in _names(one, inside) - set(found):
            spec = _spec(name, entries)
            if spec is None or not spec.has_location or not spec.origin:
                continue
            origin = Path(spec.origin).resolve()
            of_medbench = name.partition(".")[0] == "medbench"
            if origin.suffix == ".py" and (of_medbench or not _installed(origin)):
                found[name] = origin
                waiting.append((origin, spec.parent or ""))
    return [found[name] for name in sorted(found) if found[name] != file.resolve()]


def _spec(name: str, entries: tuple[str, ...]) -> ModuleSpec | None:
    """Find a module that an import statement may mean; None for one that does not count.

    What is not loaded yet, as it is imported inside a function, is looked for without running it.
    """
    top = name.partition(".")[0]
    if top == "medbench" and not name.startswith(entries or "-"):
        return None
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    try:
        first = importlib.util.find_spec(top)
        if first is None or not first.origin:
            return None
        if top != "medbench" and _installed(Path(first.origin)):
            return None
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None  # the name of a function or a class, or of what is not there


def _names(file: Path, package: str) -> set[str]:
    """Modules that a file's import statements may mean, packages above them included."""
    names = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package or None)
                if node.level
                else node.module or ""
            )
            names |= {whole, *(f"{whole}.{alias.name}" for alias in node.names)}
    return {
        ".".join(parts[: i + 1])
        for parts in (name.split(".") for name in names)
        for i in range(len(parts))
    }


def _installed(file: Path) -> bool:
    places = {
        Path(sysconfig.get_path(name)).resolve()
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    return any(place in file.resolve().parents for place in places)
