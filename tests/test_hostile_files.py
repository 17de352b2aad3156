"""What somebody else's names, archives and servers can do to a terminal, a table, a disk, and a
page that is passed on: nothing."""

from __future__ import annotations

import csv
import errno
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes.results import ABOUT, fill, make, study
from trees.serving import Served, Server

from medbench import Store, images, stats
from medbench.__main__ import main as started
from medbench.cli import plain_output, screen
from medbench.data.evaluation_sets import EvaluationSet
from medbench.models.exported import prediction, tensor_files
from medbench.report import leaderboard
from medbench.report.html import mistakes
from medbench.run import job_steps, merge, run_log, scored_sets
from medbench.schema import DiskError, Split, UserError, registry
from medbench.system import atomic_write, cache_folder, download, fast_npz
from medbench.system.download import archives, http

Medbench = Callable[..., int]
ORDER = "\x1b[2J\x9b1A\u202e"  # clears the screen, goes up a line, turns the letters round


# Names
# ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path) -> Store:
    """Results whose classes, title and failures somebody else named."""
    store = Store(tmp_path / "results")
    store.create()
    names = ["=HYPERLINK(0)", "<img src=x>|# b", "![t](http://x)"]
    rows = [
        make(method, "10%", seed, 0.8, task="<b>T</b>\n# other")
        for method in ("a", "=cmd|' /C calc'!A0")
        for seed in (0, 1)
    ]
    fill(store, rows, about={**ABOUT, "classes": names, "title": "t"})
    return store


def test_no_name_gives_an_order_to_the_terminal(
    hostile: Store, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench("table", str(hostile.folder)) == 0
    with plain_output.plain_streams(), screen.Screen() as display:
        print(f"a{ORDER}b\rc")
        screen.show([f"d{ORDER}e"])
        display._say(f"f{ORDER}g")
    written = "".join(capsys.readouterr())
    assert not set(written) & set(ORDER.translate({ord(c): None for c in "[2JA1"}))
    assert (
        "a\\x1b[2J\\x9b1A\\u202eb\rc" in written
        and "d\\x1b[2J\\x9b1A\\u202ee" in written
        and "f\\x1b[2J" in written
    )


def test_a_terminal_keeps_its_own_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    with run_log.log_file(tmp_path / "run.log"):
        job_steps.log.warning("a%sb\n2026 forged", ORDER)
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


def test_a_table_of_groups_holds_no_formula_and_says_the_same(
    folder: Path, medbench: Medbench, tmp_path: Path
) -> None:
    (folder / "train/nv").rename(folder / "train/=1+cmd")
    (folder / "test/nv").rename(folder / "test/=1+cmd")
    assert medbench("audit", f"folder:{folder}", "--fast", "--groups", f"{folder}/all.csv") == 0
    cells = [
        cell for row in csv.reader((folder / "all.csv").read_text().splitlines()) for cell in row
    ]
    assert "'=1+cmd" in cells and not [cell for cell in cells if cell.startswith("=")]
    assert registry.task(f"folder:{folder}/all.csv").classes == ("=1+cmd", "akiec", "mel")


def test_a_published_table_names_no_folder_of_the_machine(hostile: Store) -> None:
    planned = hostile.plan().cells[0]
    (hostile.folder / "rows.jsonl").unlink()
    hostile.fail(planned, "OSError: '/home/ann lee/moles/a b.png' and /data/x/c.png cannot be read")
    text = leaderboard.markdown(Store(hostile.folder))
    assert (
        "'a b.png' and c.png cannot be read" in text and "/home" not in text and "/data" not in text
    )


def test_no_name_is_markdown_or_html(hostile: Store) -> None:
    text = leaderboard.markdown(hostile)
    assert "## &lt;b>T&lt;/b> # other (T), test" in text.splitlines()
    assert not re.search(r"<[A-Za-z/!?]|\]\(", text)


# A page, a folder and a cache
# ----------------------------------------------------------------------------------------------------


def test_neither_groups_nor_files_of_a_folder_are_named(tmp_path: Path) -> None:
    """The groups of a scored set are numbers in the order of their names, in one numbering for the
    task; a page counts its images."""

    def part(*names: str) -> Split:
        n = len(names)
        return Split([], np.arange(n).astype(str), np.arange(n) % 2, np.array(names), None, {})

    parts = {
        "train": part("Maier", "Bauer", "Ziegler"),
        "test": part("Mueller", "Huber", "Mueller", "Bauer"),
    }
    store = Store(tmp_path / "results")
    store.create()
    data: Any = SimpleNamespace(parts=parts)
    scored_sets.save_target(
        data,
        EvaluationSet("test", "test", "mine-1", parts["test"], ("a", "b"), "patient", ()),
        store,
    )
    saved = store.target("mine-1")
    assert saved["groups"].dtype == np.int64 and saved["groups"].tolist() == [3, 1, 3, 0]
    assert (stats.group_weights(saved["groups"]) == stats.group_weights(parts["test"].groups)).all()
    assert (
        mistakes.called_on_a_page("folder:mine", "test", 0, "Mueller_Hans.png") == "image 1 of test"
    )
    assert mistakes.called_on_a_page("derm", "test", 0, "ISIC_0024306") == "ISIC_0024306"


def test_a_merge_takes_the_names_out_of_an_older_folder(hostile: Store, tmp_path: Path) -> None:
    arrays = {
        "ids": np.array(["a", "b", "c"]),
        "labels": np.array([0, 1, 0]),
        "groups": np.array(["Mueller", "Huber", "Mueller"]),
    }
    for row in hostile.rows().values():
        assert row.provenance["target"] == "none"
    hostile.keep_target("none", arrays)
    merge.merge([hostile.folder], tmp_path / "merged")
    assert Store(tmp_path / "merged").target("none")["groups"].tolist() == [1, 0, 1]
    assert merge.merge([hostile.folder], tmp_path / "merged") == (0, 4), (
        "the same set, by who belongs together"
    )


def test_a_cache_is_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "new"))
    assert images.cache_folder().stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "shared"))
    assert images.cache_folder().stat().st_mode & 0o777 == 0o755, "its maker's to say"
    monkeypatch.delenv("MEDBENCH_CACHE")
    for mode, then in ((0o755, 0o700), (0o775, 0o775)):
        monkeypatch.setattr(
            "platformdirs.user_cache_dir",
            lambda *names, mode=mode, **more: str(tmp_path / f"own{mode}"),
        )
        (tmp_path / f"own{mode}").mkdir()
        (tmp_path / f"own{mode}").chmod(mode)
        assert cache_folder.cache_folder().stat().st_mode & 0o777 == then


