"""Files of the cache that a disk, a copy or a kill left damaged.

Made again, with a line that says so, and the same rows come out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fakes.command import command
from fakes.damage import ALL, DAMAGES, damage
from fakes.pretraining import small, train
from trees.tinted import quarters, tinted

from medbench import Store, images
from medbench.images import packing
from medbench.run import prepare
from medbench.schema import Drawn, Progress, UserError, Weights, parsed, with_checksum
from medbench.system import archive_checksum
from medbench.system.cache_folder import archive_is_whole
from medbench.system.progress_listener import listening
from medbench.system.row_checksums import RowChecksums

Medbench = Callable[..., int]
FLIPS = 24  # places of a file that are tried, its first and last byte among them


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, encoder, cache and results of a run. No test changes them."""
    place = tmp_path_factory.mktemp("finished")
    tinted(place)
    quarters(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDBENCH_CACHE", str(place / "cache"))
        assert command(*asked(place), "--out", str(place / "out")) == 0
    return place


def asked(place: Path) -> tuple[str, ...]:
    encoder = ("--encoder", f"{place / 'mine.py'}:quarters", "--methods", "given", "--size", "32")
    return ("run", "--task", f"folder:{place / 'mine'}", *encoder, "--labels", "100", "--no-audit")


@pytest.fixture
def rows(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a run whose cache lies here, too."""
    shutil.copytree(finished / "cache", tmp_path / "cache")
    monkeypatch.setenv("MEDBENCH_CACHE", str(tmp_path / "cache"))
    return metrics(finished / "out")


def metrics(out: Path) -> dict[str, Any]:
    return {key: row.metrics for key, row in Store(out).rows().items()}


@pytest.fixture
def run(finished: Path, medbench: Medbench, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Rows of a run that needs everything in the cache: its results are not there yet."""

    def call() -> dict[str, Any]:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert medbench(*asked(finished), "--out", str(tmp_path / "out")) == 0
        return metrics(tmp_path / "out")

    return call


def only(pattern: str) -> Path:
    (file,) = images.cache_folder().glob(pattern)
    return file


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "name",
    [
        "features/*/features.npy",
        "features/*/about.json",
        "packs/*/images.npy",
        "packs/*/about.json",
    ],
)
def test_a_run_makes_again_what_is_damaged(
    name: str,
    kind: str,
    rows: dict[str, Any],
    run: Callable[[], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = contents()
    damage(only(name), kind)
    if name.startswith("packs"):  # or nothing would ask for the pack
        shutil.rmtree(images.cache_folder() / "features")
    capsys.readouterr()
    assert run() == rows
    said = capsys.readouterr().err
    silent = (
        kind == "gone" and name != "features/*/features.npy"
    )  # what is not there was not damaged; a pack of an older medbench had no about.json
    assert ("damaged" in said) != silent and "Traceback" not in said
    assert contents() == whole
    if kind == "flipped":
        assert run() == rows
        assert "damaged" not in capsys.readouterr().err


def contents() -> dict[str, object]:
    """Of the pack and of the features, with their checksums."""
    return {
        str(file.relative_to(images.cache_folder())): file.read_bytes()
        if file.suffix == ".npy"
        else parsed(file.read_bytes())["checksums"]
        for name in ("features", "packs")
        for file in (only(f"{name}/*/*.npy"), only(f"{name}/*/about.json"))
    }


@pytest.mark.usefixtures("rows")
def test_every_place_of_a_pack_and_of_features_is_under_a_checksum() -> None:
    for file in (only("features/*/features.npy"), only("packs/*/images.npy")):
        sums = RowChecksums.from_json(
            parsed(file.with_name("about.json").read_bytes())["checksums"]
        )
        sums.check(sums.open(file))
        for broken in flips(file):
            with pytest.raises(ValueError, match=r"header|checksum"):
                sums.check(sums.open(broken))


def flips(file: Path) -> Iterator[Path]:
    """The file with one bit flipped, at `FLIPS` places one after another."""
    whole = file.read_bytes()
    for i, at in enumerate(np.linspace(0, len(whole) - 1, FLIPS).astype(int).tolist()):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << i % 8]) + whole[at + 1 :])
        yield file
    file.write_bytes(whole)


def test_what_an_older_medbench_left_is_taken_and_gets_checksums(
    rows: dict[str, Any], run: Callable[[], dict[str, Any]]
) -> None:
    features, pack = only("features/*/about.json"), only("packs/*/about.json")
    record = parsed(features.read_bytes())
    sums = record.pop("checksums")
    pack.unlink()
    features.write_text(json.dumps(record))
    assert run() == rows
    assert parsed(features.read_bytes())["checksums"] == sums
    assert not pack.exists(), "nothing asked for the pixels"
    shutil.rmtree(features.parent)
    assert run() == rows
    assert parsed(pack.read_bytes())["checksums"]["shape"] == [54, 32, 32, 3]


