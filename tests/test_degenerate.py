"""Lines whose decisions hang little on the image are told above every table.

Ordinary ones, however skewed their task, are not.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from medbench import Store
from medbench.report import compare, html
from medbench.report.leaderboard import (
    class_notes,
    leaderboards,
    markdown,
    pivot,
    render_pivot,
    terminal,
)
from medbench.report.leaderboard.degenerate import ENOUGH, Degenerate, degenerate
from medbench.schema import Cell, Note, PlanFile, PlannedCell, Row, fingerprint
from medbench.stats import group_weights, metrics

HAM10000 = (327, 514, 1099, 115, 1113, 6705, 142)  # images of akiec, bcc, bkl, df, mel, nv, vasc


def calibrated(
    rng: np.random.Generator, labels: np.ndarray, shares: np.ndarray, auc: float
) -> np.ndarray:
    """Decisions of a classifier that knows the shares.

    One normal score a class, that rank it with this AUC, and the likeliest class.
    """
    apart = np.sqrt(2) * norm.ppf(auc)
    score = rng.normal(size=(len(labels), len(shares))) + apart * np.eye(len(shares))[labels]
    chosen: np.ndarray = (apart * score + np.log(shares)).argmax(1)
    return chosen


def told(labels: np.ndarray, *decisions: np.ndarray, classes: int = 3) -> Degenerate:
    return degenerate(labels, np.arange(len(labels)), decisions, classes)


def test_one_class_for_every_image_is_told() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 30])
    assert told(labels, np.zeros(120, int)) == Degenerate(0, 1.0, 0.5, (1, 2))
    rare = np.full(120, 2)
    rare[:2] = 0
    found = told(labels, rare)
    assert (found.answer, found.share, found.never) == (
        2,
        0.25,
        (1,),
    ) and found.decided == pytest.approx(118 / 120)


def test_a_frequent_class_that_no_draw_decides_for_is_told() -> None:
    labels = np.repeat([0, 1, 2], [60, 50, 40])
    without = np.where(labels == 2, 0, labels)
    assert told(labels, without, without) == Degenerate(never=(2,))
    assert not told(labels, without, labels), "one draw finds it"


def test_a_single_bad_draw_of_many_is_not_told() -> None:
    labels = np.repeat([0, 1, 2], 40)
    assert not told(labels, np.zeros(120, int), labels, labels)
    assert told(labels, np.zeros(120, int), np.zeros(120, int), labels).answer == 0


def test_too_few_groups_say_nothing() -> None:
    for n, alarm in ((ENOUGH - 1, False), (ENOUGH, True)):
        labels = np.repeat([0, 1], n)
        assert bool(told(labels, np.zeros(2 * n, int), classes=2)) is alarm
    labels = np.repeat([0, 1], 100)
    assert not degenerate(labels, np.arange(200) // 10, [np.zeros(200, int)], 2), "ten patients"


def test_a_label_that_is_said_alike_of_every_image_is_told_where_it_is_frequent() -> None:
    labels = (np.random.default_rng(0).random((300, 4)) < [0.5, 0.02, 0.5, 0.7]).astype(float)
    labels[:40, 2] = np.nan
    decisions = np.column_stack(
        [np.nan_to_num(labels[:, 0]), np.zeros(300), np.zeros(300), np.ones(300)]
    ).astype(int)
    assert degenerate(labels, np.arange(300), [decisions], 4).labels == ((2, 0), (3, 1))


@pytest.mark.parametrize(
    ("auc", "fewest", "most"),
    [(0.5, 300, 400), (0.65, 0, 12), (0.7, 0, 0), (0.8, 0, 0), (0.95, 0, 0)],
)
def test_calibrated_classifiers_raise_no_alarm_and_those_that_know_nothing_do(
    auc: float, fewest: int, most: int
) -> None:
    """400 boards of two to nine classes of any skew and 60 to 2,000 images; docs/statistics.md says
    how many are told."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(400):
        shares = rng.dirichlet(np.ones(int(rng.integers(2, 10))))
        labels = rng.choice(
            len(shares), int(np.exp(rng.uniform(np.log(60), np.log(2000)))), p=shares
        )
        alarms += bool(told(labels, calibrated(rng, labels, shares, auc), classes=len(shares)))
    assert fewest <= alarms <= most


