"""What readers of archives raise for a file that is cut, damaged, encrypted or of somebody else.

Each of them another error.
"""

from __future__ import annotations

import errno
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medbench.schema import told

#: What archives raise that are damaged at any byte (`tests/test_broken.py`), each of these at some.
_KINDS = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError),
    MemoryError,  # a header that declares more than there is
    RuntimeError,  # a password; NotImplementedError is one: a compression that Python has not
    # names, headers and members that are not what they should be
    *(ValueError, KeyError, IndexError, SyntaxError, TypeError),
)


@contextmanager
def reading(says: Callable[[str], Exception]) -> Iterator[None]:
    """Translate the errors of reading an archive, and nothing else.

    Raises says("BadZipFile: File is not a zip file") in place of what readers raise.

    Other errors of the disk (not there, not permitted, full) pass.
    """
    try:
        yield
    except _KINDS as error:
        raise says(told(error)) from error
    except OSError as error:
        # of a decompressor; a seek to where a damaged directory points; a folder
        if error.errno not in (None, errno.EINVAL, errno.EISDIR):
            raise
        raise says(told(error)) from error
