"""Docstrings say what a reader needs: the shapes of arrays, in sentences of their own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
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
#: A first line that leans on something else: a field ("labels: (M,) int"), a bare shape, a pronoun.
LEANING = re.compile(r"[a-z_]+(, [a-z_]+)*( \([^)]*\))?: |[`({\[]|\w+ (it|them)\b")
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def documented() -> Iterator[tuple[str, Documented, list[str]]]:
    """(file:line name, node, paragraphs of its docstring)."""
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(parsed(file)):
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
        if not shipped(file):
            continue
        for node in public(parsed(file).body):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            stated = [one.annotation for one in arguments] + [node.returns]
            texts = [NAMED.sub("", ast.unparse(one)) for one in stated if one is not None]
            if any(map(ARRAY.search, texts)) and not SHAPE.search(ast.get_docstring(node) or ""):
                lacking.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not lacking


def shipped(file: Path) -> bool:
    """Whether a file is medbench's, not a user's own among its entries."""
    kind = file.parent.name if file.parent.parent == ROOT else ""
    return kind not in SHIPPED or file.stem in SHIPPED[kind] or file.stem[0] == "_"


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    for node in body:
        name = getattr(node, "name", "_")
        if isinstance(node, ast.ClassDef) and not name.startswith("_"):
            yield from public(node.body)
        elif isinstance(node, ast.FunctionDef) and not re.match(r"_|(forward|of)$", name):
            yield node


def test_public_first_lines_say_what_is_done_to_what() -> None:
    """A class may not begin with one of its fields, a function not with a bare shape or "it"."""
    wrong, bare = [], []
    for where, node in every_public():
        text = ast.get_docstring(node)
        if text is None:
            bare.append(where)
        elif LEANING.match(text):
            wrong.append(f"{where}: {text.splitlines()[0]}")
    assert not bare
    assert not wrong


def test_public_docstrings_send_nobody_to_a_private_name() -> None:
    assert not [
        where
        for where, node in every_public()
        if re.search(r"\b([Ss]ee|[Aa]s|[Aa]s of) `(\w+\.)*_[a-z]", ast.get_docstring(node) or "")
    ]


def every_public() -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef]]:
    """Public classes, functions and methods of what ships; torch calls `forward` as its class says,
    a setter is its property."""
    for file in sorted(ROOT.rglob("*.py")):
        if shipped(file):
            for node in members(parsed(file).body):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node


def members(body: list[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or re.match(
            r"_|forward$", node.name
        ):
            continue
        if isinstance(node, ast.ClassDef):
            yield node
            yield from members(node.body)
        elif not any(ast.unparse(one).endswith(".setter") for one in node.decorator_list):
            yield node


def test_public_docstrings_say_for_what_an_error_is_raised() -> None:
    """Not a bare "Raises UserError.": of what is checked, the first line says it."""
    bare = re.compile(r"Raises (UserError|ValueError|KeyError|TypeError|LookupError)\.(\s|$)")
    assert not [
        where
        for where, node in every_public()
        if bare.search(text := ast.get_docstring(node) or "") and not text.startswith("Check ")
    ]
