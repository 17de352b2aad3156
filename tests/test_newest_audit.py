"""An audit that is made after a run reaches the run's tables, page and verdicts.

And a table of groups that an audit writes.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medbench import images
from medbench.audit import dataset
from medbench.audit.dataset import saved_reports
from medbench.audit.dataset.auditing import table_marks
from medbench.schema import registry

Medbench = Callable[..., int]
RUN = (
    "run",
    "--task",
    "folder:mine",
    "--labels",
    "100",
    "--seeds",
    "1",
    "--methods",
    "random,supervised",
    "--size",
    "32",
    "--out",
    "out",
)
NEAR = "near copies across parts"


def found(subject: dataset.Subject, depth: str, *sentences: str) -> None:
    """Keep an audit of these leaks."""
    leaks = tuple(dataset.DatasetFinding(NEAR, "leak", 1, sentence) for sentence in sentences)
    report = dataset.DatasetReport(subject.name, subject.sha256, depth, {}, leaks)
    saved_reports.save_report(
        images.cache_folder(), report, subject.hashes, subject.content, table_marks(report)
    )


def test_a_full_audit_reaches_the_tables_that_exist(
    folder: Path,
    medbench: Medbench,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    subject = dataset.of_task("folder:mine", None, images.cache_folder())
    fast, full = (
        "2 of 18 images of test are also in train, nearly",
        "5 of 18 images of test are also in train, nearly",
    )
    found(subject, "hashes", fast)
    assert medbench(*RUN) == 0

    def shown() -> list[str]:
        capsys.readouterr()
        assert (
            medbench("table", "out") == medbench("compare", "out") == medbench("report", "out") == 0
        )
        pages = [
            " ".join(capsys.readouterr().out.split()),
            *((Path("out") / name).read_text() for name in ("leaderboard.md", "report.html")),
        ]
        return [*pages[0].split("Family: "), *pages[1:]]

    assert all(fast in text for text in (shown()[0], *shown()[2:]))
    plan = Path("out/plan.json").read_bytes()
    found(subject, "full", full)
    table_and_compare, _, markdown, page = shown()
    assert table_and_compare.count(f"LEAK: {full} (audit)") == 2, "the table and the verdicts"
    for text in (table_and_compare, markdown, page):
        assert full in text and fast not in text
    assert Path("out/plan.json").read_bytes() == plan
    found(subject, "hashes", fast)
    assert fast not in "".join(shown()), "the deeper one stays"
    Path(images.cache_folder() / "audits").rename("elsewhere")
    assert fast in shown()[0], "without an audit a folder says what its plan says"


def test_an_audit_that_found_nothing_takes_a_mark_away_and_an_order_of_the_classes_does_not_matter(
    folder: Path,
    medbench: Medbench,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    ordered = ("--order", "nv,akiec,mel")
    found(
        dataset.of_task("folder:mine", None, images.cache_folder(), order=("nv", "akiec", "mel")),
        "hashes",
        "1 of 9 is a copy",
    )
    assert medbench(*RUN, *ordered) == 0
    assert "1 of 9 is a copy" in capsys.readouterr().out
    found(dataset.of_task("folder:mine", None, images.cache_folder()), "full")
    assert medbench("table", "out") == 0
    assert "1 of 9 is a copy" not in capsys.readouterr().out


def test_other_images_have_another_audit(
    folder: Path,
    medbench: Medbench,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    shutil.copytree("mine", "other/mine")
    Image.new("RGB", (40, 40), "red").save("other/mine/test/nv/one more.png")
    found(
        dataset.of_task("folder:other/mine", None, images.cache_folder()),
        "full",
        "9 of 9 are copies",
    )
    assert medbench(*RUN, "--no-audit") == 0
    assert "9 of 9 are copies" not in capsys.readouterr().out


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of 20 drawn images; of five there is a near copy, of three a copy of the file."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    for i in range(40):
        place = tmp_path / "clinic" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 255, (9, 9, 3)).astype(np.uint8)).resize(
            (96, 96), Image.Resampling.BICUBIC
        )
        fine = Image.fromarray(rng.integers(0, 255, (48, 48, 3)).astype(np.uint8)).resize(
            (96, 96), Image.Resampling.BICUBIC
        )
        Image.blend(coarse, fine, 0.4).save(place / f"{i}.png")
    for i in range(0, 10, 2):
        Image.open(tmp_path / "clinic" / "a" / f"{i}.png").save(
            tmp_path / "clinic" / "a" / f"near {i}.jpg", quality=92
        )
    for i in range(20, 26, 2):
        shutil.copy(
            tmp_path / "clinic" / "a" / f"{i}.png", tmp_path / "clinic" / "a" / f"same {i}.png"
        )
    return tmp_path / "clinic"


def test_an_audit_writes_the_groups_that_keep_its_copies_together(
    copied: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    medbench("audit", "folder:clinic", "--fast", "--groups", "groups.csv")
    said = capsys.readouterr().out
    assert "the same audit with --groups FILE.csv" in said or "near copies" not in said
    assert (
        "groups.csv: 48 images in 40 groups, 8 fewer than without their copies. Next: medbench run --task folder:groups.csv"
        in said
    )
    with Path("groups.csv").open(newline="") as stream:
        group = {row["path"]: row["group"] for row in csv.DictReader(stream)}
    assert all(
        group[f"clinic/a/near {i}.jpg"] == group[f"clinic/a/{i}.png"] for i in range(0, 10, 2)
    )
    assert all(
        group[f"clinic/a/same {i}.png"] == group[f"clinic/a/{i}.png"] for i in range(20, 26, 2)
    )
    task = registry.task("folder:groups.csv")
    part = {name: part for part, split in task.load(Path()).items() for name in split.ids.tolist()}
    assert all(part[f"clinic/a/near {i}.jpg"] == part[f"clinic/a/{i}.png"] for i in range(0, 10, 2))
    assert medbench("audit", "folder:groups.csv", "--fast") == 0, "no copy stands in two parts"


def test_a_table_of_groups_keeps_what_was_there_and_names_what_is_torn(
    copied: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(file.relative_to(copied).as_posix() for file in copied.rglob("*.*"))
    rows = [
        [name, name[0], f"p{i // 2}", "test" if i % 4 < 2 else "train", i]
        for i, name in enumerate(names)
    ]
    with (copied / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "group", "split", "age"], *rows])
    medbench("audit", "folder:clinic/list.csv", "--fast", "--groups", "clinic/joined.csv")
    assert "are in two parts: fix the column split, or remove it" in capsys.readouterr().out
    with (copied / "joined.csv").open(newline="") as stream:
        made = list(csv.DictReader(stream))
    assert [[row[name] for name in ("path", "label", "split", "age")] for row in made] == [
        [r[0], r[1], r[3], str(r[4])] for r in rows
    ]
    assert {row["group"] for row in made} < {row[2] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["derm", "--groups", "x.csv"], "--groups writes a table of a folder of your own"),
        (
            ["folder:clinic", "--groups", "x.txt"],
            "--groups writes a CSV file, not 'x.txt'. Next: --groups x.csv",
        ),
        (["folder:clinic", "--groups", "clinic/a/x.csv"], "does not lie above the images"),
        (
            ["--images", "clinic", "--groups", "x.csv"],
            "--groups writes a table of a folder: it needs its name",
        ),
    ],
)
def test_where_no_table_of_groups_can_be_written(
    copied: Path,
    medbench: Medbench,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    assert medbench("audit", *arguments) == 2
    assert line in capsys.readouterr().err
    assert not Path("x.csv").exists()
