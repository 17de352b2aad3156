"""Images without labels: who sees them, and what is left out of them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medbench import Grid, UserError
from medbench.audit.dataset import unlabelled_pool
from medbench.data.unlabelled import UnlabelledPool
from medbench.images import cache_folder, decode
from medbench.run import planning, prepare
from medbench.run.plans import Plan
from medbench.schema import registry
from medbench.tasks import derm

ENCODER = "tf_efficientnet_lite0"


@cache
def pictures() -> list[np.ndarray]:
    """Drawn lesions, each another one."""
    parts = derm.DERM.phantom()
    return [
        np.asarray(decode(image))
        for image in [*parts["train"].images[:150], *parts["test"].images[:100]]
    ]


def saved(pixels: np.ndarray, file: Path, quality: int = 0, scale: float = 1.0) -> None:
    picture = Image.fromarray(pixels)
    if scale != 1:
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
        )
    if quality:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        picture = Image.open(stream)
    picture.save(file)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A CSV of 30 training and 20 test images of their patients, and 200 without labels: 10 copies
    of test images, 10 of test patients."""
    drawn = pictures()
    (tmp_path / "x").mkdir()
    rows = []
    for i in range(50):
        part = "train" if i < 30 else "test"
        saved(drawn[i], tmp_path / "x" / f"{i}.png")
        rows.append((f"x/{i}.png", "ab"[i % 2], f"p{i}", part))
    for i in range(200):
        of = 30 + i  # the first ten are copies of the test part
        quality, scale = [(0, 1.0), (80, 1.0), (0, 0.75), (70, 1.3)][i % 4] if i < 10 else (0, 1.0)
        saved(drawn[of if i < 10 else 50 + i - 10], tmp_path / "x" / f"u{i}.png", quality, scale)
        group = f"P {of}" if 10 <= i < 20 else f"q{i}"
        rows.append((f"x/u{i}.png", "", group, "unlabelled"))
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "group", "split"), *rows])
    return tmp_path / "list.csv"


def planned(task: str, *unlabelled: str, **about: Any) -> Plan:
    about = {
        "methods": ("supervised", "simclr"),
        "labels": ("100",),
        "size": 32,
        "audit": False,
        **about,
    }
    return planning.plan(Grid(tasks=(task,), unlabelled=unlabelled, **about))


