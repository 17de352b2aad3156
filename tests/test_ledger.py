"""The ledger: rows are replaced and deleted, what was judged stays counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.results import ABOUT, NOISE, make

from medbench import Store
from medbench.data.part_digest import part_digest
from medbench.report.leaderboard import leaderboards, markdown
from medbench.run import merge as merging
from medbench.run.ledger import Judged, lines_judged
from medbench.schema import PlanFile, PlannedCell, Row, Split, UserError, fingerprint, parsed

Folder = Callable[..., Store]


def row(method: str, labels: str = "10%", seed: int = 0, *, version: int = 1) -> Row:
    """A row on the scored set `part`; another version has another fingerprint."""
    made, _ = make(method, labels, seed, 0.8)
    provenance = {**made.provenance, "target": "part"}
    return replace(made, fingerprint=fingerprint(str(made.cell), version), provenance=provenance)


@pytest.fixture
def results(tmp_path: Path) -> Folder:
    """results("a", rows) -> a folder with these rows; called again it adds."""

    def fill(name: str, rows: list[Row], setting: str = "first") -> Store:
        store = Store(tmp_path / name)
        store.create()
        planned = tuple(PlannedCell(one.cell, one.fingerprint, 7, setting, "part") for one in rows)
        store.add_plan(PlanFile(planned, {"t|T|test": ABOUT}))
        for one in rows:
            store.add(
                one,
                {
                    "metrics": np.array(["auc"]),
                    "resamples": np.stack([0.8 + NOISE]).astype(np.float32),
                },
            )
        return store

    return fill


def counted(store: Store) -> dict[str, int]:
    return dict(lines_judged(Store(store.folder).judged().values()))


def test_draws_are_one_line_and_what_was_made_anew_is_another() -> None:
    draws = [row("a", seed=seed) for seed in range(3)]
    assert lines_judged(map(Judged.of, draws)) == {"part": 1}
    assert lines_judged(map(Judged.of, [*draws, row("a", "1%"), row("b")])) == {"part": 3}
    again = [row("a", seed=seed, version=2) for seed in range(5)]
    assert lines_judged(map(Judged.of, [*draws, *again])) == {"part": 2}, (
        "three draws of one version, five of the next"
    )
    away = [replace(one, provenance={**one.provenance, "target": "elsewhere"}) for one in again]
    assert lines_judged(map(Judged.of, [*draws, *away])) == {"part": 1, "elsewhere": 1}


def test_a_reader_that_is_written_otherwise_does_not_begin_anew() -> None:
    """Its code is in the name of the scored set; what was scored is its images and labels."""

    def of(one: Row, target: str, scored: str) -> Judged:
        parts = {one.cell.target: {"scored": scored}}
        return Judged.of(
            replace(one, provenance={**one.provenance, "target": target, "parts": parts})
        )

    before = of(row("a"), "part", "ab12")
    after = of(row("a", version=2), "rewritten", "ab12")
    other = of(row("b"), "relabelled", "cd34")
    older = Judged.of(row("c"))  # a row of `part` that does not say what was scored
    assert Judged.from_json(before.to_json())[1] == before
    assert "scored" not in older.to_json()
    assert lines_judged([before, after, other, older]) == {
        "part": 3,
        "rewritten": 3,
        "relabelled": 1,
    }
    names, labels = ["x", "y", "z"], np.array([0, 1, 0])
    digests = [
        part_digest(Split(names, np.array(ids), of, np.array(ids), np.array(ids)), content, 2)
        for ids, of, content in (
            (["a", "b", "c"], labels, ["1", "2", "3"]),
            (["c", "b", "a"], labels[::-1], ["3", "2", "1"]),
            (["a", "b", "c"], labels, ["1", "2", "4"]),
            (["a", "b", "c"], 1 - labels, ["1", "2", "3"]),
        )
    ]
    first, renamed, replaced, relabelled = (one["scored"] for one in digests)
    assert first == renamed and len({first, replaced, relabelled}) == 3


def test_rows_that_are_deleted_and_replaced_stay_counted_and_every_table_says_so(
    results: Folder,
) -> None:
    store = results("a", [row("a"), row("b"), row("b", seed=1)])
    assert (
        "- 2 lines have been scored on these images so far, replaced and deleted ones included."
        in markdown(store)
    )
    file = store.folder / "rows.jsonl"
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    results("a", [row("b", version=2), row("b", seed=1, version=2)], "second")
    assert counted(store) == {"part": 3}
    (board,) = leaderboards(Store(store.folder))
    assert (len(board.lines), board.judged) == (2, 3)
    assert (
        "- 3 lines have been scored on these images so far, replaced and deleted ones included, 1 of "
        "which are not in this table." in markdown(Store(store.folder))
    )


def test_a_folder_without_a_ledger_begins_with_its_rows(results: Folder) -> None:
    store = results("a", [row("a"), row("b")])
    (store.folder / "judged.jsonl").unlink()
    assert counted(store) == {"part": 2}
    assert not (store.folder / "judged.jsonl").exists(), "reading writes nothing"
    results("a", [row("c")])
    assert [
        parsed(line)["fingerprint"]
        for line in (store.folder / "judged.jsonl").read_bytes().splitlines()
    ] == [row(name).fingerprint for name in "abc"]


def test_a_row_is_counted_before_it_is_written(
    results: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed in between makes the same cell again: one line."""
    store = results("a", [row("a")])
    monkeypatch.setattr(
        store._rows, "append", lambda *records: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        store.add(
            row("b"),
            {"metrics": np.array(["auc"]), "resamples": np.stack([0.8 + NOISE]).astype(np.float32)},
        )
    assert len(Store(store.folder).rows()) == 1 and counted(store) == {"part": 2}
    results("a", [row("b")])
    assert len(Store(store.folder).rows()) == 2 and counted(store) == {"part": 2}


def test_a_damaged_line_is_told_and_a_torn_tail_is_none(results: Folder) -> None:
    store = results("a", [row("a"), row("b")])
    file = store.folder / "judged.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert counted(store) == {"part": 2}, "the row is there"
    file.write_bytes(whole.replace(b'"line": "', b'"line": "0', 1))
    with pytest.raises(
        UserError,
        match=r"judged\.jsonl, line 1, is damaged .* Next: remove that line; a row that is still there is counted anyway",
    ):
        Store(store.folder).judged()


@pytest.mark.parametrize("predictions", [True, False])
def test_merge_unites_ledgers(predictions: bool, results: Folder, tmp_path: Path) -> None:
    first, second = results("a", [row("a"), row("b")]), results("b", [row("b"), row("c")])
    (first.folder / "rows.jsonl").write_bytes(b"")
    merging.merge([first.folder, second.folder], tmp_path / "c", predictions=predictions)
    assert len(Store(tmp_path / "c").rows()) == 2 and counted(Store(tmp_path / "c")) == {"part": 3}
    before = (tmp_path / "c" / "judged.jsonl").read_bytes()
    merging.merge([second.folder], tmp_path / "c", predictions=predictions)
    assert (tmp_path / "c" / "judged.jsonl").read_bytes() == before
