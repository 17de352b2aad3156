"""The answer that a comparison begins with.

What is best, since when, what it owes to luck, and what it would take to know more.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.results import fill, make
from scipy.special import ndtri

from medbench import Store
from medbench.report import compare, html
from medbench.report.answer import answer, answers
from medbench.report.leaderboard import leaderboards, notes
from medbench.report.leaderboard.pretraining_notes import pretraining_notes
from medbench.schema import PlanFile, Row, fingerprint
from medbench.stats.bottleneck import Source, bottleneck, needed
from medbench.stats.estimates import Estimate
from medbench.stats.hypothesis_tests import POWER
from medbench.stats.winners_curse import optimism


def line(
    method: str, labels: str, auc: float, *, seeds: int = 3, spread: float = 0.0, own: float = 0.001
) -> list[tuple[Row, np.ndarray]]:
    """A method's draws, `spread` apart from one another and a little apart from the other methods
    on the resamples."""
    return [
        make(method, labels, seed, auc + spread * (seed - (seeds - 1) / 2), own=own)
        for seed in range(seeds)
    ]


def told(folder: Path, *lines: list[tuple[Row, np.ndarray]]) -> str:
    store = Store(folder)
    store.create()
    fill(store, [row for one in lines for row in one])
    (said,) = answers(leaderboards(store))
    return said


def test_one_best_is_named_with_the_fewest_labels_from_which_on_it_is(tmp_path: Path) -> None:
    methods = ("a", "b", "c")
    one = [line(m, "1%", 0.7) for m in methods]
    ten = [line(m, "10%", 0.9 if m == "a" else 0.8) for m in methods]
    hundred = [line(m, "100%", 0.95 if m == "a" else 0.8, seeds=1) for m in methods]
    assert told(tmp_path, *one, *ten, *hundred) == (
        "t (T), test: with 10% of the labels or more a has the best AUC: 0.950 [0.909, 0.990] at 100%. "
        "Both others are significantly worse."
    )


def test_it_says_how_many_labels_the_best_saves(tmp_path: Path) -> None:
    few = [line("supervised", "1%", 0.7), line("simclr", "1%", 0.75)]
    many = [line("supervised", "100%", 0.8, seeds=1), line("simclr", "100%", 0.9, seeds=1)]
    said = told(tmp_path / "a", *few, *many)
    assert re.search(
        r" simclr needs 5\.\d % of the labels to equal supervised at 100% \(95 % interval: [\d.]+ % to [\d.]+ %\)\.",
        said,
    )
    worse = [line("supervised", "100%", 0.8, seeds=1), line("simclr", "100%", 0.7, seeds=1)]
    assert " to equal " not in told(tmp_path / "b", *few, *worse)


def test_a_budget_with_another_best_ends_what_holds(tmp_path: Path) -> None:
    ten = [line("a", "10%", 0.8), line("b", "10%", 0.9)]
    hundred = [line("a", "100%", 0.95, seeds=1), line("b", "100%", 0.8, seeds=1)]
    assert "with all labels a has the best AUC" in told(tmp_path, *ten, *hundred)


def test_what_cannot_be_told_from_the_best_is_named_and_what_keeps_it(tmp_path: Path) -> None:
    said = told(
        tmp_path, line("a", "10%", 0.90), line("b", "10%", 0.895, own=0.01), line("c", "10%", 0.6)
    )
    assert (
        "with 10% of the labels a has the best AUC" in said
        and ". b is not significantly worse. To tell b from a, more test " in said
    )
    assert "s help most (100% of the interval's variance): about " in said


def test_unsteady_draws_are_named_as_the_bottleneck(tmp_path: Path) -> None:
    said = told(
        tmp_path, line("a", "10%", 0.90), line("b", "10%", 0.87, spread=0.03), line("c", "10%", 0.6)
    )
    assert (
        "To tell b from a, more draws of the labels help most" in said
        and "would be enough, instead of 3." in said
    )


def test_what_is_best_of_many_alike_owes_a_part_of_it_to_luck(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    fill(
        store,
        [
            row
            for i in range(9)
            for row in line(f"m{i}", "100%", 0.8 + 0.0005 * i, seeds=1, own=0.01)
        ],
    )
    (board,) = leaderboards(store)
    made = answer(board, "auc")
    assert made is not None and made.lines == 9 and 0.005 < made.score - made.corrected < 0.02
    assert ". None of the 8 others is significantly worse." in made.text


def test_an_unfinished_budget_has_no_answer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    fill(store, [*line("a", "10%", 0.9), *line("b", "10%", 0.8)], left_out=1)
    assert answers(leaderboards(store)) == [
        "t (T), test: no answer yet, 1 of 2 lines at 10% is not finished."
    ]


def test_a_line_that_failed_blocks_no_answer_once_a_run_does_not_ask_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    fill(store, [*line("a", "10%", 0.9), *line("gone", "10%", 0.8, seeds=1)], left_out=1)
    gone = store.plan().cells[-1]
    store.fail(gone, "RuntimeError: no")
    assert (
        "1 of 2 lines at 10% is not finished. gone failed: fix that and run again, or run the others alone, which leaves it out."
        in answers(leaderboards(store))[0]
    )
    asked = PlanFile(tuple(one for one in store.plan().cells if one is not gone), {})
    assert store.give_up_failed(store.plan()) == [], "it is asked for"
    assert store.give_up_failed(asked) == ["t gone linear 10%"]
    again = Store(tmp_path)
    assert "a has the best AUC" in answers(leaderboards(again))[0]
    assert again.failures() == {gone.fingerprint: "RuntimeError: no"}


def test_compare_begins_with_the_answer_and_says_these_weights(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    fill(
        store,
        [
            row
            for m in ("random", "supervised")
            for row in line(m, "10%", 0.9 if m == "supervised" else 0.6)
        ],
    )
    first, *rest = compare.sentences([store], None, 0.01)
    assert first.endswith(
        " random was drawn once, so its result holds for these weights only; --pretrain-seeds 3 tests the method."
    )
    assert "supervised is better than random (these weights): +0.300" in "\n".join(rest)
    assert any(one.strip().startswith("(these weights): pretrained or drawn once") for one in rest)


def test_the_page_begins_with_the_same_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    fill(store, [row for m in ("a", "b") for row in line(m, "10%", 0.9 if m == "b" else 0.6)])
    (said,) = answers(leaderboards(store))
    sentence = said.partition(": ")[2]
    assert f"{sentence[0].upper()}{sentence[1:]}" in html.build_page([store])


def test_a_p_of_one_beside_an_interval_without_0_is_explained_where_it_stands(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.create()
    fill(
        store,
        [
            row
            for i in range(12)
            for row in line(f"m{i:02}", "100%", 0.8 + 0.0006 * i, seeds=1, own=0.002)
        ],
    )
    said = compare.sentences([store], None, 0.0, every_pair=True)
    explained = [one for one in said if "This pair alone has p" in one]
    assert explained and all(
        "not decidable" in one and "is corrected for the whole family" in one for one in explained
    )
    (board,) = leaderboards(store)
    for pair in compare.compare(board, "auc", 0.0):
        low, high = pair.verdict.difference.interval()
        assert bool(compare.alone(pair)) == (
            (low > 0 or high < 0) and pair.verdict.word == "not decidable"
        )


def test_a_p_of_several_pretrainings_is_of_the_methods_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    rows = []
    for method, auc in (("a", 0.9), ("b", 0.7)):
        for row, resamples in line(method, "10%", auc, spread=0.004, own=0.01):
            for pretrain_seed in range(3):
                cell = replace(row.cell, pretrain_seed=pretrain_seed)
                moved = 0.01 * (pretrain_seed - 1) * (1 if method == "a" else -1)
                auc_there = {
                    "auc": {
                        **row.metrics["auc"],
                        "value": (row.metrics["auc"]["value"] or 0.0) + moved,
                    }
                }
                rows.append(
                    (
                        replace(
                            row,
                            cell=cell,
                            fingerprint=fingerprint(str(cell), pretrain_seed),
                            metrics=auc_there,
                        ),
                        resamples + moved,
                    )
                )
    fill(store, rows)
    (said,) = [one for one in compare.sentences([store], None, 0.01) if "a is better than b" in one]
    assert (
        " This p is for the methods, over their pretrainings; for these weights alone p < 0.001."
        in said
    )
    (board,) = leaderboards(store)
    (note,) = pretraining_notes(board, "auc")
    assert note.text.startswith("Standard deviation of AUC between pretrainings")
    assert ": 10% a 0.010 (0.004), b 0.010 (0.004)." in note.text
    assert note in notes(board)
    made = answer(board, "auc")
    assert (
        made is not None
        and " once: " not in made.text
        and not any(one.drawn_once for one in board.lines)
    )


@pytest.mark.parametrize(
    ("true", "least", "most"),
    [
        (np.zeros(9), 0.6, 0.85),  # nothing differs: most of the luck is taken off
        (np.zeros(2), 0.6, 1.0),
        (np.linspace(-2, 2, 9), 0.7, 1.1),
    ],
)
def test_the_correction_takes_the_most_of_the_luck_off(
    true: np.ndarray, least: float, most: float
) -> None:
    """Over 100 studies: what the best seems above what it is, and what is taken off."""
    rng = np.random.default_rng(0)
    luck, taken = [], []
    for _ in range(100):
        seen = true + rng.standard_normal(len(true))
        best = int(np.argmax(seen))
        luck.append(seen[best] - true[best])
        taken.append(optimism(seen, np.eye(len(true))))
    assert least < np.mean(taken) / np.mean(luck) < most


def test_one_that_stands_apart_owes_nothing_and_what_all_share_changes_nothing() -> None:
    assert optimism([10.0, 0.0, 0.0], np.eye(3)) < 1e-3
    shared = optimism([0.1, 0.0, 0.0], np.eye(3) + 5.0)
    assert shared == pytest.approx(optimism([0.1, 0.0, 0.0], np.eye(3)), rel=0.15)
    assert optimism([1.0], np.eye(1)) == 0.0


def test_the_bottleneck_is_what_makes_most_of_the_interval_and_so_many_would_do() -> None:
    groups, draws = Source("groups", 1e-4, 99, 100), Source("draws", 9e-4, 2, 3)
    found = bottleneck(0.05, [groups, draws])
    assert found is not None and found.source is draws and 0.95 < found.share < 1
    n = int(found.needed)
    for many, enough in ((n, True), (n - 1, False)):
        planned = Estimate(0.05, ((1e-4, 99.0), (9e-4 * 3 / many, 2 * many / 3)))
        assert bool(planned.value >= planned.half(0.95) + ndtri(POWER) * planned.error) is enough
    assert needed(0.05, groups, [draws], 0.05) == float("inf"), (
        "no number of test groups makes up for three unsteady draws"
    )
    assert bottleneck(0.05, [Source("groups", float("nan"), 9, 10)]) is None
