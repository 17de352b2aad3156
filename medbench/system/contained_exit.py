"""A user's own code runs in this process.

What it calls to end a script must not end a run, with exit code 0 and no word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from medbench.schema import UserError
from medbench.system.progress_listener import CallbackError


class ExitCalled(UserError):
    """Code of a user's own called something that ends Python."""


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Make `sys.exit`, `exit` and `os._exit` raise `ExitCalled` inside.

    `os._exit` cannot be caught, so that its name holds another function meanwhile; in a forked
    child, which must end by it, it is itself. What ends the process by other ways than Python's
    (C's `exit`, `os.execv`) is not seen; a signal has an exit code of its own.
    """
    owner, real = os.getpid(), os._exit

    def refuse(status: int) -> NoReturn:
        if os.getpid() != owner:
            real(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = refuse
    try:
        yield
    except SystemExit as ending:
        how = (
            ending.code
            if str(ending.code).startswith("os._exit(")
            else f"sys.exit({'' if ending.code is None else repr(ending.code)})"
        )
        raise ExitCalled(
            f"it called {how}, which ends Python.",
            then="take that call out, or put it under if __name__ == '__main__':",
        ) from ending
    except (Exception, KeyboardInterrupt, CallbackError):
        raise
    except BaseException as ending:  # GeneratorExit, or a class of the user's own, which no one that expects errors would see
        raise ExitCalled(
            f"it raised {type(ending).__name__}, which is not an error but ends Python.",
            then="raise an Exception",
        ) from ending
    finally:
        os._exit = real
