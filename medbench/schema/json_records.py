"""What a JSON record of a file that people copy, edit and merge must hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_refused)  # `json.loads` would make one a line


def parsed(text: str | bytes) -> Any:
    """JSON in UTF-8, and no more: Python's own reader takes NaN and halves of characters, which no file of medbench holds. Raises ValueError."""
    words = text if isinstance(text, str) else text.decode("utf-8-sig")
    found = _DECODER.decode(words)
    if "\\ud" in words or "\\uD" in words:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a character") from None
    return found


Kind = type | tuple[type, ...]
NUMBER = (int, float, type(None))  # None: undefined


def checked(record: Any, kinds: Mapping[str, Kind], of: str = "") -> None:
    """Raises TypeError, one line that names it, where `record` is no mapping, lacks one of `kinds`, or has something else there."""
    if type(record) is dict and record.keys() >= kinds.keys() and all(map(isinstance, map(record.__getitem__, kinds), kinds.values())):
        return  # of thousands of rows each has a dozen of these: without a loop of ours a third of the time
    if not isinstance(record, Mapping):
        raise TypeError(f"{of or 'it'} is {record!r:.60}")
    for name, kind in kinds.items():
        if name not in record:
            raise TypeError(f"{of or 'it'} lacks {name}")
        if not isinstance(record[name], kind):
            raise TypeError(f"{of + ' ' if of else ''}{name} is {record[name]!r:.60}")
