"""What a person is told of wrong input."""

from __future__ import annotations

import difflib
import errno
import inspect
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

_WORD = re.compile(r"\S{500,}")
_LONGEST = 4000  # characters of a part of a message: ten files with long paths take less
_NO_ARGUMENT = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_FEW = 5  # names beside a path that does not exist, all of which are told
_PACKAGE = Path(__file__).parents[1]


class UserError(Exception):
    """Refuse something that a user gave, in one line. The command line exits with code 2.

    Parameters
    ----------
    what : str
        What was given, and what is wrong with it.
    allowed : iterable of str
        What is allowed.
    given : str, optional
        The word whose nearest match among `allowed` is told.
    then : str, optional
        The next command.

    Attributes
    ----------
    given : str or None
        As above: where a file holds that word, `run.study` finds its line.

    Examples
    --------
    >>> str(UserError("Unknown task 'drem'.", allowed=["derm", "folder:PATH"], given="drem", then="medbench list tasks"))
    "Unknown task 'drem'. Allowed: derm, folder:PATH. Did you mean 'derm'? Next: medbench list
    tasks"
    """

    def __init__(
        self,
        what: str,
        *,
        allowed: Iterable[str] = (),
        given: str | None = None,
        then: str | None = None,
    ):
        self.given = given
        allowed = list(allowed)
        message = _shortened(what)
        if (allowed or then) and what[-1:] not in ".?!":
            message += "."
        if allowed:
            shown = (
                allowed if len(allowed) <= 12 else [*allowed[:12], f"... ({len(allowed)} in all)"]
            )
            message += f" Allowed: {', '.join(shown)}."
        near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5) if given else []
        if near:
            message += f" Did you mean '{near[0]}'?"
        if then:
            message += f" Next: {_shortened(then)}"
        # one line, whatever the parts held, and nothing that a terminal obeys
        message = " ".join(message.split())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def _shortened(text: str) -> str:
    """Shorten a text that nobody reads to its end.

    Also takes out the middle of a word that no path or name is as long as.
    """
    text = _WORD.sub(lambda word: f"{word[0][:80]}...{word[0][-20:]}", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 500]} ... {text[-500:]}"


def told(error: BaseException) -> str:
    """Name a caught error and what it says, whoever wrote its class.

    >>> told(ValueError("no")), told(StopIteration())
    ('ValueError: no', 'StopIteration')
    """
    try:
        text = str(error)
    except Exception:  # its own `__str__` fails
        text = ""
    text += _arguments(error, text)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _arguments(error: BaseException, text: str) -> str:
    """Name the arguments that a class has, where an error says that it lacks the one given."""
    found = _NO_ARGUMENT.search(text) if isinstance(error, TypeError) else None
    for frame, _ in traceback.walk_tb(error.__traceback__) if found else ():
        assert found is not None
        made = frame.f_locals.get(found[1], frame.f_globals.get(found[1]))
        if isinstance(made, type):
            names = list(inspect.signature(made).parameters)
            near = difflib.get_close_matches(found[2], names, n=1, cutoff=0.5)
            return f" (did you mean '{near[0]}'?)" if near else f" (it has {', '.join(names)})"
    return ""


def place_of(function: Callable[..., Any], line: int | None = None) -> str:
    """Return where a user finds a function that a file of theirs defines: "FILE, line N".

    line: which one to name; default: where the function begins. Of an object that can be called,
    its `__call__`.
    """
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    code = (function if hasattr(function, "__code__") else type(function).__call__).__code__
    return f"{code.co_filename}, line {line or code.co_firstlineno}"


