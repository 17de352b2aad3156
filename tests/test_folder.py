"""`folder:PATH`: both layouts, what is made of them, and one test for every way in which a person's
folder can be wrong."""

from __future__ import annotations

import csv
import gc
import hashlib
import os
import pickle
import shlex
import shutil
import sys
import tracemalloc
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from medbench import images
from medbench.data import task_data
from medbench.schema import Grid, Mark, UserError, registry
from medbench.stats import splits

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def picture(file):
    """Each is another file of one size, as its name stands in it."""
    about = PngImagePlugin.PngInfo()
    about.add_text("name", hashlib.sha256(str(file).encode()).hexdigest())
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS).save(file, pnginfo=about)
    return file


def open_task(place, **options):
    return registry.task(f"folder:{place}", **options)


def labels_of(task):
    """id -> class names or label values, over all parts."""
    return {
        i: task.classes[c]
        for part in task.load(None).values()
        for i, c in zip(part.ids, part.labels, strict=True)
    }


def sizes(task):
    return {name: len(part) for name, part in task.load(None).items()}


@pytest.fixture
def tree(tmp_path):
    """Make images at the paths given; the folder is called `clinic`."""

    def tree(*names):
        for name in names:
            picture(tmp_path / "clinic" / name)
        return tmp_path / "clinic"

    (tmp_path / "clinic").mkdir()
    return tree


@pytest.fixture
def table(tmp_path):
    """Write clinic/list.csv of a header and rows, and an image for each path that stays inside."""

    def table(header, *rows, delimiter=",", encoding="utf-8", make=True):
        file = tmp_path / "clinic" / "list.csv"
        file.parent.mkdir(exist_ok=True)
        with file.open("w", newline="", encoding=encoding) as stream:
            csv.writer(stream, delimiter=delimiter).writerows([header.split(), *rows])
        column = header.split().index("path") if "path" in header.split() else None
        for row in rows if make and column is not None else []:
            picture(file.parent / row[column])
        return file

    return table


def many(n, classes="ab"):
    return [[f"{i:03d}.png", classes[i % len(classes)]] for i in range(n)]


# what is made of a folder


def test_parts_and_classes_from_folders(tree):
    root = tree(
        "train/yes/1.png",
        "train/no/2.png",
        "train/no/deep/3.png",
        "val/no/4.png",
        "test/yes/5.png",
        "test/no/6.png",
    )
    task = open_task(root)
    assert (task.name, task.data, task.kind, task.classes) == (
        "folder:clinic",
        "clinic",
        "binary",
        ("no", "yes"),
    )
    assert "positive: yes" in task.title
    parts = task.load(root)
    assert {name: part.ids.tolist() for name, part in parts.items()} == {
        "train": ["train/no/2.png", "train/no/deep/3.png", "train/yes/1.png"],
        "val": ["val/no/4.png"],
        "test": ["test/no/6.png", "test/yes/5.png"],
    }
    assert parts["train"].labels.tolist() == [0, 0, 1]
    assert parts["train"].labels.dtype == np.int64
    assert parts["train"].groups.tolist() == parts["train"].ids.tolist()
    assert task.groups is None
    assert task.bags is None
    assert task.marks == (
        Mark("remark", "no group column: images of one patient may stand on both sides"),
    )
    assert task.settings["split"] == "given"
    assert task.find(root.parent) == root
    np.testing.assert_array_equal(images.decode(parts["val"].images[0]), PIXELS)


def test_no_absolute_path_in_what_is_shown_or_kept(tree):
    task = open_task(tree(*[f"{c}/{i}.png" for c in "ab" for i in range(10)]))
    shown = [
        task.name,
        task.title,
        task.data,
        *map(str, task.marks),
        *task.classes,
        str(dict(task.settings)),
        *labels_of(task),
    ]
    assert not any("/clinic" in text or text.startswith("/") for text in shown)