# Packs, row by row


def draw(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.fixture
def pack(tmp_path: Path) -> images.Pack:
    drawings = [Drawn(draw, i, f"test {i}") for i in range(100)]
    return images.pack(drawings, images.content_hashes(drawings, tmp_path), 16, "bicubic", tmp_path)


def test_rows_are_checked_where_they_are_read_and_decoded_again(
    pack: images.Pack, caplog: pytest.LogCaptureFixture
) -> None:
    whole = pack.file.read_bytes()
    spoilt = bytearray(whole)
    for row in (40, 99):
        spoilt[128 + row * 768] ^= 1
    pack.file.write_bytes(spoilt)
    pixels = pack.array
    np.testing.assert_array_equal(
        pixels[np.array([0, 31, 70])], np.stack([draw(0), draw(31), draw(70)])
    )
    assert not caplog.messages, "of four blocks two were read, and these are whole"
    np.testing.assert_array_equal(pixels[33], draw(33))
    assert ["images 32 to 63 are damaged on disk" in message for message in caplog.messages] == [
        True
    ]
    np.testing.assert_array_equal(pixels, np.stack([draw(i) for i in range(100)]))
    assert ["images 96 to 99 are damaged on disk" in message for message in caplog.messages] == [
        False,
        True,
    ]
    assert pack.file.read_bytes() == whole


def test_rows_are_given_as_an_array_gives_them(pack: images.Pack) -> None:
    whole = np.stack([draw(i) for i in range(100)])
    mask = np.arange(100) % 3 == 0
    for index in (
        5,
        -1,
        slice(3, 90),
        slice(None, None, 7),
        slice(90, 3, -2),
        [4, 2, 2],
        np.array([], int),
        mask,
        (3, 2),
        (slice(4), 1),
    ):
        np.testing.assert_array_equal(pack.array[index], whole[index])
        np.testing.assert_array_equal(pack.array.part(slice(0, 100))[index], whole[index])
    part = pack.array.part(slice(10, 60)).part(slice(5, 50))
    assert part.shape == (45, 16, 16, 3) and len(part) == 45
    np.testing.assert_array_equal(part, whole[15:60])
    with pytest.raises(IndexError):
        part[45]


def test_rows_that_cannot_be_made_as_they_were_end_in_a_line(
    tmp_path: Path, pack: images.Pack
) -> None:
    """Their file is gone, or is decoded to other pixels.

    The pack is removed, so that the next run makes it anew.
    """
    damage(pack.file, "flipped")
    other = images.Pack(pack.key, pack.file, 16, 100, pack.sums, [Drawn(draw, 7, "another")] * 100)
    with pytest.raises(
        UserError,
        match=r"images 32 to 63 are damaged on disk.*The pack was removed.*the same command makes it anew",
    ):
        other.array[:]
    assert not pack.file.exists()


def test_a_pack_of_another_shape_is_not_taken(
    tmp_path: Path, pack: images.Pack, caplog: pytest.LogCaptureFixture
) -> None:
    about = pack.file.with_name("about.json")
    record = parsed(about.read_bytes())
    record["checksums"]["shape"] = [100, 16, 48, 1]
    about.write_bytes(with_checksum(record))
    drawings = [Drawn(draw, i, f"test {i}") for i in range(100)]
    again = images.pack(
        drawings, images.content_hashes(drawings, tmp_path), 16, "bicubic", tmp_path
    )
    np.testing.assert_array_equal(again.array, np.stack([draw(i) for i in range(100)]))
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("name", ["images.partial.npy", "done.npy"])
@pytest.mark.parametrize("kind", ALL)
def test_an_unfinished_pack_that_is_damaged_ends_right(
    name: str, kind: str, tmp_path: Path
) -> None:
    drawings = [Drawn(draw, i, f"test {i}") for i in range(100)]
    hashes = images.content_hashes(drawings, tmp_path)

    def die(heard: Progress) -> None:
        if heard.done >= 2 * packing.CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(die):
        images.pack(drawings, hashes, 16, "bicubic", tmp_path)
    damage(tmp_path / "packs" / images.pack_key(hashes, 16, "bicubic") / name, kind)
    with suppress(UserError):  # a damaged checksum: the pack is removed
        np.array(images.pack(drawings, hashes, 16, "bicubic", tmp_path).array)
    made = np.array(images.pack(drawings, hashes, 16, "bicubic", tmp_path).array)
    np.testing.assert_array_equal(made, np.stack([draw(i) for i in range(100)]))


# Weights and what else is an archive


@pytest.fixture
def trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[dict[str, torch.Tensor], int]]:
    """Weights that `prepare.trained` gives, and how many trainings it took."""
    trainings: list[Path] = []

    def pretraining(*_: Any, folder: Path, **__: Any) -> None:
        trainings.append(folder)
        train(folder, [small("simclr")])

    monkeypatch.setattr(prepare, "pretrain", SimpleNamespace(pretrain=pretraining))
    monkeypatch.setattr(prepare, "learnt_from", lambda *_: (None, np.zeros(0)))
    monkeypatch.setattr(
        prepare, "replace", lambda unit, **more: SimpleNamespace(**{**vars(unit), **more})
    )
    data = SimpleNamespace(learnt_from=(np.zeros(0), None))
    encoder = SimpleNamespace(mean=(), std=(), size=16)
    recipe = [small("simclr")]
    weights = Weights("w", "s", (), None)
    unit = SimpleNamespace(
        members=(),
        recipes=recipe,
        data=data,
        encoder=encoder,
        start="s",
        name="u",
        weights=weights,
        pretrain_seed=0,
        precision="fp32",
    )

    def call() -> tuple[dict[str, torch.Tensor], int]:
        before = len(trainings)
        file = prepare.trained(SimpleNamespace(cache_dir=tmp_path), unit, "cpu").weights.file  # type: ignore[arg-type]
        return torch.load(file, weights_only=True), len(trainings) - before

    return call


