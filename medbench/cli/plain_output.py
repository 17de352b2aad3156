"""Standard output and error, to which no name of somebody else's can give an order."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from medbench.schema import printable

_KEPT = "\n\t\r"  # "\r": bars of other packages go back to the start of their line


class PlainStream:
    """A stream that spells control characters out.

    rich, which has its own to write, goes by `rich_proxied_file`.
    """

    def __init__(self, stream: TextIO):
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write a text with its control characters spelled out."""
        return self.rich_proxied_file.write(printable(text, _KEPT))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def plain_streams() -> Iterator[None]:
    """Send what is printed inside through `PlainStream`."""
    before, plain = (sys.stdout, sys.stderr), (_plain(sys.stdout), _plain(sys.stderr))
    sys.stdout, sys.stderr = plain
    try:
        yield
    finally:  # what click put in the place of a pipe that its reader has closed stays
        sys.stdout = before[0] if sys.stdout is plain[0] else sys.stdout
        sys.stderr = before[1] if sys.stderr is plain[1] else sys.stderr


def _plain(stream: TextIO | None) -> Any:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a terminal or a pipe that has no "–"
    return stream and PlainStream(stream)  # None, where a caller closed it


def own_stream(stream: Any) -> TextIO:
    """Return the stream under whatever stands before it.

    For what is plain but for its own colours.
    """
    while inner := getattr(stream, "rich_proxied_file", None):
        stream = inner
    return cast(TextIO, stream)
