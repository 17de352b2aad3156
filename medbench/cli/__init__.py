"""The command line: parses, calls, prints.

Everything it does is a function of the package. A file a group of commands.

Exit codes: 0 done, 1 a check differs or an audit fails, 2 bad input (one line says what), 3 some
cells failed, 70 medbench itself failed (a traceback), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

# Each adds its commands, in the order in which --help shows them.
from medbench.cli import run  # noqa: F401  # isort: skip
from medbench.cli import results  # noqa: F401  # isort: skip
from medbench.cli import advise  # noqa: F401  # isort: skip
from medbench.cli import clinical  # noqa: F401  # isort: skip
from medbench.cli import export  # noqa: F401  # isort: skip
from medbench.cli import check  # noqa: F401  # isort: skip
from medbench.cli import shift  # noqa: F401  # isort: skip
from medbench.cli import data  # noqa: F401  # isort: skip
from medbench.cli import fetch  # noqa: F401  # isort: skip
from medbench.cli import audit  # noqa: F401  # isort: skip
from medbench.cli import info  # noqa: F401  # isort: skip
from medbench.cli import shortcuts  # noqa: F401  # isort: skip
from medbench.cli.options import BadUsage, command_line
from medbench.cli.plain_output import plain_streams
from medbench.schema import UserError

#: What a disk or a place that a person named can do to any command: full, not theirs, a file where
#: a folder is meant or the other way round.
PLACES = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EIO, errno.ESTALE, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOTEMPTY),
    *(errno.ENXIO, errno.ENODEV),  # a socket, a device without a driver
    errno.ENOENT,  # a file system on which nothing can be made, as /proc
)


def main() -> None:
    """Run the console entry point: parse the arguments, call, print, exit.

    Nothing that it prints gives a terminal an order.
    """
    if sys.stdout is None or sys.stderr is None:  # a caller closed them
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until Python ends)
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    with plain_streams():
        _main()


def _main() -> None:
    """Bad input ends with one line and exit code 2.

    Threads that wait give their core away: on a machine that others use too, torch's threads would
    otherwise spin for each other at every layer (a pretraining step on two busy cores takes 4 to 9
    times as long).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        _check_working_folder()
        # of typer.Exit: a command itself returns nothing
        code = command_line()(prog_name="medbench", standalone_mode=False) or 0
        if code == 130:
            print(
                "medbench: stopped. The same command goes on with what was finished.",
                file=sys.stderr,
            )
        sys.exit(code)
    except BadUsage as error:
        sys.exit(_refused(error))
    except UserError as error:
        print(f"medbench: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in PLACES:
            raise
        what = f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}."
        print(f"medbench: {UserError(what, then='fix that, then run again')}", file=sys.stderr)
        sys.exit(2)


def _refused(error: Any) -> int:
    """Say in one line which words no command takes.

    The whole help where a command was not even named.
    """
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
        error.show()
    else:
        command = error.ctx.command_path if error.ctx else "medbench"
        said = error.format_message()
        print(
            f"medbench: {UserError(said + '.' * (said[-1:] not in '.?'), then=f'{command} -h')}",
            file=sys.stderr,
        )
    return int(error.exit_code)


def _check_working_folder() -> None:
    """Raise UserError where the working folder was removed, or its disk is gone.

    No path means anything then.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            "The working folder is gone.", then="cd to a folder that is there"
        ) from error
