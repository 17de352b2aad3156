"""A power cut: what was not synced is zeros, though a rename may have survived. What the cache then gives must be right, or not be there."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.finetuning import LABELS, SHORT, job, pictures, scored
from fakes.pretraining import small, train
from torch import nn

from medbench import images
from medbench.models import features
from medbench.schema import Drawn, Encoder
from medbench.system import atomic_write


class Disk:
    """Files as they would be after a power cut now: the content that was synced, zeros for the rest; names and sizes as they are."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder = folder
        self.synced: dict[int, bytes] = {}
        fsync = os.fsync

        def noted(fd: int) -> None:
            fsync(fd)
            self.synced[os.fstat(fd).st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()

        monkeypatch.setattr(os, "fsync", noted)

    def cut(self) -> None:
        for file in [file for file in self.folder.rglob("*") if file.is_file() and file.name != "lock"]:
            state = file.stat()
            file.write_bytes(self.synced.get(state.st_ino, b"")[: state.st_size].ljust(state.st_size, b"\0"))


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the test reads files through /proc")
DRAWINGS = [Drawn(lambda seed: np.full((16, 16, 3), seed, np.uint8), seed, f"grey {seed}") for seed in range(1, 201)]
ENCODER = Encoder("mean", "", "", 16, (0.0,) * 3, (1.0,) * 3, "bicubic")


def embedded(folder: Path, net: nn.Module) -> features.Features:
    pack = images.pack(DRAWINGS, images.content_hashes(DRAWINGS, folder), 16, "bicubic", folder)
    return features.extract_features(pack, lambda: net, ENCODER, "key", folder, device="cpu", precision="fp32")


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
def test_features_after_a_power_cut_are_right(dies: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 16)
    whole = np.array(embedded(tmp_path / "whole", Pooled()).array)
    assert (whole > 0).all()
    disk = Disk(tmp_path / "cut", monkeypatch)
    with contextlib.suppress(KeyboardInterrupt):
        embedded(tmp_path / "cut", Pooled(dies))
    disk.cut()
    np.testing.assert_array_equal(embedded(tmp_path / "cut", Pooled()).array, whole)


@needs_proc
def test_pretrained_weights_after_a_power_cut_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "cut", monkeypatch)
    made = train(tmp_path / "cut", [small("simclr")])
    disk.cut()
    again = train(tmp_path / "cut", [small("simclr")])
    assert all(torch.equal(again[name], value) for name, value in made.items())
    assert '"steps"' in (tmp_path / "cut" / "history.json").read_text()


@needs_proc
def test_a_fine_tuning_goes_on_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_full_disk_is_told_by_the_file_that_did_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert [entry.name for entry in tmp_path.iterdir()] == ["weights.pth"] and file.read_bytes() == b"older"
    atomic_write.archive(file, lambda opened: torch.save(record, opened))
    assert torch.equal(torch.load(file)["weight"], record["weight"])
