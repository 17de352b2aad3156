"""Files that are no images of a task.

What systems leave, and what was made of an image and lies beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medbench.images.leftovers import left_behind, made_of, no_class
from medbench.schema import Task, UserError, registry
from medbench.tasks import _reading as reading

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Two classes of 20 images, and more at the paths given."""

    def made(*more: str) -> Path:
        rng = np.random.default_rng(0)
        for name in (*(f"{c}/{i}.png" for c in "ab" for i in range(20)), *more):
            file = tmp_path / "d" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).save(file)
        return tmp_path / "d"

    return made


def marks(task: Task) -> list[str]:
    return [mark.text for mark in task.marks]


def ids(task: Task) -> set[str]:
    return {name for part in task.load(Path()).values() for name in part.ids.tolist()}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "@eaDir",
            "@EADIR",
            "#recycle",
            "@Recycle",
            ".thumbnails",
            ".ipynb_checkpoints",
            "__MACOSX",
            "._1.png",
            ".hidden",
            ".1.png",
        ),
        *(
            "Thumbs.db",
            "$RECYCLE.BIN",
            "System Volume Information",
            "SYNOFILE_THUMB_M.jpg",
            "@__thumb",
            "DICOMDIR",
            "lost+found",
        ),
        *("@SynoEAStream", "~snapshot", "_gsdata_", "FOUND.000"),
    ],
)
def test_what_systems_leave(name: str) -> None:
    assert left_behind(name)


@pytest.mark.parametrize(
    "name", ["1.png", "a.b", "@home", "recycle", "thumb", "image_thumbs.png", "_1.png"]
)
def test_what_people_make(name: str) -> None:
    assert not left_behind(name)


@pytest.mark.parametrize(
    ("stray", "said"),
    [
        ("a/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir 1"),
        ("@eaDir/a/0.jpg", "@eaDir 1"),
        ("a/.ipynb_checkpoints/0-checkpoint.png", ".ipynb_checkpoints 1"),
        ("__MACOSX/a/._0.png", "__MACOSX 1"),
        ("a/._0.png", "._* 1"),
        ("b/deep/.hidden/0.png", ".hidden 1"),
        ("b/.thumbnails/normal/0.png", ".thumbnails 1"),
        (".Trash-1000/files/a/1.png", ".Trash-1000 1"),
        ("b/.0.png", "hidden files 1"),
    ],
)
def test_systems_leave_no_class_and_no_image(stray: str, said: str, tree: Tree) -> None:
    """Before: `@eaDir` was a class of its own, or its thumbnails were images of one."""
    task = registry.task(f"folder:{tree(stray)}")
    assert task.classes == ("a", "b")
    assert len(ids(task)) == 40
    assert f"1 image in what systems leave behind was left out ({said})" in marks(task)


def test_litter_without_images_is_not_worth_a_word(tree: Tree) -> None:
    root = tree()
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / ".DS_Store").write_bytes(b"x")
    assert not any("left out" in mark for mark in marks(registry.task(f"folder:{root}")))


@pytest.mark.parametrize(
    "mask",
    [
        *(
            "a/0_mask.png",
            "a/0_mask_1.png",
            "a/0-mask.bmp",
            "a/0_segmentation.png",
            "a/0_Segmentation.tif",
            "a/0.mask.png",
            "a/0_seg.png",
        ),
        *(
            "a/mask_0.png",
            "a/masks/0.png",
            "a/masks/0_mask.png",
            "a/ground_truth/0.png",
            "a/0_lesion_mask.png",
            "a/leftMask/0.png",
        ),
        *(
            "a/0_gt.png",
            "a/0_overlay.jpg",
            "a/thumbs/0.jpg",
            "a/0-150x150.jpg",
            "a/0_annotated.png",
            "a/annotations/0.png",
        ),
        *(
            "a/0_roi.png",
            "a/0_crop.png",
            "a/0_pred.png",
            "a/0_gradcam.png",
            "a/resized/0.png",
            "a/0 - Copy.png",
            "a/0 (conflicted copy).png",
        ),
    ],
)
def test_masks_beside_images_are_left_out_by_name(mask: str, tree: Tree) -> None:
    task = registry.task(f"folder:{tree(mask)}")
    assert len(ids(task)) == 40
    assert (
        f"1 image that was made of others was left out (masks, previews: '{mask}' of '0.png')"
        in marks(task)
    )


def test_masks_in_a_folder_beside_images(tree: Tree) -> None:
    task = registry.task(
        f"folder:{tree('a/images/x1.png', 'a/images/x2.png', 'a/masks/x1.png', 'a/masks/x2_mask.png')}"
    )
    assert {name for name in ids(task) if "x" in name} == {"a/images/x1.png", "a/images/x2.png"}
    assert any(mark.startswith("2 images that were made of others") for mark in marks(task))


@pytest.mark.parametrize(
    "made",
    [
        *(
            "x/annotations/trimaps/1.png",
            "x/labelsTr/1.png",
            "x/SegmentationClass/1.png",
            "x/1st_manual/1.png",
            "x/vessels/1.png",
        ),
        *(
            "x/images/1_trimap.png",
            "x/images/1_edge.png",
            "x/images/1_manual1.png",
            "x/images/1_bw.png",
            "x/images/1_hflip.png",
        ),
        *(
            "x/images/1 - Kopie.png",
            "x/images/1@2x.png",
            "x/images/1_300x200.png",
            "x/images/1.sync-conflict-20200101-120000-A.png",
        ),
    ],
)
def test_more_of_what_is_made_of_images(made: str) -> None:
    assert made_of(["x/images/1.png", "x/images/2_old.png", "x/images/2.png", made]) == {
        made: "x/images/1.png"
    }


