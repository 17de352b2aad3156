"""How a field of `Grid` is given on the command line, stated beside its type and its default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """Flag and help of a field.

    Its type and its default are the field's own, and say how words are read.

    A tuple is one word whose parts are separated by commas; an empty one may be left out, but
    given, it must name something. A bool is a switch, with a `--no-` where the default is True. A
    text that may be None may be left out, but not be empty.

    Attributes
    ----------
    repeated : a tuple's flag is given once for each value: values may hold commas, as paths do.
    clears : an empty text is a value: it takes a study's own away. placeholder : stands in printed
    commands for what names a place on this machine. verbatim : words that are no place on this
    machine, whatever signs they hold (`5/class`): printed commands show them as they are. files : a
    tuple's values may be paths of files: a comma in one that is there does not separate. always :
    stands in every printed command, and first, even at its default.
    """

    flag: str
    help: str
    repeated: bool = False
    clears: bool = False
    placeholder: str = ""
    verbatim: bool = False
    files: bool = False
    always: bool = False


def option(default: Any, flag: str, help: str, **more: Any) -> Any:
    """Declare a field of `Grid` with this default. more: as in `Option`."""
    return field(default=default, metadata={"option": Option(flag, help, **more)})
