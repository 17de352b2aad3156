"""`--only`: the lines that a person picks are a leaderboard of their own, say that they are a
selection, and leave the folder's own files alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.results import ABOUT, make, study

from medbench import Store, UserError
from medbench.report import html, leaderboard, methods_text
from medbench.report.clinical import shown_lines
from medbench.report.compare import compare, sentences
from medbench.report.figures import (
    calibration_confusion,
    cost_scatter,
    label_curves,
    style,
    task_heatmap,
)
from medbench.schema import PlanFile, PlannedCell

PICK = ("method=random,sim$clr", "labels=10")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two binary tasks, three methods, two budgets: 12 lines."""
    return study(tmp_path_factory.mktemp("selection") / "out", tasks=2)


def test_it_keeps_what_is_named_and_says_of_how_many(store: Store) -> None:
    picked = leaderboard.only(leaderboard.leaderboards(store), PICK)
    assert [[(line.cell.method, line.cell.labels) for line in board.lines] for board in picked] == [
        [("random", "10%"), ("sim$clr", "10%")]
    ] * 2
    assert {str(board.selection) for board in picked} == {
        "4 of 12 lines (method random, sim$clr; labels 10%)"
    }
    alike = leaderboard.only(
        leaderboard.leaderboards(store), ("method=sim$clr", "method=random", "labels=10%")
    )
    assert [[line.name for line in board.lines] for board in alike] == [
        [line.name for line in board.lines] for board in picked
    ]
    assert [
        board.task for board in leaderboard.only(leaderboard.leaderboards(store), ("task=task1",))
    ] == ["task1"]
    whole = leaderboard.only(leaderboard.leaderboards(store), ("labels=10%,all",))
    assert [board.selection for board in whole] == [None, None], "all lines are not a selection"


def test_a_name_with_a_comma_is_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    rows = [make(method, "10%", 0, 0.8)[0] for method in ("a,b", "a", "b")]
    planned = [PlannedCell(row.cell, row.fingerprint, 7, "s", "t") for row in rows]
    store.add_plan(PlanFile(tuple(planned), {"t|T|test": ABOUT}))
    (board,) = leaderboard.only(leaderboard.leaderboards(store), ("method=a,b",))
    assert [line.cell.method for line in board.lines] == ["a,b"]


def test_the_correction_is_of_the_lines_shown(store: Store) -> None:
    """p of a pair in a family of one is the pair's own, whatever else the folder holds."""
    (whole, *_), (picked, *_) = (
        leaderboard.leaderboards(store),
        leaderboard.only(leaderboard.leaderboards(store), PICK),
    )
    assert (leaderboard.pairs(whole, "auc"), leaderboard.pairs(picked, "auc")) == (6, 1)
    (pair,) = compare(picked, "auc", 0.01)
    assert leaderboard.marks(picked, "auc")[pair.second].p == pytest.approx(
        pair.verdict.difference.p()
    )
    three = leaderboard.only(leaderboard.leaderboards(store), ("labels=100%",))[0]
    assert (
        "against the best, at each budget (5 %, step-down max-T) of this selection"
        in leaderboard.legend(three, "auc")
    )
    assert "selection" not in leaderboard.legend(whole, "auc")