def pretraining(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the pretraining of a plan's second unit is handed."""
    seen: dict[str, Any] = {}

    def capture(
        pixels: Any,
        index: np.ndarray,
        bags: np.ndarray,
        groups: np.ndarray,
        labels: np.ndarray,
        *rest: Any,
        **more: Any,
    ) -> None:
        seen.update(pixels=pixels[index], bags=bags, groups=groups, labels=labels)

    monkeypatch.setattr("medbench.models.pretrain.pretrain", capture)
    prepare.trained(plan, plan.units[1], "cpu")
    return seen


def test_copies_and_images_of_test_patients_are_left_out_and_counted(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(f"folder:{listed}")
    supervised, simclr = plan.units
    pool = simclr.data.unlabelled
    assert pool is not None
    assert pool.copies == 10, "identical, compressed again, smaller, larger"
    assert pool.patients == 10, "spelled otherwise"
    assert [Path(str(image)).name for image in pool.images] == sorted(
        (f"u{i}.png" for i in range(20, 200)), key=lambda name: int(name[1:-4])
    )
    (mark,) = [mark for mark in simclr.marks if "without labels" in mark.text]
    assert "180 images without labels (unlabelled; 86 % of its images" in mark.text
    assert (
        "left out: 10 copies of validation and test images, 10 images of groups of the validation"
        in mark.text
    )
    assert not [mark for mark in supervised.marks if "without labels" in mark.text]
    assert "and 180 unlabelled (86 %, " in simclr.weights.name
    assert "unlabelled (no labels)" in simclr.weights.trained_on
    assert len(simclr.data.pool) == 30
    assert {split.ids.tolist()[0][2] for split in simclr.data.parts.values()} <= set(
        "0123456789"
    ), "none is drawn or scored"
    seen = pretraining(plan, monkeypatch)
    assert (
        len(seen["pixels"])
        == len(seen["bags"])
        == len(seen["groups"])
        == len(seen["labels"])
        == 30 + 180
    )
    assert np.isnan(seen["labels"][30:]).all()
    assert not np.isnan(seen["labels"][:30]).any()
    assert len(set(seen["bags"].tolist())) == 210, "nobody says what is a lesion's second image"
    own = np.asarray(Image.open(pool.images[5]).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(seen["pixels"][35], own)
    rows = [row for row in csv.reader(listed.open()) if row[3] != "unlabelled"]
    with listed.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    without = planned(f"folder:{listed}").units
    (one, trained), (other, plain) = (
        [unit.cells[0].fingerprint for unit in units] for units in (plan.units, without)
    )
    assert one == other, "without the pool rows are as before"
    assert trained != plain
    assert simclr.data.identity == without[1].data.identity
    assert without[1].data.unlabelled is None


def test_copies_of_images_that_the_run_is_scored_on_elsewhere_are_left_out(
    listed: Path, tmp_path: Path
) -> None:
    """Ten images of the pool are another hospital's test images, five of them compressed again."""
    (tmp_path / "away").mkdir()
    rows = []
    for i in range(10):
        saved(pictures()[150 + i], tmp_path / "away" / f"{i}.png", 80 if i % 2 else 0)
        rows.append((f"away/{i}.png", "ab"[i // 5], f"x{i}", "test" if i % 5 else "train"))
    with (tmp_path / "away.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "group", "split"), *rows])
    other = f"folder:{tmp_path / 'away.csv'}"
    unit = planned(f"folder:{listed}", shifts=(other,)).units[1]
    pool = unit.data.unlabelled
    assert pool is not None
    assert (pool.copies, len(pool), pool.away) == (20, 170, ("folder:away.csv",)), "ten without it"
    (mark,) = [mark for mark in unit.marks if "without labels" in mark.text]
    assert "20 copies of validation and test images, and of images of folder:away.csv" in mark.text


def test_a_folder_called_unlabelled_is_no_class(folder: Path) -> None:
    for name in ("unlabelled/site-1", "unlabelled/site-2"):
        (folder / name).mkdir(parents=True)
    drawn = pictures()
    for i in range(6):
        saved(drawn[i], folder / "unlabelled" / f"site-{1 + i % 2}" / f"{i}.png")
    plan = planned(f"folder:{folder}")
    pool = plan.units[1].data.unlabelled
    assert pool is not None
    assert (len(pool), pool.grouped) == (6, False)
    assert len(plan.units[1].data.task.classes) == 3
    (mark,) = [mark for mark in plan.units[1].marks if "without labels" in mark.text]
    assert "it names no patient, so that those of the test part may be among them" in mark.text


def test_class_folders_alone_have_an_unlabelled_one_beside_them(folder: Path) -> None:
    whole = registry.task(f"folder:{folder / 'train'}")
    before = {name: split.ids.tolist() for name, split in whole.load(folder).items()}
    (folder / "train" / "unlabeled").mkdir()
    saved(pictures()[0], folder / "train" / "unlabeled" / "1.png")
    task = registry.task(f"folder:{folder / 'train'}")
    assert task.unlabelled is not None
    assert task.unlabelled.ids.tolist() == ["unlabeled/1.png"]
    assert {name: split.ids.tolist() for name, split in task.load(folder).items()} == before, (
        "the split that is made is the same"
    )


def test_an_empty_label_stays_refused(listed: Path) -> None:
    listed.write_text(listed.read_text().replace("x/3.png,b,", "x/3.png,,"))
    with pytest.raises(UserError, match=r"list.csv line 5 has no label"):
        registry.task(f"folder:{listed}")


def test_a_pool_by_path_and_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "roots" / "isic2020" / "train").mkdir(parents=True)
    for i, pixels in enumerate(pictures()[:4]):
        saved(pixels, tmp_path / "roots" / "isic2020" / "train" / f"ISIC_{i}.jpg")
    monkeypatch.setenv("MEDBENCH_DATA", str(tmp_path / "roots"))
    by_name = planned(f"folder:{folder}", "isic2020").units[1]
    from_there = planned(f"folder:{folder}", "isic2020", data=str(tmp_path / "roots")).units[1]
    assert from_there.weights.sha256 == by_name.weights.sha256
    by_path = planned(f"folder:{folder}", str(tmp_path / "roots" / "isic2020")).units[1]
    pools = [unit.data.unlabelled for unit in (by_name, by_path)]
    assert [pool and pool.names for pool in pools] == [("ISIC 2020",), ("isic2020",)]
    assert pools[0] is not None
    assert pools[0].groups.tolist() == [f"ISIC 2020/train/ISIC_{i}.jpg" for i in range(4)]
    assert "ISIC 2020 (no labels)" in by_name.weights.trained_on
    with pytest.raises(
        UserError, match=r"--unlabelled isic2021 does not exist.*Did you mean 'isic2020'"
    ):
        planned(f"folder:{folder}", "isic2021")
    with pytest.raises(
        UserError,
        match=r"images of 'hyperkvasir' \(HyperKvasir, unlabelled\) were not found .* Next: unpack",
    ):
        planned(f"folder:{folder}", "hyperkvasir")
    several = Grid(tasks=(f"folder:{folder}", "derm"), unlabelled=("isic2020",), data=None)
    with pytest.raises(
        UserError,
        match=r"does not say for which of the 2 tasks of this run\. Allowed: folder:mine=PATH, derm=PATH",
    ):
        planning.plan(several)


def test_isic_2020_is_read_with_its_patients(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the challenge's own table, beside the images or in their folder.

    A task of patients leaves theirs out; one of lesions cannot, and says so.
    """
    roots = tmp_path / "roots"
    monkeypatch.setenv("MEDBENCH_DATA", str(roots))
    (roots / "isic2020" / "train").mkdir(parents=True)
    for i, pixels in enumerate(pictures()[100:104]):
        saved(pixels, roots / "isic2020" / "train" / f"ISIC_{i}.jpg")
    data = planned(f"folder:{folder}").units[1].data

    def pool(groups: str) -> UnlabelledPool:
        made = replace(data, task=replace(data.task, groups=groups))
        grid = Grid(tasks=(data.task.name,), unlabelled=("isic2020",))
        found = unlabelled_pool._collected(made, grid, grid.tasks, cache_folder())
        assert found is not None
        return found

    table = roots / "isic2020" / "ISIC_2020_Training_GroundTruth_v2.csv"
    rows = [f"ISIC_{i},IP_{i // 2},IL_{i},male" for i in range(4)]
    table.write_text("\n".join(["image_name,patient_id,lesion_id,sex", *rows]))
    theirs, lesions = pool("patient"), pool("lesion")
    assert (theirs.groups.tolist(), theirs.grouped) == (["IP_0", "IP_0", "IP_1", "IP_1"], True)
    assert (lesions.groups.tolist(), lesions.grouped) == (theirs.groups.tolist(), False)
    assert (
        "it names patients, and no lesion, so that those of the test part" in lesions.mark(9).text
    )
    other = table.rename(roots / "ISIC_2020_Test_Metadata.csv")
    other.write_text("image,patient\nISIC_3,IP_9\n")
    part = pool("patient")
    assert (part.groups.tolist()[3], part.grouped) == ("IP_9", False), "three have no patient"
    other.write_text("image,age\nISIC_3,50\n")
    message = r"has no column of images and one of patients\. Allowed: image_name, patient_id"
    with pytest.raises(UserError, match=message):
        pool("patient")
    other.write_bytes(b"image,patient\nISIC_3,caf\xe9\n")
    with pytest.raises(UserError, match="UTF-8"):
        pool("patient")
    other.rename(roots / "test.csv").write_text("id_code,diagnosis\nx,1\n")
    pool("patient")  # another data set's


@pytest.mark.slow
def test_copies_among_real_images(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """HAM10000's test part; a pool of 1,000 of its training images with 5 % copies of test images,
    compressed again or resized."""
    from medbench.data.task_data import open_task
    from medbench.images import content_hashes

    data = open_task(registry.task("derm"), Grid(), cache_folder(), [])
    rng = np.random.default_rng(0)
    clean = [data.pool.images[i] for i in rng.permutation(len(data.pool))[:950]]
    files = []
    for n, i in enumerate(rng.permutation(len(data.parts["test"]))[:50]):
        file = tmp_path / f"{n}.png"
        saved(
            np.asarray(decode(data.parts["test"].images[i])),
            file,
            [75, 0, 60, 90][n % 4],
            [1.0, 0.5, 0.8, 1.2][n % 4],
        )
        files.append(file)
    images = [*clean, *files]
    hashes = content_hashes(images, cache_folder(), "reading")
    pool = UnlabelledPool(
        ("pool",), images, hashes, np.arange(len(images)).astype(str), False, "lesion"
    )
    found = unlabelled_pool._copies(pool, data, cache_folder())
    recall, precision = found[950:].mean(), found[950:].sum() / found.sum()
    with capsys.disabled():
        print(f"recall {recall:.3f}, precision {precision:.3f}")
    assert recall >= 0.95


def test_a_line_that_was_not_pretrained_is_planned_again_without_the_pool() -> None:
    """A page's command names no place on the machine, and an exported supervised line needs
    none."""
    from medbench.run import refit
    from medbench.schema import Cell

    grid = Grid(unlabelled=("pool",))
    cell = Cell(
        "derm", "phantom", "supervised", "imagenet", ENCODER, "pool", 64, 0, "linear", "100%", 0
    )
    assert refit.narrowed(grid, cell).unlabelled == ()
    assert refit.narrowed(grid, replace(cell, method="simclr:dermatology")).unlabelled == ("pool",)
