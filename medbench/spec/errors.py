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
        if allowed:
            shown = allowed if len(allowed) <= 12 else [*allowed[:12], f"... ({len(allowed)} in all)"]
            message += f" Allowed: {', '.join(shown)}."
        near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5) if given else []
        if near:
            message += f" Did you mean '{near[0]}'?"
        if then:
            message += f" Next: {then}"
        super().__init__(" ".join(message.split()))  # one line, whatever the parts held


def user_path(text: str) -> Path:
    """A path as a person gives it, `~` expanded. Raises UserError for a home that does not exist or a name no file system takes."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"'{text[:80]}' cannot be a path: {error}.") from error
    return path


def check_writable(place: Path, then: str) -> None:
    """Raises UserError where a file or folder cannot be made at `place`, without making anything: before minutes of work, not after them."""
    near = place.absolute()
    try:
        while not near.exists() and near != near.parent:
            near = near.parent
        why = errno.ENOTDIR if near != place.absolute() and not near.is_dir() else 0 if os.access(near, os.W_OK) else errno.EACCES
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error.strerror}.", then=then) from error
    if why:
        raise UserError(f"{place} cannot be written: {near}: {os.strerror(why)}.", then=then)
