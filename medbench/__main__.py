"""Start `medbench` and `python -m medbench`.

Ctrl-C says what comes next while modules are still being imported, too.
"""

from __future__ import annotations

import sys


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


if __name__ == "__main__":
    main()
