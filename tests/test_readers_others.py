"""Eyes, cells, patches and endoscopy.

Who belongs to whom, names that differ, partial downloads, and images that are rows of one file.
"""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trees import others

from medbench import images
from medbench.data.task_data import open_task
from medbench.images import hashing
from medbench.schema import Drawn, Grid, Progress, UserError, registry
from medbench.system import progress_listener
from medbench.tasks import _array_rows as rows
from medbench.tasks import endoscopy, lymph, marrow, medmnist, retina
from medbench.tasks.medmnist.sets import SETS


def test_both_eyes_of_a_patient_stand_on_one_side(tmp_path: Path) -> None:
    root = others.make_eyepacs(tmp_path)
    parts = retina.load_eyepacs(root)
    for part in parts.values():
        assert all(
            i == f"{g}_{eye}"
            for i, g, eye in zip(part.ids, part.groups, part.meta["eye"], strict=True)
        )
        assert (np.unique(part.groups, return_counts=True)[1] == 2).all()
    file = root / "trainLabels.csv"
    file.write_text(file.read_text().replace("3_left", "3_middle"))
    with pytest.raises(UserError, match="'3_middle' is neither PATIENT_left nor PATIENT_right"):
        retina.load_eyepacs(root)


def test_aptos_copies_with_two_grades_are_left_out(tmp_path: Path) -> None:
    root = others.make_aptos(tmp_path)
    # grades 0 and 1
    shutil.copy(root / "train_images" / f"{0:012x}.png", root / "train_images" / f"{1:012x}.png")
    # both grade 2
    shutil.copy(root / "train_images" / f"{2:012x}.png", root / "train_images" / f"{7:012x}.png")
    opened = open_task(retina.RETINA, Grid(data=str(root)), images.cache_folder(), [])
    assert sum(len(part) for part in opened.parts.values()) == 58
    assert any("left out where graded differently" in mark.text for mark in opened.marks)
    assert any("58 of the 3662 images" in mark.text for mark in opened.marks)


def test_matek_reads_classes_with_and_without_range_folders(tmp_path: Path) -> None:
    root = others.make_matek(tmp_path)
    parts = marrow.load(root)
    found = np.concatenate([part.ids for part in parts.values()])
    assert sum(name.startswith("BAS_") for name in found) == 10
    assert marrow.MARROW.groups is None
    (root / "BAS").rename(root / "BASO")
    with pytest.raises(
        UserError, match=r"the folder 'BASO', no class of Matek.*Did you mean 'BAS'"
    ):
        marrow.load(root)


def test_hyperkvasir_names_of_folds_and_folders_meet(tmp_path: Path) -> None:
    parts = endoscopy.ENDOSCOPY.load(others.make_hyperkvasir(tmp_path))
    for part, folds in (("train", {0, 1, 2}), ("val", {3}), ("test", {4})):
        for name, label, image in zip(
            parts[part].ids, parts[part].labels, parts[part].images, strict=True
        ):
            assert int(name.split("-")[1], 16) % 5 in folds
            assert (
                image.parent.name
                == endoscopy.CLASSES[label]
                == endoscopy.CLASSES[int(name.split("-")[0], 16)]
            )


def test_folders_may_have_the_folds_names(tmp_path: Path) -> None:
    root = others.make_hyperkvasir(tmp_path)
    before = endoscopy.ENDOSCOPY.load(root)["test"].ids.tolist()
    polyps = next(root.glob("labeled-images/*/*/polyps"))
    polyps.rename(polyps.with_name("polyp"))
    assert endoscopy.ENDOSCOPY.load(root)["test"].ids.tolist() == before


def test_a_partial_download_is_named_and_runs_where_allowed(tmp_path: Path) -> None:
    root = others.make_hyperkvasir(tmp_path, ["polyps", "cecum", *endoscopy.GRADES])
    with pytest.raises(
        UserError,
        match=r"holds a part of HyperKvasir: 18 of 23 classes are not there.*--allow-partial",
    ):
        open_task(endoscopy.ENDOSCOPY, Grid(data=str(root)), images.cache_folder(), [])
    opened = open_task(
        endoscopy.ENDOSCOPY, Grid(data=str(root), allow_partial=True), images.cache_folder(), []
    )
    assert any("50 of the 10662 images" in mark.text for mark in opened.marks)
    assert any(
        mark.kind == "partial" and mark.text.startswith("18 of 23 classes are not there")
        for mark in opened.marks
    )
    whole = open_task(endoscopy.UC_GRADE, Grid(data=str(root)), images.cache_folder(), [])
    assert (whole.task.kind, whole.task.metric, len(whole.pool)) == (
        "ordinal",
        "weighted_kappa",
        18,
    )


def test_no_class_folder_is_named_with_the_nearest(tmp_path: Path) -> None:
    root = others.make_hyperkvasir(tmp_path, ["polyps"])
    with pytest.raises(
        UserError,
        match=r"No class folder is in .*ulcerative-colitis-grade-1, .*medbench data list uc-grade",
    ):
        endoscopy.UC_GRADE.load(root)


