"""run.log: what was done when.

It also holds the whole traceback of a cell that failed, in a file beside the rows.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medbench.schema import printable
from medbench.system import atomic_write

FILE = "run.log"
log = logging.getLogger("medbench")


class _PlainFormatter(logging.Formatter):
    """Names of images and classes give no order to the terminal that shows the file.

    They begin no line of their own.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), kept="\n\t")


class _LogFile(logging.FileHandler):
    """A full disk ends the run as it does wherever else it is met.

    Logging itself would print a traceback at each line.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], OSError):
            with atomic_write.naming(Path(self.baseFilename)):
                raise
        super().handleError(record)


@contextmanager
def log_file(file: Path) -> Iterator[None]:
    """Write what is logged inside to the file, too.

    Leaves out what another process has written there and told.
    """
    handler = _LogFile(file, encoding="utf-8", delay=True)
    handler.setFormatter(_PlainFormatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    handler.addFilter(lambda record: not getattr(record, "told", False))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        with atomic_write.naming(file):
            handler.close()