@pytest.mark.parametrize("kind", ALL)
def test_damaged_weights_are_trained_again(
    kind: str,
    trained: Callable[[], tuple[dict[str, torch.Tensor], int]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, count = trained()
    assert count == 1 and trained()[1] == 0
    (file,) = tmp_path.glob("pretrained/*/weights.pth")
    damage(file, kind)
    again, count = trained()
    assert count == 1
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert ("weights.pth is damaged" in caplog.text) == (kind != "gone")


@pytest.mark.parametrize("kind", ALL)
def test_a_damaged_history_is_lost_and_the_weights_are_not(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, [small("simclr")])
    assert prepare.kept_history(tmp_path)["steps"]
    damage(tmp_path / "history.json", kind)
    assert prepare.kept_history(tmp_path) == {}
    assert ("history.json is damaged" in caplog.text) == (kind != "gone")
    assert not (tmp_path / "history.json").exists() and (tmp_path / "weights.pth").exists()


@pytest.mark.parametrize("kind", DAMAGES)
def test_an_archive_that_is_damaged_is_removed_and_told(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights, and the states of a pretraining and of a fine-tuning that were killed."""
    train(tmp_path, [small("simclr")])
    file = tmp_path / "weights.pth"
    assert archive_is_whole(file, "pretraining again")
    damage(file, kind)
    assert not archive_is_whole(file, "pretraining again") and not file.exists()
    assert caplog.messages[-1].endswith("pretraining again")


def test_every_place_of_an_archive_is_under_its_checksum(tmp_path: Path) -> None:
    train(tmp_path, [small("simclr")])
    assert archive_checksum.check_file(tmp_path / "weights.pth")
    for broken in flips(tmp_path / "weights.pth"):
        with pytest.raises(archive_checksum.DamagedArchive):
            archive_checksum.check_file(broken)
        with pytest.raises(archive_checksum.DamagedArchive):
            archive_checksum.check(broken.read_bytes())


def test_weights_of_an_older_medbench_get_a_checksum(tmp_path: Path) -> None:
    state = {"weight": torch.arange(1000.0)}
    torch.save(state, tmp_path / "weights.pth")
    assert archive_is_whole(tmp_path / "weights.pth", "")
    assert archive_checksum.check_file(tmp_path / "weights.pth")
    assert torch.equal(
        torch.load(tmp_path / "weights.pth", weights_only=True)["weight"], state["weight"]
    )
    torch.save(state, tmp_path / "older.pth")
    content = bytearray((tmp_path / "older.pth").read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 400] ^= 1
    (tmp_path / "older.pth").write_bytes(content)
    assert not archive_is_whole(tmp_path / "older.pth", ""), (
        "its members have checksums of their own"
    )


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_pretraining_whose_state_is_damaged_begins_anew(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medbench.models.pretrain import checkpointing

    whole = train(tmp_path / "whole", [small("simclr")])
    monkeypatch.setattr(checkpointing, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(checkpointing.CheckpointWriter, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", [small("simclr")])
    monkeypatch.undo()
    damage(tmp_path / "killed" / "checkpoint.pth", kind)
    again = train(tmp_path / "killed", [small("simclr")])
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


# Audits


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_audit_is_made_anew(
    kind: str, folder: Path, medbench: Medbench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medbench("audit", f"folder:{folder}", "--fast") == 0
    files = sorted(images.cache_folder().glob("audits/*.json"))
    whole = [{**parsed(file.read_bytes()), "seconds": 0} for file in files]
    assert len(files) == 2, "what it found, and what tables of the same content say of it"
    for file in files:
        damage(file, kind)
    assert medbench("audit", f"folder:{folder}", "--fast") == 0
    assert [{**parsed(file.read_bytes()), "seconds": 0} for file in files] == whole
    assert "Traceback" not in capsys.readouterr().err
