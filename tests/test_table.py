"""Leaderboards from made-up rows: what is the best, what ties, what is missing, and what never shares a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medbench import Store, UserError, table
from medbench.spec import Cell, Row, fingerprint
from medbench.store import PlanFile, Planned

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.02, 1000)  # of the test set: the same for every method
ABOUT = {
    "identity": "data 1",
    "kind": "multiclass",
    "classes": ["a", "b", "c"],
    "metric": "auc",
    "groups": "patient",
    "marks": [],
    "parts": {"train": [70, 60], "test": [30, 25]},
}


def make(method: str, labels: str, seed: int, auc: float, *, task: str = "t", data: str = "T", own: float = 0.0) -> tuple[Row, np.ndarray]:
    """A row with that AUC; `own`: the sd of what its resamples do apart from the test set's noise."""
    cell = Cell(task, data, method, "imagenet", "net", "pool", 64, 0, "linear", labels, seed)
    n = {"1%": 1, "10%": 7, "100%": 70}[labels]
    provenance = {"weights": f"{method} weights", "trained_on": [], "precision": "fp32"}
    metrics = {"auc": {"value": auc, "low": None, "high": None, "classes": 3}}
    row = Row(cell, fingerprint(str(cell)), metrics, n, n, {}, {"seconds": 1.0}, provenance)
    return row, np.stack([auc + NOISE + RNG.normal(0, own, 1000)]) if own else np.stack([auc + NOISE])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "out")
    store.create()
    return store


def fill(store: Store, rows: list[tuple[Row, np.ndarray]], *, left_out: int = 0, about: dict[str, object] = ABOUT) -> None:
    planned = [Planned(row.cell, row.fingerprint, row.n_requested, "setting", "target") for row, _ in rows]
    store.add_plan(PlanFile(tuple(planned), {f"{row.cell.task}|{row.cell.data}|test": about for row, _ in rows}))
    for row, resamples in rows[: len(rows) - left_out]:
        store.add(row, {"metrics": np.array(["auc"]), "resamples": resamples.astype(np.float32)})


def marks(store: Store) -> dict[tuple[str, str], str]:
    """(labels, method) -> mark, read from the Markdown."""
    found = {}
    for line in table.markdown(store).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 8 and cells[0].endswith("%"):
            found[cells[0], cells[2]] = cells[3]
    return found


def test_the_best_and_what_cannot_be_told_from_it(store: Store) -> None:
    rows = [make("best", "10%", s, 0.80) for s in range(3)]
    rows += [make("close", "10%", s, 0.79, own=0.02) for s in range(3)]
    rows += [make("worse", "10%", s, 0.70, own=0.01) for s in range(3)]
    fill(store, rows)
    assert marks(store) == {("10%", "best"): "*", ("10%", "close"): "=", ("10%", "worse"): ""}


def test_a_small_difference_is_told_when_it_is_paired(store: Store) -> None:
    """Both intervals overlap almost wholly, the difference of 0.005 is there at every resample."""
    fill(store, [make("a", "100%", 0, 0.805), make("b", "100%", 0, 0.800)])
    assert marks(store) == {("100%", "a"): "*", ("100%", "b"): ""}
    assert "-0.005 [-0.005, -0.005]" in table.markdown(store)


def test_nothing_is_the_best_before_all_are_there(store: Store) -> None:
    fill(store, [make("a", "10%", 0, 0.8), make("b", "10%", 0, 0.9)], left_out=1)
    assert marks(store) == {("10%", "a"): "", ("10%", "b"): ""}
    assert "missing 1 of 1" in table.markdown(store)


def test_budgets_go_from_few_labels_to_many_and_one_run_has_no_sd(store: Store) -> None:
    rows = [make("a", "100%", 0, 0.9), make("a", "1%", 0, 0.6), make("a", "1%", 1, 0.7), make("a", "10%", 0, 0.8), make("a", "10%", 1, 0.8)]
    fill(store, rows)
    body = [line for line in table.markdown(store).splitlines() if line.startswith(("| 1", "| 10"))][:3]
    assert [line.split(" | ")[0].strip("| ") for line in body] == ["1%", "10%", "100%"]
    assert [line.split(" | ")[6] for line in body] == ["0.071", "0.000", "–"]
    frame = table.leaderboard(store)
    assert frame["mean"].round(3).tolist() == [0.65, 0.8, 0.9]
    assert frame["seeds"].tolist() == [2, 2, 1]


def test_phantom_and_real_never_share_a_board(store: Store) -> None:
    fill(store, [make("a", "10%", 0, 0.8), make("a", "10%", 0, 0.9, data="phantom")])
    found = table.boards(store)
    assert [board.title for board in found] == ["t (T), test", "t (PHANTOM: drawn images), test"]
    assert all(len(board.lines) == 1 for board in found)
    assert any("nothing about t" in note for note in table.notes(found[1]))


def test_names_with_markup_come_out_as_they_are(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    from medbench import screen

    about = {**ABOUT, "marks": ["LEAK: [bold]3[/bold] patients"]}
    fill(store, [make("a|b[red]", "10%", 0, 0.8, task="folder:[x]|y")], about=about)
    screen.show(table.terminal(store))
    printed = capsys.readouterr().out
    assert "folder:[x]|y (T), test" in printed
    assert "a|b[red]" in printed
    assert "LEAK: [bold]3[/bold] patients" in printed
    assert "a\\|b[red]" in table.markdown(store)


def test_a_class_without_images_is_counted(store: Store) -> None:
    row, resamples = make("a", "10%", 0, 0.8)
    row.metrics["auc"]["classes"] = 2  # type: ignore[index]
    fill(store, [(row, resamples)])
    assert "AUC is the mean over 2 of 3 classes" in table.markdown(store)


def test_a_metric_that_is_not_there_is_refused(store: Store) -> None:
    fill(store, [make("a", "10%", 0, 0.8)])
    with pytest.raises(UserError, match=r"Unknown metric 'aux'.*Did you mean 'auc'"):
        table.terminal(store, "aux")
    with pytest.raises(UserError, match=r"No metric 'weighted_kappa' here\. Allowed: auc\."):
        table.terminal(store, "weighted_kappa")
