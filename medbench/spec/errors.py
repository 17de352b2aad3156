"""What a person is told of wrong input."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Something a person gave is wrong. One line: what was given, what is allowed, the nearest match, the next command. Exit code 2.

    >>> str(UserError("Unknown task 'drem'.", allowed=["derm", "folder:PATH"], given="drem", then="medbench list tasks"))
    "Unknown task 'drem'. Allowed: derm, folder:PATH. Did you mean 'derm'? Next: medbench list tasks"
    """

    def __init__(self, what: str, *, allowed: Iterable[str] = (), given: str | None = None, then: str | None = None):
        allowed = list(allowed)
        message = what
        if (allowed or then) and what[-1:].isalnum():
            message += "."
        if allowed:
            shown = allowed if len(allowed) <= 12 else [*allowed[:12], f"... ({len(allowed)} in all)"]
            message += f" Allowed: {', '.join(shown)}."
        near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5) if given else []
        if near:
            message += f" Did you mean '{near[0]}'?"
        if then:
            message += f" Next: {then}"
        message = " ".join(message.split())  # one line, whatever the parts held, and nothing that a terminal obeys
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


class DiskError(UserError):
    """The disk is full, or a place on it cannot be written: nothing else would work either."""


def user_path(text: str) -> Path:
    """A path as a person gives it, `~` expanded. Raises UserError for a home that does not exist or a name no file system takes."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"'{text[:80]}' cannot be a path: {str(error).rstrip('.')}.") from error
    return path


def check_writable(place: Path, then: str) -> None:
    """Raises UserError where a file or folder cannot be made at `place`, without making anything: before minutes of work, not after them."""
    near = place.absolute()
    try:
        while not near.exists() and near != near.parent:
            near = near.parent
        if near != place.absolute() and not near.is_dir():
            why = errno.ENOTDIR
        elif os.access(near, os.W_OK):
            return
        else:
            why = errno.EROFS if os.statvfs(near).f_flag & os.ST_RDONLY else errno.EACCES
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error.strerror}.", then=then) from error
    raise UserError(f"{place} cannot be written: {near}: {os.strerror(why)}.", then=then)
