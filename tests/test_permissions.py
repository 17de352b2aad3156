"""What this user may not read is named, in one line.

An image, a folder, a table, an encoder, results, a model.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.results import study

Medbench = Callable[..., int]
# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: by these root reads what nobody may
_OVERRIDES = 1 << 1 | 1 << 2


@pytest.fixture(autouse=True)
def _ordinary_user() -> Iterator[None]:
    """Root keeps to the permissions of files, too."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    # version 3, this thread
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if not hasattr(libc, "capset") or libc.capget(header, data):
        pytest.skip("root of a system without capabilities")
    before = data[0]
    data[0] = before & ~_OVERRIDES
    assert libc.capset(header, data) == 0
    yield
    data[0] = before
    libc.capset(header, data)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """closed(file) -> the same, which nobody may read until the test ends."""
    made: list[tuple[Path, int]] = []

    def close(place: Path) -> Path:
        made.append((place, place.stat().st_mode))
        place.chmod(0)
        return place

    yield close
    for place, mode in reversed(made):
        place.chmod(mode)


@pytest.fixture
def said(medbench: Medbench, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line with which a command ends."""

    def call(*arguments: object) -> str:
        assert medbench(*map(str, arguments)) == 2
        lines = [
            line
            for line in capsys.readouterr().err.splitlines()
            if not re.match(r" *\d+\.\d s  ", line)
        ]
        assert len(lines) == 1 and lines[0].startswith("medbench: "), lines
        return lines[0]

    return call


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (command, what)
        for command in ("run", "audit")
        for what in ("train/mel/train3.png", "train/mel", ".")
    ]
    + [("doctor", "train/mel"), ("doctor", ".")],  # it looks at a few images
)
def test_images_and_folders(
    what: str,
    command: str,
    folder: Path,
    mine: str,
    said: Callable[..., str],
    medbench: Medbench,
    closed: Callable[[Path], Path],
) -> None:
    place = closed(folder / what)
    options = {
        "run": ["--plan", "--encoder", mine, "--task"],
        "audit": ["--fast"],
        "doctor": ["--encoder", mine, "--task"],
    }
    line = said(command, *options[command], f"folder:{folder}")
    assert f"{place.name if what != '.' else folder.name}" in line and "Permission denied" in line


@pytest.mark.parametrize("name", ["f.npz", "w.pth", "own.py", "list.csv", "study.py"])
def test_files_that_a_run_is_given(
    name: str,
    folder: Path,
    mine: str,
    said: Callable[..., str],
    tmp_path: Path,
    closed: Callable[[Path], Path],
) -> None:
    np.savez(folder / "f.npz", ids=["a"], features=np.ones((1, 2)))
    for other in ("w.pth", "own.py", "list.csv", "study.py"):
        (folder / other).write_text("GRID = 3")
    file = closed(folder / name)
    given = {
        "f.npz": ["--task", f"folder:{folder}", "--encoder", f"features:{file}"],
        "w.pth": ["--task", f"folder:{folder}", "--encoder", "test_resnet", "--weights", file],
        "own.py": ["--task", f"folder:{folder}", "--encoder", f"{file}:net"],
        "list.csv": ["--task", f"folder:{file}", "--encoder", mine],
        "study.py": [file],
    }
    line = said("run", "--plan", *given[name])
    assert name in line and "Permission denied" in line
    closed(folder)
    line = said("run", "--plan", *given[name])
    assert "Permission denied" in line


@pytest.mark.parametrize("name", ["plan.json", "rows.jsonl", "scores", "targets"])
def test_results(
    name: str, said: Callable[..., str], tmp_path: Path, closed: Callable[[Path], Path]
) -> None:
    results = study(tmp_path / "results").folder
    closed(results / name)
    for command in (
        ["table"],
        ["clinical"],
        ["compare"],
        ["report", "--out", "p.html"],
        ["plot", "--out", "f"],
        ["merge", "--out", "m"],
    ):
        if command[0] == "table" and name in ("targets", "scores"):
            continue  # asked for where an interval is not in the row yet
        line = said(command[0], results, *command[1:])
        assert "Permission denied" in line and (name in line or name.removesuffix("s") in line)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results"]


def test_weights_of_a_model(
    said: Callable[..., str], tmp_path: Path, folder: Path, closed: Callable[[Path], Path]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in (
        "config.json",
        "model.safetensors",
        "head.safetensors",
        "classes.json",
        "operating_points.json",
        "evidence.json",
    ):
        (model / name).write_text("{}")
    closed(model / "config.json")
    assert re.search(
        r"config\.json: Permission denied", said("predict", model, folder, "--out", "p.csv")
    )
