"""Doubled files in a folder that medbench splits.

Copies are one group, and so are the patients who share one. A person's own split is refused.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medbench.schema import Mark, Task, registry
from medbench.stats import splits

Medbench = Callable[..., int]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of 30 noise images in files of one size."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(60):
        place = tmp_path / "clinic" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((rng.integers(0, 99, (16, 16, 3)) + 60 * (i % 2)).astype(np.uint8)).save(
            place / f"{i:02d}.bmp"
        )
    return tmp_path / "clinic"


def copied(clinic: Path, *pairs: tuple[str, str]) -> None:
    for one, other in pairs:
        shutil.copy(clinic / one, clinic / other)


def listed(clinic: Path, group: Callable[[int], str]) -> Path:
    """clinic/list.csv with a group of each image."""
    names = sorted(file.relative_to(clinic).as_posix() for file in clinic.rglob("*.bmp"))
    rows = [
        [name, name[0], group(int(name[2:4])) if len(name) == 8 else name[10:-4]] for name in names
    ]
    with (clinic / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "group"], *rows])
    return clinic / "list.csv"


def part_of(task: Task) -> dict[str, str]:
    return {name: part for part, split in task.load(Path()).items() for name in split.ids.tolist()}


def test_copies_stand_in_one_part_whatever_they_are_called(clinic: Path) -> None:
    before = part_of(registry.task(f"folder:{clinic}"))
    pairs = [
        (f"{'ab'[i % 2]}/{i:02d}.bmp", f"{'ab'[i % 2]}/x{j}{i:02d}.bmp")
        for i in range(20)
        for j in range(2)
    ]
    copied(clinic, *pairs)
    task = registry.task(f"folder:{clinic}")
    part = part_of(task)
    assert all(part[one] == part[other] for one, other in pairs)
    what = (
        "40 images are exact copies of another. Copies share a group, so they are in the same part."
    )
    assert Mark("remark", what) in task.marks
    names = np.array(sorted(part))
    alone = splits.partition(
        np.array([name[0] == "b" for name in names]).astype(int),
        names,
        (0.7, 0.1, 0.2),
        key="folder 1",
    )
    parted = dict(zip(names.tolist(), alone.tolist(), strict=True))
    assert any(parted[one] != parted[other] for one, other in pairs), "else this test shows nothing"
    for _, other in pairs:
        (clinic / other).unlink()
    assert part_of(registry.task(f"folder:{clinic}")) == before


def test_patients_who_share_a_file_are_one_and_it_is_said(clinic: Path) -> None:
    copied(clinic, ("a/00.bmp", "a/copy of p9.bmp"), ("a/04.bmp", "a/copy of p9b.bmp"))
    task = registry.task(f"folder:{listed(clinic, lambda i: f'p{i // 3}')}")
    group = {
        name: group
        for split in task.load(Path()).values()
        for name, group in zip(split.ids.tolist(), split.groups.tolist(), strict=True)
    }
    assert (
        group["a/copy of p9.bmp"]
        == group["a/00.bmp"]
        == group["b/29.bmp"]
        == group["b/01.bmp"]
        == "p0"
    )
    assert group["a/copy of p9b.bmp"] == group["a/04.bmp"] == "p1"
    (said,) = [mark.text for mark in task.marks if mark.kind == "look"]
    assert (
        said
        == "21 groups became 19, because 'p0' and 'p9' share an identical image (a/00.bmp = a/copy of p9.bmp): are they one patient?"
    )


def test_without_copies_nothing_changes_and_files_of_different_sizes_are_not_read(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medbench import images

    for i, file in enumerate(sorted(clinic.rglob("*.bmp"))):
        with file.open("ab") as stream:
            stream.write(bytes(i))
    read: list[object] = []
    monkeypatch.setattr(
        images, "content_hashes", lambda files, *more: read.extend(files) or ["x"] * len(files)
    )
    task = registry.task(f"folder:{clinic}")
    assert read == []
    assert all(split.groups.tolist() == split.ids.tolist() for split in task.load(Path()).values())
    assert not any("exact cop" in mark.text for mark in task.marks)


SHORT = ("--methods", "random", "--labels", "100", "--size", "32", "--seeds", "1", "--no-audit")


def test_a_run_goes_through_where_medbench_splits_and_is_refused_where_a_person_did(
    clinic: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(clinic, *[(f"a/{i:02d}.bmp", f"a/x{i:02d}.bmp") for i in range(0, 30, 2)])
    assert medbench("run", "--task", "folder:clinic", *SHORT) == 0
    assert (
        "folder:clinic: 15 images are exact copies of another. Copies share a group"
        in capsys.readouterr().err
    )
    assert (
        "15 images are exact copies of another"
        in Path("runs/folder-clinic/leaderboard.md").read_text()
    )
    for part, names in (("train", "a/0*"), ("train", "b/0*"), ("test", "a/x0*"), ("test", "b/1*")):
        for file in clinic.glob(names):
            (clinic / "given" / part / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, clinic / "given" / part / file.parent.name)
    assert medbench("run", "--task", "folder:clinic/given", *SHORT) == 2
    assert "are the same image in two parts (5 such images)" in capsys.readouterr().err
