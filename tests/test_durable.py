"""A power cut: what was not synced is zeros, though a rename may have survived.

What the cache then gives must be right, or not be there.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.damage import DAMAGES, damage
from fakes.finetuning import LABELS, SHORT, job, pictures, scored
from fakes.pretraining import small, train
from torch import nn

from medbench import Store, images
from medbench.audit.dataset.report import DatasetReport
from medbench.audit.dataset.saved_reports import save_report
from medbench.images import packing
from medbench.models import features
from medbench.schema import Drawn, Encoder, Progress, UserError
from medbench.system import atomic_write
from medbench.system.download.checksums import first_seen
from medbench.system.progress_listener import listening


class Disk:
    """Files as they would be after a power cut now.

    The content that was synced, zeros for the rest; names and sizes as they are.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder = folder
        self.synced: dict[int, bytes] = {}
        fsync = os.fsync

        def noted(fd: int) -> None:
            fsync(fd)
            self.synced[os.fstat(fd).st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()

        monkeypatch.setattr(os, "fsync", noted)

    def cut(self) -> None:
        for file in [
            file for file in self.folder.rglob("*") if file.is_file() and file.name != "lock"
        ]:
            state = file.stat()
            file.write_bytes(
                self.synced.get(state.st_ino, b"")[: state.st_size].ljust(state.st_size, b"\0")
            )


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="the test reads files through /proc"
)
DRAWINGS = [
    Drawn(lambda seed: np.full((16, 16, 3), seed, np.uint8), seed, f"grey {seed}")
    for seed in range(1, 201)
]
ENCODER = Encoder("mean", "", "", 16, (0.0,) * 3, (1.0,) * 3, "bicubic")


def embedded(folder: Path, net: nn.Module) -> features.Features:
    pack = images.pack(DRAWINGS, images.content_hashes(DRAWINGS, folder), 16, "bicubic", folder)
    return features.extract_features(
        pack, lambda: net, ENCODER, "key", folder, device="cpu", precision="fp32"
    )


class Pooled(nn.Module):
    """Mean colours; stops the run at the batch `dies`."""

    def __init__(self, dies: int = -1):
        super().__init__()
        self.dies, self.batch = dies, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.batch == self.dies:
            raise KeyboardInterrupt
        self.batch += 1
        return x.mean((2, 3))


