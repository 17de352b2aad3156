"""What a log hears of a run."""

from __future__ import annotations

import logging
import re

import pytest

from medbench.cli import screen


def test_a_long_stage_is_heard_of_once_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(screen.time, "perf_counter", lambda: now[0])
    with screen.Screen() as display:
        for done in range(0, 121):
            now[0] = 2.0 * done
            display.stage("pretraining t m net", done, 120, "loss 3.1")
        now[0] += 100
        display.stage("pretraining t m net", 120, 120, "loss 3.1")
    lines = [line.split("  ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "pretraining t m net: 120 views",
        *(f"pretraining t m net: {n} of 120 loss 3.1" for n in (31, 62, 93)),
        "pretraining t m net: done loss 3.1",
    ]


def test_ten_thousand_rows_are_some_lines_and_failures_always_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(screen.time, "perf_counter", lambda: now[0])
    log = logging.getLogger("medbench")
    with screen.Screen(10_000) as display:
        for n in range(1, 10_001):
            now[0] += 0.05
            display.row(n)
            if n in (7, 8):
                log.error("cell %d failed", n, exc_info=(ValueError, ValueError("no\nsuch"), None))
    log.error("nobody hears of it")
    lines = [line.split("  ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines[:4] == ["row 1/10000 1, 8 min left", "cell 7 failed: ValueError: no such", "cell 8 failed: ValueError: no such", lines[3]]
    assert re.fullmatch(r"row 60\d/10000 60\d, 8 min left", lines[3])
    assert lines[-1] == "row 10000/10000 10000"
    assert len(lines) < 25


def test_each_row_of_a_small_run_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.Screen(30) as display:
        for n in range(30):
            display.row(n)
    assert len(capsys.readouterr().err.splitlines()) == 30
