"""What a log hears of a run."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

import pytest

from medbench.cli import screen
from medbench.schema import Cell, Progress, Row
from medbench.system.progress_listener import report_progress


def row(seed: int, **changed: Any) -> Row:
    cell = replace(
        Cell("t", "d", "random", "none", "net", "pool", 32, 0, "linear", "all", seed, "test"),
        **changed,
    )
    return Row(cell, "", {}, 1, 1, {}, {}, {})


def test_a_long_stage_is_heard_of_twice_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(screen.time, "perf_counter", lambda: now[0])
    with screen.Screen():
        for done in range(0, 121):
            now[0] = 2.0 * done
            report_progress("pretraining t m net", done, 120, "views", "loss 3.1")
        now[0] += 100
        report_progress("pretraining t m net", 120, 120, "views", "loss 3.1")
    lines = [line.split("  ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "pretraining t m net: 120 views",
        *(f"pretraining t m net: {n} of 120 loss 3.1" for n in (16, 32, 48, 64, 80, 96, 112)),
        "pretraining t m net: done loss 3.1",
    ]


def test_a_stage_says_what_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """Once guessed from the first word of a stage's name, and from "(MB)" at its end."""
    with screen.Screen():
        report_progress("probing sex", 0, 5, "folds")
        report_progress("pretraining is not what this does", 0, 7, "pairs")
        report_progress("reading a.npz", 0, 300, "MB")
    lines = [line.split(" s  ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "probing sex: 5 folds",
        "pretraining is not what this does: 7 pairs",
        "reading a.npz: 300 MB",
    ]
    report_progress("nobody hears of it", 0, 7)
    with screen.Screen(log=False):
        report_progress("of what takes seconds a log hears nothing", 0, 7)
    assert not capsys.readouterr().err


def test_a_terminal_shows_what_a_bar_counts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    with screen.Screen() as display:
        assert display.live
        display.stage(Progress("reading a.npz", 100, 300, "MB"))
        with display.console.capture() as drawn:
            display.console.print(display._render())
    assert re.search("100/300.*MB", re.sub(r"\x1b\[[0-9;]*m", "", drawn.get()))


def test_ten_thousand_rows_are_some_lines_and_failures_always_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(screen.time, "perf_counter", lambda: now[0])
    log = logging.getLogger("medbench")
    with screen.Screen(10_000) as display:
        for n in range(1, 10_001):
            now[0] += 0.05
            display.row(row(n))
            if n in (7, 8):
                log.error("cell %d failed", n, exc_info=(ValueError, ValueError("no\nsuch"), None))
    log.error("nobody hears of it")
    lines = [line.split("  ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines[:3] == [
        f"row 1/10000 {row(1).cell}",
        "cell 7 failed: ValueError: no such",
        "cell 8 failed: ValueError: no such",
    ]
    assert re.match(r"row 60\d/10000 ", lines[3])
    assert lines[-1] == f"row 10000/10000 {row(10000).cell}"
    assert len(lines) < 25


def test_each_row_of_a_small_run_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.Screen(30) as display:
        for n in range(30):
            display.row(row(n))
    assert len(capsys.readouterr().err.splitlines()) == 30


def test_of_a_large_run_each_line_of_the_leaderboard_is_heard_of_as_it_comes_with_its_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run into a file once showed its first number at the end."""
    with screen.Screen(200, number=lambda row: f"AUC .{row.cell.seed}") as display:
        for method in ("random", "supervised"):
            for seed in range(100):
                display.row(row(seed, method=method))
    lines = [line.split(" s  ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        f"row 1/200 {row(0).cell}: AUC .0",
        f"row 101/200 {row(0, method='supervised').cell}: AUC .0",
        f"row 200/200 {row(99, method='supervised').cell}: AUC .99",
    ]