# Archives and servers
# ------------------------------------------------------------------------------------------------------------


def test_a_header_without_an_end_is_not_read(tmp_path: Path) -> None:
    with tarfile.open(
        tmp_path / "a.tar.gz",
        "w:gz",
        format=tarfile.PAX_FORMAT,
        pax_headers={"comment": "x" * (3 << 20)},
    ) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    with pytest.raises(UserError, match="a header of 3,"):
        archives.unpack(tmp_path / "a.tar.gz", "tar", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_member_without_a_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"x")
    content = (tmp_path / "a.zip").read_bytes()
    # the directory: its name's length is 0, and the name one byte of the comment
    start = content.index(b"PK\x01\x02")
    unnamed = content[: start + 28] + b"\0\0\1\0" + content[start + 32 :]
    (tmp_path / "b.zip").write_bytes(unnamed)
    with pytest.raises(UserError, match=r"b\.zip"):
        archives.unpack(tmp_path / "b.zip", "zip", tmp_path / "into")


def test_a_server_that_sends_without_an_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/a"] = Served(b"x" * 300_000, length=False)
    for most, size in ((100_000, None), (1 << 40, 200_000)):
        monkeypatch.setattr(http, "_MOST", most)
        with pytest.raises(UserError, match=r"a is more than [12]00,000 bytes"):
            download.retrieve(f"{server.url}/a", tmp_path / "a", lambda part: None, size=size)
        assert not [file for file in tmp_path.iterdir() if file.stat().st_size > 1000]


# A disk on an ordinary day
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks(
    code: int, hostile: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def none(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(
        DiskError,
        match=r"results lies on a file system without file locks \(.*\)\. Next: name a folder on another disk",
    ):
        hostile.add_judged([])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    """As root, a file that is renamed over /dev/null is there for everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as other:
        written = other.submit(pipe.read_text)
        atomic_write.write(pipe, lambda partial: partial.write_text("all of it"))
        assert written.result(10) == "all of it"
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
    with pytest.raises(
        UserError,
        match=r"pipe is not a file, beside which a killed prediction could lie\. Next: --out predictions\.csv",
    ):
        prediction.predict(SimpleNamespace(check_point=str), tmp_path, [], pipe)  # type: ignore[arg-type]


def test_a_file_where_a_folder_is_meant(
    hostile: Store,
    medbench: Medbench,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # it is refused before anything is planned
    monkeypatch.setattr("medbench.run.pretrain_only.plan", None)
    (tmp_path / "file").write_text("")
    for command in (
        ["pretrain"],
        ["plot", str(hostile.folder)],
        ["merge", str(hostile.folder)],
        ["run"],
    ):
        assert medbench(*command, "--out", f"{tmp_path}/file") == 2
        said = capsys.readouterr().err
        assert re.fullmatch(
            r"medbench: .*file is a file: name a folder\. Next: medbench .* --out FOLDER\n",
            said,
        ), said


def test_what_a_full_disk_stops_leaves_nothing(
    hostile: Store, medbench: Medbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", full)
    assert medbench("plot", str(hostile.folder), "--kind", "heatmap", "--out", "figures") == 2
    assert list((tmp_path / "figures").iterdir()) == []
    monkeypatch.setattr(Store, "add_all", full)
    assert medbench("merge", str(hostile.folder), "--out", "merged") == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures", "results"]


def test_safetensors_on_a_full_disk(tmp_path: Path) -> None:
    """It is `OSError`, as of any other writer, so that a command ends in one line."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def full(file: Path) -> None:
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    with pytest.raises(OSError, match="No space left on device") as caught:
        tensor_files._on_disk(full)(tmp_path / "x")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError):  # the words are still those of the library
        tensor_files._on_disk(lambda file: save_file({"a": torch.zeros(1)}, file))(
            tmp_path / "none" / "x"
        )


def test_a_log_on_a_full_disk_ends_the_run_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.log").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match="No space left") as caught,
        run_log.log_file(tmp_path / "run.log"),
    ):
        job_steps.log.warning("a")
    assert caught.value.filename == str(tmp_path / "run.log")
    assert capsys.readouterr().err == ""


