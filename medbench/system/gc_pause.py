"""Python's search for garbage, put off while there is none.

Over a million small objects that all stay it takes a third of a command's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """Keep Python's garbage collector from running inside; also a decorator.

    Objects in cycles are not freed meanwhile; others are.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