def test_a_board_as_skewed_as_ham10000_raises_none() -> None:
    """A fifth of its images, and of a weak classifier, which decides for none of three rare
    classes, as linear probes on it do."""
    rng, shares = np.random.default_rng(0), np.array(HAM10000) / sum(HAM10000)
    labels = np.repeat(np.arange(7), np.array(HAM10000) // 5)
    weak = calibrated(rng, labels, shares, 0.7)
    assert (np.bincount(weak, minlength=7) == 0).sum() >= 2 and not told(labels, weak, classes=7)
    one = told(labels, np.full(len(labels), 5), classes=7)
    assert one.answer == 5 and one.share == pytest.approx(0.669, abs=0.002)


def test_few_ill_among_many_healthy_raise_none() -> None:
    """5 % of the images: at a threshold of one half a good ranking decides for next to none."""
    rng, shares = np.random.default_rng(0), np.array([0.95, 0.05])
    labels = rng.choice(2, 2000, p=shares)
    assert not told(labels, calibrated(rng, labels, shares, 0.8), classes=2) and not told(
        labels, np.zeros(2000, int), classes=2
    )


def board(folder: Path, constant: bool) -> Store:
    """Two lines on 120 images of three classes.

    The second decides one class for all where that is asked for.
    """
    store, rng = Store(folder), np.random.default_rng(0)
    store.create()
    labels, groups = np.repeat([0, 1, 2], 40), np.array([f"p{i}" for i in range(120)])
    store.add_target("t", groups, labels, groups)
    planned = []
    for method in ("supervised", "simclr"):
        logits = rng.normal(size=(120, 3)) + 1.5 * np.eye(3)[labels]
        logits[:, 1] += 20.0 * (constant and method == "simclr")
        p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
        answer = (labels, p, p.argmax(1), "multiclass")
        values = {
            name: {"value": value, "low": None, "high": None}
            for name, value in metrics.score(*answer).values.items()
        }
        resampled = metrics.score(*answer, group_weights(groups)).values
        cell = Cell("eyes", "T", method, "imagenet", "net", "pool", 64, 0, "linear", "100%", 0)
        origin: dict[str, Any] = {
            "weights": method,
            "trained_on": [],
            "precision": "fp32",
            "target": "t",
            "marks": [],
            "budget": None,
        }
        row = Row(
            cell,
            fingerprint(method),
            values,
            120,
            120,
            {},
            {"seconds": 1.0},
            {**origin, "member_weights": [], "device_kind": "cpu"},
        )
        resamples = np.stack(list(resampled.values())).astype(np.float32)
        store.add(
            row,
            {
                "probabilities": p,
                "decisions": p.argmax(1),
                "metrics": np.array(list(resampled)),
                "resamples": resamples,
            },
        )
        planned.append(PlannedCell(cell, row.fingerprint, 120, "s", "t"))
    about = {
        "identity": "i",
        "kind": "multiclass",
        "classes": ["none", "mild", "severe"],
        "metric": "auc",
        "groups": "patient",
        "marks": [],
    }
    parts = {
        "parts": {"train": [120, 120], "test": [120, 120]},
        "class_groups": {"train": [40] * 3, "test": [40] * 3},
    }
    store.add_plan(PlanFile(tuple(planned), {"eyes|T|test": {**about, **parts, "title": "T"}}))
    return store


def test_it_stands_above_every_table_on_the_page_and_in_compare(tmp_path: Path) -> None:
    store = board(tmp_path, constant=True)
    (note,) = (note for note in class_notes(leaderboards(store)[0]) if note.kind == "degenerate")
    assert isinstance(note, Note)
    said = "DEGENERATE: simclr at 100% decides mild for 100.0% of the images (33.3% are), never decides none, severe."
    assert str(note).startswith(said)
    text = markdown(store)
    assert text.count("DEGENERATE") == 1 and text.index("DEGENERATE") < text.index("| labels |")
    assert any(str(one).startswith(said) for one in terminal(store))
    assert said in "\n".join(compare.sentences([store], None, 0.02))
    page = html.build_page([store])
    assert "<b>DEGENERATE</b>: simclr at 100% decides mild for 100.0%" in page
    pivoted = render_pivot(pivot(leaderboards(store)), "markdown")
    assert pivoted.index("DEGENERATE") < pivoted.index("| ---")


def test_ordinary_lines_and_results_without_predictions_are_not_told(tmp_path: Path) -> None:
    assert "DEGENERATE" not in markdown(board(tmp_path / "ordinary", constant=False))
    store = board(tmp_path / "shared", constant=True)
    shutil.rmtree(store.folder / "targets")
    assert "DEGENERATE" not in markdown(store)
