"""Classes of one and of two images.

What is said above every table, in the answer and by `clinical`, against counts made by hand.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.results import make
from sklearn.metrics import roc_auc_score

from medbench import Store
from medbench.report import clinical, compare, html
from medbench.report.clinical.sheet_formats import render_tables
from medbench.report.clinical.tables import sheets
from medbench.report.leaderboard import (
    class_columns,
    class_notes,
    escape_tex,
    leaderboards,
    markdown,
    pivot,
    pivot_terminal,
    render_pivot,
    terminal,
)
from medbench.report.leaderboard.class_groups import class_groups
from medbench.report.methods_text import methods_text
from medbench.run.stored_results import NoPredictions
from medbench.schema import Cell, PlanFile, PlannedCell, Row, fingerprint
from medbench.stats import group_weights, metrics, splits

NAMES = ("none", "mild", "moderate", "severe")
SIZES = (60, 40, 30, 2)


def drawn(
    folder: Path,
    sizes: tuple[int, ...] = SIZES,
    train: tuple[int, ...] = (70, 50, 40, 1),
    kind: str = "multiclass",
    group: str = "patient",
    held: bool = False,
) -> tuple[Store, Any, Any]:
    """One line of one draw; labels and probabilities.

    Every image is a patient. held: so were the training images of all classes but the last.
    """
    rng, store = np.random.default_rng(0), Store(folder)
    store.create()
    labels = np.repeat(np.arange(len(sizes)), sizes)
    groups = np.array([f"p{i}" for i in range(len(labels))])
    logits = rng.normal(size=(len(labels), len(sizes))) + 1.5 * np.eye(len(sizes))[labels]
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    truth = np.eye(len(sizes))[labels] if kind == "multilabel" else labels
    answer = (truth, p, metrics.decided(p, kind == "multilabel"), kind)
    store.add_target("t", groups, truth, groups)
    values = {
        name: {"value": value, "low": None, "high": None}
        for name, value in metrics.score(*answer).values.items()
    }
    resampled = metrics.score(*answer, group_weights(groups)).values
    cell = Cell("eyes", "T", "supervised", "imagenet", "net", "pool", 64, 0, "linear", "100%", 0)
    provenance = {
        "weights": "w",
        "trained_on": [],
        "precision": "fp32",
        "target": "t",
        "marks": [],
        "budget": None,
        "member_weights": [],
    }
    row = Row(cell, fingerprint("eyes"), values, 161, 161, {}, {"seconds": 1.0}, provenance)
    resamples = np.stack(list(resampled.values())).astype(np.float32)
    outside = np.repeat(np.arange(len(train) - 1), train[:-1])
    of_held = {
        "index": np.arange(len(outside)),
        "probabilities": np.eye(len(train))[outside] * 0.6 + 0.1,
        "labels": outside,
    }
    kept = {f"held_out_{name}": value for name, value in of_held.items()} if held else {}
    store.add(
        row,
        {
            "probabilities": p,
            "decisions": answer[2],
            "metrics": np.array(list(resampled)),
            "resamples": resamples,
            **kept,
        },
    )
    about = {
        **{
            "identity": "i",
            "kind": kind,
            "classes": list(NAMES[: len(sizes)]),
            "metric": "auc",
            "groups": group,
            "marks": [],
            "title": "T",
        },
        **{
            "parts": {"train": [sum(train)] * 2, "test": [len(labels)] * 2},
            "class_groups": {"train": list(train), "test": list(sizes)},
        },
    }
    store.add_plan(
        PlanFile((PlannedCell(cell, row.fingerprint, 161, "s", "t"),), {"eyes|T|test": about})
    )
    return store, labels, p


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "ordinal"])
def test_rare_classes_and_the_one_found_least_of_are_told_with_the_auc_without_them(
    tmp_path: Path, kind: str
) -> None:
    store, labels, p = drawn(tmp_path, kind=kind)
    [board] = leaderboards(store)
    rare, worst = class_notes(board)
    assert rare.kind == "rare" and str(rare).startswith(
        "RARE: fewer than 10 patients of severe (train 1, test 2):"
    )
    found = [
        int(((p[:, c] >= 0.5) if kind == "multilabel" else p.argmax(1) == c)[labels == c].sum())
        for c in range(4)
    ]
    least = min(range(3), key=lambda c: found[c] / SIZES[c])  # of those that are not rare
    assert (
        worst.kind == "worst class"
        and f"finds {found[least]} of {SIZES[least]} {NAMES[least]}" in worst.text
    )
    assert f"{found[3]} of 2 severe" in worst.text
    aucs = [roc_auc_score(labels == c, p[:, c]) for c in range(4)]
    assert (
        f"over the 3 classes that are not rare: {np.mean(aucs[:3]):.3f}; over all 4: {np.mean(aucs):.3f}"
        in worst.text
    )


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "ordinal"])
def test_each_line_has_the_recall_of_its_worst_class_and_the_auc_without_rare_ones(
    tmp_path: Path, kind: str
) -> None:
    """Counted here, beside what the table of all metrics and the page's leaderboard show."""
    store, labels, p = drawn(tmp_path, kind=kind)
    [board] = leaderboards(store)
    decided = [(p[:, c] >= 0.5) if kind == "multilabel" else p.argmax(1) == c for c in range(4)]
    recalls = [decided[c][labels == c].mean() for c in range(3)]
    least = int(np.argmin(recalls))
    enough = np.mean([roc_auc_score(labels == c, p[:, c]) for c in range(3)])
    columns = class_columns(board)
    assert list(columns) == ["worst recall", "AUC of the 3 classes not rare"]
    (value, name), (auc, none) = (of[board.lines[0]] for of in columns.values())
    assert (value, name, none) == (
        pytest.approx(recalls[least]),
        NAMES[least],
        "",
    ) and auc == pytest.approx(enough)
    assert f"| {recalls[least]:.3f} {NAMES[least]} | {enough:.3f} |" in markdown(store)
    row = html.build_page([store]).partition('id="board"')[2].partition("</tbody>")[0]
    assert (
        f'data-v="{recalls[least]}"' in row and NAMES[least] in row and f'data-v="{enough}"' in row
    )


