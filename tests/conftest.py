"""Shared by all tests: real data where MEDBENCH_DATA points, an empty cache for each test, small
tasks of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.command import command
from trees.serving import Server
from trees.tinted import quarters, tinted

from medbench.system.download import http

# Two test processes share two cores: a second thread in each would only wait. Set before anything
# imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
REAL = os.environ.get("MEDBENCH_DATA")


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; skips where MEDBENCH_DATA is unset."""
    if not REAL:
        pytest.skip(
            "real images: set MEDBENCH_DATA to a folder with ham10000/, hyperkvasir/, kermany/, hannover_cxr/"
        )
    return Path(REAL).resolve()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's data or cache, or waits for the disk: no machine dies in a test."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.delenv("MEDBENCH_DATA", raising=False)
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A task of three kinds, see `tinted`."""
    return tinted(tmp_path)


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """An encoder that takes no time, see `quarters`."""
    return quarters(tmp_path)


@pytest.fixture
def medbench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command line in this process and the test's folder: medbench("run", ...) -> exit code."""
    monkeypatch.chdir(tmp_path)
    return command


#: A finder, and not None among the modules: scipy looks there for whose array it was given.
WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder

class Refuse:
    def find_spec(self, name, *about):
        if name.partition(".")[0] in ("torch", "timm", "torchvision"):
            found = PathFinder.find_spec(name, *about)  # where it lies may be asked
            found.loader = self
            return found

    def create_module(self, spec):
        raise ImportError(f"{spec.name} was imported")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Refuse())
from medbench.cli import main
main()
"""


@pytest.fixture
def without_torch() -> Callable[..., str]:
    """The command line where torch cannot be imported, in a process of its own:
    without_torch("table", ...) -> what it prints."""

    def call(*arguments: str, **environment: str) -> str:
        command, around = (
            [sys.executable, "-c", WITHOUT_TORCH, *arguments],
            {**os.environ, **environment},
        )
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=around
        ).stdout

    return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """On 127.0.0.1, and nobody waits between two tries."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(http, "WAIT", 0.0)
    server = Server()
    yield server
    server.close()
