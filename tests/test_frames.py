"""Files of several frames, pages or slices.

Each is decoded as a file of one would be, so many are taken evenly, and a file is a bag.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from fakes.dicom_files import write_dicom
from PIL import Image
from pydicom.uid import RLELossless

from medbench import Grid, images
from medbench.images import frames
from medbench.run.execution import run
from medbench.run.planning import plan
from medbench.schema import UserError, registry

RNG = np.random.default_rng(0)
needs_nibabel = pytest.mark.skipif(
    importlib.util.find_spec("nibabel") is None, reason="nibabel is an extra: medbench[nifti]"
)


def pixels(file: Path, number: int) -> np.ndarray:
    return frames.frame_of(file, number, "0" * 64).draw(number)


def write_frames(folder: Path, stack: np.ndarray, name: str = "many.dcm", **fields: object) -> Path:
    """(F, H, W) as one DICOM file."""
    about = {
        "Rows": stack.shape[1],
        "Columns": stack.shape[2],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
    }
    written: Path = write_dicom(
        folder,
        stack,
        name,
        **{**about, "NumberOfFrames": len(stack), "PlanarConfiguration": None, **fields},
    )
    return written


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("packed", [False, True])
def test_a_frame_of_a_dicom_file_is_what_a_file_of_it_alone_gives(
    kind: type, packed: bool, tmp_path: Path
) -> None:
    stack = RNG.integers(0, np.iinfo(kind).max // 9, (5, 12, 20)).astype(kind)
    window: dict[str, Any] = {
        "WindowCenter": 20,
        "WindowWidth": 30,
        "RescaleSlope": 1,
        "RescaleIntercept": -3,
    }
    file = write_frames(tmp_path, stack, **window)
    if packed:
        ds = pydicom.dcmread(file)
        ds.compress(RLELossless)
        ds.save_as(file)
    assert frames.count(file) == 5
    for number, frame in enumerate(stack):
        alone = write_dicom(
            tmp_path, frame, "one.dcm", PhotometricInterpretation="MONOCHROME2", **window
        )
        np.testing.assert_array_equal(pixels(file, number), images.decode(alone))
    with pytest.raises(UserError, match=r"holds 5 frames.*--frames"):
        images.decode(file)


def test_an_enhanced_file_has_a_window_a_frame(tmp_path: Path) -> None:
    groups = []
    for centre in (50, 150):
        group, window = pydicom.Dataset(), pydicom.Dataset()
        window.WindowCenter, window.WindowWidth = centre, 100
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    frame = RNG.integers(0, 200, (12, 20)).astype(np.uint8)
    file = write_frames(tmp_path, np.stack([frame, frame]), PerFrameFunctionalGroupsSequence=groups)
    for number, centre in enumerate((50, 150)):
        alone = write_dicom(tmp_path, frame, "one.dcm", WindowCenter=centre, WindowWidth=100)
        np.testing.assert_array_equal(pixels(file, number), images.decode(alone))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_page_of_a_tiff_is_what_a_file_of_it_alone_gives(mode: str, tmp_path: Path) -> None:
    shape = (12, 20, 3) if mode == "RGB" else (12, 20)
    pages = [
        Image.fromarray(
            RNG.integers(0, 250, shape).astype(np.uint16 if mode == "I;16" else np.uint8)
        )
        for _ in range(4)
    ]
    pages[0].save(tmp_path / "many.tif", save_all=True, append_images=pages[1:])
    assert frames.count(tmp_path / "many.tif") == 4
    for number, page in enumerate(pages):
        page.save(tmp_path / "one.tif")
        np.testing.assert_array_equal(
            pixels(tmp_path / "many.tif", number), images.decode(tmp_path / "one.tif")
        )


@needs_nibabel
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slices_of_a_volume_are_turned_to_the_patient_and_scaled_together(
    suffix: str, tmp_path: Path
) -> None:
    import nibabel

    volume = np.zeros((6, 8, 3), np.int16)
    # of the last slice one point: the patient's left, in front
    volume[..., 0], volume[0, 7, 2] = 50, 100
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"straight{suffix}")
    nibabel.save(
        nibabel.Nifti1Image(volume[::-1], np.diag([-1, 1, 1, 1])), tmp_path / f"turned{suffix}"
    )
    for name in ("straight", "turned"):
        file = tmp_path / f"{name}{suffix}"
        assert frames.count(file) == 3
        low, top = pixels(file, 0), pixels(file, 2)
        assert low.shape == (8, 6, 3) and set(low.ravel().tolist()) == {50}, (
            "8-bit values of the whole volume, not stretched in a slice"
        )
        assert top[0, 0, 0] == 100 and top.astype(int).sum() == 300, "front is up, left is left"
    (tmp_path / f"bad{suffix}").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"bad\.nii.* is not a NIfTI volume that can be read"):
        frames.count(tmp_path / f"bad{suffix}")
    flat = tmp_path / f"series{suffix}"
    nibabel.save(nibabel.Nifti1Image(np.stack([volume, volume], 3), np.eye(4)), flat)
    with pytest.raises(UserError, match="an array of 4 axes: a volume has three"):
        frames.count(flat)


def test_frames_are_taken_evenly() -> None:
    assert frames.evenly(100, 5) == [10, 30, 50, 70, 90] and frames.evenly(3, 3) == [
        0,
        1,
        2,
    ] == frames.evenly(3, 9)


@pytest.fixture
def loops(tmp_path: Path) -> str:
    """Of 24 patients a loop of six frames, in DICOM or TIFF, or a single film each.

    The sick are brighter.
    """
    place = tmp_path / "loops"
    place.mkdir()
    rows = []
    for i in range(24):
        stack = (RNG.integers(0, 120, (6, 8, 8)) + 60 * (i % 2)).astype(np.uint8)
        name = f"{i}.tif" if i % 3 else f"{i}.dcm"
        if i % 3 == 0:
            write_frames(place, stack, name)
        else:
            pages = [Image.fromarray(page) for page in stack]
            pages[0].save(
                place / name,
                save_all=i % 3 == 2,
                **({"append_images": pages[1:]} if i % 3 == 2 else {}),
            )
        rows.append([name, "sick" if i % 2 else "healthy", f"p{i}", "train" if i < 12 else "test"])
    with (place / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "group", "split"], *rows])
    return f"folder:{place / 't.csv'}"


def test_a_file_of_frames_is_a_bag_that_a_run_by_case_judges(
    loops: str, mine: str, tmp_path: Path
) -> None:
    protocols = ("linear", "case-mean")
    grid = Grid(
        tasks=(loops,),
        labels=("all",),
        encoders=(mine,),
        frames=3,
        by="case",
        protocols=protocols,
        audit=False,
        seeds=1,
    )
    (data,) = plan(grid).tasks
    train = data.pool
    assert len(train) == 8 * 3 + 4 and train.ids[:3].tolist() == ["0.dcm#1", "0.dcm#3", "0.dcm#5"]
    bags = {(f"p{i}", f"{i}.tif" if i % 3 else f"{i}.dcm") for i in range(12)}
    assert set(zip(train.groups.tolist(), train.bags.tolist(), strict=True)) == bags
    assert any(
        "of 16 files of several frames 3 each are taken, evenly" in mark.text for mark in data.marks
    )
    store = run(grid, tmp_path / "out")
    assert {row.n_labels for row in store.rows().values()} == {12} and len(store.rows()) == 2


def test_frames_change_what_a_row_is_of_and_nothing_without_them(
    loops: str, mine: str, medbench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (
        plan(Grid(tasks=(loops,), encoders=(mine,), frames=n, audit=False)).tasks[0].identity
        for n in (2, 3)
    )
    assert one != two
    assert registry.task(loops).settings == registry.task(loops, frames=0).settings
    assert (
        medbench(
            "run", "--task", loops, "--encoder", mine, "--no-audit", "--plan", "--frames", "5000"
        )
        == 2
    )
    assert (
        "The number of frames, 5000, is out of range. Allowed: 1 to 1000" in capsys.readouterr().err
    )
    assert medbench("run", "--task", "derm", "--data", "phantom", "--plan", "--frames", "5") == 2
    assert "--frames describes a folder of your own" in capsys.readouterr().err


@needs_nibabel
def test_a_folder_of_volumes_is_read_where_slices_are_asked_for(tmp_path: Path) -> None:
    import nibabel

    for i in range(20):
        place = tmp_path / "heads" / ("sick" if i % 2 else "healthy")
        place.mkdir(parents=True, exist_ok=True)
        nibabel.save(
            nibabel.Nifti1Image(RNG.integers(0, 99, (8, 8, 9)).astype(np.int16), np.eye(4)),
            place / f"{i}.nii.gz",
        )
    task = registry.task(f"folder:{tmp_path / 'heads'}", frames=2)
    parts = task.load(tmp_path)
    assert sum(map(len, parts.values())) == 40 and task.bags == "bag"
    for split in parts.values():
        assert (split.groups == split.bags).all(), (
            "without a group a volume is one: its slices are never torn"
        )
    with pytest.raises(UserError, match="holds no image"):
        registry.task(f"folder:{tmp_path / 'heads'}")
