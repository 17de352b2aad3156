"""Items made in a thread while the one before is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from medbench.system.progress_listener import heard_in_threads

T = TypeVar("T")
_END = object()


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items, each made while the consumer has the one before.

    The next is made while the consumer has one; what making it raises comes when it is asked for.
    """
    take = heard_in_threads(lambda: next(items, _END))
    with ThreadPoolExecutor(1, "medbench ahead") as thread:
        coming = thread.submit(take)
        try:
            while (item := cast(Any, coming.result())) is not _END:
                coming = thread.submit(take)
                yield item
        finally:
            coming.cancel()  # what is being made is waited for
