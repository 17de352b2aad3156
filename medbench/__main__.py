"""Start `medbench` and `python -m medbench`.

Ctrl-C says what comes next while modules are still being imported, too.
"""

from __future__ import annotations

import sys
import traceback

#: Of sysexits.h, a fault of the program. Python's own 1 would say that a check differs.
FAULT = 70


def main() -> None:
    """Run the command line; the console's entry point."""
    try:
        from medbench.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print(
            "medbench: stopped. The same command goes on with what was finished.", file=sys.stderr
        )
        sys.exit(130)
    except Exception:  # whatever it is, no command has answered
        traceback.print_exc()
        sys.exit(FAULT)


if __name__ == "__main__":
    main()
