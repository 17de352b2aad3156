"""Files of a results folder that are damaged.

Told by name with a way out that works, or made again by the run they came from.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.command import command
from fakes.damage import ALL, DAMAGES, damage
from trees.tinted import quarters, tinted

from medbench import Store
from medbench.run import merge
from medbench.schema import parsed

Medbench = Callable[..., int]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, encoder, cache and results of a run. No test changes them."""
    place = tmp_path_factory.mktemp("finished")
    tinted(place)
    quarters(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDBENCH_CACHE", str(place / "cache"))
        assert command(*asked(place), "--out", str(place / "out")) == 0
    return place


def asked(place: Path) -> tuple[str, ...]:
    encoder = ("--encoder", f"{place / 'mine.py'}:quarters", "--methods", "given", "--size", "32")
    draws = ("--labels", "50,100", "--seeds", "1", "--no-audit")
    return ("run", "--task", f"folder:{place / 'mine'}", *encoder, *draws)


@pytest.fixture
def out(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the results, beside a copy of the cache."""
    shutil.copytree(finished / "cache", tmp_path / "cache")
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(finished / "out", tmp_path / "out")


@pytest.fixture
def run(finished: Path, medbench: Medbench, out: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The same run again: what it says."""

    def call(code: int = 0) -> str:
        capsys.readouterr()
        assert medbench(*asked(finished), "--out", str(out)) == code
        heard = capsys.readouterr()
        assert "Traceback" not in heard.err
        return heard.out + heard.err

    return call


def state(out: Path) -> dict[str, object]:
    """Rows without cost, arrays and scored set."""
    store = Store(out)
    rows = store.rows()
    target = {
        name: array.tolist()
        for name, array in store.target(str(next(iter(rows.values())).provenance["target"])).items()
    }
    arrays = {
        key: {name: array.tolist() for name, array in store.scores(row).items()}
        for key, row in rows.items()
    }
    return {
        "rows": {key: (row.cell, row.metrics, row.chosen) for key, row in rows.items()},
        "arrays": arrays,
        "target": target,
    }


@pytest.mark.parametrize("kind", ALL)
def test_a_scored_set_is_made_again_by_the_run(
    kind: str, run: Run, out: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(out)
    (file,) = (out / "targets").iterdir()
    damage(file, kind)
    assert medbench("clinical", str(out)) == 2
    said = capsys.readouterr().err
    assert file.name in said and "medbench run" in said and "Traceback" not in said
    said = run()
    assert "0 new rows" in said and ("It is made anew" in said) == (kind != "gone")
    assert state(out) == before
    assert medbench("clinical", str(out)) == 0


@pytest.mark.parametrize("kind", ALL)
def test_scores_are_told_by_name_and_made_again_once_they_are_deleted(
    kind: str, run: Run, out: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(out)
    # all that `clinical` reads
    (shown,) = (row for row in Store(out).rows().values() if row.cell.labels == "100%")
    file = out / "scores" / f"{shown.fingerprint[:32]}.npz"
    damage(file, kind)
    if kind != "gone":
        for command in ("table", "clinical"):
            assert medbench(command, str(out)) == 2
            assert (
                f"{file.name} is damaged" in (said := capsys.readouterr().err)
                and "delete that file: medbench run computes its cell again" in said
            )
        file.unlink()
    assert "1 new row" in run()
    assert state(out) == before


@pytest.mark.parametrize(
    "place", ["probabilities", "decisions", "metrics", "resamples", "name of an array", "end"]
)
def test_any_flipped_bit_of_scores_is_seen_by_a_table(
    place: str, out: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table reads the resamples alone; another array, or its name in the archive, passed."""
    file = sorted((out / "scores").iterdir())[0]
    raw = bytearray(file.read_bytes())
    with np.load(file) as arrays:
        wanted = {"name of an array": b"probabilities.npy", "end": bytes(raw[-4:])}
        content = wanted.get(place) or arrays[place].tobytes()
    raw[raw.rindex(content) + len(content) // 2] ^= 1
    file.write_bytes(raw)
    assert medbench("table", str(out)) == 2
    assert f"{file.name} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_row_is_told_and_made_again_once_its_line_is_removed(
    kind: str, run: Run, out: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(out)
    file = out / "rows.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(DAMAGES[kind](first[:-1]) + b"\n" + second)
    assert medbench("table", str(out)) == 2
    said = capsys.readouterr().err
    assert (
        "rows.jsonl, line " in said
        and "remove that line; its cell is computed again" in said
        and "Traceback" not in said
    )
    file.write_bytes(second)
    assert "1 new row" in run()
    assert state(out)["arrays"] == before["arrays"] and state(out)["rows"] == before["rows"]


def test_a_digit_that_changed_in_a_row_is_told(
    out: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    file = out / "rows.jsonl"
    text = file.read_bytes()
    file.write_bytes(text.replace(b'"n_labels": 36', b'"n_labels": 37'))
    assert file.read_bytes() != text
    assert medbench("table", str(out)) == 2
    assert "is damaged (its checksum is another" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ALL)
def test_a_plan_is_told_and_written_again_by_the_run(
    kind: str, run: Run, out: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    before, plan = state(out), parsed((out / "plan.json").read_bytes())
    damage(out / "plan.json", kind)
    if kind != "gone":
        assert medbench("table", str(out)) == 2
        assert (
            "plan.json is not a plan of this medbench" in (said := capsys.readouterr().err)
            and "delete it" in said
        )
        (out / "plan.json").unlink()
    assert "0 new rows" in run()
    assert state(out) == before and parsed((out / "plan.json").read_bytes()) == plan


def test_a_folder_without_predictions_gets_no_scored_set(
    run: Run, out: Path, tmp_path: Path
) -> None:
    """It was made to be passed on, without what belongs to single images."""
    merge.merge([out], tmp_path / "published", predictions=False)
    shutil.rmtree(out)
    (tmp_path / "published").rename(out)
    assert "0 new rows" in run()
    assert not list((out / "targets").iterdir())