def test_the_real_endoscopy(real_data: Path) -> None:
    root = endoscopy.ENDOSCOPY.find(real_data)
    assert root is not None
    parts = endoscopy.ENDOSCOPY.load(root)
    counts = np.bincount(np.concatenate([part.labels for part in parts.values()]), minlength=23)
    expected = {
        "polyps": 1028,
        "hemorrhoids": 6,
        "ulcerative-colitis-grade-0-1": 35,
        "ulcerative-colitis-grade-1-2": 11,
    }
    expected |= {
        "ulcerative-colitis-grade-2-3": 28,
        **dict(zip(endoscopy.GRADES, (201, 443, 133), strict=True)),
    }
    assert {
        name: n for name, n in zip(endoscopy.CLASSES, counts.tolist(), strict=True) if n
    } == expected
    grades = endoscopy.UC_GRADE.load(root)
    assert sum(len(part) for part in grades.values()) == endoscopy.UC_GRADE.n_images


def test_rows_of_h5_files_are_images(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = others.make_pcam(tmp_path)
    test = lymph.load(root)["test"]
    with h5py.File(root / "camelyonpatch_level_2_split_test_x.h5") as file:
        x = file["x"][...]
    assert test.labels.tolist() == [0, 1] * 6
    assert len({image.key for image in test.images}) == 12
    sent = pickle.loads(pickle.dumps(test.images))
    for i in (11, 0, 5):
        np.testing.assert_array_equal(sent[i].draw(sent[i].seed), x[i])
    packed = images.pack(
        test.images,
        images.content_hashes(test.images, tmp_path),
        96,
        "bicubic",
        tmp_path / "cache",
        workers=1,
    )
    np.testing.assert_array_equal(packed.array, x)


def test_h5_files_that_are_packed_or_of_another_shape(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = others.make_pcam(tmp_path)
    x, y = (root / f"camelyonpatch_level_2_split_valid_{letter}.h5" for letter in "xy")
    packed = x.rename(x.with_name(f"{x.name}.gz"))
    with pytest.raises(
        UserError, match=rf"{packed.name} is still packed.*Next: gunzip .*{packed.name}"
    ):
        lymph.load(root)
    x.write_bytes(b"no h5")
    with pytest.raises(UserError, match=r"is not an HDF5 file with a data set 'x'"):
        lymph.load(root)
    packed.replace(x)
    with h5py.File(y, "w") as file:
        file["y"] = np.zeros((5, 1, 1, 1), np.uint8)
    with pytest.raises(
        UserError, match=r"valid_x.h5 holds \(8, 96, 96, 3\), and .*valid_y.h5 5 labels"
    ):
        lymph.load(root)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a small archive of a set and make its counts and MD5 the published ones."""

    def archive(name: str, size: int = 28, counts: tuple[int, int, int] = (60, 15, 30)) -> Path:
        about = SETS[name]
        file = tmp_path / "medmnist" / (f"{name}.npz" if size == 28 else f"{name}_{size}.npz")
        grey = name in ("chestmnist", "pneumoniamnist")
        md5 = others.make_medmnist(
            file,
            counts,
            (size, size) if grey else (size, size, 3),
            len(about.classes),
            about.kind == "multilabel",
        )
        monkeypatch.setitem(SETS, name, replace(about, counts=counts, md5=(md5,) * 4))
        return file

    return archive


@pytest.mark.parametrize(
    ("argument", "set_name", "size", "kind"),
    [
        ("pathmnist", "pathmnist", 28, "multiclass"),
        ("path:64", "pathmnist", 64, "multiclass"),
        ("ChestMNIST", "chestmnist", 28, "multilabel"),
        ("pneumonia:28", "pneumoniamnist", 28, "binary"),
        ("retina", "retinamnist", 28, "ordinal"),
    ],
)
def test_medmnist_rows_are_images(
    tmp_path: Path, archive, argument: str, set_name: str, size: int, kind: str
) -> None:
    file = archive(set_name, size)
    task = registry.task(f"medmnist:{argument}")
    assert task.name == f"medmnist:{set_name}" + ("" if size == 28 else f":{size}")
    opened = open_task(task, Grid(data=str(tmp_path)), images.cache_folder(), [])
    assert (task.kind, len(opened.pool), len(opened.parts["test"])) == (kind, 60, 30)
    x = np.load(file)["test_images"]
    test = opened.parts["test"]
    for i in (29, 0, 7):
        image = pickle.loads(pickle.dumps(test.images[i]))
        drawn = image.draw(image.seed)
        assert drawn.shape == (size, size, 3)
        assert all(
            np.array_equal(drawn[..., c], x[i] if x[i].ndim == 2 else x[i][..., c])
            for c in range(3)
        )
    expected = (
        np.eye(14)[np.arange(30) % 14]
        if kind == "multilabel"
        else np.arange(30) % len(task.classes)
    )
    np.testing.assert_array_equal(test.labels, expected)
    assert len(set(opened.hashes)) == 105


def test_a_first_plan_says_what_it_reads_and_a_second_reads_nothing(
    tmp_path: Path, archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole data set in one file is hashed, compared and unpacked inside `load`: minutes, for
    PCam, that must show."""
    monkeypatch.setattr(progress_listener, "_SMALL", 1)
    monkeypatch.setattr(hashing, "_LARGE", 1)
    # one that was changed just now is not remembered
    monkeypatch.setattr(hashing, "_SETTLED_NS", -1)
    archive("bloodmnist")
    heard: list[Progress] = []
    with progress_listener.listening(heard.append):
        open_task(
            registry.task("medmnist:blood"), Grid(data=str(tmp_path)), images.cache_folder(), []
        )
    unpacking = [f"unpacking {part}_images of bloodmnist.npz" for part in ("train", "val", "test")]
    stages = ["reading bloodmnist.npz", "comparing bloodmnist.npz with its MD5", *unpacking]
    assert [one for one in heard if one.unit == "MB"] == [
        Progress(stage, 1, 1, "MB") for stage in stages
    ]
    heard.clear()
    with progress_listener.listening(heard.append):
        open_task(
            registry.task("medmnist:blood"), Grid(data=str(tmp_path)), images.cache_folder(), []
        )
    assert not [one for one in heard if one.unit == "MB"], "all of it is remembered"


def test_copies_are_looked_for_with_a_progress_line(tmp_path: Path) -> None:
    heard: list[Progress] = []
    others.make_aptos(tmp_path)
    with progress_listener.listening(heard.append):
        open_task(retina.RETINA, Grid(data=str(tmp_path)), images.cache_folder(), [])
    assert (
        Progress("reading files", 60, 60, "files") in heard
        and Progress("reading retina", 60, 60, "files") in heard
    )


def test_an_archive_is_unpacked_once_and_pruned_with_the_packs(
    tmp_path: Path, archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = archive("bloodmnist")
    task = registry.task("medmnist:blood")
    before = task.load(file.parent)["train"].images[3]
    assert len(images.cache_entries(images.cache_folder(), "packs")) == 3
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_unpack", lambda *_: pytest.fail("unpacked again"))
        after = task.load(file.parent)["train"].images[3]
    assert isinstance(before, Drawn) and isinstance(after, Drawn)
    assert before.key == after.key
    images.prune(images.cache_folder(), "packs")
    assert not images.cache_entries(images.cache_folder(), "packs")
    np.testing.assert_array_equal(
        task.load(file.parent)["val"].images[1].draw(1), np.load(file)["val_images"][1]
    )


def test_another_archive_is_refused_before_it_is_unpacked(
    tmp_path: Path, archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = archive("bloodmnist")
    task = registry.task("medmnist:bloodmnist")
    with monkeypatch.context() as patch:
        patch.setitem(SETS, "bloodmnist", replace(SETS["bloodmnist"], md5=("0" * 32,) * 4))
        with pytest.raises(
            UserError,
            match=r"its MD5 is [0-9a-f]{32}, the published one 0{32}.*zenodo.org/records/10519652/files/bloodmnist.npz",
        ):
            task.load(file.parent)
    assert not images.cache_entries(images.cache_folder(), "packs")
    with monkeypatch.context() as patch:
        patch.setitem(SETS, "bloodmnist", replace(SETS["bloodmnist"], counts=(60, 15, 31)))
        with pytest.raises(UserError, match="test has 30 images and 30 labels, not 31"):
            task.load(file.parent)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UserError, match="is not BloodMNIST's archive"):
        task.load(file.parent)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("pathmist", r"Unknown set 'medmnist:pathmist'.*Did you mean 'pathmnist'"),
        ("organmnist3d", r"Unknown set"),
        ("path:32", r"pathmnist has no size '32'. Allowed: 28, 64, 128, 224"),
        ("path:64:1", r"pathmnist has no size '64:1'"),
        ("", r"Unknown set 'medmnist:'"),
    ],
)
def test_wrong_names_and_sizes(argument: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        registry.task(f"medmnist:{argument}")


def test_every_set_opens_at_every_size() -> None:
    assert len(SETS) == 12
    tasks = [registry.task(f"medmnist:{name}:{size}") for name in SETS for size in medmnist.SIZES]
    assert len({task.name for task in tasks}) == len({task.data for task in tasks}) == 48
    md5s = [md5 for about in SETS.values() for md5 in about.md5]
    assert len(set(md5s)) == 48 and all(
        len(md5) == 32 and set(md5) <= set("0123456789abcdef") for md5 in md5s
    )
    assert all(
        task.get and task.citation and task.licence and task.folders and task.marks
        for task in tasks
    )
