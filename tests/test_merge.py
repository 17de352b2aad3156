"""Results folders joined.

A cell comes whole from one of them, what is there stays, and nothing in a file says where we write.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.damage import DAMAGES, damage
from fakes.results import ABOUT

from medbench import Store
from medbench.run import merge as merging
from medbench.run.record_log import RecordLog
from medbench.schema import (
    Cell,
    PlanFile,
    PlannedCell,
    Row,
    UserError,
    fingerprint,
    parsed,
    with_checksum,
)
from medbench.stats.array_sketch import sketch
from medbench.system import fast_npz

Medbench = Callable[..., int]
IDS = np.array(["Mueller_Hans_1.png", "b.png", "c.png"])


def cell(seed: int) -> Cell:
    return Cell("derm", "phantom", "random", "none", "net", "pool", 64, 0, "linear", "1%", seed)


def results(folder: Path, value: float, seeds: int = 2, *, failed: int = 0) -> Store:
    """Rows whose AUC, probabilities, resamples and groups all say `value`, and failures of as many
    further seeds."""
    store = Store(folder)
    store.create()
    store.add_target(
        "derm-1",
        IDS,
        np.array([0, 1, 1]),
        np.array(["p1", "p2", "p3"]),
        meta={"of": np.full(3, value)},
    )
    planned = [
        PlannedCell(cell(seed), fingerprint(seed), 20, "s", "t") for seed in range(seeds + failed)
    ]
    store.add_plan(PlanFile(tuple(planned), {"derm|phantom|test": ABOUT}))
    for one in planned[:seeds]:
        store.add(row(one, value), scores(value))
    for one in planned[seeds:]:
        store.fail(one, "UserError: 1 of 3 images cannot be decoded: /home/ann/Mueller_Hans_1.png")
    return store


def row(planned: PlannedCell, value: float) -> Row:
    decisions = fingerprint([round(10 * value) % 3] * 3)[:16]
    provenance = {
        "weights": "w",
        "trained_on": [],
        "precision": "fp32",
        "target": "derm-1",
        "scores": {"decisions": decisions},
    }
    metrics = {"auc": {"value": value, "low": None, "high": None}}
    return Row(planned.cell, planned.fingerprint, metrics, 20, 20, {}, {"seconds": 1.0}, provenance)


def scores(value: float) -> dict[str, np.ndarray]:
    decisions, resamples = np.full(3, round(10 * value) % 3), np.full((1, 5), value, np.float32)
    return {
        "probabilities": np.full((3, 3), value, np.float32),
        "decisions": decisions,
        "metrics": np.array(["auc"]),
        "resamples": resamples,
    }


def says(store: Store, seed: int = 0) -> set[float]:
    """What the parts of a cell say: row, probabilities, resamples, scored set."""
    one = store.rows()[fingerprint(seed)]
    found, target = store.scores(one), store.target("derm-1")
    values = [
        one.metrics["auc"]["value"],
        found["probabilities"][0, 0],
        found["resamples"][0, 0],
        target["meta_of"][0],
    ]
    return {round(float(value), 3) for value in values}  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


def test_a_cell_of_two_folders_comes_from_the_first_whole(tmp_path: Path) -> None:
    results(tmp_path / "a", 0.4)
    results(tmp_path / "b", 0.8, seeds=3)
    assert merging.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c") == (3, 3)
    merged = Store(tmp_path / "c")
    assert says(merged, 0) == says(merged, 1) == {0.4}
    assert says(merged, 2) == {0.8, 0.4}, (
        "its scored set, the same images and labels, was there already"
    )
    before = files(tmp_path / "c")
    assert merging.merge([tmp_path / "b"], tmp_path / "c") == (0, 3)
    assert {
        name: content for name, content in files(tmp_path / "c").items() if name != "plan.json"
    } == {name: content for name, content in before.items() if name != "plan.json"}


def test_predictions_that_are_there_stay(tmp_path: Path) -> None:
    results(tmp_path / "a", 0.4)
    merging.merge([tmp_path / "a"], tmp_path / "c")
    assert merging.merge([tmp_path / "a"], tmp_path / "c", predictions=False) == (0, 2)
    assert says(Store(tmp_path / "c")) == {0.4}


def test_a_copy_to_publish_names_no_image(tmp_path: Path) -> None:
    results(tmp_path / "a", 0.4, failed=2)
    merging.merge([tmp_path / "a"], tmp_path / "c", predictions=False)
    assert not [
        name
        for name, content in files(tmp_path / "c").items()
        if b"Mueller" in content or b"/home" in content
    ]
    merged = Store(tmp_path / "c")
    assert set(merged.failures().values()) == {"UserError: its words stay in the folder of the run"}
    assert [list(merged.arrays(one)) for one in merged.rows().values()] == [
        ["metrics", "resamples"]
    ] * 2
    merging.merge([tmp_path / "a"], tmp_path / "d")
    assert all("Mueller" in reason for reason in Store(tmp_path / "d").failures().values())


@pytest.mark.parametrize(
    "target",
    [
        "../../escaped",
        "/tmp/escaped",
        "..",
        "",
        "a/b",
        "a\\b",
        "a\0b",
        ".hidden",
        "x" * 200,
        "a\nb",
    ],
)
def test_a_name_in_a_row_never_becomes_a_path(
    target: str, tmp_path: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    results(tmp_path / "shared", 0.4)
    file = tmp_path / "shared" / "rows.jsonl"
    first, second = map(parsed, file.read_bytes().splitlines())
    second["provenance"]["target"] = target
    file.write_bytes(with_checksum(first) + b"\n" + with_checksum(second) + b"\n")
    before = set(tmp_path.rglob("*"))
    assert (
        medbench("merge", str(tmp_path / "shared"), "--out", str(tmp_path / "victim" / "merged"))
        == 2
    )
    assert "rows.jsonl, line 2, is not a record of medbench (target is" in capsys.readouterr().err
    assert set(tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="no name of a file"):
        Store(tmp_path / "shared").target(target)


def test_a_fingerprint_in_a_row_never_becomes_a_path(tmp_path: Path) -> None:
    results(tmp_path / "shared", 0.4, seeds=1)
    file = tmp_path / "shared" / "rows.jsonl"
    record = parsed(file.read_bytes())
    file.write_bytes(with_checksum({**record, "fingerprint": "../../../escaped"}) + b"\n")
    with pytest.raises(UserError, match="no hex digits"):
        Store(tmp_path / "shared").rows()


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize(
    "name", ["scores/*.npz", "targets/*.npz", "rows.jsonl", "judged.jsonl", "plan.json"]
)
def test_what_is_damaged_is_told_before_anything_is_written(
    name: str, kind: str, tmp_path: Path
) -> None:
    results(tmp_path / "a", 0.4)
    results(tmp_path / "b", 0.8, seeds=4)
    damage(sorted((tmp_path / "b").glob(name))[-1], kind)
    # a torn tail: the rows are there and count
    if name == "judged.jsonl" and kind in ("cut", "end cut", "empty", "zeros"):
        assert (
            merging.merge([tmp_path / "b", tmp_path / "a"], tmp_path / "c")[1]
            == len(Store(tmp_path / "c").judged())
            == 4
        )
        return
    # a torn tail, as of a killed run: fewer rows
    if name == "rows.jsonl" and kind in ("cut", "end cut", "empty", "zeros"):
        assert merging.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")[1] < 4
        return
    with pytest.raises(UserError, match=f"{name.partition('*')[0]}.*Next: "):
        merging.merge([tmp_path / "b", tmp_path / "a"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_scores_of_another_row_are_told(tmp_path: Path) -> None:
    """As an older medbench left them where two folders held one cell."""
    store = results(tmp_path / "a", 0.4)
    file = tmp_path / "a" / "scores" / f"{fingerprint(1)[:32]}.npz"
    file.unlink()
    one = parsed((tmp_path / "a" / "rows.jsonl").read_bytes().splitlines()[1])
    Store(tmp_path / "a").add(
        row(PlannedCell(cell(1), fingerprint(1), 20, "s", "t"), 0.4), scores(0.8)
    )
    assert one["fingerprint"] == fingerprint(1)
    with pytest.raises(
        UserError, match=r"the scores of derm random .* seed 1 are not its own.*delete .*scores/"
    ):
        merging.merge([store.folder], tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("name", "array"),
    [("resamples", np.array(3)), ("metrics", np.array("auc")), ("resamples", np.array([["a"]]))],
)
def test_arrays_of_another_shape_are_not_a_rows_own(
    name: str, array: np.ndarray, tmp_path: Path
) -> None:
    store = results(tmp_path / "a", 0.4)
    file = tmp_path / "a" / "scores" / f"{fingerprint(1)[:32]}.npz"
    np.savez(file, **{**fast_npz.whole(file), name: array})
    for predictions in (True, False):
        with pytest.raises(UserError, match=r"the scores of derm random .* seed 1 are not its own"):
            merging.merge([store.folder], tmp_path / "c", predictions=predictions)


@pytest.mark.parametrize("part", ["probabilities", "resamples"])
def test_scores_with_the_same_decisions_are_told_by_their_sketch_and_their_resamples(
    part: str, tmp_path: Path
) -> None:
    store = Store(tmp_path / "a")
    results(store.folder, 0.4, seeds=0)
    one = row(PlannedCell(cell(0), fingerprint(0), 20, "s", "t"), 0.4)
    kept = {**one.provenance["scores"], "probabilities": sketch(scores(0.4)["probabilities"])}
    one = replace(one, provenance={**one.provenance, "scores": kept})
    store.add(one, scores(0.4))
    assert merging.merge([store.folder], tmp_path / "b") == (1, 1)
    file = store.folder / "scores" / f"{one.fingerprint[:32]}.npz"
    file.write_bytes(fast_npz.dumped({**scores(0.4), part: scores(0.43)[part]}))
    with pytest.raises(UserError, match=r"are not its own"):
        merging.merge([store.folder], tmp_path / "c")


def test_other_images_under_one_name_are_told(tmp_path: Path) -> None:
    results(tmp_path / "a", 0.4)
    results(tmp_path / "b", 0.8, seeds=3)
    (tmp_path / "b" / "targets" / "derm-1.npz").unlink()
    Store(tmp_path / "b").add_target(
        "derm-1", IDS, np.array([1, 1, 1]), np.array(["p1", "p2", "p3"])
    )
    with pytest.raises(
        UserError, match=r"targets/derm-1.npz of .*a and of .*b hold other images, labels or groups"
    ):
        merging.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_killed_merge_leaves_no_row_without_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(tmp_path / "a", 0.4, seeds=6)
    write, written = Store._write, []

    def dies(self: Store, name: str, content: bytes) -> None:
        written.append(name)
        if len(written) == 4:
            raise KeyboardInterrupt
        write(self, name, content)

    monkeypatch.setattr(Store, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        merging.merge([tmp_path / "a"], tmp_path / "c")
    assert Store(tmp_path / "c").rows() == {}
    monkeypatch.undo()
    assert merging.merge([tmp_path / "a"], tmp_path / "c") == (6, 6)
    assert all(says(Store(tmp_path / "c"), seed) == {0.4} for seed in range(6))


def test_a_merge_reads_each_row_a_fixed_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 14,800 rows it was not done after 330 s: for each row all rows before it were read."""
    read: list[str] = []
    arrays, parse = Store.arrays, RecordLog._record
    monkeypatch.setattr(
        Store, "arrays", lambda self, row: read.append("scores") or arrays(self, row)
    )
    monkeypatch.setattr(
        RecordLog,
        "_record",
        lambda self, line, number: read.append("line") or parse(self, line, number),
    )
    counted = []
    for n in (20, 80):
        results(tmp_path / f"a{n}", 0.4, seeds=n)
        read.clear()
        merging.merge([tmp_path / f"a{n}"], tmp_path / f"c{n}")
        counted.append((read.count("scores") / n, read.count("line") / n))
    assert counted == [(2, 4), (2, 4)], "a row, and its entry in the ledger, of each of two folders"


