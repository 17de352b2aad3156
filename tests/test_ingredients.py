"""Which rows a changed version makes older.

Those that it can alter, and no others; and what is computed again then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset

from medbench import Grid, Store, UserError, run
from medbench.images import augment, decoding, hashing, squeezing
from medbench.images.augment import Crop
from medbench.models import features
from medbench.models.pretrain import Recipe
from medbench.run.ingredients import FROZEN
from medbench.schema import Cell, Encoder, registry
from medbench.schema.ingredients import CODE, differences, later, raised, stated
from medbench.stats import bootstrap, intervals, metrics, splits


def save_dicom(file: Path, pixels: np.ndarray) -> None:
    """(H, W) uint8 as an uncompressed MONOCHROME2 file."""
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = pixels.tobytes()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(
        entropy_srcs=[str(file)]
    )
    ds.save_as(file, enforce_file_format=True)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Two classes of 12 training and 6 test images; `mixed`.

    Every third of them is DICOM, the others JPEG; `jpeg`: JPEG alone.
    """
    rng = np.random.default_rng(0)
    for name in ("mixed", "jpeg"):
        for part, n in (("train", 12), ("test", 6)):
            for c, label in enumerate(("1", "2")):
                place = tmp_path / name / part / label
                place.mkdir(parents=True)
                for i in range(n):
                    pixels = (rng.integers(0, 150, (32, 32)) + 80 * c).astype(np.uint8)
                    if name == "mixed" and i % 3 == 0:
                        save_dicom(place / f"{i}.dcm", pixels)
                    else:
                        Image.fromarray(pixels).save(place / f"{i}.jpg")
    return {name: tmp_path / name for name in ("mixed", "jpeg")}


def planned(folder: Path, **changes: object) -> dict[Cell, str]:
    asked = Grid(
        tasks=(f"folder:{folder}",),
        methods=("supervised", "simclr"),
        protocols=("linear", "svm", "finetune"),
        labels=("50", "100"),
        seeds=2,
        audit=False,
    )
    return {entry.cell: entry.fingerprint for entry in run.plan(replace(asked, **changes)).cells}


def older(before: dict[Cell, str], after: dict[Cell, str]) -> set[Cell]:
    assert before.keys() == after.keys()
    return {cell for cell in before if before[cell] != after[cell]}


