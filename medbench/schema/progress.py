"""What long work tells of itself."""

from __future__ import annotations

from collections.abc import Callable

#: (stage, done, total), once more with done = total at the end.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Tells nobody."""
