"""`--json FILE` of every command that prints a table.

Records that `json` reads, with null where a number is undefined.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medbench import Store
from medbench.cli.json_output import put_records
from medbench.cli.options import app, command_line
from medbench.report import leaderboard
from medbench.report.answer import answers
from medbench.report.table_records import table_records

RESULTS = Path(__file__).resolve().parents[1] / "results"
#: Commands that print no table: what they make is a file, a folder or a sentence.
NO_TABLE = {
    "export",
    "predict",
    "merge",
    "plot",
    "report",
    "pretrain",
    "data get",
    "data show",
    "data verify",
    "fetch",
}


def commands() -> dict[str, object]:
    root = command_line()
    found = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found.update(
            {f"{name} {part}": one for part, one in inner.items()} if inner else {name: command}
        )
    return found


def test_every_command_that_prints_a_table_has_it() -> None:
    lacking = {
        name
        for name, command in commands().items()
        if "--json" not in {o for p in command.params for o in p.opts}
    }  # type: ignore[attr-defined]
    assert lacking <= NO_TABLE


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (
            ["table", str(RESULTS / "derm-finetune"), "--only", "labels=10%"],
            {"method", "labels", "metric", "mean", "low", "high", "mark", "p", "notes", "answer"},
        ),
        (
            ["compare", str(RESULTS / "derm-finetune")],
            {"first", "second", "labels", "difference", "low", "high", "p", "verdict", "family"}
            | {"sentence", "notes", "answer"},
        ),
        (
            ["advise", str(RESULTS / "derm-standard"), "--target", "0.9"],
            {"line", "labels", "value", "low", "high", "needs"},
        ),
        (["list", "tasks"], {"name", "title"}),
        (["list", "encoders"], {"name"}),
        (["list", "checkpoints"], {"name", "trained_on", "here"}),
        (["data", "list"], {"task", "classes", "state", "licence"}),
        (["cache"], {"folder", "entries", "bytes"}),
    ],
    ids=lambda given: " ".join(given[:2]) if isinstance(given, list) else "",
)
def test_records(words: list[str], keys: set[str], tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    done = CliRunner().invoke(app, [*words, "--json", str(file)], catch_exceptions=False)
    assert done.exit_code == 0
    records = json.loads(file.read_text())
    assert records and all(keys <= set(record) for record in records)
    assert not re.search(r"NaN|Infinity", file.read_text())


@pytest.mark.parametrize("command", ["table", "compare"])
def test_marks_and_the_answer_stand_in_the_words_that_are_printed(
    command: str, tmp_path: Path
) -> None:
    folder = RESULTS / "derm-standard"
    more = ["--only", "labels=10%"] if command == "table" else []
    file = tmp_path / "out.json"
    done = CliRunner().invoke(app, [command, str(folder), *more, "--json", str(file)])
    assert done.exit_code == 0, done.output
    records, printed = json.loads(file.read_text()), " ".join(done.output.split())
    if command == "compare":
        assert all(record["answer"] in printed for record in records)
        assert all(record["sentence"] in printed for record in records)
        assert all(note["text"] in printed for one in records for note in one["notes"])
        return
    found = leaderboard.leaderboards(Store(folder))
    assert {record["answer"] for record in table_records(found)} == {*answers(found)}
    for board in found:
        signs = leaderboard.marks(board, board.shown(None)).values()
        of_board = [one for one in table_records([board]) if one["mark"] is not None]
        assert [one["mark"] for one in of_board] == [sign.sign for sign in signs]
        texts = [str(note) for note in leaderboard.notes(board)]
        assert all([note["text"] for note in one["notes"]] == texts for one in of_board)
    assert {one["mark"] for one in records if one["metric"] == "auc"} >= {"*"}
    assert {one["mark"] for one in records if one["metric"] == "f1"} == {None}


def test_undefined_is_null(tmp_path: Path) -> None:
    put_records(
        [{"a": np.float32("nan"), "b": np.array([1.5, np.inf]), "c": Path("x"), "d": (1, None)}],
        tmp_path / "a.json",
    )
    assert json.loads((tmp_path / "a.json").read_text()) == [
        {"a": None, "b": [1.5, None], "c": "x", "d": [1, None]}
    ]
