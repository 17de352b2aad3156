"""Downloads against a server on this machine: cut, changed, wrong, too large, and archives that try
to get out."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from trees.files import with_bit
from trees.serving import Served, Server

from medbench.schema import Progress, UserError
from medbench.system import download, progress_listener
from medbench.system.download import archives, http

BODY = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()


def whole(part: Path) -> None:
    if part.read_bytes() != BODY:
        raise UserError("another file")


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(
    server: Server, tmp_path: Path
) -> None:
    server.files["/a"] = Served(BODY, cut=[200_000, 70_000])
    heard: list[Progress] = []
    with progress_listener.listening(heard.append):
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    starts = [int(wanted.removeprefix("bytes=").rstrip("-") or 0) for _, wanted in server.asked]
    assert len(starts) == 3 and starts[0] == 0 and 0 < starts[1] < starts[2] < len(BODY)
    assert names(tmp_path) == ["a"]
    assert {(one.stage, one.total, one.unit) for one in heard} == {("downloading a", 1, "MB")}
    assert [one.done for one in heard] == [0, 0, 0, 1], "once a try, once at the end"


@pytest.mark.parametrize("size", [3 * 2**20 + 5, None])
def test_a_download_says_how_far_it_is(size: int | None) -> None:
    """In whole megabytes, once for each.

    Of a file whose size no server says, how many have come.
    """
    heard: list[Progress] = []
    with progress_listener.listening(heard.append):
        told = http._teller("downloading a", size)
        for came in range(0, 3 * 2**20 + 1, 2**16):
            told(came)
        told(3 * 2**20 + 5, done=True)
    shown = [(one.done, one.total, one.unit, one.detail) for one in heard]
    if size:
        assert shown == [
            (0, 4, "MB", ""),
            (1, 4, "MB", ""),
            (2, 4, "MB", ""),
            (3, 4, "MB", ""),
            (4, 4, "MB", ""),
        ]
    else:
        assert shown == [*((0, 1, "files", f"{n} MB") for n in range(4)), (1, 1, "files", "3 MB")]


def test_a_second_call_goes_on_with_what_a_first_one_left(server: Server, tmp_path: Path) -> None:
    served = server.files["/a"] = Served(BODY, cut=[150_000] + 5 * [0])
    with pytest.raises(OSError, match="bytes"):
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    assert names(tmp_path) == ["a.part", "a.part.json"], "kept, but not under its name"
    served.cut.clear()
    server.asked.clear()
    download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    assert len(server.asked) == 1 and server.asked[0][1].startswith("bytes=")


@pytest.mark.parametrize("change", ["no ranges", "another version"])
def test_it_starts_again_where_going_on_would_be_wrong(
    server: Server, tmp_path: Path, change: str
) -> None:
    served = server.files["/a"] = Served(
        b"x" * len(BODY) if change == "another version" else BODY, cut=[150_000] + 5 * [0]
    )
    with pytest.raises(OSError, match="bytes"):
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    served.cut.clear()
    served.ranges, served.mark, served.body = change != "no ranges", '"2"', BODY
    server.asked.clear()
    download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    assert names(tmp_path) == ["a"]
    assert server.asked[-1][1] == ("" if change == "another version" else server.asked[0][1])


def test_without_a_mark_it_goes_on_only_where_a_hash_is_known(
    server: Server, tmp_path: Path
) -> None:
    served = server.files["/a"] = Served(BODY, mark="", cut=[150_000] + 5 * [0])
    for sure in (True, False):
        with pytest.raises(OSError, match="bytes"):
            download.retrieve(f"{server.url}/a", tmp_path / "a", whole, sure=sure)
        served.cut.clear()
        server.asked.clear()
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole, sure=sure)
        assert bool(server.asked[0][1]) == sure
        (tmp_path / "a").unlink()
        served.cut += [150_000] + 5 * [0]


def test_a_first_half_of_another_file_is_found_and_fetched_again(
    server: Server, tmp_path: Path
) -> None:
    served = server.files["/a"] = Served(b"x" * len(BODY), mark="", cut=[150_000] + 5 * [0])
    with pytest.raises(OSError, match="bytes"):
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole, sure=True)
    served.cut.clear()
    served.body = BODY
    download.retrieve(f"{server.url}/a", tmp_path / "a", whole, sure=True)
    assert (tmp_path / "a").read_bytes() == BODY


def test_all_that_had_come_is_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = Served(BODY)
    (tmp_path / "a.part").write_bytes(BODY)
    (tmp_path / "a.part.json").write_text(f'{{"url": "{server.url}/a", "mark": "\\"1\\""}}')
    download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    assert (tmp_path / "a").read_bytes() == BODY and len(server.asked) == 1


def test_a_redirect_is_followed_and_a_length_is_not_needed(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = Served(b"", status=302, location="/b")
    server.files["/b"] = Served(BODY, length=False)
    download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    assert [path for path, _ in server.asked] == ["/a", "/b"]


def test_what_is_wrong_is_deleted_and_what_cannot_be_had_is_said(
    server: Server, tmp_path: Path
) -> None:
    server.files["/a"] = Served(BODY + b"more")
    with pytest.raises(UserError, match="another file"):
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    with pytest.raises(
        UserError, match=r"is 300,004 bytes, not the published 300,000: the file has changed"
    ):
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole, size=len(BODY))
    with pytest.raises(OSError, match="404") as caught:
        download.retrieve(f"{server.url}/none", tmp_path / "a", whole)
    assert download.reason(caught.value) == "the server answered 404 Not Found"
    assert names(tmp_path) == []


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = Served(b"", status=503)
    with pytest.raises(OSError, match="503"):
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    assert len(server.asked) == http.TRIES


def test_a_disk_without_room_is_said_before_and_while_it_fills(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/a"] = Served(BODY)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    with pytest.raises(
        UserError, match=r"has 0\.0 GB free, .* still to come\. Next: free some space"
    ):
        download.retrieve(f"{server.url}/a", tmp_path / "a", whole)
    monkeypatch.undo()
    if Path("/dev/full").exists():
        (tmp_path / "a.part").symlink_to("/dev/full")
        with pytest.raises(UserError, match=r"The disk is full: .* goes on where it stopped"):
            download.retrieve(f"{server.url}/a", tmp_path / "a", whole)


def test_a_first_hash_is_enforced(tmp_path: Path) -> None:
    download.first_seen(tmp_path / "a.json", "1" * 64, "The bytes of it")
    download.first_seen(tmp_path / "a.json", "1" * 64, "The bytes of it")
    with pytest.raises(
        UserError,
        match=r"The bytes of it have changed: SHA-256 222222222222, first seen as 111111111111.*delete .*a\.json",
    ):
        download.first_seen(tmp_path / "a.json", "2" * 64, "The bytes of it")


def test_a_file_s_digest_reports_its_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_listener, "_SMALL", 1)
    (tmp_path / "b").write_bytes(BODY)
    heard: list[Progress] = []
    with progress_listener.listening(heard.append):
        assert (
            download.file_digest(tmp_path / "b", "md5", "hashing b")
            == hashlib.md5(BODY).hexdigest()
        )
        assert download.file_digest(tmp_path / "b", "sha256") == hashlib.sha256(BODY).hexdigest()
    assert heard == [Progress("hashing b", 1, 1, "MB")]


# archives


def zipped(
    file: Path,
    members: dict[str, bytes],
    change: Callable[[zipfile.ZipInfo], None] = lambda info: None,
) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, content)
    return file


def tarred(file: Path, members: dict[str, bytes | tuple[bytes, str]], mode: str = "w:gz") -> Path:
    """A member is its content, or (tar type, target)."""
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return file


GOOD = {
    "a/b.txt": b"one",
    "c.txt": b"two",
    "__MACOSX/c.txt": b"junk",
    "a/.DS_Store": b"junk",
    "a/._b.txt": b"junk",
}


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz"])
def test_archives_are_unpacked_without_what_systems_leave(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_listener, "_SMALL", 1)
    archive = (
        zipped(tmp_path / "x", GOOD) if mode == "zip" else tarred(tmp_path / "x", dict(GOOD), mode)
    )
    heard: list[Progress] = []
    with progress_listener.listening(heard.append):
        download.unpack(archive, "zip" if mode == "zip" else "tar", tmp_path / "out", "unpacking x")
    assert names(tmp_path / "out") == ["a", "a/b.txt", "c.txt"]
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"one"
    assert heard and {(one.stage, one.unit, one.total) for one in heard} == {
        ("unpacking x", "MB", 1)
    }


def test_zips_in_a_zip_and_a_gzip(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner", {"part/p.txt": b"p"}).read_bytes()
    download.unpack(
        zipped(tmp_path / "x.zip", {"images/part.zip": inner}), "zip", tmp_path / "out", nested=True
    )
    assert names(tmp_path / "out") == ["images", "images/part", "images/part/p.txt"]
    (tmp_path / "y.h5.gz").write_bytes(gzip.compress(BODY))
    download.unpack(tmp_path / "y.h5.gz", "gzip", tmp_path / "gz")
    assert (tmp_path / "gz" / "y.h5").read_bytes() == BODY


def link(info: zipfile.ZipInfo) -> None:
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16


OUTSIDE = ("../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "a/b/../../../evil")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_gets_out(tmp_path: Path, name: str, kind: str) -> None:
    members = {"good.txt": b"good", name: b"evil"}
    archive = (
        zipped(tmp_path / "x", members) if kind == "zip" else tarred(tmp_path / "x", dict(members))
    )
    with pytest.raises(
        UserError, match=r"x would write outside its folder: .*evil.*Nothing of it was kept"
    ):
        download.unpack(archive, kind, tmp_path / "deep" / "out")
    assert names(tmp_path) == ["deep", "x"] and not Path("/evil").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tarred(
        tmp_path / "x", {"good.txt": b"good", "door": (kind, "/etc"), "door/passwd": b"evil"}
    )
    with pytest.raises(UserError, match=r"holds a link or a device: 'door'"):
        download.unpack(archive, "tar", tmp_path / "out")
    with pytest.raises(UserError, match=r"holds a link or a device: 'door'"):
        download.unpack(zipped(tmp_path / "y", {"door": b"/etc"}, link), "zip", tmp_path / "out")
    assert names(tmp_path) == ["x", "y"]


def test_a_bomb_is_stopped_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BESIDE", 0)
    zeros = bytes(20_000_000)
    for archive, kind in (
        (zipped(tmp_path / "x", {"zeros": zeros}), "zip"),
        (tarred(tmp_path / "y", {"zeros": zeros}), "tar"),
    ):
        with pytest.raises(UserError, match=r"holds more than its size explains"):
            download.unpack(archive, kind, tmp_path / "out")
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    with pytest.raises(UserError, match=r"holds more than 3 files"):
        download.unpack(
            zipped(tmp_path / "z", {str(i): b"" for i in range(4)}), "zip", tmp_path / "out"
        )
    with (
        pytest.raises(UserError, match=r"holds 'a' twice"),
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        download.unpack(
            zipped(
                tmp_path / "w", {"a": b"1", "b": b"2"}, lambda info: setattr(info, "filename", "a")
            ),
            "zip",
            tmp_path / "out",
        )
    assert names(tmp_path) == ["w", "x", "y", "z"]


@pytest.mark.parametrize(
    ("central", "local", "value", "why"),
    [
        (
            8,
            6,
            1,
            r"x.zip is encrypted\. Next: unpack it by hand, with the password of its publisher",
        ),
        (
            8,
            6,
            64,
            r"x.zip is not a zip archive, or a broken one \(NotImplementedError: strong encryption",
        ),
        # names said to be UTF-8
        (9, 7, 8, r"x.zip is not a zip archive, or a broken one \(UnicodeDecodeError"),
    ],
)
def test_a_zip_that_python_cannot_read(
    tmp_path: Path, central: int, local: int, value: int, why: str
) -> None:
    archive = (
        zipped(tmp_path / "x.zip", {"name": b"text"}).read_bytes().replace(b"name", b"n\xe4me")
    )
    (tmp_path / "x.zip").write_bytes(with_bit(archive, central, local, value))
    with pytest.raises(UserError, match=why):
        download.unpack(tmp_path / "x.zip", "zip", tmp_path / "out")
    assert names(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("kind", ["zip", "tar", "gzip"])
def test_a_broken_archive_leaves_nothing(tmp_path: Path, kind: str) -> None:
    members = {f"{i}.bin": BODY[i * 1000 : (i + 40) * 1000] for i in range(20)}
    file = tmp_path / "x"
    if kind == "zip":
        content = bytearray(zipped(file, members).read_bytes())
        content[len(content) // 2] ^= 255  # one bit of one member: its checksum tells
    elif kind == "tar":
        content = bytearray(tarred(file, dict(members)).read_bytes()[:-5000])
    else:
        content = bytearray(gzip.compress(BODY)[:-5000])
    file.write_bytes(content)
    with pytest.raises(
        UserError, match=rf"x is not a {kind} archive, or a broken one .*download it again"
    ):
        download.unpack(file, kind, tmp_path / "out")
    file.write_bytes(b"<html>no</html>")
    with pytest.raises(UserError, match=rf"x is not a {kind} archive"):
        download.unpack(file, kind, tmp_path / "out")
    assert names(tmp_path) == ["x"]


def test_the_waiting_grows_only_while_nothing_comes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six breaks in a row, each after new bytes, do not end a download."""
    server.files["/a"] = Served(BODY, cut=6 * [70_000])
    waited: list[float] = []
    monkeypatch.setattr(http.time, "sleep", waited.append)
    thread = threading.Thread(
        target=download.retrieve, args=(f"{server.url}/a", tmp_path / "a", whole)
    )
    thread.start()
    thread.join(20)
    assert (tmp_path / "a").read_bytes() == BODY
    assert set(waited) == {0.0}
