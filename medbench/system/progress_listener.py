"""Who hears of long work that a reader does inside `Task.load`: readers take a folder and nothing else, so the listener is ambient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from medbench.schema import Progress

_listener: ContextVar[Progress | None] = ContextVar("listener", default=None)


@contextmanager
def watched(progress: Progress) -> Iterator[None]:
    """Inside, `report_progress` reaches progress(stage, done, total)."""
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


def report_progress(stage: str, done: int, total: int) -> None:
    """Tell the listener, if there is one. A stage that ends in "(MB)" counts megabytes, others images."""
    listener = _listener.get()
    if listener is not None:
        listener(stage, done, total)


def megabytes(stage: str) -> Callable[[int, int], None]:
    """progress(done, total) in bytes that reports the stage in whole megabytes, once for each."""
    last = -1

    def told(done: int, total: int) -> None:
        nonlocal last
        if total >= _SMALL and (done >> 20 > last or done >= total):
            last = done >> 20
            report_progress(f"{stage} (MB)", last if done < total else -(-total >> 20), -(-total >> 20))

    return told


_SMALL = 64 << 20  # bytes that are read sooner than a person asks
