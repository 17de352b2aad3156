"""Docstrings say what a reader needs: the shapes of arrays, in sentences of their own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import medbench
from medbench.schema.registry import SHIPPED

ROOT = Path(medbench.__file__).parent
ARRAY = re.compile(r"\b(ndarray|Tensor|Floats)\b")
#: Of named arrays (a state dict, an archive) each has its own shape.
NAMED = re.compile(r"(Mapping|dict)\[str, [\w.]*(ndarray|Tensor)\]")
SHAPE = re.compile(
    r"\([A-Za-z0-9.][\w .+*/-]*,(\s*[\w .+*/-]+,?)*\)|of (any|one) shape|as `|element by element"
    r"|broadcast|[Ll]ike |one number"
)
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def documented() -> Iterator[tuple[str, Documented, list[str]]]:
    """(file:line name, node, paragraphs of its docstring)."""
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, Documented):
                name = getattr(node, "name", "")
                where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)} {name}"
                yield where, node, (ast.get_docstring(node) or "").split("\n\n")


def test_no_second_paragraph_goes_on_with_the_first_sentence() -> None:
    assert not [
        where
        for where, _, paragraphs in documented()
        if len(paragraphs) > 1 and re.match(r"(And|Or|But|By)\b", paragraphs[1].strip())
    ]


def test_functions_of_arrays_name_their_shapes() -> None:
    """Public ones of a module and its public classes; of what torch calls (`forward`) and of `of`
    the class says it."""
    lacking = []
    for file in sorted(ROOT.rglob("*.py")):
        kind = file.parent.name if file.parent.parent == ROOT else ""
        if kind in SHIPPED and file.stem not in SHIPPED[kind] and file.stem[0] != "_":
            continue  # a user's own
        for node in public(ast.parse(file.read_text(encoding="utf-8")).body):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            stated = [one.annotation for one in arguments] + [node.returns]
            texts = [NAMED.sub("", ast.unparse(one)) for one in stated if one is not None]
            if any(map(ARRAY.search, texts)) and not SHAPE.search(ast.get_docstring(node) or ""):
                lacking.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not lacking


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    for node in body:
        name = getattr(node, "name", "_")
        if isinstance(node, ast.ClassDef) and not name.startswith("_"):
            yield from public(node.body)
        elif isinstance(node, ast.FunctionDef) and not re.match(r"_|(forward|of)$", name):
            yield node
