"""HAM10000: both official layouts, the fixed split, and what may be wrong with a download."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from trees.files import picture
from trees.skin import COLUMNS, make_ham

from medbench import Grid
from medbench.run.planning import plan
from medbench.schema import UserError
from medbench.stats import splits
from medbench.tasks import _ham10000_lesions as lesions
from medbench.tasks._joined_groups import joined
from medbench.tasks.derm import DERM, SPLIT, find, load


@pytest.mark.parametrize(
    ("folders", "metadata", "delimiter"),
    [
        (("HAM10000_images_part_1", "HAM10000_images_part_2"), "HAM10000_metadata.csv", ","),
        (("HAM10000_images_part_1", "HAM10000_images_part_2"), "HAM10000_metadata", ","),
        (("images",), "HAM10000_metadata.tab", "\t"),
    ],
)
def test_official_layouts_give_the_same_parts(
    tmp_path: Path, folders: tuple[str, ...], metadata: str, delimiter: str
) -> None:
    root = make_ham(tmp_path / "ham10000", folders, metadata, delimiter)
    assert find(tmp_path) == root
    assert find(root) == root
    parts = load(root)
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == {"train": 59, "val": 14, "test": 21}, (
        "70 / 10 / 20 of each class's 13 or 14 images in 10 lesions"
    )
    for part in parts.values():
        assert sorted(np.unique(part.labels)) == list(range(7))
        assert sorted(part.meta) == ["age", "dataset", "localization", "sex"], (
            "dx_type gives the label away"
        )
        assert all(image.stem == name for image, name in zip(part.images, part.ids, strict=True))
    assert np.isnan(np.concatenate([part.meta["age"] for part in parts.values()])).sum() == 1
    lesions = [set(part.groups) for part in parts.values()]
    assert not (lesions[0] & lesions[1] or lesions[0] & lesions[2] or lesions[1] & lesions[2])


def test_each_source_of_ham10000_is_held_out_where_its_file_names_them(tmp_path: Path) -> None:
    root = make_ham(tmp_path / "ham10000", ("images",))
    for number, image in enumerate(sorted(root.rglob("*.jpg"))):
        picture(image, number)  # no two alike
    file = root / "HAM10000_metadata.csv"
    head, *rows = file.read_text().splitlines()
    second = [row.replace("vidir_modern", "rosendahl") for row in rows[::2]]
    file.write_text("\n".join([head, *second, *rows[1::2]]) + "\n")
    grid = Grid(data=str(tmp_path), hold_out_by="dataset", methods=("supervised",), audit=False)
    tasks = [data.task.name for data in plan(grid).tasks]
    assert tasks == ["derm:dataset=rosendahl", "derm:dataset=vidir_modern"]
    file.write_text("\n".join(row.rpartition(",")[0] for row in [head, *rows]) + "\n")
    with pytest.raises(UserError, match=r"'derm' has no column 'dataset' to hold out by. Allowed: age, sex, localization"):  # fmt: skip
        plan(grid)


def test_a_missing_part_is_named_with_its_count(tmp_path: Path) -> None:
    root = make_ham(tmp_path, ("HAM10000_images_part_1", "HAM10000_images_part_2"))
    for file in (root / "HAM10000_images_part_2").iterdir():
        file.unlink()
    with pytest.raises(
        UserError,
        match=r"lacks 47 of 94 images: ISIC_0000002, .*HAM10000_images_part_2/.*medbench data list derm",
    ):
        load(root)


def test_other_metadata_is_refused(tmp_path: Path) -> None:
    root = make_ham(tmp_path, ("images",))
    file = root / "HAM10000_metadata.csv"
    text = file.read_text()
    file.write_text(text.replace("lesion_id", "lesion"))
    with pytest.raises(
        UserError, match=r"is not HAM10000's metadata: column\(s\) lesion_id missing"
    ):
        load(root)
    file.write_text(text.replace(",mel,", ",mell,"))
    with pytest.raises(UserError, match=r"unknown diagnosis 'mell'.*Did you mean 'mel'"):
        load(root)
    file.write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(UserError, match=r"lists an image twice"):
        load(root)


def test_the_official_split(real_data: Path) -> None:
    root = find(real_data)
    assert root is not None
    parts = load(root)
    assert {name: splits.ids_hash(part.ids) for name, part in parts.items()} == SPLIT
    assert sum(map(len, parts.values())) == DERM.n_images
    assert len(np.unique(np.concatenate([part.groups for part in parts.values()]))) == 7_439
    share = [len(part) / 10_015 for part in parts.values()]
    assert share == pytest.approx([0.7, 0.1, 0.2], abs=0.002)


def test_lesions_with_two_ids_are_one(tmp_path: Path) -> None:
    """HAM10000's lesion_id misses that these two images show one lesion.

    What stands in one part must stand there with all its images.
    """
    root = make_ham(tmp_path, ("images",))
    one, other = lesions.same_lesion()[0]
    file = root / "HAM10000_metadata.csv"
    text = file.read_text()
    # two lesions of one class in the tree
    for name, wanted in (("ISIC_0000004", one), ("ISIC_0000018", other)):
        (root / "images" / f"{name}.jpg").rename(root / "images" / f"{wanted}.jpg")
        text = text.replace(name, wanted)
    file.write_text(text)
    groups = {
        name: group
        for part in load(root).values()
        for name, group in zip(part.ids, part.groups, strict=True)
    }
    assert groups[one] == groups[other]
    assert len(set(groups.values())) == 69


def test_the_list_of_lesions_with_two_ids() -> None:
    with lesions.FILE.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len({frozenset((row["image"], row["other"])) for row in rows}) == 32
    for row in rows:
        assert row["image"] < row["other"]
        assert re.fullmatch(r"ISIC_00\d{5}", row["image"]) and re.fullmatch(
            r"ISIC_00\d{5}", row["other"]
        )
        assert (
            0 <= int(row["hash_distance"]) <= 63
            and -1 <= float(row["correlation"]) <= 1
            and 0 < float(row["overlap"]) <= 1
        )
        assert row["published"] in ("", "copy", "other time") and row["seen_in_both"]
    assert sum(row["published"] == "copy" for row in rows) == 18, "arXiv:2401.14497"


def test_joined_follows_chains() -> None:
    ids, groups = np.array(["a", "b", "c", "d", "e"]), np.array(["3", "2", "1", "4", "2"])
    assert joined(ids, groups, [("a", "b"), ("e", "c"), ("d", "elsewhere")]).tolist() == [
        "1",
        "1",
        "1",
        "4",
        "1",
    ]


def test_each_pair_is_two_lesions_of_one_diagnosis_in_the_official_metadata(
    real_data: Path,
) -> None:
    root = find(real_data)
    assert root is not None
    with (root / "HAM10000_metadata.csv").open(newline="") as stream:
        about = {row["image_id"]: row for row in csv.DictReader(stream)}
    for one, other in lesions.same_lesion():
        assert about[one]["lesion_id"] != about[other]["lesion_id"]
        assert about[one]["dx"] == about[other]["dx"]


def test_the_layout_names_all_that_is_read() -> None:
    from medbench.tasks import derm

    assert derm.__doc__ and "doi:10.7910/DVN/DBW86T" in derm.__doc__
    for name in [
        *COLUMNS,
        *derm._IMAGE_FOLDERS,
        *(name.removesuffix(".csv").removesuffix(".tab") for name in derm._METADATA),
    ]:
        assert name.lower() in derm.__doc__.lower(), name
