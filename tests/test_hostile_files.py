"""What somebody else's names, archives and servers can do to a terminal, a table, a disk, and a page that is passed on: nothing."""

from __future__ import annotations

import csv
import io
import logging
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.results import ABOUT, fill, make
from trees.serving import Served, Server

from medbench import Store, images
from medbench.cli import plain_output, screen
from medbench.report import leaderboard
from medbench.run import execution
from medbench.schema import UserError
from medbench.system import cache_folder, download
from medbench.system.download import archives, http

Medbench = Callable[..., int]
ORDER = "\x1b[2J\x9b1A\u202e"  # clears the screen, goes up a line, turns the letters round


# Names ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path) -> Store:
    """Results whose classes, title and failures somebody else named."""
    store = Store(tmp_path / "results")
    store.create()
    names = ["=HYPERLINK(0)", "<img src=x>|\n# b", "![t](http://x)"]
    rows = [make(method, "10%", seed, 0.8, task="<b>T</b>\n# other") for method in ("a", "=cmd|' /C calc'!A0") for seed in (0, 1)]
    fill(store, rows, about={**ABOUT, "classes": names, "title": "t"})
    return store


def test_no_name_gives_an_order_to_the_terminal(hostile: Store, medbench: Medbench, capsys: pytest.CaptureFixture[str]) -> None:
    assert medbench("table", str(hostile.folder)) == 0
    with plain_output.plain_streams(), screen.Screen() as display:
        print(f"a{ORDER}b\rc")
        screen.show([f"d{ORDER}e"])
        display._say(f"f{ORDER}g")
    written = "".join(capsys.readouterr())
    assert not set(written) & set(ORDER.translate({ord(c): None for c in "[2JA1"}))
    assert "a\\x1b[2J\\x9b1A\\u202eb\rc" in written and "d\\x1b[2J\\x9b1A\\u202ee" in written and "f\\x1b[2J" in written


def test_a_terminal_keeps_its_own_colours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.text import Text

    monkeypatch.setenv("FORCE_COLOR", "1")
    before = sys.stdout
    with plain_output.plain_streams():
        assert sys.stdout is not before
        screen.show([Text(f"a{ORDER}", style="bold")])
    assert sys.stdout is before
    written = capsys.readouterr().out
    assert written.startswith("\x1b[1ma") and "\x1b[2J" not in written and "\\x1b[2J" in written


def test_no_name_gives_an_order_in_the_log(tmp_path: Path) -> None:
    with execution._log_file(tmp_path / "run.log"):
        execution.log.warning("a%sb\n2026 forged", ORDER)
        logging.getLogger("medbench").error("failed", exc_info=ValueError(ORDER))
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert len(lines) == 3 and "a\\x1b[2J\\x9b1A\\u202eb\\n2026 forged" in lines[0], lines
    assert not any(set(line) & {"\x1b", "\x9b", "\u202e"} for line in lines)


def test_no_cell_of_a_csv_is_a_formula(hostile: Store) -> None:
    leaderboard.write(hostile)
    text = (hostile.folder / "leaderboard.csv").read_text()
    text += leaderboard.render_pivot(leaderboard.pivot(leaderboard.leaderboards(hostile)), "csv")
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert "'=cmd|' /C calc'!A0" in cells
    assert not [cell for cell in cells if re.match(r"[=+@]..|-\D", cell)]


def test_no_name_is_markdown_or_html(hostile: Store) -> None:
    text = leaderboard.markdown(hostile)
    assert "## &lt;b>T&lt;/b> # other (T), test" in text.splitlines()
    assert not re.search(r"<[A-Za-z/!?]|\]\(", text)


# A page, a folder and a cache ----------------------------------------------------------------------------------------------------


def test_neither_groups_nor_files_of_a_folder_are_named(medbench: Medbench, folder: Path) -> None:
    """The groups of a scored set are numbers in the order of their names, in one numbering for the task; a page counts its images."""
    images_of = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
    lines = [f"{name},{name.split('/')[1]},Mueller {i // 2:03},{name.split('/')[0]}" for i, name in enumerate(images_of)]
    (folder / "list.csv").write_text("\n".join(["path,label,group,split", *lines]))
    task = f"folder:{folder}/list.csv"
    run = ("run", "--task", task, "--size", "32", "--methods", "random", "--labels", "100", "--allow-leak", "--out", "out")
    assert medbench(*run) == 0
    (file,) = Path("out/targets").iterdir()
    saved = Store("out").target(file.stem)
    assert saved["groups"].dtype == np.int64
    wanted = {name: i // 2 for i, name in enumerate(images_of)}
    assert saved["groups"].tolist() == [wanted[name] for name in saved["ids"].tolist()]
    assert medbench("report", "out", "--images", "--data", f"{folder}/list.csv", "--out", "page.html") == 0
    page = Path("page.html").read_text()
    assert "image 1 of test" in page or re.search(r"image \d+ of test", page)
    assert not re.search(r"test\d\.png|Mueller", page)


def test_a_cache_is_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "new"))
    assert images.cache_folder().stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "shared"))
    assert images.cache_folder().stat().st_mode & 0o777 == 0o755, "its maker's to say"
    monkeypatch.delenv("MEDBENCH_CACHE")
    for mode, then in ((0o755, 0o700), (0o775, 0o775)):
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda *names, mode=mode, **more: str(tmp_path / f"own{mode}"))
        (tmp_path / f"own{mode}").mkdir()
        (tmp_path / f"own{mode}").chmod(mode)
        assert cache_folder.cache_folder().stat().st_mode & 0o777 == then


# Archives and servers ------------------------------------------------------------------------------------------------------------


def test_a_header_without_an_end_is_not_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * (3 << 20)}) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    with pytest.raises(UserError, match="a header of 3,"):
        archives.unpack(tmp_path / "a.tar.gz", "tar", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_member_without_a_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"x")
    content = (tmp_path / "a.zip").read_bytes()
    start = content.index(b"PK\x01\x02")  # the directory: its name's length is 0, and the name one byte of the comment
    unnamed = content[: start + 28] + b"\0\0\1\0" + content[start + 32 :]
    (tmp_path / "b.zip").write_bytes(unnamed)
    with pytest.raises(UserError, match=r"b\.zip"):
        archives.unpack(tmp_path / "b.zip", "zip", tmp_path / "into")


def test_a_server_that_sends_without_an_end(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/a"] = Served(b"x" * 300_000, length=False)
    for most, size in ((100_000, None), (1 << 40, 200_000)):
        monkeypatch.setattr(http, "_MOST", most)
        with pytest.raises(UserError, match=r"a is more than [12]00,000 bytes"):
            download.retrieve(f"{server.url}/a", tmp_path / "a", lambda part: None, size=size)
        assert not [file for file in tmp_path.iterdir() if file.stat().st_size > 1000]
