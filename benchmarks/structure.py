"""Measure the shape of the package: entries, arrows between rooms, upward arrows, circles of
modules, names with several meanings, heavy functions.

    python benchmarks/structure.py                 # of this checkout
    python benchmarks/structure.py PACKAGE         # of another one: the folder of the package itself

An entry is a file or folder of the package's top level. An arrow is an ordered pair of entries of
which the first imports the second, at any place in its files. An arrow is upward where the second
stands after the first in `ROOMS`. A circle is a set of modules that import each other, directly or
through others. A name is counted where several modules define a function or class of that name at
their top level. A function is heavy above `LINES` lines, without its decorators, or above
`PARAMETERS` parameters, without `self` and `cls`; functions inside functions count for themselves,
and what a dataclass generates does not count.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

#: From the lowest to the highest: a room may import what stands before it.
ROOMS = (
    "schema",
    "system",
    "stats",
    "images",
    "models",
    "methods",
    "protocols",
    "tasks",
    "data",
    "audit",
    "run",
    "report",
    "cli",
)


LINES, PARAMETERS = 60, 8


def modules(root: Path) -> dict[str, ast.Module]:
    """Dotted name below the package ("" for its own `__init__`) -> syntax tree."""
    found = {}
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(
            file.read_text(encoding="utf-8")
        )
    return found


def imports(trees: dict[str, ast.Module], package: str) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, anywhere in it."""
    return {
        name: set(_imported(tree, set(trees), package)) - {name} for name, tree in trees.items()
    }


def _imported(tree: ast.Module, known: set[str], package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and (node.module == package or node.module.startswith(f"{package}."))
        ):
            start = node.module.removeprefix(package).removeprefix(".")
            for alias in node.names:
                inner = f"{start}.{alias.name}" if start else alias.name
                if inner in known:
                    yield inner
                elif start:
                    yield start
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix(f"{package}.")
                for alias in node.names
                if alias.name.startswith(f"{package}.")
            )


def room(module: str) -> str:
    return module.split(".")[0] or "__init__"


def arrows(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    return {
        (room(module), room(other))
        for module, others in graph.items()
        for other in others
        if room(module) != room(other)
    }


def upward(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of the arrows between rooms, those that lead to a room that stands higher."""
    order = {name: i for i, name in enumerate(ROOMS)}
    return sorted((a, b) for a, b in found if a in order and b in order and order[b] > order[a])


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972).

    A package's `__init__` counts as a module of its own.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def shared_names(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Public functions and classes that several modules define at their top level -> these
    modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for module, tree in trees.items():
        names = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        }
        for name in names:
            places[name].append(module)
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def heavy_functions(trees: dict[str, ast.Module]) -> list[tuple[str, int, int]]:
    """(function, lines, parameters) of each that is long or takes much, as `run.job_steps.solve`.

    The longest first.
    """
    found = [
        (
            f"{module}.{node.name}",
            (node.end_lineno or node.lineno) - node.lineno + 1,
            _parameters(node),
        )
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted(
        (one for one in found if one[1] > LINES or one[2] > PARAMETERS),
        key=lambda one: (-one[1], one),
    )


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    listed = node.args
    named = [argument.arg for argument in (*listed.posonlyargs, *listed.args, *listed.kwonlyargs)]
    return (
        len(named)
        - (named[:1] in (["self"], ["cls"]))
        + (listed.vararg is not None)
        + (listed.kwarg is not None)
    )


def entries(root: Path) -> list[str]:
    return sorted(
        place.name
        for place in root.iterdir()
        if place.suffix == ".py" or (place.is_dir() and (place / "__init__.py").is_file())
    )


def main(root: Path) -> None:
    trees = modules(root)
    graph = imports(trees, root.name)
    between, names, rings, heavy = (
        arrows(graph),
        shared_names(trees),
        circles(graph),
        heavy_functions(trees),
    )
    print(f"entries                                    {len(entries(root))}")
    print(f"arrows between entries                     {len(between)}")
    print(
        f"  without the package's own two files      {sum(not {'__init__', '__main__'} & set(arrow) for arrow in between)}"
    )
    print(f"upward arrows                              {len(upward(between))}")
    print(f"circles of modules                         {len(rings)}")
    print(f"public names defined in several modules    {len(names)}")
    print(
        f"functions above {LINES} lines                    {sum(lines > LINES for _, lines, _ in heavy)}"
    )
    print(
        f"functions above {PARAMETERS} parameters                {sum(taken > PARAMETERS for _, _, taken in heavy)}"
    )
    for line in [
        *(f"upward: {a} -> {b}" for a, b in upward(between)),
        *(f"circle: {', '.join(ring)}" for ring in rings),
    ]:
        print(line)
    for name, where in names.items():
        print(f"name: {name}: {', '.join(where)}")
    for name, lines, taken in heavy:
        print(f"heavy: {name}: {lines} lines, {taken} parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "medbench")
