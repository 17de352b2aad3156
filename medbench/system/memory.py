"""Memory that does not suffice: known for what it is, and told with what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

#: What torch's libraries say of it where they raise a plain RuntimeError: its CPU allocator,
#: cuBLAS, cuDNN and cuSOLVER.
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED")


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that memory, of a GPU or of the machine, did not suffice.

    MemoryError, torch.OutOfMemoryError, or a RuntimeError in whose words torch's CPU allocator,
    cuBLAS, cuDNN or cuSOLVER say so. The same input may fit at another time, or on another machine.
    """
    import torch

    told = isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or told


@contextlib.contextmanager
def advised(what: str, then: str) -> Iterator[None]:
    """Explain an error of memory that the work inside raises.

    what: that does not fit. then: what would take less. Raises torch.OutOfMemoryError that says
    both, in place of any error for which `ran_out` is true; others pass.
    """
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        import torch

        raise torch.OutOfMemoryError(
            f"{what} does not fit into memory ({' '.join(str(error).split())[:200]}). {then}"
        ) from error


def release() -> None:
    """Give a GPU's memory that torch holds and does not use back to it.

    For other processes and for blocks of other sizes. Nothing happens where no GPU was used.
    """
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