def test_no_line_has_them_where_predictions_were_not_shared(tmp_path: Path) -> None:
    store, *_ = drawn(tmp_path)
    shutil.rmtree(store.folder / "targets")
    [board] = leaderboards(store)
    assert class_columns(board) == {} and "worst recall" not in markdown(store)


def test_compare_and_the_text_of_a_paper_tell_them(tmp_path: Path) -> None:
    store, *_ = drawn(tmp_path)
    notes = class_notes(leaderboards(store)[0])
    said = compare.sentences([store], None, 0.02)
    assert [f"  {note}" for note in notes] == said[2:4]
    text = methods_text(leaderboards(store)).paragraph
    assert (
        "Fewer than 10 patients of severe (train 1, test 2):" in text
        and escape_tex(notes[1].text) not in text
    ), "a result"


def test_they_stand_above_every_table_and_in_the_answer(tmp_path: Path) -> None:
    store, *_ = drawn(tmp_path)
    text = markdown(store)
    assert (
        text.index("RARE: fewer than 10 patients") < text.index("finds ") < text.index("| labels |")
    )
    assert text.count("RARE:") == 1
    shown = terminal(store)
    assert (
        str(shown[0]).startswith("RARE:")
        and "finds " in str(shown[1])
        and not isinstance(shown[2], str)
    )
    pivoted = pivot(leaderboards(store))
    for form in ("markdown", "html"):
        text = render_pivot(pivoted, form)
        assert (
            text.index("RARE: fewer")
            < text.index("finds ")
            < text.index("<table>" if form == "html" else "| ---")
        )
    assert str(pivot_terminal(pivoted)[0]).startswith("RARE:")
    page = html.build_page([store])
    answer = page[page.index("The answer") :]
    assert answer.index("fewer than 10 patients of severe") < answer.index(" has the best ")
    assert " of 2 (2 patients with it)" in page