def test_rows_without_a_checksum_are_taken_and_get_one(tmp_path: Path) -> None:
    results(tmp_path / "a", 0.4)
    file = tmp_path / "a" / "rows.jsonl"
    file.write_text(
        "".join(json.dumps(parsed(line)) + "\n" for line in file.read_bytes().splitlines())
    )
    for npz in (tmp_path / "a").glob("*/*.npz"):
        with np.load(npz) as arrays:
            np.savez(npz, **dict(arrays))
    assert merging.merge([tmp_path / "a"], tmp_path / "c") == (2, 2)
    assert Store(tmp_path / "c").rows() == Store(tmp_path / "a").rows()
    assert all(
        b'"checksum": "' in line
        for line in (tmp_path / "c" / "rows.jsonl").read_bytes().splitlines()
    )
    assert all(b"medbench CRC-32" in npz.read_bytes() for npz in (tmp_path / "c").glob("*/*.npz"))


def test_a_row_whose_scores_were_lost_is_replaced_whole(tmp_path: Path) -> None:
    store = results(tmp_path / "a", 0.4, seeds=1)
    next((tmp_path / "a" / "scores").iterdir()).unlink()
    planned = PlannedCell(cell(0), fingerprint(0), 20, "s", "t")
    again = replace(row(planned, 0.8), cost={"seconds": 2.0})
    assert store.add(again, scores(0.8))
    for one in (store, Store(tmp_path / "a")):
        assert [(found.metrics, found.cost) for found in one.rows().values()] == [
            (again.metrics, again.cost)
        ]
        assert one.scores(again)["probabilities"][0, 0] == np.float32(0.8)
    assert not store.add(row(planned, 0.1), scores(0.1)), "another run was slower"
    assert store.rows()[again.fingerprint].cost == again.cost and store.scores(again)[
        "probabilities"
    ][0, 0] == np.float32(0.8)