def test_class_folders_alone_are_split(tree):
    task = open_task(tree(*[f"{c}/{i}.png" for c in ("a", "b", "c") for i in range(20)]))
    assert task.kind == "multiclass"
    assert sizes(task) == {"train": 42, "val": 6, "test": 12}
    assert [np.bincount(part.labels).tolist() for part in task.load(None).values()] == [
        [14] * 3,
        [2] * 3,
        [4] * 3,
    ]
    assert Mark("split", "split made by medbench: 70/10/20 by image") in task.marks
    assert task.settings["split"] == "70/10/20"


def test_the_split_is_samplings_and_the_same_wherever_the_folder_lies(tree, tmp_path):
    root = tree(*[f"{c}/{i}.png" for c in "ab" for i in range(30)])
    first = open_task(root).load(None)
    ids = np.array(sorted(f"{c}/{i}.png" for c in "ab" for i in range(30)))
    labels = np.array(["ab".index(name[0]) for name in ids])
    part = splits.partition(labels, ids, (0.7, 0.1, 0.2), key="folder 1")
    for p, name in enumerate(("train", "val", "test")):
        assert first[name].ids.tolist() == ids[part == p].tolist()
    moved = root.rename(tmp_path / "elsewhere")
    assert open_task(moved).load(None)["test"].ids.tolist() == first["test"].ids.tolist()


@pytest.mark.parametrize(
    ("given", "expected", "mark"),
    [
        (("train",), {"train", "val", "test"}, "70/10/20 by image"),
        (("train", "val"), {"train", "val", "test"}, "80/0/20 of train by image"),
        (("train", "test"), {"train", "test"}, None),
    ],
)
def test_missing_parts(tree, given, expected, mark):
    root = tree(*[f"{part}/{c}/{i}.png" for part in given for c in "ab" for i in range(20)])
    task = open_task(root)
    assert set(sizes(task)) == expected
    assert sum(sizes(task).values()) == 40 * len(given)
    if "val" in given:
        assert sizes(task)["val"] == 40
        assert all(name.startswith("train/") for name in task.load(None)["test"].ids)
    assert [m.text for m in task.marks if m.kind == "split"] == (
        [f"split made by medbench: {mark}"] if mark else []
    )


def test_numbers_are_ordered_as_numbers(tree):
    grades = ["0", "2", "10"]
    root = tree(*[f"{part}/{g}/1.png" for part in ("train", "test") for g in grades])
    assert open_task(root).classes == ("0", "2", "10")
    ordinal = open_task(root, ordinal=True)
    assert ordinal.kind == "ordinal"
    assert ordinal.metric == "weighted_kappa"
    assert Mark("remark", "order of the classes: 0 < 2 < 10") in ordinal.marks
    assert ordinal.settings != open_task(root).settings


def test_other_files_are_left_out_and_counted(tree):
    root = tree(
        *[f"{part}/{c}/1.png" for part in ("train", "test") for c in "ab"],
        "train/.hidden/9.png",
        "__MACOSX/train/9.png",
    )
    for name in (
        "train/a/Thumbs.db",
        "train/a/.DS_Store",
        "train/a/notes.txt",
        "test/b/readme.txt",
        "test/b/LICENSE",
    ):
        (root / name).write_text("text")
    task = open_task(root)
    assert sum(sizes(task).values()) == 4
    assert (
        Mark("remark", "3 files that are not images were left out (.txt, no suffix)") in task.marks
    )


def test_dicom_without_a_suffix_is_an_image(tree):
    root = tree(*[f"{part}/{c}/1.png" for part in ("train", "test") for c in "ab"])
    for name in ("train/a/IM0001", "train/b/1.2.840.77"):
        (root / name).write_bytes(bytes(128) + b"DICM")
    assert sizes(open_task(root))["train"] == 4


def test_a_task_can_be_sent_to_a_worker(tree):
    task = open_task(tree(*[f"{c}/{i}.png" for c in "ab" for i in range(10)]))
    assert labels_of(pickle.loads(pickle.dumps(task))) == labels_of(task)


