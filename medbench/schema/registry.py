"""Finds what can be named: walks a folder and collects its constants.

Adding a task, a method or a protocol is adding one file. The code of a file that medbench does not
ship is part of the identity of its entries, so that an edit makes new features and rows.
"""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from medbench.schema import (
    MODALITIES,
    Method,
    Protocol,
    Task,
    TaskFamily,
    UserError,
    place_of,
    told,
    user_path,
)
from medbench.schema.methods import QUICK_VIEWS
from medbench.schema.own_code import code_hash, imported

#: The files that medbench ships. Their entries are known by their versions, which a test compares
#: with the code (`tests/test_versions.py`). A new entry that is to be shipped is named here with
#: its first committed rows; until then its code is part of its identity.
SHIPPED = {
    "tasks": "chexpert derm endoscopy folder isic2019 lymph marrow medmnist nih14 pad_ufes phantoms "
    "pneumonia retina scin",
    "methods": "barlow byol concat dino dvme lejepa mae micle mocov3 random_init simclr supervised "
    "supervised_adapted_bn swav user_supplied vicreg",
    "protocols": "case_attention case_mean finetune knn knn_nielsen2023 linear lora mlp simpleshot "
    "svm_logreg",
}
Entry = TypeVar("Entry", Task, TaskFamily, Method, Protocol)


def tasks() -> dict[str, Task]:
    """Return the registered tasks: name -> `Task`, in the order of their files.

    The files of medbench's `tasks/`, those that a user put there among them. Raises UserError for
    two of one name, and for a file that cannot be imported.
    """
    return _collect("tasks", Task)


def families() -> dict[str, TaskFamily]:
    """Return the families of tasks, such as `folder`: name -> `TaskFamily`; as `tasks`."""
    return _collect("tasks", TaskFamily)


def methods() -> dict[str, Method]:
    """Return the registered pretraining methods: name -> `Method`; as `tasks`."""
    return _collect("methods", Method)


def protocols() -> dict[str, Protocol]:
    """Return the registered protocols: name -> `Protocol`; as `tasks`."""
    return _collect("protocols", Protocol)


def task(name: str, **reading: Any) -> Task:
    """Return the task of that name; `folder:PATH` opens a family.

    reading: how its classes are read, as in `Grid.reading`; for a family alone. Raises UserError
    with the nearest match, and for reading options beside a task that has its own.
    """
    reading = {option: value for option, value in reading.items() if value}
    head, colon, argument = name.partition(":")
    if colon and head in families():
        family = families()[head]
        return _by_code(family.open(argument, **reading), family.code)
    if name in tasks():
        if reading:
            what = f"--{next(iter(reading))} describes a folder of your own; task '{name}' is what it is."
            raise UserError(what, then=f"medbench run --task {name}")
        return tasks()[name]
    if not name.strip():
        raise UserError("The name of a task is empty.", then="medbench list tasks")
    if user_path(name).exists():
        raise UserError(
            f"'{name}' is a path, not the name of a task.",
            then=f"medbench run --task 'folder:{name}'",
        )
    raise _unknown("task", name, [*_own_first(tasks()), *(f.usage for f in families().values())])


def method(name: str) -> Method:
    """Return the method of that name.

    `dvme:swav+dino` is a fusion of chosen members, each of which must be a method; `simclr:chest`
    is a method with chosen random views. Raises UserError for an unknown name, with the nearest
    match, and for a member that is a fusion.
    """
    head, colon, members = name.partition(":")
    if name in methods():
        return methods()[name]
    entry = methods().get(head) if colon else None
    if entry and entry.augmented:
        return _by_code(entry.augmented(entry, members), entry.code)
    fusion = entry.fusion if entry else None
    if fusion:
        chosen = fusion.choose(members)
        assert chosen.fusion is not None
        for member in chosen.fusion.members:
            if method(member.method).fusion:
                raise UserError(
                    f"'{member.method}' cannot be a member of '{head}': it is a fusion itself.",
                    then="medbench list methods",
                )
        assert entry is not None
        return _by_code(chosen, entry.code)
    raise _unknown("method", name, _own_first(methods()))


def has_paper(entry: Method) -> bool:
    """Return whether a method, or each member of a fusion, has the pretraining of a paper.

    One that pretrains nothing lacks none.
    """
    if entry.fusion:
        return all(has_paper(method(member.method)) for member in entry.fusion.members)
    try:
        if entry.recipes:
            entry.recipes(MODALITIES[0], "paper", QUICK_VIEWS, "task")
    except Exception:  # a user's own may fail in every way; a plan that asks for it tells how
        return False
    return True


def protocol(name: str) -> Protocol:
    """Return the protocol of that name. Raises UserError with the nearest match."""
    if name in protocols():
        return protocols()[name]
    raise _unknown("protocol", name, _own_first(protocols()))


