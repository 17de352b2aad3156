"""Leaderboards and papers' tables from made-up rows.

What is the best, what ties, what is missing, and what never shares a line.

`python tests/test_table.py` writes tests/golden/table/ anew: rows, and the tables that they must
give.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fakes.results import ABOUT, fill, make

from medbench import Store, UserError, stats
from medbench.report import leaderboard, methods_text
from medbench.report.compare import compare, sentences
from medbench.report.leaderboard import standard_tables
from medbench.run.merge import merge
from medbench.schema import Cell, Note, PlanFile, PlannedCell, Row


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "out")
    store.create()
    return store


def marks(store: Store) -> dict[tuple[str, str], str]:
    """(labels, method) -> mark, read from the Markdown."""
    found = {}
    for line in leaderboard.markdown(store).splitlines():
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
    assert "-0.005 [-0.005, -0.005]" in leaderboard.markdown(store)


def test_nothing_is_the_best_before_all_are_there(store: Store) -> None:
    fill(store, [make("a", "10%", 0, 0.8), make("b", "10%", 0, 0.9)], left_out=1)
    assert marks(store) == {("10%", "a"): "", ("10%", "b"): ""}
    assert "missing 1 of 1" in leaderboard.markdown(store)


def test_budgets_go_from_few_labels_to_many_and_one_run_has_no_sd(store: Store) -> None:
    rows = [
        make("a", "100%", 0, 0.9),
        make("a", "1%", 0, 0.6),
        make("a", "1%", 1, 0.7),
        make("a", "10%", 0, 0.8),
        make("a", "10%", 1, 0.8),
    ]
    fill(store, rows)
    body = [
        line
        for line in leaderboard.markdown(store).splitlines()
        if line.startswith(("| 1", "| 10"))
    ][:3]
    assert [line.split(" | ")[0].strip("| ") for line in body] == ["1%", "10%", "100%"]
    assert [line.split(" | ")[6] for line in body] == ["0.071", "0.000", "–"]
    frame = leaderboard.leaderboard(store)
    assert frame["mean"].round(3).tolist() == [0.65, 0.8, 0.9]
    assert frame["seeds"].tolist() == [2, 2, 1]


def test_phantom_and_real_never_share_a_board(store: Store) -> None:
    fill(store, [make("a", "10%", 0, 0.8), make("a", "10%", 0, 0.9, data="phantom")])
    found = leaderboard.leaderboards(store)
    assert [board.title for board in found] == ["t (T), test", "t (PHANTOM: drawn images), test"]
    assert all(len(board.lines) == 1 for board in found)
    assert any(note.kind == "phantom" for note in leaderboard.notes(found[1]))


@pytest.mark.parametrize(
    ("width", "first"),
    [(80, "dvme:supervised@tf_"), (120, "dvme:supervised@tf_efficientnet_lite0"), (300, None)],
)
def test_a_long_name_breaks_at_its_members_and_every_column_keeps_its_place(
    store: Store, width: int, first: str | None
) -> None:
    from rich.console import Console

    name = "dvme:supervised@tf_efficientnet_lite0+random@vit_tiny_patch16_224.augreg_in21k_ft_in1k/last4+given@features:some/where/mine.npz"
    fill(store, [make(name, "10%", 0, 0.8), make("random", "10%", 0, 0.6)])
    console = Console(width=width, file=io.StringIO())
    board, *_ = leaderboard.terminal(store)
    console.print(board)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    cells = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in lines
        if line.startswith("│")
    ]
    at = next(i for i, line in enumerate(cells) if "dvme" in line[2])
    end = next((i for i in range(at + 1, len(cells)) if cells[i][0]), len(cells))
    column = [line[2] for line in cells[at:end]]
    assert "".join(column) == name and column[0] == (first or name)
    assert sum(part.startswith("+") for part in column) == (2 if first else 0), (
        "each member begins a line"
    )
    assert [cells[at][i] for i in (0, 3, 4)] == ["10%", "*", "0.800"]
    leaderboard.write(store)
    assert (
        f"| {name} |" in (store.folder / "leaderboard.md").read_text()
        and f",{name}," in (store.folder / "leaderboard.csv").read_text()
    )


def test_names_with_markup_come_out_as_they_are(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    from medbench.cli import screen

    about = {**ABOUT, "marks": ["LEAK: [bold]3[/bold] patients"]}
    fill(store, [make("a|b[red]", "10%", 0, 0.8, task="folder:[x]|y")], about=about)
    screen.show(leaderboard.terminal(store))
    printed = capsys.readouterr().out
    assert "folder:[x]|y (T), test" in printed
    assert "a|b[red]" in printed
    assert "LEAK: [bold]3[/bold] patients" in printed
    assert "a\\|b[red]" in leaderboard.markdown(store)


def test_a_class_without_images_is_counted(store: Store) -> None:
    row, resamples = make("a", "10%", 0, 0.8)
    row.metrics["auc"]["classes"] = 2  # type: ignore[index]
    fill(store, [(row, resamples)])
    assert "AUC is the mean over 2 of 3 classes" in leaderboard.markdown(store)


def test_a_metric_that_is_not_there_is_refused(store: Store) -> None:
    fill(store, [make("a", "10%", 0, 0.8)])
    with pytest.raises(UserError, match=r"Unknown metric 'aux'.*Did you mean 'auc'"):
        leaderboard.terminal(store, "aux")
    with pytest.raises(UserError, match=r"No metric 'weighted_kappa' here\. Allowed: auc\."):
        leaderboard.terminal(store, "weighted_kappa")


def test_marks_are_corrected_for_their_number(store: Store) -> None:
    """One pair alone is told apart.

    Among nine lines, 36 pairs, the same pair is not, unless the seven others are significantly worse
    first.
    """
    pair = [make("a", "10%", 0, 0.80), make("b", "10%", 0, 0.75, own=0.02)]
    fill(store, pair)
    assert marks(store)["10%", "b"] == ""
    fill(store, pair + [make(f"m{i}", "10%", 0, 0.1) for i in range(7)])
    assert marks(store)["10%", "b"] == "", "what is significantly worse has left the family"
    fill(store, pair + [make(f"n{i}", "10%", 0, 0.78, own=0.02) for i in range(7)])
    assert marks(store)["10%", "b"] == "="
    (board,) = leaderboard.leaderboards(store)
    assert leaderboard.pairs(board, "auc") == 120
    a, b = board.at("10%")[:2]
    alone = stats.paired_difference(b.sample("auc"), a.sample("auc")).p()
    assert alone < 0.05 < leaderboard.marks(board, "auc")[b].p <= 36 * alone


def golden_rows() -> list[Row]:
    """Two tasks, three methods, two budgets, two draws of the small one.

    On the second task one line has failed.
    """
    values = {"a": 0.86, "b": 0.85, "c_d": 0.78}
    found = []
    for task, data in (("skin", "T"), ("lung", "phantom")):
        for m, (method, value) in enumerate(values.items()):
            for labels, seed in (("10%", 0), ("10%", 1), ("100%", 0)):
                auc = (
                    value
                    + (0.04 if labels == "100%" else 0.004 * seed)
                    - 0.01 * m * (task == "lung")
                )
                found.append(make(method, labels, seed, round(auc, 4), task=task, data=data)[0])
    return found


def golden_store(folder: Path, rows: list[Row]) -> Store:
    """The rows with resamples that no random number makes: waves, the first shared by all lines."""
    store = Store(folder)
    store.create()
    r = np.arange(1000)
    planned = [
        PlannedCell(row.cell, row.fingerprint, row.n_requested, "setting", row.cell.task)
        for row in rows
    ]
    missing = Cell("lung", "phantom", "c_d", "imagenet", "net", "pool", 64, 0, "linear", "10%", 2)
    planned.append(PlannedCell(missing, "0" * 64, 7, "setting", "lung"))
    store.add_plan(
        PlanFile(tuple(planned), {f"{row.cell.task}|{row.cell.data}|test": ABOUT for row in rows})
    )
    store.fail(planned[-1], "RuntimeError: out of memory & 50 % <gone>")
    for i, row in enumerate(rows):
        own = 0.004 * np.sin(r * (1.1 + 0.37 * i) + i)
        wave = row.metrics["auc"]["value"] + 0.02 * np.sin(r * 0.7) + own  # type: ignore[operator]
        store.add(row, {"metrics": np.array(["auc"]), "resamples": wave[None].astype(np.float32)})
    return store


GOLDEN = Path(__file__).parent / "golden" / "table"
FORMS = {"table.md": "markdown", "table.tex": "latex", "table.csv": "csv", "table.html": "html"}


def read_golden() -> list[Row]:
    return [
        Row.from_json(json.loads(line)) for line in (GOLDEN / "rows.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize("name", FORMS)
def test_golden_table(name: str, store: Store) -> None:
    pivot = leaderboard.pivot(leaderboard.leaderboards(golden_store(store.folder, read_golden())))
    assert leaderboard.render_pivot(pivot, FORMS[name]) == (GOLDEN / name).read_text()


def test_rows_and_columns_as_asked(store: Store) -> None:
    every = leaderboard.leaderboards(golden_store(store.folder, read_golden()))
    pivot = leaderboard.pivot(every, ["labels", "method"], ["task"])
    assert (pivot.row_axes, pivot.column_axes) == (("labels", "method"), ("task",))
    assert pivot.rows[0] == ("10%", "a") and pivot.rows[3] == ("100%", "a")
    assert not pivot.ranks, "a column holds two budgets"
    pivot = leaderboard.pivot(every, ["task"], ["method"])
    assert pivot.row_axes == ("task", "labels"), "what differs and was not named joins the rows"
    with pytest.raises(UserError, match=r"Unknown axis 'metod'.*Did you mean 'method'"):
        leaderboard.pivot(every, ["metod"])
    with pytest.raises(UserError, match="named twice"):
        leaderboard.pivot(every, ["method"], ["method"])


def test_mean_rank_needs_every_column(store: Store) -> None:
    pivot = leaderboard.pivot(leaderboard.leaderboards(golden_store(store.folder, read_golden())))
    assert pivot.ranks == {("a",): 1.0, ("b",): 2.0, ("c_d",): None}


def test_csv_says_what_the_table_shows(store: Store) -> None:
    every = leaderboard.leaderboards(golden_store(store.folder, read_golden()))
    records = list(
        csv.DictReader(leaderboard.render_pivot(leaderboard.pivot(every), "csv").splitlines())
    )
    lines = {
        (b.task, line.cell.method, line.cell.labels): (b, line) for b in every for line in b.lines
    }
    assert len(records) == len(lines) == 12
    for record in records:
        board, line = lines[
            record["task"].removesuffix(" (PHANTOM)"), record["method"], record["labels"]
        ]
        s = line.summary("auc")
        for key, value in (("mean", s.mean), ("low", s.low), ("high", s.high)):
            assert (record[key] == "") == np.isnan(value)
            assert not record[key] or float(record[key]) == pytest.approx(value, abs=1e-6)
        assert record["mark"] == leaderboard.marks(board, "auc")[line].sign
        assert record["status"] == line.status


def test_html_holds_no_markup_of_a_name(store: Store) -> None:
    fill(store, [make("<script>alert(1)</script>&", "10%", s, 0.8) for s in range(2)])
    page = leaderboard.render_pivot(leaderboard.pivot(leaderboard.leaderboards(store)), "html")

    class Tags(HTMLParser):
        found: set[str]

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.found.add(tag)

    parser = Tags()
    parser.found = set()
    parser.feed(page)
    assert "script" not in parser.found and "table" in parser.found
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in page


def test_two_folders_make_one_table(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.create()
    fill(store, [make("a", "10%", 0, 0.8)])
    fill(other, [make("b", "10%", 0, 0.7)])
    (board,) = leaderboard.leaderboards(store, other)
    assert [mark.sign for mark in leaderboard.marks(board, "auc").values()] == ["*", ""], (
        "one target set: the two are paired"
    )
    third = Store(tmp_path / "third")
    third.create()
    row, _ = make("a", "10%", 0, 0.9)
    third.add_plan(
        PlanFile((PlannedCell(row.cell, "f", 7, "another setting", "target"),), {"t|T|test": ABOUT})
    )
    with pytest.raises(UserError, match="under two settings"):
        leaderboard.leaderboards(store, third)


def test_two_data_sets_of_one_name_are_named_apart(tmp_path: Path) -> None:
    stores = []
    for seed, name in enumerate(("hospital-a", "hospital-b")):
        stores.append(Store(tmp_path / name))
        stores[-1].create()
        rows = [make("a", "10%", seed, 0.8, task="folder:images.csv", data="images.csv")]
        fill(stores[-1], rows, target=f"images {seed}")
    found = leaderboard.leaderboards(*stores)
    assert [board.title for board in found] == [
        "folder:images.csv [hospital-a], test",
        "folder:images.csv [hospital-b], test",
    ]
    assert [record["data"] for record in leaderboard.records(found)] == [
        "images.csv [hospital-a]",
        "images.csv [hospital-b]",
    ]
    pivot = leaderboard.pivot(found, ["task"], ["labels"], None)
    assert [row[0] for row in pivot.rows] == [
        "folder:images.csv [hospital-a]",
        "folder:images.csv [hospital-b]",
    ]
    (alone,) = leaderboard.leaderboards(stores[0])
    assert (alone.title, alone.data) == ("folder:images.csv, test", "images.csv")


def answers(store: Store, groups: int = 40) -> None:
    """Two methods with real scores: the second is the first with noise."""
    rng = np.random.default_rng(1)
    labels, names = rng.integers(0, 2, groups), np.arange(groups).astype(str)
    weights = stats.group_weights(names)
    rows = []
    from medbench.stats import metrics

    store.add_target("target", names, labels, names)
    for method, noise in (("sharp", 0.3), ("dull", 2.5)):
        row, _ = make(method, "10%", 0, 0.0)
        p = 1 / (1 + np.exp(-(labels - 0.5 + rng.normal(0, noise, groups))))
        answer = (labels, np.stack([1 - p, p], 1), (p > 0.5).astype(int), "binary")
        value = metrics.score(*answer).values["auc"]
        row.metrics["auc"]["value"] = value  # type: ignore[index]
        row.provenance["target"] = "target"  # type: ignore[index]
        arrays = {
            "metrics": np.array(["auc"]),
            "resamples": metrics.score(*answer, weights).values["auc"][None].astype(np.float32),
        }
        store.add(row, {"probabilities": answer[1], "decisions": answer[2], **arrays})
        rows.append(row)
    planned = [PlannedCell(row.cell, row.fingerprint, 7, "s", "target") for row in rows]
    about = {
        **ABOUT,
        "kind": "binary",
        "classes": ["no", "yes"],
        "parts": {"test": [groups, groups]},
    }
    store.add_plan(PlanFile(tuple(planned), {"t|T|test": about}))


def test_verdicts_bootstrap_and_permutation_agree(store: Store) -> None:
    answers(store)
    (board,) = leaderboard.leaderboards(store)
    seen: list[tuple[str, int, int]] = []
    (pair,) = compare(board, "auc", 0.01, 2000, lambda *stage: seen.append(stage))
    assert seen == [
        ("t pairs", 0, 1),
        ("t pairs", 1, 1),
        ("t permuted pairs", 0, 1),
        ("t permuted pairs", 1, 1),
    ]
    assert (pair.first.cell.method, pair.second.cell.method) == ("sharp", "dull"), (
        "the better stands first"
    )
    assert pair.verdict.word == "better" and pair.p_permuted is not None
    assert pair.p_permuted < 0.01 and pair.verdict.p < 0.01
    text = "\n".join(sentences([store], None, 0.01))
    assert (
        "Family: against the best, at each budget (5 %, step-down max-T)" in text
        and "sharp is better than dull" in text
    )


def test_each_question_has_its_family(store: Store) -> None:
    rows = [
        make(f"m{i:02d}", labels, 0, 0.8 - 0.01 * i)
        for i in range(12)
        for labels in ("10%", "100%")
    ]
    fill(store, [*rows, make("supervised", "10%", 0, 0.6), make("supervised", "100%", 0, 0.65)])
    best, every = (
        sentences([store], None, 0.01, every_pair=every_pair) for every_pair in (False, True)
    )
    base = sentences([store], None, 0.01, against="supervised")
    for said, asked in (
        (best, "against the best"),
        (every, "all pairs"),
        (base, "against supervised"),
    ):
        assert said[2].startswith(f"  Family: {asked}, at each budget (5 %, step-down max-T).")
    assert (
        len([line for line in every if "%: m" in line]) == 156
        and len([line for line in best if "%: m00" in line]) == 24
    )
    assert len([line for line in base if " than supervised: " in line]) == 24
    saved = [line for line in best if line.startswith("  m01 ")]
    assert (
        len(saved) == 2
        and "m00 at 100%" in saved[0] + saved[1]
        and "supervised at 100%" in saved[0] + saved[1]
    )
    (board,) = leaderboard.leaderboards(store)
    (note,) = [note for note in leaderboard.notes(board) if note.kind == "baseline"]
    assert note.text.startswith(
        "Against supervised, at each budget (5 %, step-down max-T). 10%: better m00, m01,"
    )
    with pytest.raises(UserError, match=r"No line of t \(T\), test is 'supervise'.*supervised"):
        sentences([store], None, 0.01, against="supervise")
    with pytest.raises(UserError, match="cannot be combined"):
        sentences([store], None, 0.01, every_pair=True, against="supervised")


def test_labels_saved_against_the_best_stand_first_and_each_pair_only_where_asked(
    store: Store,
) -> None:
    scores = {"good": (0.7, 0.9), "fair": (0.7, 0.85), "supervised": (0.6, 0.75)}
    fill(
        store,
        [
            make(method, labels, 0, auc, own=0.001)
            for method, both in scores.items()
            for labels, auc in zip(("10%", "100%"), both, strict=True)
        ],
    )

    every = [line for line in sentences([store], None, 0.01, every_pair=True) if " equal " in line]
    said = [line for line in sentences([store], None, 0.01)[1:] if " equal " in line]
    assert [line for line in every if line not in said][1:] == [
        "  good needs 56 % of the labels to equal fair at 100% (95 % interval: 55 % to 57 %).",
        "  supervised does not equal fair at 100% even with all of the labels.",
    ]
    fair = [line for line in said if line.startswith("  fair")]
    assert "equal good" in fair[0] and "equal supervised" in fair[1]


def test_one_line_has_nothing_to_be_compared_with(store: Store) -> None:
    fill(store, [make("a", "10%", 0, 0.8)])
    said = sentences([store], None, 0.01)
    assert any("nothing to compare. Next: medbench run" in line for line in said) and not any(
        "over all" in line for line in said
    )


@pytest.mark.parametrize("draws", [(range(2), range(3)), (range(1, 4), range(3)), ([5], range(3))])
def test_permutations_are_of_the_draws_that_two_lines_share(
    draws: tuple[Sequence[int], Sequence[int]], store: Store
) -> None:
    """Runs on 8 patients: accuracy is a mean, so each of the 256 exchanges turns the sign of a
    patient's mean difference. One run stands against all."""
    from medbench.stats import metrics

    rng, n = np.random.default_rng(28), 8
    labels, names = np.arange(n) % 2, np.arange(n).astype(str)
    store.add_target("target", names, labels, names)
    planned, right, shared = [], {"one": [], "two": []}, set(draws[0]) & set(draws[1])
    for method, seeds, share in (("one", draws[0], 0.8), ("two", draws[1], 0.3)):
        for seed in seeds:
            row, _ = make(method, "10%", seed, 0.0)
            decided = np.where(rng.random(n) < share, labels, 1 - labels)
            if seed in shared or len(shared) < 2:
                right[method].append(decided == labels)
            values = metrics.score(
                labels, np.full((n, 2), 0.5), decided, "binary", stats.group_weights(names)
            ).values["accuracy"]
            row.metrics["accuracy"] = {
                "value": float((decided == labels).mean()),
                "low": None,
                "high": None,
            }  # type: ignore[index]
            row.provenance["target"] = "target"  # type: ignore[index]
            arrays = {
                "metrics": np.array(["auc", "accuracy"]),
                "resamples": np.stack([values, values]).astype(np.float32),
            }
            store.add(row, {"probabilities": np.full((n, 2), 0.5), "decisions": decided, **arrays})
            planned.append(PlannedCell(row.cell, row.fingerprint, 7, "s", "target"))
    about = {**ABOUT, "kind": "binary", "classes": ["no", "yes"], "parts": {"test": [n, n]}}
    store.add_plan(PlanFile(tuple(planned), {"t|T|test": about}))
    gap = np.mean(right["one"], axis=0) - np.mean(right["two"], axis=0)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    exact = (np.abs(signs @ gap) >= abs(gap.sum()) - 1e-9).mean()
    (board,) = leaderboard.leaderboards(store)
    (pair,) = compare(board, "accuracy", 0.01, 4000)
    assert pair.p_permuted == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_draw_is_said_to_hold_no_chance_of_another(store: Store, seeds: int) -> None:
    fill(store, [make("a", labels, seed, 0.8) for labels in ("1%", "10%") for seed in range(seeds)])
    (board,) = leaderboard.leaderboards(store)
    assert any(
        note.text.startswith("1%, 10%: one draw of labels") for note in leaderboard.notes(board)
    ) == (seeds == 1)