def test_what_is_counted_is_said_where_a_patient_has_several_images(tmp_path: Path) -> None:
    """Rare is counted in patients, found in images: `mild (test 7)` beside `0 of 10 mild` would not
    add up."""
    store, labels, _ = drawn(tmp_path)
    [board] = leaderboards(store)
    assert "counted" not in class_notes(board)[1].text
    two_eyes = replace(
        board,
        about={
            **board.about,
            "parts": {**board.about["parts"], "test": [len(labels), len(labels) // 2]},
        },
    )
    assert ", counted in images. " in class_notes(two_eyes)[1].text


def test_where_no_class_is_rare_the_worst_alone_is_told(tmp_path: Path) -> None:
    store, *_ = drawn(tmp_path, (60, 40, 30), (70, 50, 40))
    [board] = leaderboards(store)
    [worst] = class_notes(board)
    assert worst.kind == "worst class" and "AUC" not in worst.text


def test_a_class_of_two_test_images_is_a_warning_and_no_row_of_numbers(tmp_path: Path) -> None:
    store, labels, p = drawn(tmp_path)
    [board] = leaderboards(store)
    line = board.lines[0]
    assert list(clinical.too_few(clinical.read_predictions(line))) == ["severe"]
    found, said = int((p.argmax(1) == 3)[labels == 3].sum()), []
    for sheet in sheets(board, line, metric="auc", by=None, specificity=0.9, sensitivity=0.9)[:2]:
        row = sheet.body[3]
        assert (
            row[0] == "severe"
            and "too few" in row
            and not any("[" in cell or "0." in cell for cell in row)
        )
        assert any("[" in cell for cell in sheet.body[0]), "the others have their numbers"
        said += [note for note in sheet.notes if note.startswith("WARNING")]
    assert said == [
        f"WARNING: fewer than 10 patients on one side: no interval can be given. Found: severe {found} of 2 (2 patients with it)."
    ], "once"


def test_groups_of_a_class_are_counted_not_its_images() -> None:
    labels, groups = np.array([0, 0, 0, 1, 2]), np.array(["a", "a", "b", "a", "c"])
    assert splits.class_groups(labels, groups, 4) == [2, 1, 1, 0]
    assert splits.class_groups(np.array([[1, np.nan], [1, 0], [0, 1]]), groups[:3], 2) == [1, 1]


def test_where_each_image_is_a_group_the_classes_need_no_estimate() -> None:
    class NotShared:
        def target(self, name: str) -> None:
            raise NoPredictions(name)

    cell = make("a", "10%", 0, 0.8)[0]
    parts = {"test": {"classes": [4, 2]}}
    row = replace(cell, provenance={**cell.provenance, "parts": parts, "target": "gone"})
    for groups, source in ((6, "counted"), (3, "estimated")):
        about = {"classes": ["a", "b"], "kind": "binary", "parts": {"test": [6, groups]}}
        found = class_groups(about, "test", [(row, NotShared())])  # type: ignore[list-item]
        assert found.source == source
        assert found.of_class == ((4, 2) if groups == 6 else (2, 1))


def test_of_classes_that_are_all_too_few_a_warning_is_one_note(tmp_path: Path) -> None:
    store, *_ = drawn(tmp_path, (9, 8, 4, 2), group="")
    [board] = leaderboards(store)
    made = sheets(board, board.lines[0], metric="auc", by=None, specificity=0.9, sensitivity=0.9)
    [first, *others] = made
    assert first.notes[0].startswith(
        "WARNING: fewer than 10 images on one side: no interval can be given. Found: none "
    )
    assert len(first.notes) == 1 and all(name in first.notes[0] for name in NAMES)
    assert not first.body and not any(
        "too few" in cell for s in others for r in s.body for cell in r
    )
    shown = render_tables([("line", made)], "markdown")
    assert shown.count("WARNING") == 1 and "| class" not in shown


def test_no_dash_is_explained_where_only_a_class_of_too_few_has_no_threshold(
    tmp_path: Path,
) -> None:
    store, *_ = drawn(tmp_path, held=True)
    [board] = leaderboards(store)
    ranked = sheets(board, board.lines[0], metric="auc", by=None, specificity=0.9, sensitivity=0.9)[
        1
    ]
    assert not any("–" in cell for row in ranked.body for cell in row)
    assert "Thresholds are chosen" in ranked.notes[-1] and "–" not in ranked.notes[-1]
