"""Marks, notes and the pretraining budget are values.

They come back from disk as they went, older folders are read, and no text is read back.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from fakes.results import ABOUT, fill, make, study

from medbench import Grid, Store, UserError, images
from medbench.audit.dataset import audited
from medbench.audit.dataset.audited_data import refusal
from medbench.data.task_data import TaskData, open_task
from medbench.report import compare, html, leaderboard
from medbench.report.html.summary import loud
from medbench.run import planning, validation
from medbench.schema import Mark, Note, Row, parsed, registry
from medbench.schema.notes import HEADED, MarkKind
from medbench.schema.older_records import marks_of, todays

ROOT = Path(__file__).parents[1]
# its plan and rows hold marks as plain texts, and no budget
OLDER = ROOT / "results" / "hyperkvasir"
# what a text must not be read by
WORDS = "LEAK: PARTIAL: quick; no image of, split made by medbench"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "out")
    store.create()
    return store


def marked(store: Store, *marks: Mark) -> leaderboard.Leaderboard:
    """The leaderboard of two lines on images with these marks."""
    fill(
        store,
        [make("one", "10%", 0, 0.8), make("two", "10%", 0, 0.7)],
        about={**ABOUT, "marks": list(marks)},
    )
    return leaderboard.leaderboards(store)[0]


@pytest.mark.parametrize("kind", get_args(MarkKind))
def test_a_mark_comes_back_from_the_plan_as_it_went(kind: MarkKind, store: Store) -> None:
    mark = Mark(kind, WORDS)
    assert marked(store, mark).about["marks"] == [mark]
    (about,) = json.loads((store.folder / "plan.json").read_text())["tasks"].values()
    assert about["marks"] == [{"kind": kind, "text": WORDS}]


def test_marks_and_budget_come_back_from_a_row_as_they_went(store: Store) -> None:
    row, resamples = make("simclr", "10%", 0, 0.8)
    mark = Mark("corrupted", WORDS)
    row = replace(
        row,
        provenance={
            **row.provenance,
            "marks": [mark],
            "budget": "standard",
            "member_weights": ["a", "b"],
        },
    )
    fill(store, [(row, resamples)])
    assert list(store.rows().values()) == [row]
    written = json.loads((store.folder / "rows.jsonl").read_text())["provenance"]
    assert (
        written["marks"] == [{"kind": "corrupted", "text": WORDS}]
        and written["budget"] == "standard"
    )


def test_a_plan_says_the_budget_of_what_it_trains() -> None:
    plan = planning.plan(
        Grid(
            methods=("random", "supervised", "simclr", "dvme"),
            labels=("100",),
            data="phantom",
            pretrain="standard",
        )
    )
    assert {unit.method.name: unit.weights.budget for unit in plan.units} == {
        **{"random": None, "supervised": None},
        **{"simclr": "standard", "dvme": "standard"},
    }
    (fused,) = (unit for unit in plan.units if unit.members)
    assert fused.weights.members == tuple(member.weights.name for member in fused.members)
    assert [note.kind for note in plan.notes] == ["drawn", "rare"]


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "rumour", "text": "x"},
        {"kind": "leak"},
        {"kind": "leak", "text": 3},
        {"kind": "leak", "text": "x", "more": 1},
        3,
        None,
    ],
)
def test_what_is_no_mark_is_refused(record: object, store: Store) -> None:
    marked(store)
    file = store.folder / "plan.json"
    plan = parsed(file.read_text())
    plan["tasks"]["t|T|test"]["marks"] = [record]
    file.write_text(json.dumps(plan))
    with pytest.raises(UserError, match=r"is not a plan of this medbench \((mark|Mark)\b"):
        Store(store.folder).plan()


# Older folders
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(HEADED & set(get_args(MarkKind))))
def test_an_older_mark_is_known_by_its_capitals(kind: MarkKind) -> None:
    assert marks_of([f"{kind.upper()}: 3 of 7: gone"]) == [Mark(kind, "3 of 7: gone")]
    assert str(Mark(kind, "3 of 7: gone")) == f"{kind.upper()}: 3 of 7: gone"


def test_older_marks_without_capitals() -> None:
    texts = [
        "no image of a in the test part",
        "split made by medbench: 70/10/20 by group",
        "patient unknown",
        "derm: LEAK: elsewhere",
    ]
    found = marks_of(texts)
    assert [mark.kind for mark in found] == ["absent", "split", "remark", "remark"]
    assert [str(mark) for mark in found] == texts, "shown as it was"


@pytest.mark.parametrize(
    ("weights", "budget", "members"),
    [
        ("simclr on HAM10000, from lite0 (supervised), quick", "quick", []),
        ("dino on HAM10000, from lite0 (supervised), paper", "paper", []),
        ("random, seed 0", None, []),
        ("quick (prefix module.)", None, []),
        ("dino on quick, from lite0 (supervised), standard", "standard", []),
        (
            "lite0 (supervised) + swav on T, from lite0, quick",
            "quick",
            ["lite0 (supervised)", "swav on T, from lite0, quick"],
        ),
    ],
)
def test_an_older_row_says_its_budget_in_the_name_of_its_weights(
    weights: str, budget: str | None, members: list[str]
) -> None:
    assert todays({"weights": weights}) == {
        "weights": weights,
        "marks": [],
        "budget": budget,
        "member_weights": members,
        "device_kind": "cpu",
    }


@pytest.mark.parametrize(
    ("device", "kind"), [("cpu (x86_64, 2 threads)", "cpu"), ("NVIDIA H200", "cuda"), (None, "cpu")]
)
def test_an_older_row_says_its_kind_of_device_in_the_name(device: str | None, kind: str) -> None:
    made = {} if device is None else {"device": device}
    found = todays({"weights": "w", "features": [made, None], **made})
    assert (
        found["device_kind"] == found["features"][0]["device_kind"] == kind
        and found["features"][1] is None
    )


def test_every_committed_row_has_a_budget_where_it_was_trained() -> None:
    longer = {f"derm-simclr-{views}": views for views in ("20000", "100000")}
    longer |= {"derm-112": "100000", "derm-lora": "standard"}
    for file in sorted((ROOT / "results").glob("*/rows.jsonl")):
        study = file.parent.name
        trained = longer.get(study, "standard" if "-standard" in study else "quick")
        for line in file.read_text(encoding="utf-8").splitlines():
            row = Row.from_json(parsed(line))
            assert row.provenance["budget"] == (trained if row.provenance["pretraining"] else None)
            assert len(row.provenance["member_weights"]) == len(row.provenance["members"])


def test_an_older_folder_shows_what_the_same_folder_of_today_shows(tmp_path: Path) -> None:
    """The committed folder, and a copy whose plan and rows are written anew.

    The same table, the same page, its leaks on top of it.
    """
    older, today = Store(OLDER), Store(tmp_path / "today")
    today.create()
    shutil.copytree(OLDER / "scores", today.folder / "scores", dirs_exist_ok=True)
    today.add_plan(older.plan())
    with (today.folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(
            json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in older.rows().values()
        )
    assert (
        '"LEAK: ' in (OLDER / "plan.json").read_text()
        and '"LEAK: ' not in (today.folder / "plan.json").read_text()
    )
    table = leaderboard.markdown(older)
    assert (
        table
        == leaderboard.markdown(today)
        == (OLDER / "leaderboard.md").read_text(encoding="utf-8")
    )
    page = html.build_page([older])
    assert page == html.build_page([today])
    assert page.count("<b>LEAK</b>: ") == 5 and page.count("<b>QUICK</b>: ") == 2


# No text is read back
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", get_args(MarkKind))
def test_what_the_page_says_first_goes_by_the_kind(kind: MarkKind, store: Store) -> None:
    shown = "".join(loud(marked(store, Mark(kind, f"{WORDS} <any>"))))
    assert (f"<b>{kind.upper()}</b>: {WORDS} &lt;any&gt;" in shown) == (
        kind in ("leak", "partial", "conflict")
    )


@pytest.mark.parametrize(
    ("weights", "budget"),
    [
        ("quickdraw, quick", None),
        ("any name", "quick"),
        ("x", "4000"),
        ("x, quick", "paper"),
        ("x", "4001"),
    ],
)
def test_a_quick_pretraining_is_known_by_its_budget(
    weights: str, budget: str | None, store: Store
) -> None:
    row, resamples = make("simclr", "10%", 0, 0.8)
    fill(
        store,
        [
            (
                replace(row, provenance={**row.provenance, "weights": weights, "budget": budget}),
                resamples,
            )
        ],
    )
    (board,) = leaderboard.leaderboards(store)
    assert (
        any(note.kind == "quick" for note in leaderboard.notes(board))
        == ("QUICK" in "".join(loud(board)))
        == (budget in ("quick", "4000"))
    )


def test_a_method_without_a_papers_pretraining_is_not_advised_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, resamples = make("simclr", "10%", 0, 0.8)
    row = replace(row, provenance={**row.provenance, "budget": "quick"})
    fill(store, [(row, resamples)])
    (board,) = leaderboard.leaderboards(store)
    told = lambda: next(str(note) for note in leaderboard.notes(board) if note.kind == "quick")
    assert told().endswith("Use --pretrain standard or paper.")
    known = registry.methods()
    broken = replace(known["simclr"], recipes=lambda *asked: {}[asked])
    monkeypatch.setitem(known, "simclr", broken)
    assert told().endswith("Use --pretrain standard.")
    assert not registry.has_paper(registry.method("dvme")), "a fusion of it"
    with pytest.raises(UserError, match="Allowed: quick, standard, a number of views"):
        validation.check_options(Grid(methods=("simclr",), pretrain="fast"))


def test_a_name_with_a_plus_is_no_fusion() -> None:
    rows = [make(method, "10%", 0, 0.8)[0] for method in ("a", "b", "c")]
    rows[2].provenance["weights"] = "a weights + b weights"
    assert leaderboard.weights_in_words(rows)["a weights + b weights"] == "a weights + b weights"


def derm(*marks: Mark) -> TaskData:
    data = open_task(registry.task("derm"), Grid(data="phantom"), images.cache_folder(), [])
    return replace(data, marks=marks)


@pytest.mark.parametrize("kind", get_args(MarkKind))
def test_what_a_run_refuses_goes_by_the_kind(kind: MarkKind) -> None:
    data = derm(Mark(kind, WORDS))
    assert bool(refusal(data)) == (kind in ("leak", "conflict", "partial", "absent"))
    strict = Grid(strict=True)
    if kind == "leak":
        with pytest.raises(UserError, match=f"derm: LEAK: {WORDS}"):
            audited(data, strict, images.cache_folder(), [])
    else:
        assert audited(data, strict, images.cache_folder(), []).marks == data.marks


def test_areas_are_left_out_of_the_labels_saved_by_their_kind(tmp_path: Path) -> None:
    """A method may be called as the sentence of an area is written."""
    store = study(tmp_path, methods=("area under", "supervised"))
    (board,) = leaderboard.leaderboards(store)
    said: dict[str, list[str]] = {}
    for note in compare.label_savings(board, "auc"):
        said.setdefault(note.kind, []).append(note.text)
    saved = html.build_page([store]).split("Labels saved", 1)[1].split("</ul>", 1)[0]
    assert "area under may equal supervised" in saved and "label curve" not in saved
    assert any(text.startswith("area under may equal supervised") for text in said["savings"])
    assert all("label curve" in text for text in said["area"])


def test_notes_on_a_paper_table_are_told_by_their_kind(store: Store) -> None:
    """A mark that begins as the legend does stands among the notes on the data."""
    found = leaderboard.pivot([marked(store, Mark("remark", "Bold: of whom nothing is known"))])
    assert [note.kind for note in found.notes] == ["legend"]
    assert Mark("remark", "Bold: of whom nothing is known") in found.board_notes
    assert "Bold: of whom nothing is known" in found.sentences


def test_ranks_shorten_lines_by_their_axes_not_by_blanks(store: Store) -> None:
    """An encoder's file may have a blank in its name."""
    rows = []
    for task, gap in (("t1", 0.1), ("t2", 0.05)):
        for method, encoder in (("one", "my file.py:net"), ("two", "net")):
            row, resamples = make(method, "10%", 0, 0.7 + gap * (method == "one"), task=task)
            rows.append((replace(row, cell=replace(row.cell, encoder=encoder)), resamples))
    fill(store, rows)
    (note,) = (
        note
        for note in leaderboard.pivot(leaderboard.leaderboards(store)).notes
        if note.kind == "rank test"
    )
    assert "one my file.py:net 1.00 [" in note.text and "two net 2.00 [" in note.text


def test_a_note_is_a_value() -> None:
    assert Note("leak", "x") == Note("leak", "x") != Mark("leak", "x")
    assert asdict(Mark("leak", "x")) == {"kind": "leak", "text": "x"}
    assert np.all(
        [
            str(Note("quick", "Quick.")) == "Quick.",
            str(Note("seen", "the weights")) == "SEEN: the weights",
        ]
    )
