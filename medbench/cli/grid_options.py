"""Options of commands, made from the fields of `Grid`.

Each states its flag, help and default there alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from medbench.cli.options import command_line, filled, named, split, split_files
from medbench.schema import OPTIONS, Grid, UserError

DEFAULT = Grid()
HINTS = get_type_hints(Grid)
#: Fields in the order of `--help`: values, then switches.
SWITCHES = tuple(name for name in OPTIONS if HINTS[name] is bool)
VALUES = tuple(name for name in OPTIONS if name not in SWITCHES)


def option_of(name: str, help: str = "") -> Any:
    """Make the option of a field, for `Annotated`.

    help: where the field means something else in a command.
    """
    option = OPTIONS[name]
    negated = f"/--no-{option.flag[2:]}" if getattr(DEFAULT, name) is True else ""
    must_not_be_empty = HINTS[name] == str | None and not option.clears
    return typer.Option(
        option.flag + negated,
        help=help or option.help,
        callback=filled if must_not_be_empty else None,
    )


Data = Annotated[str | None, option_of("data")]
Ordinal = Annotated[bool, option_of("ordinal")]
Order = Annotated[str | None, option_of("order")]


def reading(ordinal: bool, order: str | None) -> dict[str, Any]:
    """Return what `Ordinal` and `Order` say of a folder, as the options of `registry.task`.

    Raises UserError for an order that names nothing.
    """
    return {"ordinal": ordinal, "order": _read("order", order)}


def given_fields(context: typer.Context) -> list[str]:
    """Return the fields of a grid whose options a user gave.

    Those left to their defaults are none of them.
    """
    sources = {name: context.get_parameter_source(name) for name in OPTIONS}
    return [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]


def grid_of(words: Sequence[str]) -> Grid:
    """Return what `medbench run` with these words asks for.

    Raises BadUsage for words that it does not take, UserError for values.
    """
    command = command_line().commands["run"]
    given = command.make_context("run", list(words)).params
    return Grid(**{name: _read(name, given[name]) for name in OPTIONS})


def takes_grid(*order: str, **helps: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of fields of `Grid`.

    It gets what they ask for as its parameter `grid`. order: the fields, and the parameters of the
    command's own, as --help shows them. A parameter of its own comes before a field of its name.
    helps: of fields that mean something else in this command.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = dict(inspect.signature(command, eval_str=True).parameters)
        del own["grid"]
        asked = [name for name in order if name not in own]
        parameters = [
            own.pop(name) if name in own else _parameter(name, helps.get(name, ""))
            for name in order
        ]

        @wraps(command)
        def call(**given: Any) -> None:
            grid = Grid(**{name: _read(name, given.pop(name)) for name in asked})
            command(grid=grid, **given)

        every = [*own.values(), *parameters]  # first a context, which is no option
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in every]
        )
        return call

    return decorate


def _parameter(name: str, help: str) -> inspect.Parameter:
    """Make a field a parameter that typer reads.

    A tuple is one text, or a list where its flag is repeated.
    """
    kind, default = HINTS[name], getattr(DEFAULT, name)
    if _words(name):
        kind = str
    if get_origin(kind) is tuple:
        kind, default = (
            (list[str], list(default)) if OPTIONS[name].repeated else (str, ",".join(default))
        )
        kind, default = (kind, default) if default else (kind | None, None)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, option_of(name, help)],
    )


def _words(name: str) -> tuple[str, ...]:
    """Return the words that a field takes beside numbers."""
    return tuple(
        word
        for part in get_args(HINTS[name])
        if get_origin(part) is Literal
        for word in get_args(part)
    )


def _number(name: str, given: str, words: tuple[str, ...]) -> int | str:
    """Read a whole number, or one of the field's words. Raises UserError for another."""
    text = given.strip()
    if text in words:
        return text
    try:
        return int(text)
    except ValueError:
        option = OPTIONS[name]
        then = f"{option.flag} {words[0]}"
        raise UserError(
            f"{option.flag} '{given}' is not a number.",
            allowed=[*words, "1 to 1000"],
            given=text,
            then=then,
        ) from None


def _read(name: str, given: Any) -> Any:
    """Read the value of a field.

    Raises UserError for a list that may be left out, was given, and names nothing.
    """
    if words := _words(name):
        return _number(name, given, words)
    if get_origin(HINTS[name]) is not tuple:
        return given
    if OPTIONS[name].repeated:
        return tuple(given or ())
    if OPTIONS[name].files:
        return split_files(given)
    return split(given) if getattr(DEFAULT, name) else named(OPTIONS[name].flag, given)
