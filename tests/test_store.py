"""Rows on disk: whole or not there, once each, whatever kills or doubles the writer."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.results import ABOUT

from medbench.run import record_log
from medbench.run.other_results import other_results
from medbench.run.store import Damaged, Store
from medbench.schema import Cell, PlanFile, PlannedCell, Row, UserError, parsed, with_checksum

ARRAYS = {
    "probabilities": np.zeros((2, 2), np.float32),
    "decisions": np.zeros(2, int),
    "metrics": np.array(["auc"]),
    "resamples": np.zeros((1, 3), np.float32),
}

VALUE = {"value": 0.5, "low": 0.4, "high": 0.6}


def make_row(seed: int, mark: str = "f") -> Row:
    cell = Cell("derm", "phantom", "random", "none", "net", "pool", 64, 0, "linear", "1%", seed)
    provenance = {
        "weights": "w",
        "trained_on": [],
        "precision": "fp32",
        "target": "t",
        "marks": [],
        "budget": None,
        "member_weights": [],
        "device_kind": "cpu",
    }
    metrics = {"auc": {"value": 0.5, "low": None, "high": None}}
    return Row(
        cell, f"{mark}{seed:031d}{seed:032d}", metrics, 20, 20, {}, {"seconds": 1.0}, provenance
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "out")
    store.create()
    return store


def test_a_row_comes_back_as_it_went(store: Store) -> None:
    assert store.add(make_row(0), ARRAYS)
    assert list(store.rows().values()) == [make_row(0)]
    assert store.scores(make_row(0))["probabilities"].shape == (2, 2)


@pytest.mark.parametrize("saved", [np.savez, np.savez_compressed])
def test_resamples_are_read_alone_as_numpy_reads_them(
    store: Store, saved: Callable[..., None]
) -> None:
    """The quick reader and, where a file is not as numpy writes it today, the slow one."""
    row, values = (
        replace(make_row(0), metrics={"auc": VALUE, "f1": VALUE}),
        np.random.default_rng(0).random((2, 1000)).astype(np.float32),
    )
    arrays = {
        "probabilities": np.zeros((900, 7), np.float32),
        "metrics": np.array(["auc", "f1"]),
        "resamples": values,
    }
    store.add(row, arrays)
    saved(
        store.folder / "scores" / f"{row.fingerprint[:32]}.npz",
        **arrays,
        **{f"more{i}": np.zeros(2) for i in range(20)},
    )
    found = store.resamples(row)
    assert list(found) == ["auc", "f1"] and np.array_equal(np.stack(list(found.values())), values)
    assert list(store.resamples(row, ["f1"])) == ["f1"]


@pytest.mark.parametrize("saved", [np.savez, np.savez_compressed])
def test_scores_are_read_as_numpy_reads_them(store: Store, saved: Callable[..., None]) -> None:
    """Columns first, text, integers, nothing at all, compressed.

    What comes is the reader's own to change.
    """
    rng, row = np.random.default_rng(0), make_row(0)
    columns_first = np.asfortranarray(rng.random((9, 4), np.float32))
    arrays = {
        **ARRAYS,
        "probabilities": columns_first,
        "decisions": np.arange(9) % 4,
        "held_out_labels": np.zeros((0, 4)),
    }
    file = store.folder / "scores" / f"{row.fingerprint[:32]}.npz"
    saved(file, **arrays)
    found = store.scores(row)
    assert list(found) == list(arrays)
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype
        for name, array in arrays.items()
    )
    found["probabilities"][0] = 0.0
    assert np.array_equal(store.scores(row)["probabilities"], columns_first)


def test_broken_scores_are_not_read(store: Store) -> None:
    row = make_row(0)
    file = store.folder / "scores" / f"{row.fingerprint[:32]}.npz"
    np.savez(file, **ARRAYS)
    whole = file.read_bytes()
    at = whole.index(ARRAYS["metrics"].tobytes())
    file.write_bytes(whole[:at] + b"b" + whole[at + 1 :])  # the metric's name
    with pytest.raises(UserError, match=r"is damaged.*CRC"):
        store.scores(row)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"is damaged.*it does not end as an archive"):
        store.scores(row)


@pytest.mark.parametrize("place", ["resamples", "probabilities", "name"])
def test_broken_resamples_are_not_read_alone(place: str, store: Store) -> None:
    """One bit of one number, or of a name, in a file of an older medbench.

    Also of an array that is not read.
    """
    row = replace(make_row(0), metrics={"auc": {}})
    file = store.folder / "scores" / f"{row.fingerprint[:32]}.npz"
    np.savez(
        file,
        **{
            **ARRAYS,
            "resamples": np.full((1, 500), 0.7, np.float32),
            "probabilities": np.full((1, 500), 0.6, np.float32),
        },
    )
    whole = file.read_bytes()
    assert (store.resamples(row)["auc"] == np.float32(0.7)).all()
    content = {
        "resamples": np.float32(0.7).tobytes(),
        "probabilities": np.float32(0.6).tobytes(),
        "name": b"probabilities.npy",
    }[place]
    at = whole.index(content) + (400 if place != "name" else 2)
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(Damaged, match=r"is damaged.*(checksum|differ)"):
        store.resamples(row)


def test_resamples_are_found_in_files_of_one_size_that_hold_them_elsewhere(store: Store) -> None:
    values = np.random.default_rng(0).random((3, 1, 500)).astype(np.float32)
    for seed, resamples in enumerate(values):
        names = ("resamples", "probabilities") if seed == 1 else ("probabilities", "resamples")
        arrays = {
            "resamples": resamples,
            "probabilities": 1 - resamples,
            "metrics": np.array(["auc"]),
        }
        store.add(
            replace(make_row(seed), metrics={"auc": VALUE}),
            {name: arrays[name] for name in (*names, "metrics")},
        )
    rows = [replace(make_row(seed), metrics={"auc": VALUE}) for seed in range(3)]
    assert (
        len(
            {
                (store.folder / "scores" / f"{row.fingerprint[:32]}.npz").stat().st_size
                for row in rows
            }
        )
        == 1
    )
    for row, resamples in zip(rows, values, strict=True):
        assert np.array_equal(store.resamples(row)["auc"], resamples[0])


def test_a_row_is_written_once(store: Store) -> None:
    assert store.add(make_row(0), ARRAYS)
    assert not store.add(make_row(0), ARRAYS)
    assert len((store.folder / "rows.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("cut", [1, 7, 200])
def test_a_torn_line_is_not_read_and_is_cut_by_the_next_writer(store: Store, cut: int) -> None:
    store.add(make_row(0), ARRAYS)
    store.add(make_row(1), ARRAYS)
    file = store.folder / "rows.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    assert [row.cell.seed for row in store.rows().values()] == [0]
    store.add(make_row(1), ARRAYS)
    assert [row.cell.seed for row in store.rows().values()] == [0, 1]
    assert [json.loads(line)["cell"]["seed"] for line in file.read_text().splitlines()] == [0, 1]


@pytest.fixture
def parsed_lines(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    lines: list[bytes] = []
    parse = record_log.parsed
    monkeypatch.setattr(record_log, "parsed", lambda line: lines.append(line) or parse(line))
    return lines


def test_a_line_is_parsed_once_however_often_rows_are_asked_for(
    store: Store, parsed_lines: list[bytes]
) -> None:
    """Adding read the whole file for each row, and a run parsed it twice a unit."""
    other = Store(store.folder)
    for seed in range(20):
        assert (store if seed % 2 else other).add(make_row(seed), ARRAYS)
        assert len(store.rows()) == seed + 1 and store.has(make_row(seed).fingerprint)
    assert [row.cell.seed for row in other.rows().values()] == list(range(20))
    rows = [line for line in parsed_lines if b'"metrics"' in line]
    assert len(rows) == 2 * 20, "once by each of two"
    assert len(parsed_lines) - len(rows) <= 2 * 20, "and so the ledger"


@pytest.mark.parametrize("how", ["replaced", "in place", "in place, as long", "cut", "gone"])
def test_a_file_that_was_rewritten_is_read_anew(store: Store, how: str) -> None:
    for seed in (0, 1, 2):
        store.add(make_row(seed), ARRAYS)
    assert len(store.rows()) == 3
    file = store.folder / "rows.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    # so that writing it now moves the time, however coarse a clock the disk has
    os.utime(file, ns=(0, 0))
    store.rows()
    left = {
        "replaced": [lines[2], lines[0]],
        "in place": [lines[1], lines[2], lines[1], lines[2]],
        "cut": lines[:1],
    }.get(how, [])
    if how == "gone":
        file.unlink()
    elif how == "replaced":
        file.with_name("new").write_bytes(b"".join(left))
        file.with_name("new").replace(file)
    elif how == "in place, as long":
        changed = with_checksum({**parsed(lines[1]), "n_labels": 19}) + b"\n"
        assert changed != lines[1] and len(changed) == len(lines[1])
        file.write_bytes(lines[0] + changed + lines[2])
        assert [row.n_labels for row in store.rows().values()] == [20, 19, 20]
        return
    else:
        file.write_bytes(b"".join(left))
    assert store.rows() == Store(store.folder).rows()
    assert [row.cell.seed for row in store.rows().values()] == list(
        dict.fromkeys(json.loads(line)["cell"]["seed"] for line in left)
    )


def test_a_broken_line_is_named_until_it_is_mended(store: Store) -> None:
    store.add(make_row(0), ARRAYS)
    store.rows()
    file = store.folder / "rows.jsonl"
    with file.open("ab") as stream:
        stream.write(b"{\n")
    for _ in range(2):
        with pytest.raises(UserError, match=r"rows.jsonl, line 2, is not JSON"):
            store.rows()
    file.write_bytes(file.read_bytes()[:-2])
    assert len(store.rows()) == 1


def test_a_line_that_is_not_a_row_is_named(store: Store) -> None:
    (store.folder / "rows.jsonl").write_text('{"cell"\n')
    with pytest.raises(UserError, match=r"rows.jsonl, line 1, is not JSON"):
        store.rows()


def _write_many(folder: Path, first: int) -> None:
    store = Store(folder)
    for seed in range(first, first + 40):
        store.add(make_row(seed), ARRAYS)


def test_writers_at_the_same_time_lose_and_double_nothing(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(store.folder, first)) for first in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    seeds = [
        json.loads(line)["cell"]["seed"]
        for line in (store.folder / "rows.jsonl").read_text().splitlines()
    ]
    assert sorted(seeds) == list(range(60))


def test_a_later_plan_replaces_the_fingerprint_of_its_cells_and_keeps_the_others(
    store: Store,
) -> None:
    old, new = make_row(0, "a"), make_row(0, "b")
    other = make_row(1, "a")
    plan(store, old, other)
    plan(store, new)
    assert {p.cell.seed: p.fingerprint for p in store.plan().cells} == {
        0: new.fingerprint,
        1: other.fingerprint,
    }


def plan(store: Store, *rows: Row, setting: str = "s", data: str = "data 1") -> None:
    planned = tuple(
        PlannedCell(row.cell, row.fingerprint, 20, setting, f"target of {data}") for row in rows
    )
    store.add_plan(PlanFile(planned, {"derm|phantom|test": {**ABOUT, "identity": data}}))


def test_seeds_of_an_older_setting_are_left_out_of_the_line(store: Store) -> None:
    plan(store, make_row(0, "a"), make_row(1, "a"))
    plan(store, make_row(0, "b"), setting="fp16")
    assert [p.fingerprint[0] for p in store.plan().cells] == ["b"]


def test_cells_of_other_data_are_left_out_of_the_task(store: Store) -> None:
    row = make_row(0, "a")
    plan(
        store,
        row,
        Row(
            **{**vars(row), "cell": replace(row.cell, method="supervised"), "fingerprint": "c" * 64}
        ),
    )
    plan(store, make_row(0, "b"), data="data 2")
    assert [p.fingerprint[0] for p in store.plan().cells] == ["b"]


@pytest.mark.parametrize(
    "line", ["{}", "42", '{"cell": {}}', '{"cell": {"task": 1}, "fingerprint": "f"}']
)
def test_a_line_of_another_kind_is_named(store: Store, line: str) -> None:
    (store.folder / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"rows.jsonl, line 1, is not a record of medbench"):
        store.rows()


def test_a_broken_plan_is_named(store: Store) -> None:
    (store.folder / "plan.json").write_text("{")
    with pytest.raises(UserError, match=r"plan.json is not a plan of this medbench"):
        store.plan()


def test_a_row_without_its_scores_is_not_done(store: Store) -> None:
    store.add(make_row(0), ARRAYS)
    next((store.folder / "scores").iterdir()).unlink()
    assert store.rows() == {}
    store.add(make_row(0), ARRAYS)
    assert list(store.rows().values()) == [make_row(0)]


def test_a_failure_keeps_its_reason(store: Store) -> None:
    row = make_row(0)
    store.fail(PlannedCell(row.cell, row.fingerprint, 20, "s", "t"), "ValueError: no")
    assert store.failures() == {row.fingerprint: "ValueError: no"}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError,
        match=r"Results cannot be written to .*file/out: .*Next: medbench run --out FOLDER",
    ):
        Store(tmp_path / "file" / "out").create()


def test_rows_of_an_older_medbench_get_checksums_where_a_run_goes_on(store: Store) -> None:
    file = store.folder / "rows.jsonl"
    for seed in range(3):
        store.add(make_row(seed), ARRAYS)
    whole = file.read_bytes()
    older = b"".join(
        re.sub(rb', "checksum": "[0-9a-f]{8}"', b"", line)
        for line in whole.splitlines(keepends=True)[:2]
    )
    file.write_bytes(older + whole.splitlines(keepends=True)[2] + b'{"torn')
    before = Store(store.folder).rows()
    assert len(before) == 3
    Store(store.folder).create()
    assert file.read_bytes() == whole and Store(store.folder).rows() == before
    state = file.stat()
    Store(store.folder).create()
    assert file.stat() == state, "nothing is written where every line has one"
    changed = whole.replace(b'"seed": 1', b'"seed": 7', 1)
    file.write_bytes(changed)
    with pytest.raises(UserError, match=r"rows\.jsonl, line 2, is damaged"):
        Store(store.folder).rows()


def test_a_folder_of_something_else_is_said_to_be_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "docs")
    planned = tuple(
        PlannedCell(replace(make_row(0).cell, task=task), str(i), 7, "s", "t")
        for i, task in enumerate(("derm", "chest"))
    )
    mine, other = (PlanFile((one,), {f"{one.cell.task}|phantom|test": ABOUT}) for one in planned)
    assert other_results(store, mine) == ""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "run.log").touch()
    assert other_results(store, mine) == ""
    for name in "abcd":
        (tmp_path / "docs" / f"{name}.md").touch()
    assert "docs holds no results, but a.md, b.md, c.md, ...:" in other_results(store, mine)
    store.add_plan(other)
    assert other_results(store, other) == ""
    assert "docs holds results of chest: they stay" in other_results(store, mine)
    store.add_plan(mine)
    assert other_results(store, mine) == ""