@needs_proc
@pytest.mark.parametrize("dies", [2, 5, -1])
def test_features_after_a_power_cut_are_right(
    dies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BATCH", 16)
    whole = np.array(embedded(tmp_path / "whole", Pooled()).array)
    assert (whole > 0).all()
    disk = Disk(tmp_path / "cut", monkeypatch)
    with contextlib.suppress(KeyboardInterrupt):
        embedded(tmp_path / "cut", Pooled(dies))
    disk.cut()
    np.testing.assert_array_equal(embedded(tmp_path / "cut", Pooled()).array, whole)


@needs_proc
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_pack_after_a_power_cut_is_right(
    every: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts as done is on the disk."""
    monkeypatch.setattr(packing, "SYNC_EVERY", every)
    monkeypatch.setattr(packing, "SYNC_SHARE", 0)
    hashes = images.content_hashes(DRAWINGS, tmp_path)
    disk = Disk(tmp_path / "cut", monkeypatch)

    def cut(heard: Progress) -> None:
        if heard.done >= 3 * packing.CHUNK:
            disk.cut()  # now, without what an orderly end would sync
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(cut):
        images.pack(DRAWINGS, hashes, 16, "bicubic", tmp_path / "cut")
    made = images.pack(DRAWINGS, hashes, 16, "bicubic", tmp_path / "cut")
    np.testing.assert_array_equal(
        made.array, np.stack([image.draw(image.seed) for image in DRAWINGS])
    )


@needs_proc
def test_pretrained_weights_after_a_power_cut_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path / "cut", monkeypatch)
    made = train(tmp_path / "cut", [small("simclr")])
    disk.cut()
    again = train(tmp_path / "cut", [small("simclr")])
    assert all(torch.equal(again[name], value) for name, value in made.items())
    assert '"steps"' in (tmp_path / "cut" / "history.json").read_text()


@needs_proc
def test_a_fine_tuning_goes_on_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, n = LABELS["multiclass"]
    pixels = pictures(labels, seed=1)
    disk = Disk(tmp_path / "cut", monkeypatch)
    first = scored(job(labels, "multiclass", n, tmp_path / "cut"), pixels, SHORT)
    disk.cut()
    again = scored(job(labels, "multiclass", n, tmp_path / "cut"), pixels, SHORT)
    np.testing.assert_array_equal(again.probabilities, first.probabilities)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    atomic_write.write(file, lambda partial: partial.write_text("old"))

    def fails(partial: Path) -> Any:
        partial.write_text("ne")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        atomic_write.write(file, fails)
    assert file.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the test writes to /dev/full")
def test_a_full_disk_is_told_by_the_file_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"older")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    partial = tmp_path / f"weights.pth.{atomic_write.machine()}.{os.getpid()}.{'0' * 16}.partial"
    record = {"weight": torch.zeros(100_000)}
    for write in (
        lambda: atomic_write.archive(file, lambda opened: torch.save(record, opened)),
        lambda: atomic_write.write(file, lambda partial: partial.write_bytes(b"newer")),
    ):
        partial.symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left") as raised:
            write()
        assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(file)
        assert [entry.name for entry in tmp_path.iterdir()] == [
            "weights.pth"
        ] and file.read_bytes() == b"older"
    atomic_write.archive(file, lambda opened: torch.save(record, opened))
    assert torch.equal(torch.load(file)["weight"], record["weight"])


def _write_often(file: Path, process: int, text: str, errors: Any, together: Any) -> None:
    os.getpid = lambda: process  # as in two containers, each of which counts from 1
    for _ in range(30):
        together.wait()
        try:
            atomic_write.write(file, lambda partial: partial.write_text(text))
        except OSError as error:
            errors.put(str(error))


@pytest.mark.slow
def test_writers_with_one_process_number_lose_nothing(tmp_path: Path) -> None:
    """Each took the other's partial file for its own: 24 of 30 pairs of writes were lost."""
    context = multiprocessing.get_context("spawn")
    errors, together, file = context.Queue(), context.Barrier(2), tmp_path / "about.json"
    writers = [
        context.Process(target=_write_often, args=(file, 7, text * 100_000, errors, together))
        for text in "ab"
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert errors.empty()
    assert [entry.name for entry in tmp_path.iterdir()] == ["about.json"] and set(
        file.read_text()
    ) in ({"a"}, {"b"})


def _add_targets(folder: Path, process: int, errors: Any, together: Any) -> None:
    os.getpid = lambda: process
    store = Store(folder)
    for n in range(30):
        together.wait()
        try:
            store.add_target(
                f"set{n}", np.array(["a", "b"]), np.array([0, 1]), np.array(["p", "q"])
            )
            store.target(f"set{n}")
        except (OSError, UserError) as error:
            errors.put(str(error))


@pytest.mark.slow
def test_two_runs_with_one_process_number_save_one_scored_set(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    context = multiprocessing.get_context("spawn")
    errors, together = context.Queue(), context.Barrier(2)
    writers = [
        context.Process(target=_add_targets, args=(tmp_path, 7, errors, together)) for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert errors.empty()
    assert {entry.name for entry in (tmp_path / "targets").iterdir()} == {
        f"set{n}.npz" for n in range(30)
    }


DEAD = 2**22 + 1  # above the largest process number of Linux
HERE, RANDOM = atomic_write.machine(), "0123456789abcdef"
LEFT = {  # name -> hours since it was touched, whether it is removed
    f"weights.pth.{HERE}.{DEAD}.{RANDOM}.partial": (0, True),
    f"about.json.{HERE}.{os.getpid()}.{RANDOM}.partial": (0, False),
    f"plan.json.{HERE}.{os.getpid()}.{RANDOM}.partial": (25, True),
    f"rows.another-machine-0a1b2c3d.{DEAD}.{RANDOM}.partial": (23, False),
    f"scores.another-machine-0a1b2c3d.{DEAD}.{RANDOM}.partial": (25, True),
    "plan.2024": (1000, False),  # a user's own
    "weights.1": (1000, False),
    "plan.json": (1000, False),
    "notes.2024": (1000, False),
    f"{'0a' * 16}.npz": (1000, False),
    "rows.jsonl": (1000, False),
}


def test_an_error_names_the_file_that_a_user_knows(tmp_path: Path) -> None:
    for inner in (f"a.{HERE}.{DEAD}.partial/plan.json", ".a.x7/model", "a", "b"):
        with pytest.raises(FileNotFoundError) as caught, atomic_write.naming(tmp_path / "a"):
            (tmp_path / inner).read_bytes()
        assert caught.value.filename == str(tmp_path / ("b" if inner == "b" else "a"))


def leave(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (hours, _) in LEFT.items():
        then = time.time() - 3600 * hours
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (then, then))


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Of a process of this machine that is gone at once.

    Of any other after a day, in which its writer may still work.
    """
    leave(tmp_path)
    atomic_write.remove_abandoned(tmp_path, tmp_path / "not there")
    assert {entry.name for entry in tmp_path.iterdir()} == {
        name for name, (_, removed) in LEFT.items() if not removed
    }


def test_results_audits_and_the_cache_are_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    partial = f"x.{HERE}.{DEAD}.{RANDOM}.partial"
    embedded(cache, Pooled())
    report = DatasetReport("mine", "sha", "hashes", {}, ())
    save_report(cache, report)
    train(cache / "pretrained" / "key", [small("simclr")])
    pack = next((cache / "packs").iterdir())
    (pack / "images.npy").unlink()
    (cache / "pretrained" / "key" / "weights.pth").unlink()
    out = tmp_path / "out"
    Store(out).create()
    places = [
        out,
        out / "scores",
        out / "targets",
        cache / "audits",
        cache / "features" / "key",
        cache / "pretrained" / "key",
        pack,
    ]
    for place in places:
        (place / partial).write_bytes(b"")
    Store(out).create()
    save_report(cache, report)
    train(cache / "pretrained" / "key", [small("simclr")])
    embedded(cache, Pooled())
    assert [place for place in places if (place / partial).exists()] == []


def test_a_machine_is_a_kernel_since_its_start_and_a_container_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = set()
    for host, boot, space in (("a", "1", "x"), ("b", "1", "x"), ("a", "2", "x"), ("a", "1", "y")):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        monkeypatch.setattr(Path, "read_text", lambda self, boot=boot: boot)
        monkeypatch.setattr(os, "readlink", lambda place, space=space: space)
        words.add(atomic_write.machine.__wrapped__())
    assert len(words) == 4


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_record_of_a_first_hash_is_one_line(kind: str, tmp_path: Path) -> None:
    record = tmp_path / "weights" / "resnet.json"
    first_seen(record, "a" * 64, "The weights of 'resnet'")
    first_seen(record, "a" * 64, "The weights of 'resnet'")
    damage(record, kind)
    with pytest.raises(UserError, match=r"resnet.json is damaged .*Next: delete it"):
        first_seen(record, "a" * 64, "The weights of 'resnet'")