@contextmanager
def written_by(function: Callable[..., Any], what: str, *, given: bool = False) -> Iterator[None]:
    """Raise what fails inside, in a function of an entry's file, as a UserError.

    The error names the line of that file, and the reason.

    An error of another file of medbench, called by it or not, stays what it is: it is ours, and
    needs its whole story. given: it is not, as what is done inside uses what that file gave.
    """
    try:
        yield
    except UserError:
        raise
    except (
        Exception
    ) as error:  # somebody else's code can fail in every way; the message carries the reason
        own = place_of(function).rpartition(", line ")[0]
        steps = traceback.extract_tb(error.__traceback__)[1:]  # without the `yield` above
        known = [
            step
            for step in steps
            if step.filename == own or Path(step.filename).is_relative_to(_PACKAGE)
        ]
        # its signature is another one
        called_wrongly = isinstance(error, TypeError) and len(steps) == 1
        theirs = [step.lineno for step in known if step.filename == own]
        fault = isinstance(error, EntryFault)  # found by us in what that line gave
        if known[-1].filename != own and not (called_wrongly or fault or given):
            raise
        if fault and isinstance(error.__cause__, Exception):  # the line is where that came from
            within = traceback.extract_tb(error.__cause__.__traceback__)
            theirs = [step.lineno for step in within if step.filename == own]
        line = theirs[-1] if theirs and not called_wrongly else None
        raise UserError(
            f"{place_of(function, line)}: {what} failed: {error if fault else told(error)}",
            then="fix that file",
        ) from error


class EntryFault(ValueError):
    """What an entry's file gave to medbench is wrong: `written_by` names the line that gave it."""


class DiskError(UserError):
    """The disk is full, or a place on it cannot be written: nothing else would work either."""


def check_choices(entry: str, field: str, given: object, allowed: Iterable[str]) -> None:
    """Check a field of an entry that takes a word of a list, or a tuple of such words.

    entry: as "Task 'films'". Raises UserError for another word, with the nearest.
    """
    allowed = list(allowed)
    for word in given if isinstance(given, tuple | list) else (given,):
        if word not in allowed:
            raise UserError(
                f"{entry}: {field}={given!r}: {word!r} is not known.",
                allowed=[one or '""' for one in allowed],
                given=str(word),
            )


def user_path(text: str) -> Path:
    """Return the path that a user typed, with `~` expanded.

    Raises UserError for a home that does not exist or a name no file system takes.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except PermissionError as error:
        raise UserError(f"{text} cannot be read: {error.strerror}.") from error
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"'{text[:80]}' cannot be a path: {str(error).rstrip('.')}.") from error
    return path


def no_such_path(
    given: object,
    place: Path,
    kept: Callable[[Path], bool] = Path.is_dir,
    then: str | None = None,
) -> UserError:
    """Return the UserError for a path that does not exist, with what lies where it ends.

    given: the path as the user wrote it. place: the same, absolute. kept: which entries there are
    suggested; default: folders. Of many the nearest few are.
    """
    while not place.parent.is_dir():
        place = place.parent
    beside = []
    with suppress(PermissionError):  # nothing of a folder that may not be listed
        for one in sorted(place.parent.iterdir()):
            with suppress(PermissionError):  # it leads to where this user may not look
                beside += [one.name] if one.name[0] != "." and kept(one) else []
    near = beside
    if len(beside) > _FEW:
        near = difflib.get_close_matches(place.name, beside, n=_FEW, cutoff=0.5)
    return UserError(
        f"{given} does not exist: no '{place.name}' in {place.parent}.",
        allowed=near,
        given=place.name,
        then=then,
    )


def check_writable(place: Path, then: str, *, folder: bool = False) -> None:
    """Check that a file or folder can be made at `place`, without making anything.

    It is called before minutes of work, not after them. folder: no file may be there. Raises
    UserError where it cannot be made.
    """
    near = place.absolute()
    try:
        while not near.exists() and near != near.parent:
            near = near.parent
        if folder and near == place.absolute() and near.is_file():
            raise UserError(f"{place} is a file: name a folder.", then=then)
        if (folder or near != place.absolute()) and not near.is_dir():
            why = errno.ENOTDIR
        elif os.access(near, os.W_OK):
            return
        else:
            why = (
                errno.EROFS
                if hasattr(os, "statvfs") and os.statvfs(near).f_flag & os.ST_RDONLY
                else errno.EACCES
            )
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error.strerror}.", then=then) from error
    raise UserError(f"{place} cannot be written: {near}: {os.strerror(why)}.", then=then)