def test_ctrl_c_while_modules_are_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient:
        def find_spec(self, name: str, *about: object) -> None:
            if name == "medbench.cli":
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Impatient(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "medbench.cli")
    with pytest.raises(SystemExit) as caught:
        started()
    assert caught.value.code == 130
    assert (
        capsys.readouterr().err
        == "medbench: stopped. The same command goes on with what was finished.\n"
    )
    scripts = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
        "scripts"
    ]
    assert scripts == {"medbench": f"{started.__module__}:main"}


def test_ctrl_c_is_heard_before_anything_is_imported() -> None:
    """What the package itself imported took a fifth of a second, in which Ctrl-C gave a
    traceback."""
    seen = "import sys, medbench.__main__; print(sorted(name for name in sys.modules if name.startswith(('medbench', 'numpy', 'typer'))))"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout == "['medbench', 'medbench.__main__']\n"


def test_a_working_folder_that_is_gone(
    medbench: Medbench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr("sys.argv", ["medbench", "list", "tasks"])
    with pytest.raises(SystemExit) as caught:
        started()
    assert caught.value.code == 2
    assert (
        capsys.readouterr().err
        == "medbench: The working folder is gone. Next: cd to a folder that is there\n"
    )


# Arrays that somebody edited
# -----------------------------------------------------------------------------------------------------

EDITS: list[tuple[str, str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("targets", "labels", lambda a: a + 7, r"probabilities of 2 classes"),
    ("targets", "labels", lambda a: a - 1, "labels are not whole numbers from 0"),
    ("targets", "labels", lambda a: a[:, None], r"several labels an image|2 classes"),
    ("targets", "labels", lambda a: a.astype(complex), r"labels are complex128 \(240,\)"),
    ("targets", "groups", lambda a: a[:-1], r"groups are int64 \(239,\), of 240"),
    ("targets", "ids", lambda a: np.array("a"), r"ids are <U1 \(\)"),
    ("scores", "probabilities", lambda a: a[:-1], r"decisions are int64 \(240,\), of 239"),
    ("scores", "probabilities", lambda a: a + 1, "probabilities lie outside of 0 to 1"),
    ("scores", "probabilities", lambda a: a * np.nan, "probabilities lie outside of 0 to 1"),
    (
        "scores",
        "probabilities",
        lambda a: np.concatenate([a, a], 1),
        "probabilities of 4 classes, and the scored set has 2",
    ),
    ("scores", "decisions", lambda a: a.astype(str), "decisions are <U21"),
    ("scores", "decisions", lambda a: a + 2, "decisions are not whole numbers from 0 to 1"),
    ("scores", "resamples", lambda a: a[0], r"resamples are float32 \(200,\)"),
    ("scores", "metrics", lambda a: a[:-1], r"metrics are <U17 \(5,\), of 6"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("whole") / "results").folder


@pytest.mark.parametrize(("kind", "name", "edit", "line"), EDITS)
def test_arrays_that_do_not_belong_together(
    kind: str,
    name: str,
    edit: Callable[[np.ndarray], np.ndarray],
    line: str,
    whole: Path,
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(whole, tmp_path / "results")
    store = Store(folder)
    row = next(iter(store.rows().values()))
    file = folder / (
        "targets/target0.npz" if kind == "targets" else f"scores/{row.fingerprint[:32]}.npz"
    )
    np.savez(file, **{**(arrays := fast_npz.whole(file)), name: edit(arrays[name])})
    with pytest.raises(UserError, match=line + ".*Next: ") as caught:
        store.scores(row)
    assert "is damaged, or not medbench's" in str(caught.value)
