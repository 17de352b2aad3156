"""medbench's own rows beside a user's: of the same images alone, a line of one setting, named."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from medbench.report import leaderboard
from medbench.report.leaderboard import shipped_rows
from medbench.run.store import Store
from medbench.schema import UserError

RESULTS = Path(__file__).resolve().parents[1] / "results"


def test_lines_of_the_same_images_join_and_are_named() -> None:
    mine = Store(RESULTS / "derm-finetune")
    (alone,), (board,) = leaderboard.leaderboards(mine), leaderboard.with_reference(mine)
    own = {(line.name, line.cell.labels) for line in alone.lines}
    joined = {(line.name, line.cell.labels) for line in board.lines}
    assert own < joined and {line.cell.method for line in board.lines} >= {
        "random",
        "concat",
        "dvme",
        "micle",
    }
    said = str(board.about["marks"][0])
    assert (
        said.startswith("Reference rows of medbench, not of this folder: ")
        and "micle" in said
        and "finetune" not in said
    )


def test_a_line_is_of_one_setting() -> None:
    """The folder's simclr and supervised are older than the reference's.

    Neither their 1 % nor their 100 % is filled in from there.
    """
    (board,) = leaderboard.with_reference(Store(RESULTS / "derm-finetune"))
    for method in ("simclr", "supervised"):
        assert {line.cell.labels for line in board.lines if line.cell.method == method} == {"10%"}


def test_rows_of_other_images_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"add no line .* derm \(HAM10000\), test"):
        leaderboard.with_reference(Store(RESULTS / "hyperkvasir"))


def test_the_wheel_holds_the_studies() -> None:
    project = tomllib.loads((RESULTS.parent / "pyproject.toml").read_text())
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["sources"]
    assert packed == {
        f"results/{name}": f"medbench/reference/{name}" for name in sorted(shipped_rows.STUDIES)
    }
    assert all((RESULTS.parent / place / "plan.json").is_file() for place in packed)