def test_merge(tmp_path: Path) -> None:
    rows = [make(m, "10%", s, 0.8) for m in "ab" for s in range(2)]
    folders = []
    for name, part in (("one", rows[:3]), ("two", rows[1:])):
        store = Store(tmp_path / name)
        store.create()
        for row, _ in part:
            row.provenance["target"] = "target"  # type: ignore[index]
        store.add_target(
            "target", np.arange(3).astype(str), np.zeros(3, int), np.arange(3).astype(str)
        )
        fill(store, part)
        folders.append(store.folder)
    assert merge(folders, tmp_path / "all") == (4, 4)
    assert merge(folders, tmp_path / "all") == (0, 4), "a second time nothing is new"
    (board,) = leaderboard.leaderboards(Store(tmp_path / "all"))
    assert [line.status for line in board.lines] == ["done", "done"]
    assert Store(tmp_path / "all").target("target")["ids"].shape == (3,)
    with pytest.raises(UserError, match="into itself"):
        merge(folders, folders[0])
    with pytest.raises(UserError, match="not a results folder"):
        merge([tmp_path], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    other = Store(tmp_path / "other")
    other.create()
    planned = PlannedCell(rows[0][0].cell, "f", 7, "another", "target")
    other.add_plan(PlanFile((planned,), {"t|T|test": ABOUT}))
    with pytest.raises(UserError, match="another setting"):
        merge([*folders, other.folder], tmp_path / "none")


def test_draws_with_most_images_in_common_are_named(store: Store) -> None:
    # 7 of 10
    fill(
        store,
        [make("a", "10%", s, 0.8) for s in range(2)],
        about={**ABOUT, "parts": {"train": [10, 9], "test": [30, 25]}},
    )
    assert "- 10%: the draws share most of their images" in leaderboard.markdown(
        store
    ) and "100%" not in leaderboard.markdown(store)


def test_methods_text_says_what_was_done_and_cites(store: Store) -> None:
    row, resamples = make("supervised", "10%", 0, 0.8, task="derm", data="HAM10000")
    row.provenance["versions"] = {"medbench": "1", "torch": "2"}  # type: ignore[index]
    fill(store, [(row, resamples)], about={**ABOUT, "title": "Skin & more"})
    text = str(methods_text.methods_text(leaderboard.leaderboards(store)))
    assert (
        "Skin \\& more (HAM10000~\\cite{tschandl2018}; images: 70 train (60 patients), 30 test (25 patients))"
        in text
    )
    assert "@misc{tschandl2018," in text and "doi = {10.1038/sdata.2018.161}" in text
    assert "10\\%" in text and "medbench 1 and torch 2" in text


def test_methods_text_says_how_much_was_pretrained() -> None:
    """`quick` alone tells a reader nothing."""
    text = str(
        methods_text.methods_text(
            leaderboard.leaderboards(Store(Path(__file__).parents[1] / "results" / "derm"))
        )
    )
    assert "(supervised), quick (3,840 views, batch 64, adamw at 0.0001), trained on" in text
    assert (
        "supervised: weights efficientnet-lite0-57934424 (supervised), trained on ImageNet-1k."
        in text
    )


@pytest.mark.parametrize(
    ("task", "method", "said"),
    [
        (
            "chexpert:ones",
            "dvme-scalar:swav+dino",
            (
                "irvin2019",
                "dvme-scalar:swav+dino~\\cite{truong2021}",
                "(attention over every value as a token)",
            ),
        ),
        (
            "medmnist:pathmnist",
            "dvme",
            (
                "doi = {10.1038/s41597-022-01721-8}",
                "dvme~\\cite{truong2021}",
                "(attention over one token a source)",
            ),
        ),
    ],
)
def test_methods_text_cites_what_is_named_with_a_colon(
    task: str, method: str, said: tuple[str, ...], store: Store
) -> None:
    fill(store, [make(method, "10%", 0, 0.8, task=task, data="real")])
    text = str(methods_text.methods_text(leaderboard.leaderboards(store)))
    assert all(words in text for words in said)


def test_a_fusion_is_said_by_its_members(store: Store) -> None:
    """Their weights stand beside it; alone, or where a member's name has two weights, the words are
    whole."""
    rows = [make(method, "10%", 0, 0.8)[0] for method in ("one", "two", "both", "side")]
    for row in rows[2:]:
        row.provenance.update(
            weights="one weights + two weights", member_weights=["one weights", "two weights"]
        )
    of = leaderboard.weights_in_words(rows)
    assert of == {
        "one weights": "one weights",
        "two weights": "two weights",
        "one weights + two weights": "of one + two",
    }
    assert (
        leaderboard.weights_in_words(rows[1:])["one weights + two weights"]
        == "one weights + two weights"
    )
    other = make("one", "1%", 0, 0.8)[0]
    other.provenance["weights"] = "one weights, seed 1"
    assert (
        leaderboard.weights_in_words([*rows, other])["one weights + two weights"]
        == "one weights + two weights"
    )
    fill(store, [(row, np.zeros((1, 1000))) for row in rows])
    assert Note("weights", "both, side: weights of one + two.") in leaderboard.notes(
        leaderboard.leaderboards(store)[0]
    )


def test_methods_text_of_a_paper_is_two_files(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = str(golden_store(tmp_path / "out", read_golden()).folder)
    assert medbench("table", folder, "--methods-text") == 0
    whole = capsys.readouterr().out
    assert medbench("table", folder, "--methods-text", "--out", "m.tex") == 0
    words, entries = (tmp_path / "m.tex").read_text(), (tmp_path / "m.bib").read_text()
    assert words + "\n" + entries == whole and "@" not in words and entries.startswith("@misc{")
    assert (
        "\\cite{obuchowski1995}" in words and "@misc{zou2008," in entries and "Hillis" not in whole
    )


def test_the_command(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = str(golden_store(tmp_path / "out", read_golden()).folder)
    assert medbench("table", folder, "--out", "t/table.tex") == 0
    assert (tmp_path / "t" / "table.tex").read_text() == (GOLDEN / "table.tex").read_text()
    assert medbench("table", folder, "--format", "markdown") == 0
    assert capsys.readouterr().out == (GOLDEN / "table.md").read_text()
    assert medbench("table", folder, "--rows", "method", "--cols", "labels") == 0
    assert "PHANTOM" in capsys.readouterr().out
    assert medbench("table", folder, "--format", "latxe") == 2
    assert "Did you mean 'latex'" in capsys.readouterr().err
    assert medbench("table", folder, "--spread", "var") == 2
    assert medbench("compare", folder, "--margin", "-1") == 2
    assert medbench("table", str(tmp_path)) == 2


def test_tables_do_without_torch(without_torch: Callable[..., str], tmp_path: Path) -> None:
    folder = golden_store(tmp_path / "out", read_golden()).folder
    assert (
        without_torch("table", str(folder), "--format", "latex")
        == (GOLDEN / "table.tex").read_text()
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("pdflatex"),
    reason="pdflatex is not installed (Debian: texlive-latex-base, texlive-science)",
)
def test_latex_compiles(tmp_path: Path) -> None:
    head = "\\documentclass{article}\\usepackage{booktabs,siunitx}\\usepackage[landscape,margin=1cm]{geometry}\\begin{document}"
    text = "\n".join(
        leaderboard.render_pivot(
            leaderboard.pivot(
                leaderboard.leaderboards(golden_store(tmp_path / "out", read_golden()))
            ),
            "latex",
            s,
        )
        for s in leaderboard.SPREADS
    )
    (tmp_path / "paper.tex").write_text(f"{head}\n{text}\n\\end{{document}}\n")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    (GOLDEN / "rows.jsonl").write_text(
        "".join(json.dumps(row.to_json()) + "\n" for row in golden_rows())
    )
    with tempfile.TemporaryDirectory() as folder:
        shown = leaderboard.pivot(
            leaderboard.leaderboards(golden_store(Path(folder) / "out", read_golden()))
        )
        for name, form in FORMS.items():
            (GOLDEN / name).write_text(leaderboard.render_pivot(shown, form))


@pytest.mark.parametrize(
    ("metric", "best"), [("auc", range(50, 60)), ("ece", [*range(7), 8, 9, 10])]
)
def test_a_screen_shows_the_best_of_many_lines_and_all_that_are_not_complete(
    metric: str, best: Sequence[int], store: Store
) -> None:
    rows = [
        make(f"m{i}", labels, 0, i / 100)
        for labels in ("1%", "10%")
        for i in range(60)
        if (i, labels) != (7, "1%")
    ]
    missing = make("m7", "1%", 0, 0.07)
    rows = [
        (replace(row, metrics=dict.fromkeys(("auc", "ece"), row.metrics["auc"])), resamples)
        for row, resamples in rows
    ]
    fill(store, [*rows, missing], left_out=1)
    (board,) = leaderboard.leaderboards(store)
    shown = standard_tables._on_screen(board, metric)
    first = [line.cell.method for line in shown if line.cell.labels == "1%"]
    assert first == [
        line.cell.method
        for line in board.at("1%")
        if line.cell.method in {"m7", *(f"m{i}" for i in best)}
    ]
    assert len(shown) == 21
    few = replace(board, lines=board.lines[:100])
    assert standard_tables._on_screen(few, metric) == board.lines[:100]


def test_what_is_worked_out_side_by_side_is_the_same(tmp_path: Path) -> None:
    store = golden_store(tmp_path, read_golden())
    alone, shared = leaderboard.leaderboards(store), leaderboard.leaderboards(store)
    for all_metrics in (False, True):
        leaderboard.precompute(shared, all_metrics=all_metrics, processes=3)
    for one, other in zip(alone, shared, strict=True):
        assert list(other._marks) == ["auc"] and all(
            "auc" in line._summaries for line in other.lines
        )
        # as texts: a NaN in a dataclass equals itself before Python 3.13 alone
        assert [repr(mark) for mark in leaderboard.marks(one, "auc").values()] == [
            repr(mark) for mark in leaderboard.marks(other, "auc").values()
        ]
        assert [repr(line.summary("auc")) for line in one.lines] == [
            repr(line.summary("auc")) for line in other.lines
        ]
    leaderboard.write(store)
    written = (tmp_path / "leaderboard.md").read_text(), (tmp_path / "leaderboard.csv").read_text()
    leaderboard.write(store, shared)
    assert written == (
        (tmp_path / "leaderboard.md").read_text(),
        (tmp_path / "leaderboard.csv").read_text(),
    )
