"""Python's search for garbage, put off while there is none.

Over a million small objects that all stay it takes a third of a command's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """Objects in cycles are not freed inside; others are. Also a decorator."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
