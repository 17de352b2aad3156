"""The order in which a reader sees a run, and how long it is told to take.

A run on a clock that its own reports turn.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from medbench.run import execution, missing_cells, planning
from medbench.run.store import Store
from medbench.run.time_left import Fit, TimeLeft, _like
from medbench.schema import Grid, Progress, Row
from medbench.system.progress_listener import listening, speaking_for

#: Seconds of an image embedded, a view of a pretraining, a cell by its budget; of a fusion's own
#: head as many times more.
IMAGE, VIEW, CELL, HEAD = 0.01, 0.05, {"2/class": 0.5, "100%": 2.0}, {"2/class": 18.0, "100%": 14.0}


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


#: Budget -> draws, images of one, seconds of a cell of the probe and of dvme's head, as
#: benchmarks/speed/time_left.py measured them of the README's first command.
FIRST_COMMAND = {
    "1%": (20, 14, 0.045, 0.837),
    "10%": (10, 142, 0.095, 2.102),
    "100%": (1, 1419, 1.85, 16.74),
}


def test_heads_are_told_by_the_probes_and_by_the_heads_that_were_measured() -> None:
    """Within 30 % at every point of the first command: before the first of them, and after each
    budget, though heads and probes grow unlike each other."""
    left = TimeLeft(SimpleNamespace(units=()), SimpleNamespace(rows=dict), clock=lambda: 0.0)  # type: ignore[arg-type]

    def kind(method: str, labels: str) -> Fit:
        own = method == "dvme"
        images = FIRST_COMMAND[labels][1]
        return Fit(method, own, 4 if own else 1, "linear", labels, "test", images)

    for method in ("random", "supervised", "dvme"):
        left.kinds |= {f"{method} {labels}": kind(method, labels) for labels in FIRST_COMMAND}
    left.fits.update({kind("random", "1%"): 20})
    assert left.seconds() is None, "nothing is measured yet"
    left.fits.clear()
    for labels, (draws, _, probe, _) in FIRST_COMMAND.items():
        left.speeds.add(_like(kind("random", labels))[0], probe * draws, draws)
        left.speeds.add(_like(kind("random", labels))[1], probe * draws, draws)
    left.fits.update({kind("supervised", labels): 1 for labels in FIRST_COMMAND})
    assert left.seconds() == pytest.approx(sum(one[2] for one in FIRST_COMMAND.values()))
    left.fits.clear()
    left.fits.update({kind("dvme", labels): one[0] for labels, one in FIRST_COMMAND.items()})
    taken = sum(draws * head for draws, _, _, head in FIRST_COMMAND.values())
    for labels, (draws, _, _, head) in FIRST_COMMAND.items():
        assert left.seconds() == pytest.approx(taken, rel=0.3), f"before {labels}"
        left.speeds.add(_like(kind("dvme", labels))[0], draws * head, draws)
        del left.fits[kind("dvme", labels)]
        taken -= draws * head
    assert left.seconds() == 0


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
    monkeypatch.setattr(missing_cells, "reading_order", lambda plan, unit: -plan.units.index(unit))
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


def test_a_process_that_has_nothing_to_do_does_not_shorten_what_another_one_trains(
    tmp_path: Path,
) -> None:
    clock = [0.0]
    grid = Grid(("derm",), labels=("100",), methods=("simclr",), data="phantom", size=32)
    plan = planning.plan(grid)
    two = TimeLeft(plan, Store(tmp_path / "out"), "cpu", clock=lambda: clock[0], workers=2)
    (name,) = (one for one in two.stages if one.startswith("pretraining"))
    views = round(two.stages[name].amount)
    two.stages = {name: two.stages[name]}
    two.fits.clear()
    for clock[0], done in ((1.0, 0), (11.0, views // 10), (51.0, views // 2)):
        two.heard(Progress(name, done, views, "views"))
    assert two.seconds() == pytest.approx(50), "half of it, at the speed of the other half"
    clock[0] = 61.0
    assert two.seconds() == pytest.approx(40)
    failed = plan.units[0].cells[0]
    two.row(SimpleNamespace(fingerprint=failed.fingerprint))  # type: ignore[arg-type]
    assert two.seconds() == 0, "the process goes on with something else: the training failed"


def test_a_fine_tuning_that_tells_its_steps_is_as_long_as_all_of_them(tmp_path: Path) -> None:
    clock = [0.0]
    grid = Grid(("derm",), labels=("100",), methods=("random",), data="phantom", size=32)
    plan = planning.plan(replace(grid, protocols=("finetune",), seeds=3))
    left = TimeLeft(plan, Store(tmp_path / "out"), "cpu", clock=lambda: clock[0])
    first, second, _ = plan.units[0].cells
    for planned in (first, second):
        for seconds in (10, 60):
            clock[0] += seconds
            left.heard(Progress("fine-tuning, seed 0", 1, 200, "steps"))
        clock[0] += 1
        left.row(SimpleNamespace(fingerprint=planned.fingerprint))  # type: ignore[arg-type]
    assert left.seconds() == pytest.approx(71)
    clock[0] += 30
    left.heard(Progress("fine-tuning, seed 2", 90, 200, "steps"))
    clock[0] += 1
    assert left.seconds() == pytest.approx(40)
