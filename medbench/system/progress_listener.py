"""Who hears how far long work is.

The listener is ambient: whatever works long reports, and no signature carries a callback.

with listening(print):
    report_progress("packing derm at 224 px", 32, 10015, "images")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from medbench.schema import Progress, ProgressCallback

R = TypeVar("R")
P = ParamSpec("P")
_listener: ContextVar[Callable[[Progress], None] | None] = ContextVar("listener", default=None)
_speaker: ContextVar[int] = ContextVar("speaker", default=0)
_SMALL = 64 << 20  # bytes that are read sooner than a person asks


@contextmanager
def listening(listener: Callable[[Progress], None] | None) -> Iterator[None]:
    """Let `listener` alone hear every report inside. None: nobody hears them."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class CallbackError(BaseException):
    """Carries what a user's callback raised past everything that survives exceptions.

    It is no failure of the work.
    """

    def __init__(self, raised: Exception):
        super().__init__(raised)
        self.raised = raised


def user_callback(callback: Callable[P, None]) -> Callable[P, None]:
    """Wrap a user's callback, inside `calling`: what it raises ends the work."""

    def called(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as error:
            raise CallbackError(error) from error

    return called


@contextmanager
def calling(callback: ProgressCallback | None) -> Iterator[None]:
    """Report progress inside to callback(stage, done, total); None leaves the listener as it is.

    What the callback, or a `user_callback`, raises comes out as it was raised.
    """
    raised = None
    try:
        if callback is None:
            yield
        else:
            told = user_callback(callback)
            with listening(lambda progress: told(progress.stage, progress.done, progress.total)):
                yield
    except CallbackError as carried:
        raised = carried.raised
    if raised is not None:
        raise raised


def report_progress(
    stage: str, done: int, total: int, unit: str = "images", detail: str = ""
) -> None:
    """Report to the listener, if there is one, that `done` of `total` units of a stage are done.

    See `Progress`.
    """
    listener = _listener.get()
    if listener is not None:
        listener(Progress(stage, done, total, unit, detail))


@contextmanager
def speaking_for(worker: int) -> Iterator[None]:
    """Report as the work of that process of several.

    For whoever measures how long work takes.
    """
    token = _speaker.set(worker)
    try:
        yield
    finally:
        _speaker.reset(token)


def speaker() -> int:
    """Return the number of the process whose work is reported; 0 where there is one."""
    return _speaker.get()


def heard_in_threads(function: Callable[..., R]) -> Callable[..., R]:
    """Wrap `function` for other threads, which start without a listener.

    There it reports to the listener of this one.
    """
    here = copy_context()

    def run(*args: Any) -> R:
        # a context can be entered by one thread at a time
        return here.copy().run(partial(function, *args))

    return run


def report_megabytes(stage: str) -> Callable[[int, int], None]:
    """Make progress(done, total) in bytes that reports the stage in megabytes, once for each.

    Small files are passed over.
    """
    last = -1

    def told(done: int, total: int) -> None:
        nonlocal last
        if stage and total >= _SMALL and (done >> 20 > last or done >= total):
            last = done >> 20
            report_progress(stage, last if done < total else -(-total >> 20), -(-total >> 20), "MB")

    return told