# what is made of a CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_in_every_spelling(table, delimiter, encoding):
    rows = [
        ["1.png", "gesund", "p1", "train"],
        ["./über/2.png", "krank", "p2", "train"],
        ["3.png", "gesund", "p3", "test"],
        ["4.png", "krank", "p4", "test"],
    ]
    task = open_task(table("path label group split", *rows, delimiter=delimiter, encoding=encoding))
    assert task.name == "folder:list.csv"
    assert labels_of(task) == {
        "1.png": "gesund",
        "über/2.png": "krank",
        "3.png": "gesund",
        "4.png": "krank",
    }
    assert task.load(None)["train"].groups.tolist() == ["p1", "p2"]
    assert (task.groups, task.bags, task.marks) == ("group", "group", ())


def test_header_in_capitals_and_windows_paths(table):
    file = table(
        "path label split", *[[f"x/{c}{p}.png", c, p] for c in "ab" for p in ("train", "test")]
    )
    file.write_text(
        file.read_text().replace("path,label,split", "Path, LABEL ,Split").replace("x/", "x\\")
    )
    assert set(labels_of(open_task(file))) == {
        f"x/{c}{p}.png" for c in "ab" for p in ("train", "test")
    }


def test_the_order_of_rows_changes_nothing(table):
    rows = many(60, "abc")
    first = open_task(table("path label", *rows)).load(None)
    again = open_task(table("path label", *rows[::-1])).load(None)
    for name in first:
        assert first[name].ids.tolist() == again[name].ids.tolist()
        assert first[name].labels.tolist() == again[name].labels.tolist()


