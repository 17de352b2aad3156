"""What a run does once: reading its rows, making the resamples of a scored set.

And what ends it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from medbench import Grid, Store
from medbench.run import execution, record_log, run_context
from medbench.schema import Row, Scores, Train, registry

Counted = list[bytes]


@pytest.fixture
def grid(folder: Path) -> Grid:
    return Grid(
        tasks=(f"folder:{folder}",),
        size=32,
        methods=("random", "supervised"),
        protocols=("linear", "knn"),
        labels=("100",),
        seeds=1,
    )


@pytest.fixture
def parsed_lines(monkeypatch: pytest.MonkeyPatch) -> Counted:
    lines: Counted = []
    parse = record_log.parsed
    monkeypatch.setattr(record_log, "parsed", lambda line: lines.append(line) or parse(line))
    return lines


def test_a_command_parses_each_row_once(
    folder: Path, medbench: Callable[..., int], tmp_path: Path, parsed_lines: Counted
) -> None:
    """The file was parsed 2 U + 6 times for U units."""
    command = (
        "run",
        "--task",
        f"folder:{folder}",
        "--size",
        "32",
        "--labels",
        "10,100",
        "--seeds",
        "2",
        "--out",
        str(tmp_path / "out"),
    )
    assert medbench(*command, "--methods", "random,supervised") == 0
    rows, judged = (
        (tmp_path / "out" / name).read_bytes().splitlines(keepends=True)
        for name in ("rows.jsonl", "judged.jsonl")
    )
    assert sorted(parsed_lines) == sorted([*rows, *judged]), "a run that makes them"
    for more in ((), ("--plan",)):
        parsed_lines.clear()
        assert medbench(*command, "--methods", "random,supervised", *more) == 0
        assert sorted(parsed_lines) == sorted(rows if more else [*rows, *judged]), (
            "a run that has nothing to do, and a plan"
        )


@pytest.mark.slow  # of other encoders than the embedded one `test_nothing_to_do` asks the same
def test_a_run_with_nothing_to_do_imports_no_torch(
    folder: Path, medbench: Callable[..., int], tmp_path: Path
) -> None:
    """It takes longer than all the rest of such a run."""
    command = [
        "run",
        "--task",
        f"folder:{folder}",
        "--size",
        "32",
        "--methods",
        "random,supervised",
        "--out",
        str(tmp_path / "out"),
    ]
    assert medbench(*command) == 0
    code = f"import sys; sys.argv[1:] = {command!r}\nfrom medbench.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "\n0 new rows" in done.stdout and done.stdout.endswith("\nFalse\n"), (
        done.stdout + done.stderr
    )


def test_rows_of_another_process_are_seen_before_a_unit_begins(grid: Grid, tmp_path: Path) -> None:
    whole = execution.run(grid, tmp_path / "whole")
    rows = list(whole.rows().values())
    seen: list[Row] = []

    def beside(row: Row) -> None:
        """Another process finishes the second unit while this one is in the first."""
        seen.append(row)
        if len(seen) == 1:
            other = Store(tmp_path / "out")
            for done in rows[2:]:
                other.add(done, whole.arrays(done))

    store = execution.run(grid, tmp_path / "out", on_row=beside)
    assert [row.cell.method for row in seen] == ["random", "random"], (
        "the other unit was not computed again"
    )
    assert store.rows().keys() == whole.rows().keys()


def test_resamples_are_made_once_a_scored_set(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two units, two protocols, the task's own set and two damaged copies of the same images."""
    made: list[np.ndarray] = []
    make = run_context.stats.group_weights
    monkeypatch.setattr(
        run_context.stats, "group_weights", lambda groups: made.append(groups) or make(groups)
    )
    store = execution.run(
        replace(grid, corruptions=("blur", "noise"), levels=("1",)), tmp_path / "out"
    )
    assert len(store.rows()) == 2 * 2 * 3 and not store.failures()
    assert len(made) == 1


def test_what_on_row_raises_ends_the_run_and_is_no_failure_of_a_cell(
    grid: Grid, tmp_path: Path
) -> None:
    def on_row(row: Row) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        execution.run(grid, tmp_path / "out", on_row=on_row)
    store = Store(tmp_path / "out")
    assert len(store.rows()) == 1 and not store.failures()


def test_a_protocol_that_answers_once_too_often_is_logged_and_loses_nothing(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = registry.protocol("linear")

    def evaluate(
        train: Train, targets: Mapping[str, np.ndarray], draws: Sequence[np.ndarray]
    ) -> Iterator[dict[str, Scores]]:
        answers = list(linear.evaluate(train, targets, draws))
        return chain(answers, answers[-1:])

    monkeypatch.setitem(registry.protocols(), "linear", replace(linear, evaluate=evaluate))
    store = execution.run(grid, tmp_path / "out")
    assert len(store.rows()) == 4 and not store.failures()
    assert (
        len(
            re.findall(
                r"ERROR folder:mine \S+ \S+@32 linear failed",
                (store.folder / "run.log").read_text(),
            )
        )
        == 2
    )
