"""Studies: a file with one GRID, options of the command line before its choices, and every mistake
in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medbench import Store
from medbench.run import study
from medbench.schema import UserError

ROOT = Path(__file__).parents[1]
OWN = """'''What this study asks.

What to expect.
'''
from medbench import Grid
GRID = Grid(tasks=({task!r},), methods=("random",), labels=("10", "100"), seeds=1, size=32)
"""


def test_a_study_runs_and_options_come_before_its_choices(
    folder: Path, medbench: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN.format(task=f"folder:{folder}"))
    assert medbench("run", "mine.py", "--plan") == 0
    assert not (tmp_path / "runs").exists()
    shown = capsys.readouterr().err
    assert "What this study asks." in shown and "What to expect" not in shown
    assert medbench("run", "mine.py", "--labels", "100") == 0
    assert medbench("run", "mine.py", "--seeds", "2", "--out", "elsewhere") == 0
    here, there = Store(tmp_path / "runs" / "mine"), Store(tmp_path / "elsewhere")
    assert [row.cell.labels for row in here.rows().values()] == ["100%"]
    assert sorted((row.cell.labels, row.cell.seed) for row in there.rows().values()) == [
        ("10%", 0),
        ("10%", 1),
        ("100%", 0),
    ]
    assert {row.cell.size for row in there.rows().values()} == {32}, (
        "an option that was not given leaves the study's choice"
    )


STUDIES = [
    file for file in sorted((ROOT / "benchmarks").glob("*.py")) if "\nGRID" in file.read_text()
]


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_studies_of_the_project_load(file: Path) -> None:
    found = study.load_study(str(file))
    assert f"medbench run benchmarks/{file.name}" in found.text, "a study opens with its command"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "GRID = Grid(",
            r"bad\.py, line 2 failed: SyntaxError: '\(' was never closed\. Next: fix the study",
        ),
        (
            "GRID = Grid(label=('1',))",
            r"bad\.py, line 2: Grid has no 'label'\. Allowed: tasks, .*Did you mean 'labels'\?",
        ),
        ("1 / 0", r"bad\.py, line 2 failed: ZeroDivisionError: division by zero\."),
        ("import sys; sys.exit(0)", r"bad\.py, line 2 failed: SystemExit: 0\."),
        ("MINE = Grid()", r"bad\.py has no constant GRID, but MINE\. Next: write GRID = Grid\("),
        ("", r"bad\.py has no constant GRID\. Next: write GRID = Grid\("),
        ("GRID = {'tasks': ['derm']}", r"GRID in .*bad\.py is a dict, not a medbench\.Grid\."),
        (
            "GRID = Grid(labels='10')",
            r"bad\.py: GRID\.labels is '10'; it must be a tuple of texts, as labels=\('10',\)\.",
        ),
        (
            "GRID = Grid(labels=(1, 10))",
            r"GRID\.labels is \(1, 10\); it must be a tuple of texts, as labels=\('1', '10'\)\.",
        ),
        ("GRID = Grid(seeds='3')", r"GRID\.seeds is '3'; it must be a whole number or 'auto'\."),
        ("GRID = Grid(seeds=True)", r"GRID\.seeds is True; it must be a whole number or 'auto'\."),
        ("GRID = Grid(size=64.0)", r"GRID\.size is 64\.0; it must be a whole number\."),
        ("GRID = Grid(ordinal=1)", r"GRID\.ordinal is 1; it must be True or False\."),
        ("GRID = Grid(data=None, weights=3)", r"GRID\.weights is 3; it must be a text\."),
        (
            "GRID = Grid(methods=('randon',))",
            r"bad\.py, line 2: Unknown method 'randon'\. Allowed: .*Did you mean 'random'\?",
        ),
        (
            "GRID = Grid(\n    labels=(\n        '1',\n        '10%%',\n    ),\n)",
            r"bad\.py, line 5: Label budget '10%%' is not understood\.",
        ),
    ],
)
def test_a_study_that_is_wrong(
    text: str,
    line: str,
    medbench: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.py").write_text(f"from medbench import Grid\n{text}\n")
    assert medbench("run", "bad.py") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert re.search(line, captured.err), captured.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.py"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "derm",
            r"'derm' is not a study, which is a Python file with a constant GRID\..* Next: medbench run --task derm, or medbench run FILE\.py",
        ),
        (
            "smok.py",
            r"No study file 'smok\.py'\. Allowed: smoke\.py\. Did you mean 'smoke\.py'\? Next: medbench run smoke\.py$",
        ),
        ("~nosuchuser/x.py", r"cannot be a path"),
        (
            "results",
            r"'results' is not a study, .* Next: medbench table 'results', or check --rows 'results': it is a results folder",
        ),
    ],
)
def test_what_is_no_study(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke.py").write_text("")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "rows.jsonl").touch()
    with pytest.raises(UserError, match=line):
        study.load_study(name)