def test_a_name_alone_proves_nothing(tree: Tree) -> None:
    """Images that are called masks with nothing beside them stay, with a mark.

    Class folders called so by themselves stay without.
    """
    task = registry.task(f"folder:{tree('a/face_mask.png', 'seg/1.png', 'band/1.png')}")
    assert task.classes == ("a", "b", "band", "seg")
    assert "a/face_mask.png" in ids(task)
    assert any(
        mark.startswith("1 image is called masks or previews, with no image beside them")
        for mark in marks(task)
    )


def test_a_folder_of_masks_is_no_class(tmp_path: Path) -> None:
    for name in (f"{c}/{i}.png" for c in ("images", "masks") for i in range(20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(
        UserError, match=r"masks is not a class: its images are called as those of 'images'"
    ):
        registry.task(f"folder:{tmp_path}")
    assert no_class(
        {"a_masks": ["1.png"], "b_masks": ["1.png"], "a": ["1.png"], "b": ["1.png"]}
    ) == ("a_masks", "a")
    assert no_class({"mask": ["1.png"], "no mask": ["1.png"]}) is None
    assert no_class({"seg": ["1.png"], "band": ["1.png"]}) is None
    assert no_class({"masks": ["7.png", "8.png", "9.png"], "nv": ["7.png"]}) is None
    assert no_class({"thumbnails": [], "nv": ["7.png"]}) is None


def test_what_was_made_of_what() -> None:
    assert (
        made_of(["p1_left.png", "p1_right.png", "p10.png", "p1.png", "label_1.png", "1_2.png"])
        == {}
    )
    assert made_of(["seg/1.png", "band/1.png", "mask/1.png", "no_mask/1.png"]) == {
        "mask/1.png": "seg/1.png"
    }
    assert made_of(["benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png"]) == {
        "benign (1)_mask.png": "benign (1).png",
        "benign (1)_mask_1.png": "benign (1).png",
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["a/@eaDir/0.jpg,a"],
            r"line 42: 'a/@eaDir/0\.jpg' is what a system leaves behind, no image of the task \(1 such line\)",
        ),
        (["a/._0.png,a"], r"is what a system leaves behind"),
        (
            ["a/.ipynb_checkpoints/0-checkpoint.png,a", "__MACOSX/0.png,b"],
            r"\(2 such lines\)\. Next: take the lines out",
        ),
        (
            ["a/0_mask.png,a"],
            r"line 42: 'a/0_mask\.png' is called as what was made of 'a/0\.png' \(1 such line: masks, previews\)",
        ),
        (["masks/0.png,a"], r"'masks/0\.png' is called as what was made of 'a/0\.png'"),
    ],
)
def test_a_table_that_lists_them_is_refused(rows: list[str], message: str, tree: Tree) -> None:
    root = tree(*(row.partition(",")[0] for row in rows))
    listed = [f"{c}/{i}.png,{c}" for c in "ab" for i in range(20)]
    (root / "t.csv").write_text("\n".join(["path,label", *listed, *rows]))
    with pytest.raises(UserError, match=message):
        registry.task(f"folder:{root / 't.csv'}")


def test_a_hidden_folder_that_a_table_names_is_meant(tree: Tree) -> None:
    root = tree(".cache/1.png")
    (root / "t.csv").write_text(
        "\n".join(
            ["path,label", *(f"{c}/{i}.png,{c}" for c in "ab" for i in range(20)), ".cache/1.png,a"]
        )
    )
    assert ".cache/1.png" in ids(registry.task(f"folder:{root / 't.csv'}"))


def test_official_layouts_pass_them_by(tmp_path: Path) -> None:
    from medbench.tasks import endoscopy, marrow

    names = (
        "ABE/ABE_1.jpg",
        "ABE/0001/ABE_2.jpg",
        "ABE/@eaDir/ABE_1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "ABE/.ipynb_checkpoints/ABE_1-checkpoint.jpg",
    )
    for name in (
        *names,
        "ABE/@eaDir/ABE_9.jpg",
        "@eaDir/x.jpg",
        "NGS/NGS_1.jpg",
        "NGS/._NGS_1.jpg",
        "NGS/.thumbnails/NGS_9.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert sorted(file.name for file in reading.walk(tmp_path / "ABE")) == [
        "ABE_1.jpg",
        "ABE_2.jpg",
    ]
    with reading.as_listed():
        assert sorted(name for part in marrow.load(tmp_path).values() for name in part.ids) == [
            "ABE_1",
            "ABE_2",
            "NGS_1",
        ]
    tree = tmp_path / "labeled-images"
    for name in (
        "lower-gi-tract/findings/polyps",
        "lower-gi-tract/findings/@eaDir",
        "__MACOSX/findings/polyps",
    ):
        (tree / name).mkdir(parents=True)
    assert endoscopy._class_folders(tree) == {"polyps": tree / "lower-gi-tract/findings/polyps"}


def test_a_list_of_images_passes_them_by(tree: Tree) -> None:
    from medbench.audit.dataset import audited_data

    root = tree("a/@eaDir/0.png", "__MACOSX/a/0.png", "a/._0.png")
    assert len(audited_data._walk(root)) == 40
