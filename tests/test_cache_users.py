"""A cache is not pruned while a process works with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medbench import UserError, images
from medbench.system import cache_users

WORKS = "import sys; from medbench.images import cache_folder; cache_folder(); print(0, flush=True); sys.stdin.read()"


def test_a_cache_that_another_process_works_with_is_not_pruned(
    medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    entry = images.cache_folder() / "packs" / "key"
    entry.mkdir(parents=True)
    (entry / "pixels.npy").write_bytes(b"x")
    command = [sys.executable, "-c", WORKS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None and other.stdout.readline()
        assert medbench("cache", "--prune") == 2
        said = capsys.readouterr().err
        assert f"Process {other.pid} on " in said and "nothing was deleted" in said
        assert (entry / "pixels.npy").exists()
        other.kill()
    assert medbench("cache", "--prune") == 0, "a killed one leaves nothing that holds"
    assert not (entry / "pixels.npy").exists()


def test_a_process_is_a_user_of_one_cache_until_it_enters_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for _ in range(2):
            cache_users.enter(tmp_path / name)

    def users(name: str) -> list[str]:
        files = (tmp_path / name / cache_users.FOLDER).glob("*.*.lock")
        return [file.name.rsplit(".", 2)[1] for file in files]

    assert (users("a"), users("b")) == ([], [str(os.getpid())])
    with cache_users.alone(tmp_path / "b"):
        pass


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    cache_users.enter(tmp_path)
    (mine,) = (tmp_path / cache_users.FOLDER).glob("*.*.lock")
    dead = mine.with_name(mine.name.replace(f".{os.getpid()}.", ".999999999."))
    foreign = mine.with_name("other-machine-0f0f.12.lock")
    dead.touch(), foreign.touch()
    cache_users._leave(os.getpid())
    cache_users.enter(tmp_path)
    assert mine.exists() and foreign.exists() and not dead.exists()
    with cache_users.alone(tmp_path):
        assert not foreign.exists(), "nobody holds it"


def test_a_user_of_another_account_counts_as_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_users.enter(tmp_path)
    (tmp_path / cache_users.FOLDER / "other-machine-0f0f.12.lock").touch()

    def refused(file: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(cache_users.locks, "held", refused)
    with (
        pytest.raises(UserError, match="Process 12 on other-machine-0f0f"),
        cache_users.alone(tmp_path),
    ):
        pass


def test_a_cache_that_other_users_may_write_keeps_who_works_there_open_to_them(
    tmp_path: Path,
) -> None:
    """Else a second user could neither enter, nor tell whether the first one is alive."""
    for name, mode, expected in (("shared", 0o775, {0o777, 0o666}), ("own", 0o700, set())):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        cache_users.enter(tmp_path / name)
        place = tmp_path / name / cache_users.FOLDER
        files = [place, *place.iterdir()]
        modes = {file.stat().st_mode & 0o777 for file in files}
        assert len(files) == 3 and (modes == expected if expected else not modes & {0o777, 0o666})


@pytest.mark.skipif(getattr(os, "getuid", lambda: 1)() != 0, reason="only root is two users")
def test_the_process_of_a_second_user_keeps_the_first_from_pruning(tmp_path: Path) -> None:
    cache = tmp_path / "shared"
    cache.mkdir()
    for folder in (cache, *tmp_path.parents[:-2], tmp_path):
        folder.chmod(folder.stat().st_mode | 0o055)
    cache.chmod(0o777)
    cache_users.enter(cache)
    read, write = os.pipe()
    if (other := os.fork()) == 0:
        try:
            os.setuid(65534)
            cache_users._entered.clear()
            cache_users.enter(cache)
            os.write(write, b"1")
            os.close(write)
            signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    try:
        assert os.read(read, 1)
        with pytest.raises(UserError, match=f"Process {other} on"), cache_users.alone(cache):
            pass
    finally:
        os.close(read)
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    with cache_users.alone(cache):
        assert len(list((cache / cache_users.FOLDER).glob("*.*.lock"))) == 1


def test_a_folder_of_another_user_is_told_and_not_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    for _ in range(2):
        cache_users.enter(tmp_path)
    assert caplog.text.count("nothing keeps other users from pruning") == 1
    with pytest.raises(UserError, match="belongs to another user"), cache_users.alone(tmp_path):
        pass
