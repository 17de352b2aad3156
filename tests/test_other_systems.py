"""The CPU path without what Windows lacks.

No fcntl, resource, os.fork, posix_fallocate and the like. It was never run on a real Windows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Run before anything else in every Python process of the study. `register_at_fork`, which torch
#: asks Linux for, and `statvfs`, which shutil does, stay: both have another way on Windows.
BLOCKED = """
import os, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "forkpty", "posix_fallocate", "pread", "preadv", "sched_getaffinity", "sysconf", "geteuid", "getuid", "mkfifo"):
    if hasattr(os, name):
        delattr(os, name)
"""


@pytest.mark.slow
def test_a_small_study_without_them(folder: Path, mine: str, tmp_path: Path) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCKED)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), *sys.path]),
    }

    def medbench(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "medbench", *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    run = (
        "run",
        "--task",
        f"folder:{folder}",
        "--encoder",
        mine,
        "--labels",
        "50,100",
        "--seeds",
        "2",
        "--out",
        "out",
    )
    assert "3 new rows" in medbench(*run)
    assert "0 new rows" in medbench(*run)
    medbench("table", "out")
    medbench("compare", "out")
    medbench("report", "out")
    medbench("plot", "out", "--kind", "curves", "--format", "png")
    medbench("merge", "out", "--out", "copy", "--without-predictions")
    medbench("clinical", "out")
    medbench("check", "--rows", "out", "--against", "copy")
    whole = (
        "--encoder",
        "test_resnet",
        "--methods",
        "random",
        "--size",
        "32",
        "--labels",
        "100",
        "--seeds",
        "1",
    )
    medbench("run", "--task", f"folder:{folder}", *whole, "--out", "whole")
    medbench("export", "whole", "--task", f"folder:{folder}", "--out", "model")
    medbench("predict", "model", str(folder / "test"), "--out", "predicted.csv")
    medbench("cache", "--prune")