def raise_metric(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.setitem(metrics.METRICS, name, replace(metrics.METRICS[name], version=2))


Change = Callable[[pytest.MonkeyPatch], None]
CHANGES: dict[str, tuple[Change, Callable[[Cell], bool]]] = {
    "the reader of DICOM": (
        lambda patch: patch.setitem(decoding.DECODERS, "dicom", decoding.DECODERS["dicom"] + 1),
        lambda cell: cell.task == "folder:mixed",
    ),
    "the reader of PNG": (
        lambda patch: patch.setitem(decoding.DECODERS, "png", decoding.DECODERS["png"] + 1),
        lambda cell: False,
    ),
    "the resize": (lambda patch: patch.setattr(squeezing, "RESIZE", 2), lambda cell: True),
    "crops": (
        lambda patch: patch.setattr(augment, "CROPS", augment.CROPS + 1),
        lambda cell: cell.method == "simclr" or cell.protocol == "finetune",
    ),
    "features": (
        lambda patch: patch.setattr(features, "EMBEDDING", 2),
        lambda cell: cell.protocol != "finetune",
    ),
    "draws": (lambda patch: patch.setattr(splits, "DRAWS", 2), lambda cell: cell.labels != "100%"),
    "folds": (lambda patch: patch.setattr(splits, "FOLDS", 2), lambda cell: True),
    "the resampling matrix": (
        lambda patch: patch.setattr(bootstrap, "RESAMPLES", 2),
        lambda cell: True,
    ),
    "a metric that the task has": (lambda patch: raise_metric(patch, "auc"), lambda cell: True),
    "a metric that it has not": (
        lambda patch: raise_metric(patch, "weighted_kappa"),
        lambda cell: False,
    ),
    "an interval rule": (
        lambda patch: patch.setattr(intervals, "expanded", lambda *_: 0.5),
        lambda cell: False,
    ),
    "settings of svm": (
        lambda patch: patch.setitem(
            registry.protocols(), "svm", replace(registry.protocol("svm"), settings={"another": 1})
        ),
        lambda cell: cell.protocol == "svm",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_older_what_it_can_alter(
    change: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, alters = CHANGES[change]
    before = {name: planned(folder) for name, folder in folders.items()}
    make(monkeypatch)
    for name, folder in folders.items():
        assert older(before[name], planned(folder)) == {
            cell for cell in before[name] if alters(cell)
        }


def test_batch_statistics_of_plain_images_are_not_touched_by_crops(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"methods": ("supervised-bn", "concat:supervised-bn+simclr"), "protocols": ("linear",)}
    before = planned(folders["jpeg"], **asked)
    monkeypatch.setattr(augment, "CROPS", augment.CROPS + 1)
    assert older(before, planned(folders["jpeg"], **asked)) == {
        cell for cell in before if cell.method != "supervised-bn"
    }


def test_the_validation_part_of_several_labels_touches_their_fine_tuning(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(
        place.relative_to(folders["jpeg"]).as_posix() for place in folders["jpeg"].rglob("*.jpg")
    )
    rows = [f"{file},{i % 2},{i % 3 % 2},{file.split('/')[0]}" for i, file in enumerate(files)]
    (folders["jpeg"] / "labels.csv").write_text(
        "\n".join(["path,label:a,label:b,split", *rows]) + "\n"
    )
    several = folders["jpeg"] / "labels.csv"
    asked = {"protocols": ("linear", "finetune")}
    before = {"several": planned(several, **asked), "one": planned(folders["jpeg"], **asked)}
    monkeypatch.setattr(splits, "VALIDATION", 3)
    assert older(before["several"], planned(several, **asked)) == {
        cell for cell in before["several"] if cell.protocol == "finetune"
    }
    assert not older(before["one"], planned(folders["jpeg"], **asked))


def test_an_ordinal_task_has_weighted_kappa(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders["jpeg"] / "train" / "3").mkdir()
    (folders["jpeg"] / "test" / "3").mkdir()
    for part in ("train", "test"):
        for i in range(4):
            Image.new("L", (32, 32), 40 * i + 10 * (part == "test")).save(
                folders["jpeg"] / part / "3" / f"{i}.jpg"
            )
    before = planned(folders["jpeg"], ordinal=True)
    raise_metric(monkeypatch, "weighted_kappa")
    assert older(before, planned(folders["jpeg"], ordinal=True)) == set(before)


def test_what_is_read_otherwise_is_decoded_embedded_and_scored_again(
    folders: dict[str, Path],
    mine: str,
    medbench: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("MEDBENCH_CACHE", str(cache))
    made = lambda kind: {place.name for place in (cache / kind).iterdir()}

    def go(name: str) -> str:
        asked = (
            "--task",
            f"folder:{folders[name]}",
            "--encoder",
            mine,
            "--protocols",
            "knn",
            "--labels",
            "100",
            "--out",
            str(tmp_path / f"out-{name}"),
        )
        assert medbench("run", *asked) == 0
        said = capsys.readouterr()
        return said.out + said.err

    for name in folders:
        assert "1 new row" in go(name) and "0 new rows" in go(name)
    before, now = (
        {kind: made(kind) for kind in ("packs", "features", "audits")},
        decoding.DECODERS["dicom"],
    )
    monkeypatch.setitem(decoding.DECODERS, "dicom", decoding.DECODERS["dicom"] + 1)
    assert (
        medbench("table", str(tmp_path / "out-mixed")) == 0
        and " older:" not in capsys.readouterr().err
    )
    said = go("jpeg")
    assert "0 new rows" in said and " older:" not in said
    assert {kind: made(kind) for kind in before} == before
    said = go("mixed")
    assert (
        f"1 row of {tmp_path / 'out-mixed'} is older: decoder dicom {now} -> {now + 1}. They are made again."
        in said
        and "1 new row" in said
    )
    assert all(len(made(kind) - before[kind]) >= 1 for kind in before), (
        "pixels, features and the audit of the folder"
    )


def test_a_table_says_which_rows_of_its_plan_are_older(
    folders: dict[str, Path],
    mine: str,
    medbench: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    asked = Grid(
        tasks=(f"folder:{folders['jpeg']}",),
        encoders=(mine,),
        protocols=("knn",),
        labels=("50", "100"),
        seeds=1,
    )
    run.run(asked, out)
    monkeypatch.setattr(splits, "DRAWS", 2)
    store = Store(out)
    store.add_plan(run.plan(asked).file)
    (older_rows,) = store.older()
    assert (older_rows.count, older_rows.why) == (1, ("draws 1 -> 2",))
    assert medbench("table", str(out)) == 0
    assert (
        f"1 row of {out} is older: draws 1 -> 2: not shown. Next: medbench run --task folder:jpeg"
        in capsys.readouterr().err
    )


def test_rows_of_lines_that_no_plan_holds_any_longer_are_named(
    folders: dict[str, Path],
    mine: str,
    tmp_path: Path,
    medbench: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other lines of the task were made again, by a reader that was written otherwise."""
    asked = Grid(
        tasks=(f"folder:{folders['jpeg']}",),
        encoders=(mine,),
        protocols=("knn", "svm"),
        labels=("100",),
        seeds=1,
    )
    out = tmp_path / "out"
    run.run(asked, out)
    assert medbench("table", str(out)) == 0 and "older" not in capsys.readouterr().err
    family = registry.families()["folder"]
    monkeypatch.setitem(registry.families(), "folder", replace(family, code="ab12"))
    run.run(replace(asked, protocols=("knn",)), out)
    for command in ("table", "compare"):
        capsys.readouterr()
        assert medbench(command, str(out)) == 0
        assert re.search(
            r"1 row of \S+ \(given svm 100%\) is older: task version \d+ -> \d+ of code ab12: not shown\. Next: a run that names",
            capsys.readouterr().err,
        )


def test_rows_of_a_line_that_was_given_up_are_not_called_older(
    folders: dict[str, Path], mine: str, tmp_path: Path
) -> None:
    asked = Grid(
        tasks=(f"folder:{folders['jpeg']}",),
        encoders=(mine,),
        protocols=("knn", "svm"),
        labels=("50",),
        seeds=2,
    )
    store = run.run(asked, tmp_path / "out")
    whole = store.plan()
    failed = next(one for one in whole.cells if one.cell.protocol == "svm")
    rows = (tmp_path / "out" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    kept = b"".join(one for one in rows if failed.fingerprint.encode() not in one)
    (tmp_path / "out" / "rows.jsonl").write_bytes(kept)
    store = Store(tmp_path / "out")
    store.fail(failed, "RuntimeError: no")
    others = tuple(replace(one, cell=replace(one.cell, task="u")) for one in whole.cells)
    assert store.give_up_failed(replace(whole, cells=others)) == [], "that plan is of another task"
    left = tuple(one for one in whole.cells if one.cell.protocol == "knn")
    assert len(store.give_up_failed(replace(whole, cells=left))) == 1
    (told,) = Store(tmp_path / "out").unplanned()
    assert told.sentence(tmp_path / "out") == (
        f"1 row of {tmp_path / 'out'} (given svm 50%) is of lines that no run asks for any more"
    )


def test_formats_are_remembered_and_an_older_memory_learns_them(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((folders["mixed"] / "train" / "1").iterdir())
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(hashing, "_SETTLED_NS", -(10**18))
    found = hashing.content_hashes(files, cache)
    assert {content.file_format for content in found} == {"dicom", "jpeg"}
    with hashing._database(cache) as db, db:
        db.execute("ALTER TABLE contents DROP COLUMN format")
    again = hashing.content_hashes(files, cache)
    assert again == found and [a.file_format for a in again] == [b.file_format for b in found]
    with hashing._database(cache) as db:
        assert db.execute("SELECT count(*) FROM contents WHERE format IS NULL").fetchone() == (0,)


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        ("JPEG", "jpeg"),
        ("PNG", "png"),
        ("TIFF", "tiff"),
        ("BMP", "bmp"),
        ("WEBP", "webp"),
        ("GIF", "other"),
    ],
)
def test_a_format_is_told_by_its_first_bytes(save: str, expected: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 10, 10)).save(tmp_path / "image", save)
    assert decoding.format_of((tmp_path / "image").read_bytes()[: decoding.HEAD]) == expected


#: The fields of the first committed rows. A field beside these must be a `later` one, or every
#: committed row becomes older.
FIRST = {
    Cell: "task data method source encoder readout size pretrain_seed protocol labels seed target",
    Encoder: "name architecture checkpoint size mean std interpolation readout kind file trained_on",
    Crop: "count size scale ratio interpolation flip vertical_flip rotation rotation_p jitter jitter_p gray_p blur_p blur_sigma blur_kernel "
    "solarise_p perspective perspective_p made_for",
    Recipe: "objective crops views batch optimiser lr final_lr warmup warmup_lr weight_decay momentum clip clip_mode paired freeze_norm frozen "
    "accumulate hyper",
}


@pytest.mark.parametrize("words", FIRST, ids=lambda words: words.__name__)
def test_a_field_that_is_added_does_not_make_rows_older(words: type) -> None:
    assert {field.name for field in fields(words) if not field.metadata.get("later")} == set(
        FIRST[words].split()
    )


def test_a_later_field_is_left_out_at_its_default() -> None:
    @dataclass(frozen=True)
    class Words:
        size: int = 8
        tilt: float = later(0.0)

    assert stated(Words()) == {"size": 8}
    assert stated(Words(tilt=0.5)) == {"size": 8, "tilt": 0.5}


def test_differences_name_what_moved() -> None:
    then = {
        "code": list(FROZEN),
        "method": [1, "a"],
        "protocol": [1, "p"],
        "encoder": {"size": 8},
        "task": "t",
    }
    assert differences(then, then) == [] and len(CODE) == len(FROZEN)
    now = {
        **then,
        "protocol": [2, "q"],
        "encoder": {"size": 16},
        "ingredients": {"crops": 2, "resize": 1},
    }
    assert list(map(str, differences(then, now))) == [
        "crops 1 -> 2",
        "protocol version 1 -> 2",
        "the encoder's size 8 -> 16",
    ]
    assert raised({"resize": 1}) == []
    with pytest.raises(UserError, match="Unknown method 'nothing'"):
        registry.method("nothing")