def test_everything_that_shows_it_says_so(store: Store) -> None:
    picked = leaderboard.only(leaderboard.leaderboards(store), PICK)
    said = "4 of 12 lines (method random, sim$clr; labels 10%)"
    assert any(
        said in note.text for note in leaderboard.notes(picked[0]) if note.kind == "selection"
    )
    pivot = leaderboard.pivot(picked)
    assert pivot.caption.endswith("; a selection") and any(said in note for note in pivot.sentences)
    assert (
        said.replace("$", "\\$").replace("%", "\\%") in methods_text.methods_text(picked).paragraph
    )
    assert any(said in line for line in sentences([store], None, 0.01, only=PICK))
    assert said in shown_lines.caption(
        *shown_lines.best_lines(picked, None, None, None, None, None)[0]
    )
    markup = html.build_page([store], only=PICK)
    assert (
        markup.count(said) >= 3
        and "of this selection" in markup
        and "supervised" not in markup.partition("<main>")[2].partition("Provenance")[0]
    )
    curves = leaderboard.only(leaderboard.leaderboards(store), PICK[:1])
    with style.paper():
        for draw, of in (
            (label_curves.curves, curves),
            (cost_scatter.cost, picked),
            (calibration_confusion.reliability, picked),
        ):
            (drawing,) = draw(of, None, "")
            shown = [
                drawing.figure.get_suptitle(),
                *(legend.get_title().get_text() for legend in drawing.figure.legends),
            ]
            assert drawing.said == "a selection of the lines" and drawing.said in shown
        (drawing,) = task_heatmap.heatmap(picked, None, "")
        assert drawing.said and "; a selection" in drawing.figure.get_suptitle()
        (drawing,) = calibration_confusion.confusion(picked, None, "")[:1]
        assert drawing.said in drawing.figure.get_suptitle()


def test_a_figure_of_many_lines_shows_those_that_are_named(tmp_path: Path) -> None:
    methods = ("supervised", *(f"m{i:02d}" for i in range(15)))
    boards = leaderboard.leaderboards(study(tmp_path / "out", methods=methods))
    with style.paper():
        (drawing,) = label_curves.curves(leaderboard.only(boards, ["method=m00,m01"]), None, "")
    assert {text.get_text() for text in drawing.figure.axes[0].texts} == {
        "m00",
        "m01",
        "m00, all labels",
    }


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("simclr", "--only 'simclr' is not AXIS=VALUE. Allowed: task, data, method"),
        (
            "methods=random",
            "Unknown axis 'methods'. Allowed: task, data, method, source, encoder, readout, size, protocol, labels. Did you mean 'method'?",
        ),
        (
            "method=ranodm",
            "No line with method 'ranodm' is in these results. Allowed: random, supervised, sim$clr. Did you mean 'random'?",
        ),
        ("method=", "--only 'method=' names nothing."),
        ("labels=7", "No line with labels '7%' is in these results. Allowed: 10%, 100%."),
        ("labels=few", "Label budget 'few' is not understood."),
    ],
)
def test_what_is_not_there_is_refused(store: Store, asked: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        leaderboard.only(leaderboard.leaderboards(store), [asked])
    assert str(error.value).startswith(words)


def test_no_line_is_all_of_it(store: Store) -> None:
    boards = leaderboard.leaderboards(store)
    boards = [
        replace(
            boards[0],
            lines=[
                line
                for line in boards[0].lines
                if line.cell.method == "random" or line.cell.labels == "10%"
            ],
        )
    ]
    with pytest.raises(
        UserError,
        match=r"No line is all of it: method supervised; labels 100%\. Next: medbench table FOLDER",
    ):
        leaderboard.only(boards, ["method=supervised", "labels=100%"])


def test_the_commands_leave_the_folder_as_it_is(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = study(tmp_path / "out").folder
    assert medbench("table", str(folder)) == 0
    before = {file: file.read_bytes() for file in folder.glob("*.*")}
    pick = [word for text in PICK for word in ("--only", text)]
    for command in (
        ["table"],
        ["table", "--format", "latex"],
        ["table", "--methods-text"],
        ["compare"],
        ["clinical"],
    ):
        assert medbench(command[0], str(folder), *command[1:], *pick) == 0
        assert "of 6 lines (method random, sim" in " ".join(capsys.readouterr().out.split())
    assert medbench("plot", str(folder), "--kind", "heatmap", "--format", "svg", *pick) == 0
    assert medbench("report", str(folder), *pick) == 0
    assert (folder / "figures-only" / "heatmap.svg").is_file() and (
        folder / "report-only.html"
    ).is_file()
    assert not (folder / "figures").exists() and not (folder / "report.html").exists()
    assert {file: file.read_bytes() for file in before} == before
    for command in ("table", "compare", "plot", "report", "clinical", "shift"):
        capsys.readouterr()
        assert medbench(command, str(folder), "--only", "method=ranodm") == 2
        assert "Did you mean 'random'?" in capsys.readouterr().err