def module_of(folder: str, name: str) -> ModuleType:
    """Return the module that defines the entry of that name.

    folder: "tasks", "methods" or "protocols". Raises LookupError where none does.
    """
    for module, value in _constants(folder):
        if value.name == name:
            return module
    raise LookupError(name)


def own_line(error: BaseException) -> str:
    """Return the deepest line of a user's own entry that an error went through, "mine.py, line 3".

    Of the file its name alone is given; "" where it went through none.
    """
    for step in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_own(Path(step.filename)):
            return f"{Path(step.filename).name}, line {step.lineno}"
    return ""


def own_place(function: Callable[..., Any]) -> str:
    """Return where a function of a user's own entry begins, "mine.py, line 3"; "" of another."""
    file, _, line = place_of(function).rpartition(", line ")
    return f"{Path(file).name}, line {line}" if _is_own(Path(file)) else ""


def _is_own(file: Path) -> bool:
    """Return whether a file of entries is a user's, and no helper of them."""
    folders = {
        str(Path(place)): kind
        for kind in SHIPPED
        for place in importlib.import_module(f"medbench.{kind}").__path__
    }
    kind = folders.get(str(file.parent))
    return bool(kind and file.stem[0] != "_" and file.stem not in SHIPPED[kind].split())


@cache
def _collect(folder: str, type_: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    files: dict[str, str] = {}
    for module, value in _constants(folder):
        if isinstance(value, type_):
            if value.name in found:
                raise _twice(type_, value.name, files[value.name], str(module.__file__))
            files[value.name] = str(module.__file__)
            found[value.name] = _by_code(value, _code(folder, module))
    return found


def _constants(folder: str) -> list[tuple[ModuleType, Any]]:
    """List each entry once, with the module that defines it, not one that imports it."""
    package = importlib.import_module(f"medbench.{folder}")
    named = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if info.name.startswith("_"):  # a helper of the entries
            continue
        module = _module(f"{package.__name__}.{info.name}", folder)
        named += [
            (module, name, value)
            for name, value in vars(module).items()
            if isinstance(value, Task | TaskFamily | Method | Protocol)
        ]
    times = Counter(id(value) for _, _, value in named)
    first: dict[int, tuple[ModuleType, Any]] = {}
    defined: dict[int, tuple[ModuleType, Any]] = {}
    for module, name, value in named:
        first.setdefault(id(value), (module, value))
        if times[id(value)] == 1 or name not in _imports(module):
            defined.setdefault(id(value), (module, value))
    # one that all of them import from a helper is the first one's
    return [*defined.values(), *(one for key, one in first.items() if key not in defined)]


def _module(name: str, folder: str) -> ModuleType:
    """Import an entry's file. Raises UserError for a user's own that fails, which names the line."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # somebody else's code can fail in every way
        if name.rpartition(".")[2] in SHIPPED[folder].split():
            raise
        spec = importlib.util.find_spec(name)
        file = str(spec.origin if spec else name)
        steps = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == file]
        own = isinstance(error, SyntaxError) and error.filename == file
        line = error.lineno if own else steps[-1].lineno if steps else 1  # type: ignore[attr-defined]
        raise UserError(
            f"{file}, line {line}: it cannot be imported: {told(error)}.", then="fix that file"
        ) from error


def _twice(type_: type[Any], name: str, first: str, second: str) -> UserError:
    """Say that two entries have one name."""
    what = {"TaskFamily": "task family"}.get(type_.__name__, type_.__name__.lower())
    where = f"{first} holds two" if first == second else f"{first} and {second} each hold a"
    return UserError(
        f"{where} {what}{'s' if first == second else ''} named '{name}'.",
        then=f"give one of them another name: the first argument of {type_.__name__}(...)",
    )


def _imports(module: ModuleType) -> set[str]:
    """Names that a module's import statements bind."""
    tree = ast.parse(Path(str(module.__file__)).read_bytes())
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in statements for alias in node.names}


def _code(folder: str, module: ModuleType) -> str:
    """Hash the code of a file that medbench does not ship, and of what it imports; else ""."""
    package, _, name = module.__name__.rpartition(".")
    if name in SHIPPED[folder].split():
        return ""
    file = Path(str(module.__file__))
    inside = module.__name__ if file.name == "__init__.py" else package
    beside = sorted(set(file.parent.glob("*.py")) - {file}) if inside != package else []
    entries = tuple(f"medbench.{kind}." for kind in SHIPPED)
    return code_hash([file, *beside, *imported(file, inside, entries)])[:16]


def _by_code(entry: Entry, code: str) -> Entry:
    """Make the hash of its file a part of an entry's identity."""
    return replace(entry, code=code) if code else entry


def _own_first(entries: dict[str, Any]) -> list[str]:
    """List names, a user's own first: a long list is cut in messages."""
    return sorted(entries, key=lambda name: not entries[name].code)


def _unknown(what: str, name: str, allowed: list[str]) -> UserError:
    return UserError(
        f"Unknown {what} '{name}'.", allowed=allowed, given=name, then=f"medbench list {what}s"
    )
