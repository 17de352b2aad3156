"""What a log hears of a run."""

from __future__ import annotations

import pytest

from medbench import screen


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
