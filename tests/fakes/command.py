"""The command line in this process."""

from __future__ import annotations

import pytest

from medbench import cli


def command(*arguments: str) -> int:
    """command("run", ...) -> exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["medbench", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
    return int(caught.value.code or 0)
