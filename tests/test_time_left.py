"""The order in which a reader sees a run, and how long it is told to take.

A run on a clock that its own reports turn.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from medbench.run import execution, planning
from medbench.run.store import Store
from medbench.run.time_left import TimeLeft
from medbench.schema import Grid, Progress, Row
from medbench.system.progress_listener import listening, speaking_for

#: Seconds of an image embedded, a view of a pretraining, a cell by its budget; of a fusion's own
#: head as many times more.
IMAGE, VIEW, CELL, HEAD = 0.01, 0.05, {"2/class": 0.5, "100%": 2.0}, {"2/class": 10.0, "100%": 8.0}


class Clock:
    """Turned by what is reported. told: (when, seconds left as told)."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: dict[str, int] = {}
        self.rows: list[Row] = []
        self.told: list[tuple[float, float | None]] = []
        self.left: TimeLeft | None = None

    def stage(self, progress: Progress) -> None:
        assert self.left is not None
        cost = {"embedding": IMAGE, "pretraining": VIEW}.get(progress.stage.split()[0], 0.0)
        self.now += cost * (progress.done - self.done.get(progress.stage, 0))
        self.done[progress.stage] = progress.done
        self.left.heard(progress)
        self.told.append((self.now, self.left.seconds()))

    def row(self, row: Row) -> None:
        assert self.left is not None
        self.now += CELL[row.cell.labels] * (
            HEAD[row.cell.labels] if row.cell.method.startswith("dvme") else 1
        )
        self.rows.append(row)
        self.left.row(row)
        self.told.append((self.now, self.left.seconds()))


@pytest.fixture
def grid(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    monkeypatch.setattr("medbench.schema.methods.QUICK_VIEWS", 128)
    methods = ("dvme:supervised+simclr", "simclr", "supervised", "random")
    return Grid(
        tasks=(f"folder:{folder}",),
        methods=methods,
        labels=("2/class", "all"),
        seeds=2,
        size=32,
        audit=False,
    )


@pytest.mark.slow
def test_the_control_comes_first_and_the_time_told_is_what_is_taken(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store, clock = planning.plan(grid), Store(tmp_path / "out"), Clock()
    clock.left = TimeLeft(plan, store, "cpu", clock=lambda: clock.now)
    assert clock.left.seconds() is None, "nothing is known yet"
    with listening(clock.stage):
        execution.execute(plan, store, device="cpu", on_row=clock.row)
    assert list(dict.fromkeys(row.cell.method for row in clock.rows)) == [
        "random",
        "supervised",
        "simclr",
        "dvme:supervised+simclr",
    ]
    first = next(when for when, told in clock.told if told is not None)
    assert first <= 2 * IMAGE * 54 + 2 * sum(CELL.values()), "with the rows of the first method"
    wrong = [
        (when, told, clock.now - when)
        for when, told in clock.told
        if told is not None and when < 0.9 * clock.now
    ]
    known = [one for one in wrong if one[0] >= first]
    assert known and [one for one in known if abs(one[1] - one[2]) > 0.3 * one[2]] == []
    assert clock.told[-1][1] == 0

    reversed_ = Store(tmp_path / "reversed")
    monkeypatch.setattr(execution, "reading_order", lambda plan, unit: -plan.units.index(unit))
    for kind in ("features", "pretrained"):
        (plan.cache_dir / kind).rename(plan.cache_dir / f"{kind} of the first run")
    again = execution.execute(plan, reversed_, device="cpu").rows()
    assert next(iter(again.values())).cell.method == plan.units[-1].method.name
    for fingerprint, row in store.rows().items():
        assert (row.cell, row.metrics, row.chosen) == (
            again[fingerprint].cell,
            again[fingerprint].metrics,
            again[fingerprint].chosen,
        )

    rest = Store(tmp_path / "rest")
    rest.create()
    rest.add_all(
        [(row, store.arrays(row)) for row in store.rows().values() if row.cell.method == "random"]
    )
    told = TimeLeft(plan, rest, "cpu", clock=lambda: 0.0).seconds()
    assert told is not None and told > 0, "rows that are there say how long the others take"

    now = 0.0
    two = TimeLeft(plan, rest, "cpu", clock=lambda: now, workers=2)
    assert two.seconds() == pytest.approx(told / 2), "two processes share it"
    now = 0.01
    assert two.seconds() == pytest.approx(told / 2 - 0.01), "both are at work"
    row = next(row for row in store.rows().values() if row.cell.method == "supervised")
    with speaking_for(1):
        two.row(row)
    assert two.last == {0: 0.0, 1: 0.01}, (
        "the time until a report is that of the process that reports"
    )
