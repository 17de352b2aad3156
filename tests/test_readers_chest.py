"""CheXpert, NIH ChestX-ray14 and Kermany.

Uncertain labels, official lists, the split header, patients in file names.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trees import chest
from trees.files import write_csv

from medbench import images
from medbench.data import manage, task_data
from medbench.schema import Grid, UserError, registry
from medbench.stats import splits
from medbench.tasks import chexpert, nih14, pneumonia


@pytest.mark.parametrize("name", ["CheXpert-v1.0", "CheXpert-v1.0-small"])
def test_chexpert_reads_both_downloads(tmp_path: Path, name: str) -> None:
    root = chest.make_chexpert(tmp_path / name, name)
    assert registry.task("chest").find(tmp_path) == root
    parts = registry.task("chest").load(root)
    train = parts["train"]
    assert set(train.meta) == {"age", "sex", "view", "projection"}
    assert all(
        i.startswith(f"{bag}/view") and bag.startswith(f"{g}/study")
        for i, bag, g in zip(train.ids, train.bags, train.groups, strict=True)
    )
    assert {i.split("/")[0] for i in parts["test"].ids} == {
        f"patient{p:05d}" for p in range(100, 110)
    }


@pytest.mark.parametrize(("policy", "value"), [("ignore", np.nan), ("ones", 1.0), ("zeros", 0.0)])
def test_uncertain_labels_become_what_the_policy_says(
    tmp_path: Path, policy: str, value: float
) -> None:
    root = chest.make_chexpert(tmp_path)
    task = registry.task(f"chexpert:{policy}")
    parts = task.load(root)
    meaning = [1.0, 0.0, 0.0, value]  # 1.0, 0.0, blank, -1.0
    for part in ("train", "val"):
        for group, labels in zip(parts[part].groups, parts[part].labels, strict=True):
            patient = int(group.removeprefix("patient"))
            np.testing.assert_array_equal(labels, [meaning[(patient + c) % 4] for c in range(5)])
    assert not np.isnan(parts["test"].labels).any()
    assert task.settings == {"uncertain": policy}
    assert (task.name == "chexpert") == (policy == "ignore")
    assert [splits.ids_hash(part.ids) for part in parts.values()][2] == splits.ids_hash(
        chexpert.CHEXPERT.load(root)["test"].ids
    )


def test_a_wrong_policy_or_option_is_one_clear_line() -> None:
    with pytest.raises(
        UserError, match=r"Unknown policy 'one'.*ignore, ones, zeros.*Did you mean 'ones'"
    ):
        registry.task("chexpert:one")
    with pytest.raises(UserError, match=r"ordinal.*folder of your own"):
        registry.task("chexpert:ones", ordinal=True)


def test_chexpert_refuses_a_strange_label_or_path(tmp_path: Path) -> None:
    root = chest.make_chexpert(tmp_path)
    file = root / "train.csv"
    text = file.read_text()
    file.write_text(text.replace("-1.0", "-2.0"))
    with pytest.raises(UserError, match=r"train.csv has the unknown label '-2.0'"):
        chexpert.CHEXPERT.load(root)
    file.write_text(text.replace("/train/patient00007", "/patient00007"))
    with pytest.raises(
        UserError,
        match=r"the Path '.*patient00007/study1/view1_frontal.jpg' is not .../train/patient00001",
    ):
        chexpert.CHEXPERT.load(root)


def test_nih_folders_give_the_same_parts_flat_or_numbered(tmp_path: Path) -> None:
    numbered, flat = (
        nih14.load(chest.make_nih(tmp_path / name, flat=name == "flat"))
        for name in ("numbered", "flat")
    )
    for part in numbered:
        assert numbered[part].ids.tolist() == flat[part].ids.tolist()
        assert {image.parent.name for image in numbered[part].images} == {"images"}
    assert {int(g) for g in numbered["test"].groups} == set(range(46, 61)), "the official list"
    ages = {
        int(g): age for g, age in zip(flat["train"].groups, flat["train"].meta["age"], strict=True)
    }
    assert all(age == 20 + p for p, age in ages.items()), (
        "no column is shifted by the header's split names"
    )


def test_nih_labels_are_the_findings(tmp_path: Path) -> None:
    test = nih14.load(chest.make_nih(tmp_path))["test"]
    for group, labels in zip(test.groups, test.labels, strict=True):
        p = int(group)
        expected = (
            set()
            if p % 15 == 14
            else {nih14.CLASSES[p % 15]} | ({nih14.CLASSES[(p + 3) % 14]} if p % 5 == 0 else set())
        )
        assert {
            name for name, value in zip(nih14.CLASSES, labels, strict=True) if value
        } == expected


def test_nih_refuses_an_unknown_finding_and_an_unknown_image(tmp_path: Path) -> None:
    root = chest.make_nih(tmp_path)
    file, lists = root / "Data_Entry_2017_v2020.csv", root / "test_list.txt"
    text = file.read_text()
    file.write_text(text.replace("Edema", "Oedema"))
    with pytest.raises(UserError, match=r"unknown label 'Oedema'.*Did you mean 'Edema'"):
        nih14.load(root)
    file.write_text(text)
    lists.write_text(lists.read_text() + "00099999_000.png\n")
    with pytest.raises(
        UserError,
        match=r"test_list.txt lists 1 images that Data_Entry_2017_v2020.csv does not have: 00099999_000.png",
    ):
        nih14.load(root)


@pytest.mark.parametrize(
    "pattern",
    [
        "four_findings_expert_labels/{}_labels.csv",
        "four_findings_expert_labels_{}_labels.csv",
        "{}_labels.csv",
    ],
)
def test_expert_labels_follow_truong(tmp_path: Path, pattern: str) -> None:
    root = chest.make_nih_expert(tmp_path / "nih", pattern)
    task = registry.task("nih-expert")
    assert task.find(tmp_path) == root
    assert task.classes == ("pneumothorax", "nodule or mass", "opacity", "fracture", "other")
    parts = task.load(root)
    # the tree's combinations, in the order of its columns
    names = ["other", "fracture", "pneumothorax", "opacity", "nodule or mass"]
    for part, n in (("train", 25), ("test", 13)):
        found = {
            i: task.classes[c] for i, c in zip(parts[part].ids, parts[part].labels, strict=True)
        }
        assert len(found) == n, "those with two findings are left out"
        assert all(label == names[int(i.split("_")[0]) % 6] for i, label in found.items())


@pytest.mark.parametrize(
    ("name", "part", "patient"),
    [
        ("person63_bacteria_306", "train", "train/person63"),
        ("person63_virus_7", "val", "train/person63"),
        ("person63_virus_7", "test", "test/person63"),
        ("IM-0115-0001", "train", "train/IM-0115"),
        ("IM-0439-0001-0002", "train", "train/IM-0439"),
        ("NORMAL2-IM-1427-0001", "val", "train/NORMAL2-IM-1427"),
        ("BACTERIA-1135262-0003", "train", "BACTERIA-1135262"),
        ("BACTERIA-1135262-0004", "test", "BACTERIA-1135262"),
        ("chest_virus_10", "test", "test/chest_virus_10"),
    ],
)
def test_kermany_patients(name: str, part: str, patient: str) -> None:
    assert pneumonia.patient(name, part) == patient


def test_kermany_keeps_a_child_of_train_and_val_together(tmp_path: Path) -> None:
    parts = pneumonia.load(chest.make_kermany(tmp_path))
    assert len(parts["test"]) == 16
    place = {group: part for part in ("train", "val") for group in parts[part].groups}
    images = [
        i
        for part in ("train", "val")
        for i, g in zip(parts[part].ids, parts[part].groups, strict=True)
        if g == "train/person20"
    ]
    assert len(images) == 3
    assert len({part for part in ("train", "val") if "train/person20" in parts[part].groups}) == 1
    assert len(place) == 20 + 20 + 1
    assert set(parts["val"].labels) == {0, 1}


def test_the_real_test_part_is_a_partial_download(real_data: Path) -> None:
    root = pneumonia.PNEUMONIA.find(real_data)
    assert root is not None
    parts = pneumonia.load(root)
    assert sum(len(part) for part in parts.values()) == 624
    assert sum(int((part.labels == 1).sum()) for part in parts.values()) == 390
    assert len(np.unique(np.concatenate([part.groups for part in parts.values()]))) == 624 - 6, (
        "six byte-identical pairs are one group each"
    )
    assert len(set.union(*(set(part.groups) for part in parts.values()))) == sum(
        len(set(part.groups)) for part in parts.values()
    )


def test_hannover_through_folder(real_data: Path, tmp_path: Path) -> None:
    """Two labels a radiograph, grouped by patient, from the repository's own table."""
    from medbench.tasks import _reading as reading

    source, mine = real_data / "hannover_cxr", tmp_path / "hannover"
    shutil.copytree(source / "png", mine / "png")
    rows = reading.read_table(
        source / "data.csv",
        ("patient_id", "image_id", "projection", "icu_admission_offset", "sex"),
        "folder",
    )
    lines = []
    for i, name in enumerate(rows["image_id"]):
        icu = int(rows["icu_admission_offset"][i] != "")
        lines.append(
            [
                f"png/{name}.png",
                int(rows["projection"][i] == "ap"),
                icu,
                rows["patient_id"][i],
                rows["sex"][i],
            ]
        )
    task = registry.task(
        f"folder:{write_csv(mine / 'list.csv', ['path', 'label:ap', 'label:icu', 'group', 'sex'], lines)}"
    )
    opened = task_data.open_task(task, Grid(tasks=(task.name,)), images.cache_folder(), [])
    assert [len(part) for part in opened.parts.values()] == [171, 25, 47] and all(
        "sex" in part.meta for part in opened.parts.values()
    )
    report = manage.verify(task, mine, images.cache_folder())
    assert not report.differences and report.counts["icu"]["all"] == (186, None)
    parts = task.load(tmp_path)
    assert (task.kind, task.classes, task.groups) == ("multilabel", ("ap", "icu"), "group")
    labels = np.concatenate([part.labels for part in parts.values()])
    assert labels.sum(0).tolist() == [194, 186]
    assert len(np.unique(np.concatenate([part.groups for part in parts.values()]))) == 71
    assert not set(parts["train"].groups) & set(parts["test"].groups)


def test_kermany_test_part_alone_needs_a_word_and_is_marked(tmp_path: Path) -> None:
    root = chest.make_kermany(tmp_path / "kermany")
    assert pneumonia.missing_parts(root) == ""
    shutil.rmtree(root / "chest_xray" / "train")
    grid, cache = Grid(tasks=("pneumonia",), data=str(tmp_path)), images.cache_folder()
    with pytest.raises(UserError, match=r"the official test part alone.*--allow-partial"):
        task_data.open_task(pneumonia.PNEUMONIA, grid, cache, [])
    found = task_data.open_task(pneumonia.PNEUMONIA, replace(grid, allow_partial=True), cache, [])
    assert any(
        mark.kind == "partial" and mark.text.startswith("the official test part alone")
        for mark in found.marks
    )
