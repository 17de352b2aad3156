"""`--json FILE`: what a command prints, as records for a program."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from medbench.cli.options import path_option, put

Json = Annotated[
    Path | None,
    path_option(
        "--json", help="Also write it to this JSON file: a list of records, null for undefined."
    ),
]


def put_records(records: Iterable[Mapping[str, Any]], out: Path | None) -> None:
    """Write records to `out` as a JSON list; nothing where no file was asked for.

    Raises UserError where it cannot be written.
    """
    if out is not None:
        put(
            json.dumps(
                [{name: _plain(value) for name, value in record.items()} for record in records],
                indent=1,
            )
            + "\n",
            out,
        )


def _plain(value: Any) -> Any:
    """Return a value that JSON knows.

    Numbers of numpy as Python's, NaN and infinity as null, collections as lists.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int) else str(value)
