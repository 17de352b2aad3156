"""Shared by all tests: real data where MEDBENCH_DATA points, an empty cache for each test, small tasks of every kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL = os.environ.get("MEDBENCH_DATA")


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; skips where MEDBENCH_DATA is unset."""
    if not REAL:
        pytest.skip("real images: set MEDBENCH_DATA to a folder with ham10000/, hyperkvasir/, kermany/, hannover_cxr/")
    return Path(REAL).resolve()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's data, cache or network cache."""
    monkeypatch.delenv("MEDBENCH_DATA", raising=False)
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
