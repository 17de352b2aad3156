"""Content hashes, and when a remembered one is believed."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from medbench import images
from medbench.images import hashing
from medbench.schema import Drawn, Progress, UserError
from medbench.system.progress_listener import listening


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def draw(seed):
    return np.full((4, 4, 3), seed, np.uint8)


@pytest.fixture
def settled(monkeypatch):
    """Files are remembered however young they are: their change time cannot be set back."""
    monkeypatch.setattr(hashing, "_SETTLED_NS", -1)


def test_hashes_are_sha256_of_the_bytes_and_of_a_drawings_key(tmp_path, cache):
    files = []
    for i in range(3):
        files.append(tmp_path / str(i))
        files[i].write_bytes(bytes([i]) * 1000)
    seen = []
    mixed = [files[2], Drawn(draw, 1, "key 1"), files[0], files[2]]
    with listening(seen.append):
        found = images.content_hashes(mixed, cache, "reading mine")
    expected = [
        hashlib.sha256(b).hexdigest()
        for b in (bytes([2]) * 1000, b"key 1", bytes(1000), bytes([2]) * 1000)
    ]
    assert found == expected
    assert seen == [Progress("reading mine", 2, 2, "files")]


def restored(file, content):
    """Replaced as `cp -p`, `rsync -t`, `tar x` and `unzip` do it.

    With another content of the same size, and with its old time.
    """
    state = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)


def sha256s(files):
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def remembered(cache):
    with closing(sqlite3.connect(cache / "hashes.sqlite")) as db:
        return {Path(path).name for (path,) in db.execute("SELECT path FROM contents")}


def mislead(cache, place=None):
    """The memory says of a file, or of all, that it holds other bytes, as where a disk changed
    these under all that is compared."""
    with closing(sqlite3.connect(cache / "hashes.sqlite")) as db, db:
        for row in db.execute(
            "SELECT * FROM contents WHERE path = ? OR ? IS NULL", (place, place)
        ).fetchall():
            lie = (*row[:5], "0" * 64, row[6])
            db.execute(
                "UPDATE contents SET sha256 = ?, crc32 = ? WHERE path = ?",
                (lie[5], hashing._checksum(lie), row[0]),
            )


def test_hashes_are_remembered_while_the_file_stays_as_it_is(tmp_path, cache, settled, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    first = images.content_hashes([file], cache)
    monkeypatch.setattr(hashlib, "file_digest", None)  # nothing is read
    assert images.content_hashes([file], cache) == first == sha256s([file])


def test_a_file_restored_with_its_size_and_time_is_read_again(tmp_path, cache, settled):
    file = tmp_path / "a.bmp"
    file.write_bytes(b"old")
    os.utime(file, ns=(10**18, 10**18))
    images.content_hashes([file], cache)
    restored(file, b"new")
    assert images.content_hashes([file], cache) == sha256s([file])


def test_two_files_that_swap_names_are_read_again(tmp_path, cache, settled):
    one, other = tmp_path / "a.bmp", tmp_path / "b.bmp"
    for file, content in ((one, b"one"), (other, b"two")):
        file.write_bytes(content)
        os.utime(file, ns=(10**18, 10**18))
    before = images.content_hashes([one, other], cache)
    one.rename(tmp_path / "c"), other.rename(one), (tmp_path / "c").rename(other)
    assert images.content_hashes([one, other], cache) == before[::-1] == sha256s([one, other])


def test_an_inode_alone_tells_files_apart(tmp_path, cache, settled, monkeypatch):
    """On a file system that keeps no change time, or whose clock was set back."""
    of = hashing.FileState.of
    monkeypatch.setattr(
        hashing.FileState, "of", staticmethod(lambda state: of(state)._replace(ctime_ns=1))
    )
    file, copy = tmp_path / "a", tmp_path / "b"
    for one, content in ((file, b"old"), (copy, b"new")):
        one.write_bytes(content)
        os.utime(one, ns=(10**18, 10**18))
    images.content_hashes([file], cache)
    copy.replace(file)
    assert images.content_hashes([file], cache) == sha256s([file])


def test_a_file_that_was_just_written_is_read_again(tmp_path, cache):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    images.content_hashes([file], cache)
    assert remembered(cache) == set()
    restored(file, b"new")
    assert images.content_hashes([file], cache) == sha256s([file])


def test_a_file_changed_within_its_clock_tick_is_read_again(tmp_path, cache, monkeypatch):
    """A coarse file system: the second write leaves every number of the state as it was."""
    of = hashing.FileState.of
    tick = time.time_ns() // 10**9 * 10**9
    monkeypatch.setattr(
        hashing.FileState,
        "of",
        staticmethod(lambda state: of(state)._replace(mtime_ns=tick, ctime_ns=tick)),
    )
    file = tmp_path / "a"
    file.write_bytes(b"old")
    images.content_hashes([file], cache)
    file.write_bytes(b"new")
    assert images.content_hashes([file], cache) == sha256s([file])


@pytest.mark.parametrize(
    ("mtime", "ctime", "settled"),
    [(-3, -3, True), (-1, -3, False), (-3, -1, False), (90, -3, True), (-3, 90, False)],
)
def test_what_is_settled_shows_the_next_write(mtime, ctime, settled):
    """Seconds against the time of reading.

    A modification time ahead was given by somebody, a change time ahead is a server's clock.
    """
    now = time.time_ns()
    state = hashing.FileState(3, now + mtime * 10**9, now + ctime * 10**9, 1)
    assert state.settled(now) == settled


def test_a_file_written_while_it_is_read_is_read_once_more(tmp_path, cache, settled, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    digest, contents = hashlib.file_digest, [b"newer", b"newest"]

    def meanwhile(stream, kind):
        found = digest(stream, kind)
        if contents:
            file.write_bytes(contents.pop(0))
        return found

    monkeypatch.setattr(hashlib, "file_digest", meanwhile)
    assert images.content_hashes([file], cache) == sha256s([file])
    contents[:] = [b"1", b"22", b"333"]
    file.write_bytes(b"")
    with pytest.raises(UserError, match="it is written while it is read"):
        images.content_hashes([file], cache)


def test_hashes_that_an_older_medbench_kept_are_not_believed(tmp_path, cache, settled):
    file = tmp_path / "a"
    file.write_bytes(b"new")
    with closing(sqlite3.connect(cache / "hashes.sqlite")) as db, db:
        db.execute(
            "CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT, format TEXT)"
        )
        db.execute(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?)",
            (str(file), 3, file.stat().st_mtime_ns, "0" * 64, ""),
        )
    assert images.content_hashes([file], cache) == sha256s([file])
    assert remembered(cache) == {"a"}


def test_rehashing_believes_nothing_and_reads_each_file_once(tmp_path, cache, settled, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"content")
    images.content_hashes([file], cache)
    mislead(cache)
    assert images.content_hashes([file], cache) == ["0" * 64]
    digest, read = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(1) or digest(*given))
    with images.rehashing():
        assert (
            images.content_hashes([file], cache)
            == images.content_hashes([file], cache)
            == sha256s([file])
        )
    assert images.content_hashes([file], cache) == sha256s([file])
    assert len(read) == 1


def test_unreadable_files_are_all_counted(tmp_path, cache):
    files = [tmp_path / f"gone{i:02d}.png" for i in range(12)]
    with pytest.raises(UserError, match=r"12 of 13 image files") as caught:
        images.content_hashes([*files, Path(__file__)], cache)
    assert [f"gone{i:02d}" in str(caught.value) for i in range(12)] == [True] * 10 + [False] * 2


def test_several_planners_at_once(tmp_path, cache):
    files = [tmp_path / str(i) for i in range(600)]
    for i, file in enumerate(files):
        file.write_bytes(str(i).encode())
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: images.content_hashes(files, cache), range(4)))
    assert answers == [[hashlib.sha256(str(i).encode()).hexdigest() for i in range(600)]] * 4


def test_a_spoilt_memory_is_made_anew(tmp_path, cache, settled, caplog):
    (cache / "hashes.sqlite").write_bytes(b"not a database" * 100)
    assert images.content_hashes([Path(__file__)], cache) == sha256s([Path(__file__)])
    assert "is damaged (file is not a database): reading all files again" in caplog.text
    assert remembered(cache) == {Path(__file__).name}


def test_a_memory_that_cannot_be_written_is_named(tmp_path, cache):
    (cache / "hashes.sqlite").mkdir()
    with pytest.raises(UserError, match=r"hashes\.sqlite.*delete it"):
        images.content_hashes([Path(__file__)], cache)


@pytest.mark.parametrize("column", ["sha256", "format"])
def test_a_remembered_row_that_was_damaged_is_read_again(column, tmp_path, cache, settled):
    file = tmp_path / "a"
    file.write_bytes(b"content")
    (first,) = images.content_hashes([file], cache)
    with closing(sqlite3.connect(cache / "hashes.sqlite")) as db, db:
        db.execute(f"UPDATE contents SET {column} = ?", ("0" * 64,))
    (again,) = images.content_hashes([file], cache)
    assert (again, again.file_format) == (first, first.file_format)


def test_rehash_finds_what_the_memory_hides(folder, mine, medbench, settled, capsys, tmp_path):
    """A disk that changed a file under all that is compared: only reading it again tells."""
    asked = (
        "run",
        "--task",
        f"folder:{folder}",
        "--encoder",
        mine,
        "--methods",
        "given",
        "--size",
        "32",
        "--labels",
        "100",
        "--no-audit",
    )
    assert medbench(*asked, "--out", str(tmp_path / "out")) == 0
    with closing(sqlite3.connect(images.cache_folder() / "hashes.sqlite")) as db, db:
        (first,) = db.execute("SELECT MIN(path) FROM contents").fetchone()
    mislead(images.cache_folder(), first)
    capsys.readouterr()
    assert medbench(*asked, "--plan", "--out", str(tmp_path / "out")) == 0
    believed = capsys.readouterr()
    assert medbench(*asked, "--plan", "--rehash", "--out", str(tmp_path / "out")) == 0
    read = capsys.readouterr()
    assert "older: " in believed.err, "with the wrong hash it is another data set"
    assert "older: " not in read.err
    assert hashing._read_again.get() is None, "it ends with the command"


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "pretrain",
        "check",
        "audit",
        "shortcuts",
        "report",
        "data verify",
        "data show",
        "data split",
    ],
)
def test_commands_that_read_images_take_rehash(command, medbench, capsys):
    assert medbench(*command.split(), "--help") == 0
    assert "--rehash" in capsys.readouterr().out