def test_groups_are_never_torn(table):
    rows = [[f"{i}.png", "ab"[i // 3 % 2], f"patient {i // 3}"] for i in range(90)]
    task = open_task(table("path label group", *rows))
    groups = [set(part.groups) for part in task.load(None).values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 30
    assert Mark("split", "split made by medbench: 70/10/20 by group") in task.marks
    assert not any("no group column" in mark.text for mark in task.marks)


def test_bags_and_metadata(table):
    rows = [
        [
            f"{i}.png",
            "ab"[i % 2],
            f"g{i // 4}",
            f"bag{i // 2}",
            str(i) if i else "",
            "fm"[i % 2],
            "train" if i < 4 else "test",
        ]
        for i in range(8)
    ]
    task = open_task(table("path label group bag age sex split", *rows))
    train = task.load(None)["train"]
    assert task.bags == "bag"
    assert train.bags.tolist() == ["bag0", "bag0", "bag1", "bag1"]
    np.testing.assert_array_equal(train.meta["age"], [np.nan, 1, 2, 3])
    assert train.meta["sex"].tolist() == ["f", "m", "f", "m"]
    assert set(train.meta) == {"age", "sex"}


def test_several_labels(table):
    rows = [
        ["1.png", "1", "0", "train"],
        ["2.png", "0", "1.0", "train"],
        ["3.png", "", "-1", "train"],
        ["4.png", "1", "0", "test"],
        ["5.png", "0", "1", "test"],
    ]
    task = open_task(table("path label:effusion label:mass split", *rows))
    assert (task.kind, task.classes) == ("multilabel", ("effusion", "mass"))
    np.testing.assert_array_equal(
        task.load(None)["train"].labels, [[1, 0], [0, 1], [np.nan, np.nan]]
    )
    assert task.load(None)["train"].labels.dtype == np.float64


def test_numeric_csv_labels(table):
    task = open_task(
        table("path label", *[[f"{i}.png", str(9 + i % 3)] for i in range(60)]), ordinal=True
    )
    assert task.classes == ("9", "10", "11")


# what is refused


def refused(place, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        open_task(place, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_path_that_does_not_exist_names_the_nearest(tree):
    root = tree("train/a/1.png")
    refused(root.parent / "clinc", "'clinc'.*Did you mean 'clinic'")
    refused(root / "trian" / "a", "no 'trian' in .*Did you mean 'train'")
    refused("", "names no place")
    refused(root / "train" / "a" / "1.png", "neither a folder nor")


def test_a_folder_without_classes(tree):
    refused(tree(), "holds no class folders")
    refused(tree("1.png"), "holds no class folders.*folder of its own")
    (tree() / "labels.csv").write_text("path,label\n")
    refused(tree(), "folder:.*/clinic/labels.csv")
    refused(tree("train/a/1.png", "train/b/1.png", "test/1.png"), "test holds no class folders")


def test_an_empty_class_folder(tree):
    root = tree("a/1.png", "b/1.png")
    (root / "b" / "1.png").rename(root / "b" / "1.txt")
    refused(root, r"class folder .*clinic/b holds no image.*\.png")


def test_a_folder_beside_the_parts(tree):
    refused(
        tree("train/a/1.png", "valid/a/1.png"), "'valid' stands beside train.*Did you mean 'val'"
    )


def test_no_train_part(tree):
    refused(tree("test/a/1.png", "test/b/1.png"), "no train part")


def test_too_few_classes(tree):
    refused(tree("a/1.png"), "clinic has a alone; it takes at least two classes")
    refused(tree("a/1.png", "b/1.png"), "three classes for an ordinal", ordinal=True)


@pytest.mark.parametrize(("one", "other"), [("Nevus", "nevus"), ("1", "1.0")])
def test_two_spellings_of_a_class(table, one, other):
    refused(
        table("path label", ["1.png", one], ["2.png", other]),
        f"'{one}' and '{other}' look like one",
    )


def test_csv_without_its_columns(table):
    refused(
        table("file label", ["1.png", "a"]), "needs the columns path and label.*it has: file, label"
    )
    refused(
        table("path class", ["1.png", "a"]), "needs the columns path and label.*it has: path, class"
    )
    refused(table("path label"), "lists no image")
    refused(table("path label label", ["1.png", "a", "b"]), "two columns 'label'")


def test_csv_that_is_not_one(table):
    file = table("path label", ["1.png", "a"])
    file.write_bytes(b"path,label\n\xff\xfe1.png,a\n")
    refused(file, "not UTF-8")
    file.write_text('path,label\n"1.png,a\n')
    refused(file, "line 2 is not CSV: unexpected end of data. Next: look for a quotation mark")
    file.write_text("path,label\n1.png,a,b\n")
    refused(file, "line 2 has 3 fields, the header 2")


@pytest.mark.parametrize(
    "path", ["../1.png", "x/../../1.png", "/etc/1.png", "C:\\1.png", "..\\1.png"]
)
def test_csv_paths_that_leave_the_folder(table, path):
    refused(table("path label", [path, "a"], make=False), "line 2: .* stays in the CSV's folder")


def test_links_that_leave_the_folder(table, tmp_path):
    file = table(
        "path label split",
        ["1.png", "a", "train"],
        ["in/2.png", "b", "train"],
        ["3.png", "a", "test"],
        ["4.png", "b", "test"],
    )
    inside = tmp_path / "clinic"
    (inside / "4.png").unlink()
    (inside / "4.png").symlink_to("1.png")
    assert sum(sizes(open_task(file)).values()) == 4  # a link that stays is fine
    picture(tmp_path / "secret" / "2.png")
    (inside / "3.png").unlink()
    (inside / "3.png").symlink_to(tmp_path / "secret" / "2.png")
    refused(file, "line 4: '3.png' leaves the CSV's folder by a symbolic link")
    (inside / "3.png").unlink()
    picture(inside / "3.png")
    (inside / "in" / "2.png").unlink()
    (inside / "in").rmdir()
    (inside / "in").symlink_to(tmp_path / "secret")
    refused(file, "line 3: 'in/2.png' leaves")


def test_csv_paths_that_do_not_exist(table):
    file = table("path label", *many(6))
    for i in range(5):
        (file.parent / f"{i:03d}.png").unlink()
    message = refused(file, "5 of 6 images do not exist")
    assert [f"{i:03d}.png" in message for i in range(5)] == [True] * 3 + [False] * 2
    refused(table("path label", ["", "a"], make=False), "line 2 has no path")


def test_names_in_another_unicode_form_are_found(table):
    """macOS archives hold "u" and a diaeresis where a CSV has one letter.

    The id stays as listed, so that no machine draws another split.
    """
    listed = "Müller 1.png"
    file = table("path label", [listed, "a"], *many(39))
    (file.parent / listed).rename(file.parent / unicodedata.normalize("NFD", listed))
    task = open_task(file)
    parts = task.load(file.parent).values()
    paths = {
        name: image
        for part in parts
        for name, image in zip(part.ids.tolist(), part.images, strict=True)
    }
    assert paths[listed].is_file() and len(paths) == 40


def test_a_column_that_is_the_patient_by_its_name_is_asked_for(table):
    task = open_task(
        table("path label Patient_ID", *([*row, i // 2] for i, row in enumerate(many(40))))
    )
    assert (
        Mark(
            "remark",
            "no group column (rename 'Patient_ID'?): images of one patient may stand on both sides",
        )
        in task.marks
    )


def test_a_csvs_folder_names_the_csv(table):
    file = table("path label", *many(6))
    picture(file.parent / "images" / "1.png")
    refused(
        file.parent,
        f"images alone; it takes at least two classes. Next: name the CSV file: --task {shlex.quote(f'folder:{file}')}",
    )


def test_unknown_split_name(table):
    refused(
        table("path label split", ["1.png", "a", "train"], ["2.png", "b", "tset"]),
        "line 3: unknown split 'tset'.*Did you mean 'test'",
    )
    refused(
        table("path label split", ["1.png", "a", "train"], ["2.png", "b", ""]),
        "line 3: unknown split ''",
    )


@pytest.mark.parametrize(
    ("called", "ours"),
    [
        ("validation", "val"),
        ("valid", "val"),
        ("Dev", "val"),
        ("training", "train"),
        ("testing", "test"),
        ("Test", "test"),
    ],
)
def test_a_part_by_another_name_is_understood_and_refused(called, ours, table, tree, tmp_path):
    file = table("path label split", ["1.png", "a", "train"], ["2.png", "b", called])
    refused(file, f"line 3: unknown split '{called}'.*Did you mean '{ours}'")
    for place in (
        "beside/train" if ours != "train" else "beside/test",
        f"beside/{called}",
        f"alone/{called}",
        "alone/other",
    ):
        for c in "ab":
            (tmp_path / place / c).mkdir(parents=True)
    refused(tmp_path / "beside", f"'{called}' stands beside.*Did you mean '{ours}'")
    refused(
        tmp_path / "alone",
        f"'{called}' holds folders and is called like a part.*Did you mean '{ours}'",
    )


def test_one_image_with_two_labels(table):
    refused(
        table("path label", ["1.png", "a"], ["2.png", "b"], ["./1.png", "b"]),
        "line 4 repeats '1.png' of line 2 with another label",
    )


def test_duplicate_rows(table):
    message = refused(
        table("path label", ["1.png", "a"], ["2.png", "b"], ["1.png", "a"]),
        "line 4 repeats '1.png' of line 2",
    )
    assert "another label" not in message


def test_too_few_images_to_split(table):
    refused(
        table("path label group", ["1.png", "a", "p"], ["2.png", "b", "p"]),
        "leaves no image for test",
    )


@pytest.mark.parametrize("label", ["", " ", "NaN", "n/a"])
def test_empty_labels(table, label):
    refused(table("path label", ["1.png", "a"], ["2.png", label]), "line 3 has no label")


def test_empty_groups_and_bags(table):
    refused(
        table("path label group", ["1.png", "a", "p"], ["2.png", "b", ""]), "line 3 has no group"
    )
    refused(table("path label bag", ["1.png", "a", ""], ["2.png", "b", "x"]), "line 2 has no bag")


@pytest.mark.parametrize("value", ["2", "yes", "0.5"])
def test_values_that_are_no_label(table, value):
    refused(
        table("path label:x label:y", ["1.png", "1", "0"], ["2.png", "0", value]),
        f"line 3: '{value}' in label:y.*Allowed: 1, 0, blank",
    )


def test_label_columns_that_contradict(table):
    refused(
        table("path label label:x label:y", ["1.png", "a", "1", "0"]), "Either one column label"
    )
    refused(table("path label:x", ["1.png", "1"]), "Either one column label")
    refused(
        table("path label: label:y", ["1.png", "1", "0"], ["2.png", "0", "1"]),
        "has a column 'label:' that names no class. Next: call it label:NAME",
    )
    refused(
        table("path label:x label:y", ["1.png", "1", "0"]),
        "ordinal task has one label column",
        ordinal=True,
    )


# real folders


def test_kermanys_class_folders(real_data):
    task = open_task(real_data / "kermany" / "chest_xray" / "test")
    assert (task.kind, task.classes) == ("binary", ("NORMAL", "PNEUMONIA"))
    assert Counter(labels_of(task).values()) == {"NORMAL": 234, "PNEUMONIA": 390}
    refused(real_data / "kermany" / "chest_xray", "no train part")


def test_hyperkvasirs_class_folders(real_data):
    task = open_task(
        real_data / "hyperkvasir" / "labeled-images" / "lower-gi-tract" / "pathological-findings"
    )
    assert len(task.classes) == 8
    assert sum(sizes(task).values()) == 1885


def test_a_csv_of_hannovers_films(real_data, tmp_path):
    source = real_data / "hannover_cxr"
    (tmp_path / "png").mkdir()
    with (source / "data.csv").open(newline="", encoding="utf-8") as stream:
        records = [
            r for r in csv.DictReader(stream) if (source / "png" / f"{r['image_id']}.png").exists()
        ]
    for r in records:
        shutil.copy(source / "png" / f"{r['image_id']}.png", tmp_path / "png")
    with (tmp_path / "films.csv").open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(["path", "label", "group", "sex", "age"])
        out.writerows(
            [f"png/{r['image_id']}.png", r["projection"], r["patient_id"], r["sex"], r["age"]]
            for r in records
        )
    task = open_task(tmp_path / "films.csv")
    parts = task.load(None)
    assert task.classes == ("ap", "pa")
    assert sum(sizes(task).values()) == 243
    assert len({(g, name) for name, part in parts.items() for g in part.groups}) == 71
    assert set(parts["train"].meta) == {"sex", "age"}


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such name")
def test_a_name_that_is_no_text_is_named(tree):
    root = tree("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    os.rename(root / "a" / "1.png", os.fsencode(root / "a") + b"/m\xe4nn.png")
    with pytest.raises(UserError, match=r"a/m\\xe4nn\.png is not UTF-8.*Next: rename it"):
        open_task(root)


def test_a_listed_image_takes_few_bytes(tmp_path):
    """Of a million images these are the gigabytes of a plan: `benchmarks/speed/memory.py`."""
    n = 2000
    (tmp_path / "images").mkdir()
    rows = ["path,label,group,site"]
    for i in range(n):
        name = f"images/an_image_{i:07d}.png"
        (tmp_path / name).write_text(str(i))
        rows.append(f"{name},{'abc'[i % 3]},patient{i // 2:07d},{'north' if i % 4 else 'south'}")
    (tmp_path / "listed.csv").write_text("\n".join(rows))
    cache = images.cache_folder()

    def opened():
        task = open_task(tmp_path / "listed.csv")
        return task_data.open_task(task, Grid(tasks=(task.name,)), cache, [])

    opened()  # what is imported and remembered at the first one
    taken = []
    for _ in range(3):  # other threads of the process may allocate meanwhile
        tracemalloc.start()
        try:
            kept = opened()
            gc.collect()
            taken.append([of / n for of in tracemalloc.get_traced_memory()])
        finally:
            tracemalloc.stop()
        assert len(kept.hashes) == n
        del kept
    stays, peak = np.min(taken, axis=0)
    assert stays < 600, "a Path for each image takes 400 more"
    assert peak < 1400


@pytest.mark.parametrize("levels", ["data", "archive/chest_xray"])
def test_class_folders_further_down_are_named_with_the_command(
    levels: str, folder: Path, tmp_path: Path
) -> None:
    deep = tmp_path / "download" / levels
    deep.parent.mkdir(parents=True)
    folder.rename(deep)
    with pytest.raises(
        UserError, match=rf"holds one folder alone, .*lie in {deep}\. Next: .*'?folder:{deep}'?"
    ):
        registry.task(f"folder:{tmp_path / 'download'}")
    assert registry.task(f"folder:{deep}").name
