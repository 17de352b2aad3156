"""What a user reads and types.

Commas in paths, CSV files of other programs, the command on a page, sentences without "nan".
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fakes.results import ABOUT, fill, make
from PIL import Image
from test_page import Read

from medbench import Store, UserError
from medbench.audit.dataset import audited_data
from medbench.cli.options import split_files
from medbench.report import compare, html
from medbench.run.command_line import command
from medbench.schema import Grid, placeless
from medbench.tasks.folder import open_folder
from medbench.tasks.folder.csv_listing import read_csv

NETS = "def net(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)):\n    raise AssertionError\n"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixty images in a folder that is called as people call folders."""
    place, rng = tmp_path / "moles, 2024", np.random.default_rng(0)
    place.mkdir()
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(place / f"{i}.png")
    return place


def test_a_comma_in_the_path_of_an_encoder_that_is_there_does_not_part_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a, b"
    place.mkdir()
    (place / "e,f.py").write_text(NETS)
    (place / "x.npz").touch()
    file = f"{place}/e,f.py:net"
    assert split_files(f"{file},{file},vit") == (file, file, "vit"), (
        "nor does a name behind it join it"
    )
    assert split_files(f" resnet50.a1_in1k ,{file}, features:{place}/x.npz,,vit") == (
        "resnet50.a1_in1k",
        file,
        f"features:{place}/x.npz",
        "vit",
    )
    assert split_files("resnet18,a, b/no.py:net") == ("resnet18", "a, b/no.py:net"), (
        "what is not there is named whole"
    )
    assert split_files("") == () == split_files(" , ")


def test_an_encoder_with_a_comma_is_planned(
    tmp_path: Path, medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a, b"
    place.mkdir()
    (place / "e.py").write_text(
        "import torch\n"
        + NETS.replace(
            "raise AssertionError",
            "return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4))",
        )
    )
    asked = [
        "--task",
        "derm",
        "--data",
        "phantom",
        "--labels",
        "10",
        "--seeds",
        "1",
        "--methods",
        "given",
        "--plan",
    ]
    assert medbench("run", *asked, "--encoder", f"{place}/e.py:net") == 0
    assert "e.py:net" in capsys.readouterr().out


@pytest.mark.parametrize(
    "head",
    [
        "path;label;group;age, years",
        "sep=;\npath;label;group;age, years",
        '"sep=;"\r\nPath;Label;Group;age, years',
        "path;label;group;age, in years, at the visit, as it was told",
        "\npath;label;group;age",
    ],
)
def test_a_csv_of_semicolons_is_read_whatever_its_header_holds(pictures: Path, head: str) -> None:
    """Commas in names outnumbered the semicolons, Excel's first line was taken for the header, and
    decimal commas made words of ages."""
    lines = [f"{i}.png;{'ab'[i % 2]};p{i // 2};{20 + i // 2},5" for i in range(60)]
    file = pictures / "list.csv"
    file.write_text("\n".join([head, *lines]) + "\n")
    listing = read_csv(file)
    assert (
        set(listing.columns) >= {"label", "group"}
        and listing.where[0] == f"list.csv line {len(head.splitlines()) + 1}"
    )
    (age,) = set(listing.columns) - {"label", "group"}
    task = open_folder(str(file))
    ages = np.concatenate([split.meta[age] for split in task.load(pictures).values()])
    assert ages.dtype.kind == "f" and ages.min() == 20.5
    rows = audited_data._table(file)
    assert [row["path"] for row in rows] == [f"{i}.png" for i in range(60)] and rows[1][
        "label"
    ] == "b"


def test_commas_stay_where_they_are_no_decimals(pictures: Path) -> None:
    file = pictures / "list.csv"
    file.write_text(
        "path;label;size\n" + "".join(f"{i}.png;{'ab'[i % 2]};{i},5 mm\n" for i in range(60))
    )
    assert read_csv(file).columns["size"][0] == "0,5 mm"
    file.write_text(
        "path,label,size\n" + "".join(f'{i}.png,{"ab"[i % 2]},"1,500"\n' for i in range(60))
    )
    assert read_csv(file).columns["size"][0] == "1,500"
    file.write_text("path\tlabel;x\n0.png\ta\n")
    with pytest.raises(UserError, match=r"it has: path, label;x\."):
        read_csv(file)


def test_hidden_files_of_a_repository_are_no_class_and_no_image(
    pictures: Path, tmp_path: Path
) -> None:
    """`.gitattributes`, `.gitignore` of a data set's repository, at every height."""
    root = tmp_path / "repository"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for i in range(10):
            (root / name / f"{i}.png").write_bytes(
                (pictures / f"{i + 10 * (name == 'b')}.png").read_bytes()
            )
    before = open_folder(str(root))
    for place in (root, root / "a", root / "b"):
        for name in (".gitattributes", ".gitignore"):
            (place / name).write_text("*.png filter=lfs\n")
    (root / ".git").mkdir()
    after = open_folder(str(root))
    assert after.classes == before.classes and [str(mark) for mark in after.marks] == [
        str(mark) for mark in before.marks
    ]
    (root / "a" / "notes.gitattributes").touch()
    assert any(".gitattributes" in mark.text for mark in open_folder(str(root)).marks), (
        "a suffix keeps its dot"
    )


@pytest.mark.parametrize(
    ("task", "shown"),
    [
        ("folder:/data/moles 2024/list.csv", "'folder:moles 2024/list.csv'"),
        ("folder:D:\\studies\\moles\\list.tsv", "folder:moles/list.tsv"),
        ("folder:/home/ann/list.csv", "folder:list.csv"),
        ("folder:C:\\Users\\ann\\list.csv", "folder:list.csv"),
        ("folder:../list.csv", "folder:list.csv"),
        ("folder:list.csv", "folder:list.csv"),
        ("folder:/home/ann/moles", "folder:moles"),
        ("derm", "derm"),
    ],
)
def test_the_command_on_a_page_names_the_folder_of_a_csv_and_no_other_place(
    task: str, shown: str
) -> None:
    said = command(Grid(tasks=(task,)))
    assert said.startswith(f"medbench run --task {shown} --labels ")
    assert placeless(said) == said


@pytest.mark.parametrize("why", ["one group", "undefined resamples"])
def test_no_sentence_says_nan(why: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    rows = [
        make(method, labels, seed, auc)
        for method, auc in (("a", 0.7), ("b", 0.8))
        for labels in ("1%", "100%")
        for seed in (0, 1)
    ]
    if why == "undefined resamples":
        rows = [(row, np.full_like(resamples, np.nan)) for row, resamples in rows]
    fill(
        store,
        rows,
        about={
            **ABOUT,
            "parts": {"train": [70, 60], "test": [30, 1 if why == "one group" else 25]},
        },
    )
    said = "\n".join(map(str, compare.sentences([store], None, 0.01)))
    assert (
        "b and a: not decidable; the difference has no interval" in said
        and "no interval, too few groups" in said
    )
    shown = Read(html.build_page([store])).words
    assert "no interval" in shown and not re.search(r"\bnan\b", f"{said} {shown}", re.IGNORECASE)
