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
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
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
    tree = _parsed(file)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return hashlib.sha256(tree_text(tree).encode()).hexdigest()


def _parsed(file: Path) -> ast.Module:
    """Parse a file; one that this Python cannot read, which cannot run either, holds its bytes."""
    content = file.read_bytes()
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError):
        return ast.Module([ast.Expr(ast.Constant(content))], [])


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
            of_medbench = name.partition(".")[0] == "medbench"
            if of_medbench and not name.startswith(entries or "-"):
                continue
            origin = _looked_up(name)[0]
            if origin is not None and (of_medbench or not _installed(origin)):
                found[name] = origin
                inner = name if origin.name == "__init__.py" else name.rpartition(".")[0]
                waiting.append((origin, inner))
    return [found[name] for name in sorted(found) if found[name] != file.resolve()]


def _looked_up(name: str) -> tuple[Path | None, list[str]]:
    """Return a module's Python file, and the folders of a package, which may have no file.

    (None, []) for the name of a function or a class, and for what is not there. What is not loaded
    yet, as it is imported inside a function, is looked for without running any of it.
    """
    places: list[str] = []
    if name in sys.modules:
        module = sys.modules[name]
        spec = getattr(module, "__spec__", None)
        places = list(getattr(module, "__dict__", {}).get("__path__") or ())
    elif "." not in name:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None, []
        places = list(spec.submodule_search_locations or ()) if spec else []
    else:
        above, _, last = name.rpartition(".")
        looked = [
            found
            for place in _looked_up(above)[1]
            if (found := FileFinder(place, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(last))
        ]
        spec = next((one for one in looked if one.loader), None)
        of = [spec] if spec else looked  # without a file, the folders of a namespace together
        places = [place for one in of for place in one.submodule_search_locations or ()]
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        return None, places
    return Path(str(spec.origin)).resolve(), places


def _names(file: Path, package: str) -> set[str]:
    """Modules that a file's import statements may mean, packages above them included."""
    names = set()
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = "." * node.level + (node.module or "")
            try:
                whole = importlib.util.resolve_name(whole, package or None)
            except ImportError:  # from no package, or above it: it fails where it runs, too
                continue
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
