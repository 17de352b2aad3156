"""Finds what can be named: walks a folder and collects its constants.

Adding a task, a method or a protocol is adding one file.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from medbench.schema import Method, Protocol, Task, TaskFamily, UserError, user_path


def tasks() -> dict[str, Task]:
    """Return the registered tasks, name -> entry; the next three functions do so for their kind."""
    return _collect("tasks", Task)


def families() -> dict[str, TaskFamily]:
    return _collect("tasks", TaskFamily)


def methods() -> dict[str, Method]:
    return _collect("methods", Method)


def protocols() -> dict[str, Protocol]:
    return _collect("protocols", Protocol)


def task(name: str, **reading: Any) -> Task:
    """Return the task of that name; `folder:PATH` opens a family.

    reading: how its classes are read, as in `Grid.reading`. Raises UserError with the nearest
    match.
    """
    reading = {option: value for option, value in reading.items() if value}
    head, colon, argument = name.partition(":")
    if colon and head in families():
        return families()[head].open(argument, **reading)
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
    raise _unknown("task", name, [*tasks(), *(f.usage for f in families().values())])


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
        return entry.augmented(entry, members)
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
        return chosen
    raise _unknown("method", name, list(methods()))


def protocol(name: str) -> Protocol:
    """Return the protocol of that name. Raises UserError with the nearest match."""
    if name in protocols():
        return protocols()[name]
    raise _unknown("protocol", name, list(protocols()))


@cache
def _collect(folder: str, type_: type[Any]) -> dict[str, Any]:
    package = importlib.import_module(f"medbench.{folder}")
    found: dict[str, Any] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if info.name.startswith("_"):  # a helper of the entries
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type_) and found.setdefault(value.name, value) is not value:
                raise ValueError(
                    f"{module.__name__} defines a second {type_.__name__.lower()} named '{value.name}'"
                )
    return found


def _unknown(what: str, name: str, allowed: list[str]) -> UserError:
    return UserError(
        f"Unknown {what} '{name}'.", allowed=allowed, given=name, then=f"medbench list {what}s"
    )
