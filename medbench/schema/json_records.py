"""What a JSON record of a file that people copy, edit and merge must hold.

It has a checksum at its end.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_refused)  # `json.loads` would make one a line


#: The last entry of a record that medbench wrote: the CRC-32 of the text before it, so that a
#: reader need not write the record again.
_CHECKSUM = re.compile(rb',\s*"checksum": "([0-9a-f]{8})"\s*\}\s*$')
_END = 64  # bytes that hold it


class ChecksumError(ValueError):
    """A record is not as it was written."""


def has_checksum(line: str) -> bool:
    """Whether a record's JSON ends in a checksum."""
    return bool(_CHECKSUM.search(line.encode("utf-8", "replace")))


def with_checksum(
    record: Mapping[str, Any],
    *,
    indent: int | None = None,
    default: Callable[[Any], Any] | None = None,
) -> bytes:
    """Return a record as JSON with its checksum, in UTF-8, without a line end.

    record: one entry at least. indent, default: as of json.dumps. The checksum is the CRC-32 of all
    that stands before it, 8 hex digits, as the last entry. Raises ValueError for NaN.
    """
    text = json.dumps(
        record, indent=indent, allow_nan=False, ensure_ascii=False, default=default
    ).encode()
    body = text[:-1].rstrip()
    space = b" " if indent is None else b"\n" + b" " * indent
    return (
        body
        + b","
        + space
        + b'"checksum": "%08x"' % zlib.crc32(body)
        + (b"" if indent is None else b"\n")
        + b"}"
    )


def parsed(text: str | bytes) -> Any:
    """Read JSON in UTF-8, without its checksum, which is compared.

    A record without one is taken as it is. Python's own reader also takes NaN and halves of
    characters, which no file of medbench holds. Raises ValueError (`ChecksumError`) for these, for
    JSON that is nested too deeply, and for a record that is not as it was written.
    """
    words = (text if isinstance(text, str) else text.decode()).removeprefix("\ufeff")
    try:
        found = _DECODER.decode(words)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\ud" in words or "\\uD" in words:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a character") from None
    if isinstance(found, dict) and "checksum" in found:
        _check(words.encode())
        del found["checksum"]
    return found


def _check(text: bytes) -> None:
    end = _CHECKSUM.search(text, max(len(text) - _END, 0))
    if end is None or zlib.crc32(text[: end.start()].replace(b"\r\n", b"\n")) != int(end[1], 16):
        raise ChecksumError(
            "its checksum is another: it was damaged, or changed by hand and kept its checksum"
        )


Kind = type | tuple[type, ...]
NUMBER = (int, float, type(None))  # None: undefined


def checked(record: Any, kinds: Mapping[str, Kind], of: str = "") -> None:
    """Check that a record is a mapping with the right kind of value for each of `kinds`.

    kinds: name -> type or types. of: what the record is, for the message. Raises TypeError, one
    line that names what is missing or wrong.
    """
    if (
        type(record) is dict
        and record.keys() >= kinds.keys()
        and all(map(isinstance, map(record.__getitem__, kinds), kinds.values()))
    ):
        # of thousands of rows each has a dozen of these: without a loop of ours a third of the time
        return
    if not isinstance(record, Mapping):
        raise TypeError(f"{of or 'it'} is {record!r:.60}")
    for name, kind in kinds.items():
        if name not in record:
            raise TypeError(f"{of or 'it'} lacks {name}")
        if not isinstance(record[name], kind):
            raise TypeError(f"{of + ' ' if of else ''}{name} is {record[name]!r:.60}")


_HASH = re.compile(r"[0-9a-f]{1,64}")
_NAME = re.compile(r"\w[\w .+=@-]{0,127}")


def check_hash(text: str, what: str) -> None:
    """Raise ValueError for a text that is no hex digits, as a part of it becomes a file's name.

    what: the text in words, for the message.
    """
    if not _HASH.fullmatch(text):
        raise ValueError(f"{what} is {text!r:.60}, no hex digits")


def check_name(text: str, what: str) -> None:
    """Raise ValueError for a text that may not name a file.

    A record from elsewhere must not say where medbench reads or writes. what: the text in words,
    for the message.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(f"{what} is {text!r:.60}, no name of a file")
