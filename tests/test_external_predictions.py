"""Somebody else's predictions beside the lines of a leaderboard.

The same tables, tests and page; what is not of the scored images is one line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.results import study

from medbench import Store, UserError
from medbench.report import compare, html, leaderboard
from medbench.report.external_predictions import joined
from medbench.schema import Row

Command = Callable[..., int]
LINE = ("supervised", "100%")


@pytest.fixture
def results(tmp_path: Path) -> Store:
    return study(tmp_path / "results")


def row_of(store: Store) -> Row:
    (row,) = (row for row in store.rows().values() if (row.cell.method, row.cell.labels) == LINE)
    return row


def saved(store: Store, file: Path, **columns: str) -> list[dict[str, str]]:
    """A row's own scores as somebody else's file, in another order.

    columns: more of them, one value each.
    """
    row = row_of(store)
    scores, ids = store.scores(row), store.target("target0")["ids"]
    rows = [
        {
            "id": str(one),
            "no": f"{no:.9g}",
            "yes": f"{yes:.9g}",
            "decision": ("no", "yes")[decided],
            **columns,
        }
        for one, (no, yes), decided in zip(
            ids, scores["probabilities"], scores["decisions"], strict=True
        )
    ][::-1]
    write(file, rows)
    return rows


def write(file: Path, rows: list[dict[str, str]], delimiter: str = ",") -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    file.write_text(out.getvalue(), encoding="utf-8")


def test_ones_own_scores_come_back_practically_equal_at_a_difference_of_0(
    results: Store, tmp_path: Path
) -> None:
    saved(results, tmp_path / "ours.csv")
    stores, asked, names = joined(
        [results], [tmp_path / "ours.csv"], ["labels=100%", "method=supervised"], tmp_path / "place"
    )
    assert names == ["ours"] and asked == ["labels=100%", "method=supervised,ours"]
    (mine,) = stores[1].rows().values()
    for metric, value in row_of(results).metrics.items():
        # scores are kept in half the digits
        assert mine.metrics[metric]["value"] == pytest.approx(value["value"], abs=1e-6)
    (board,) = leaderboard.only(leaderboard.leaderboards(*stores), asked)
    (pair,) = compare.compare(board, "auc", 0.001)
    assert (
        pair.verdict.word == "practically equal"
        and pair.verdict.difference.value == 0
        and pair.verdict.difference.interval() == (0, 0)
    )
    first, second = (line.summary("ece") for line in board.lines)
    assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-6)
    assert not (results.folder / "leaderboard.md").exists()


def test_the_answer_does_not_say_how_many_labels_somebody_elses_model_had(
    results: Store, tmp_path: Path
) -> None:
    file = tmp_path / "theirs.csv"
    truth = results.target("target0")["labels"].tolist()[::-1]
    given = saved(results, file)
    write(
        file,
        [
            {"id": row["id"], "no": str(1 - yes), "yes": str(yes)}
            for row, yes in zip(given, truth, strict=True)
        ],
    )
    stores, asked, _ = joined([results], [file], [], tmp_path / "place")
    said = compare.sentences(stores, None, 0.01, only=asked)[0]
    assert (
        "beside lines with all labels, theirs (predictions made elsewhere) has the best AUC" in said
    )


def test_it_stands_in_every_table_and_says_what_it_cannot_know(
    results: Store, tmp_path: Path, medbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(file.relative_to(results.folder) for file in results.folder.rglob("*"))
    saved(results, tmp_path / "file.csv", name="our classifier")
    assert medbench("compare", "results", "--with", "file.csv", "--only", "method=supervised") == 0
    said = capsys.readouterr().out
    assert (
        "EXTERNAL: our classifier: predictions made elsewhere. medbench cannot know how many labels"
        in said
    )
    assert "Family: against our classifier" in said
    # the fixture has more digits than a run keeps
    assert "100%: supervised and our classifier are practically equal: " in said
    assert "10%: " not in said  # it stands beside the largest budget
    assert medbench("compare", "results", "--with", "file.csv", "--only", "labels=10%") == 0
    said = capsys.readouterr().out
    assert "10%: random" in said and "Family: against our classifier" in said
    assert medbench("clinical", "results", "--with", "file.csv") == 0
    said = capsys.readouterr().out
    assert "our classifier predictions, 100% labels, one draw" in said and "Brier" in said
    assert medbench("table", "results", "--with", "file.csv") == 0
    assert "our classifier" in capsys.readouterr().out
    assert sorted(file.relative_to(results.folder) for file in results.folder.rglob("*")) == before
    assert medbench("report", "results", "--with", "file.csv", "--out", "page.html") == 0
    page = Path("page.html").read_text()
    assert "our classifier" in page and not re.findall(
        r".{60}\bnan\b.{20}", page.partition("<script>")[0]
    )
    assert "made elsewhere, were scored on the same images" in page and str(tmp_path) not in page


def test_a_file_of_several_models_of_another_program(results: Store, tmp_path: Path) -> None:
    rows = saved(results, tmp_path / "x.csv", name="a")
    other = [{**row, "name": "b", "no": row["yes"], "yes": row["no"]} for row in rows]
    commas = [
        {
            key: value.replace(".", ",") if key in ("no", "yes") else value
            for key, value in row.items()
        }
        for row in (*rows, *other)
    ]
    write(
        tmp_path / "x.csv",
        [{key: row[key] for key in ("name", "yes", "no", "id")} for row in commas],
        ";",
    )
    stores, _, names = joined([results], [tmp_path / "x.csv"], [], tmp_path / "place")
    assert names == ["a", "b"]
    a, b = (next(iter(store.rows().values())).metrics["auc"]["value"] for store in stores[1:])
    assert a is not None and b is not None and a + b == pytest.approx(1)
    (board,) = leaderboard.leaderboards(*stores)
    assert "Predictions of a and b, made elsewhere" in html.build_page(stores)
    assert [line.cell.method for line in board.lines if line.cell.external] == ["a", "b"]


def changed(place: int, **cells: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    return lambda rows: [{**row, **cells} if i == place else row for i, row in enumerate(rows)]


WRONG: dict[str, tuple[Callable[[list[dict[str, str]]], list[dict[str, str]]], str]] = {
    "missing": (lambda rows: rows[:-2], "lacks 2 of 240 scored images, first '0'"),
    "unknown": (changed(1, id="x9"), "line 3: id 'x9' is not among the 240 scored images"),
    "double": (lambda rows: [*rows, rows[0]], "line 242: id '239' stands there a second time"),
    "another set": (
        lambda rows: [{**row, "id": f"z{row['id']}"} for row in rows],
        "names none of the scored images: its first id is 'z239'",
    ),
    "percent": (
        lambda rows: [{**row, "yes": "87"} for row in rows],
        "line 2: 'yes' is '87', no number from 0 to 1.*divide percentages by 100",
    ),
    "negative": (changed(0, yes="-0.1"), "line 2: 'yes' is '-0.1'"),
    "empty": (changed(4, no=""), "line 6: 'no' is ''"),
    "nan": (changed(4, no="nan"), "line 6: 'no' is 'nan'"),
    "sum": (
        changed(2, no="0.5", yes="0.8"),
        r"line 4: the probabilities of its classes sum to 1.3, not to 1\. Next",
    ),
    "sums": (
        lambda rows: [{**row, "no": "0.5", "yes": "0.8"} for row in rows],
        r"line 2: .* sum to 1.3, not to 1 \(so for 239 more\)\. Next: softmax",
    ),
    "decision": (
        changed(0, decision="maybe"),
        "line 2: decision 'maybe' is not a class. Allowed: no, yes",
    ),
    "two decisions": (changed(0, decision="no|yes"), r"line 2: decision 'no\|yes' names 2 classes"),
    "no class": (
        lambda rows: [{"Yes": row["yes"], "id": row["id"], "no": row["no"]} for row in rows],
        "no column 'yes'",
    ),
    "no id": (
        lambda rows: [{"image": row["id"], "no": row["no"], "yes": row["yes"]} for row in rows],
        "no column 'id'",
    ),
    "name": (lambda rows: [{**row, "name": "../x,y"} for row in rows], "a model's name is"),
    "a line's": (
        lambda rows: [{**row, "name": "random"} for row in rows],
        "'random' is the name of a line",
    ),
}


def test_what_is_not_of_the_scored_images_is_told_in_one_line(
    results: Store, tmp_path: Path
) -> None:
    good = saved(results, tmp_path / "ours.csv")
    for case, (change, why) in WRONG.items():
        write(tmp_path / "ours.csv", change(good))
        with pytest.raises(UserError, match=why) as caught:
            joined([results], [tmp_path / "ours.csv"], [], tmp_path / "place")
        assert "\n" not in str(caught.value), case


def test_several_labels_an_image_need_not_sum_to_1_and_may_be_decided_for_together(
    tmp_path: Path,
) -> None:
    from medbench.report.external_predictions import _decisions, _probabilities, _tables

    (tmp_path / "m.csv").write_text("id,a,b,decision\nx,0.9,0.8,a|b\ny,0.1,0.2,\nz,0.7,0.1,b\n")
    (table,) = _tables(tmp_path / "m.csv")
    p = _probabilities(table, ("a", "b"), "multilabel")
    np.testing.assert_allclose(p, [[0.9, 0.8], [0.1, 0.2], [0.7, 0.1]], atol=1e-7)
    assert _decisions(table, ("a", "b"), "multilabel", np.array([2, 0, 1]), p).tolist() == [
        [0, 1],
        [1, 1],
        [0, 0],
    ]
