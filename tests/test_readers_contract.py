"""Every reader against a small tree of the true layout: found, opened as a run would, and each way
in which a download may be incomplete."""

from __future__ import annotations

import functools
import gzip
import inspect
import itertools
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from trees import chest, others, skin

from medbench import images
from medbench.data.task_data import open_task
from medbench.schema import Grid, Task, UserError, registry
from medbench.tasks import _reading as reading


@dataclass(frozen=True)
class Case:
    """n: images of each part. table, column: what may be renamed."""

    make: Callable[[Path], Path]
    n: tuple[int, ...]
    table: str = ""
    column: str = ""


EXPERT = "four_findings_expert_labels/test_labels.csv"
CASES = {
    "isic2019": Case(skin.make_isic, (85,), "ISIC_2019_Training_GroundTruth.csv", "BKL"),
    "pad-ufes": Case(skin.make_pad_ufes, (90,), "metadata.csv", "diagnostic"),
    "scin": Case(skin.make_scin, (137,), "scin_labels.csv", "weighted_skin_condition_label"),
    "chexpert": Case(chest.make_chexpert, (80, 19), "train.csv", "Pleural Effusion"),
    "chest": Case(chest.make_chexpert, (80, 19), "valid.csv", "Path"),
    "nih14": Case(chest.make_nih, (90, 30), "Data_Entry_2017_v2020.csv", "Finding Labels"),
    "nih-expert": Case(chest.make_nih_expert, (25, 13), EXPERT, "Airspace opacity"),
    "pneumonia": Case(chest.make_kermany, (62, 16)),
    "retina": Case(others.make_aptos, (60,), "train.csv", "diagnosis"),
    "eyepacs": Case(others.make_eyepacs, (80,), "trainLabels.csv", "level"),
    "lymph": Case(others.make_pcam, (40, 8, 12)),
    "lymph-kaggle": Case(others.make_pcam_kaggle, (40,), "train_labels.csv", "label"),
    "marrow": Case(others.make_matek, (210,)),
    "endoscopy": Case(others.make_hyperkvasir, (138, 46, 46), "5_fold_split.csv", "class-name"),
    "uc-grade": Case(others.make_hyperkvasir, (18, 6, 6), "5_fold_split.csv", "split-index"),
}
TABLES = [name for name, case in CASES.items() if case.table]


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[str], tuple[Task, Path]]:
    """The task and its tree, in a folder of the first of its names."""

    def make(name: str) -> tuple[Task, Path]:
        if name == "lymph":
            pytest.importorskip("h5py")
        task = registry.task(name)
        return task, CASES[name].make(tmp_path / "data" / task.folders[0])

    return make


def test_every_reader_has_a_tree() -> None:
    """Of every one that medbench ships, that is."""
    shipped = {name for name, task in registry.tasks().items() if task.get and not task.code}
    assert not shipped - {*CASES, "derm"}, (
        "add a function to tests/trees/ that makes a small copy of the publisher's layout, and a Case of it to CASES here"
    )
    assert not {*CASES} - shipped, "a Case of a task that is gone, or whose file is not in SHIPPED"


@pytest.mark.parametrize("name", CASES)
def test_a_run_opens_it(
    name: str, tree: Callable[[str], tuple[Task, Path]], tmp_path: Path
) -> None:
    task, root = tree(name)
    told = "`find` gives the folder that holds the data: as it is named, and in a folder above; `reading.folder` does that"
    assert task.find(root) == root, told
    assert task.find(tmp_path / "data") == root, told
    assert task.find(tmp_path) is None, "`find` gives None where nothing lies"
    opened = open_task(task, Grid(data=str(tmp_path / "data")), images.cache_folder(), [])
    sizes = [len(part) for part in opened.parts.values()]
    assert list(opened.parts) == (
        ["train", "test"] if name == "nih-expert" else ["train", "val", "test"]
    )
    assert sum(sizes) == sum(CASES[name].n)
    if len(CASES[name].n) == 2 and name != "nih-expert":
        assert sizes[2] == CASES[name].n[1], "the official test part, all of it"
    assert any("not the official set" in mark.text for mark in opened.marks) == (
        task.n_images is not None
    )
    for part in opened.parts.values():
        labels = part.labels
        assert (
            np.isin(labels[~np.isnan(labels)], (0, 1)).all()
            if task.kind == "multilabel"
            else set(labels) <= set(range(len(task.classes)))
        )
        assert not any(str(tmp_path) in i for i in part.ids)
    for a, b in itertools.combinations(opened.parts.values(), 2):
        assert not set(a.ids) & set(b.ids)
    if task.bags:
        for part in opened.parts.values():
            assert all(len(set(part.groups[part.bags == bag])) == 1 for bag in set(part.bags)), (
                "a bag lies inside a group"
            )


@pytest.mark.parametrize("name", TABLES)
def test_the_order_of_a_tables_rows_changes_nothing(
    name: str, tree: Callable[[str], tuple[Task, Path]]
) -> None:
    task, root = tree(name)
    before = {
        part: dict(zip(split.ids, split.labels.tolist(), strict=True))
        for part, split in task.load(root).items()
    }
    file = root / CASES[name].table
    head, *lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([head, *reversed(lines)]))
    after = {
        part: dict(zip(split.ids, split.labels.tolist(), strict=True))
        for part, split in task.load(root).items()
    }
    assert str(after.keys()) == str(before.keys())
    for part in before:
        np.testing.assert_equal(after[part], before[part])


@pytest.mark.parametrize("name", TABLES)
def test_a_renamed_column_is_named_with_the_nearest(
    name: str, tree: Callable[[str], tuple[Task, Path]]
) -> None:
    task, root = tree(name)
    case = CASES[name]
    file = root / case.table
    file.write_text(file.read_text().replace(case.column, f"{case.column}s", 1))
    with pytest.raises(
        UserError,
        match=rf"lacks the column '{case.column}' \(the nearest is '{case.column}s'\); it has: .*medbench data list",
    ):
        task.load(root)


@pytest.mark.parametrize("name", TABLES)
def test_a_renamed_table_is_named_with_what_is_there(
    name: str, tree: Callable[[str], tuple[Task, Path]], tmp_path: Path
) -> None:
    task, root = tree(name)
    file = root / CASES[name].table
    file.rename(file.with_stem(f"{file.stem}_new"))
    assert task.find(tmp_path / "data") == root, (
        "a folder of that name is not taken for a missing one"
    )
    with pytest.raises(UserError, match=rf"holds no .*{file.stem}.*it holds: .*medbench data list"):
        task.load(root)


@pytest.mark.parametrize("name", TABLES)
def test_a_row_that_was_cut_off_is_found(
    name: str, tree: Callable[[str], tuple[Task, Path]]
) -> None:
    task, root = tree(name)
    file = root / CASES[name].table
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], re.split("[,;]", lines[-1])[0]]))
    with pytest.raises(UserError, match=r"ends in the middle of the row of '.*download it again"):
        task.load(root)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "uc-grade"])
def test_missing_images_are_counted(name: str, tree: Callable[[str], tuple[Task, Path]]) -> None:
    task, root = tree(name)
    parts = task.load(root)
    gone = [parts[part].images[i] for part in parts for i in (0, 1)]
    for image in gone:
        assert isinstance(image, Path)
        image.unlink()
    with pytest.raises(UserError, match=r"lacks [2-6] of \d+ images: .*medbench data list"):
        task.load(root)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CASES
        if name not in ("chexpert", "chest", "lymph", "endoscopy", "uc-grade", "eyepacs")
    ],
)
def test_a_missing_image_folder_is_named(
    name: str, tree: Callable[[str], tuple[Task, Path]]
) -> None:
    task, root = tree(name)
    for place in list(root.rglob("*")):
        if place.is_dir() and place.exists() and "labels" not in place.name:
            shutil.rmtree(place)
    # `reading.first_existing` says so
    with pytest.raises(UserError, match=r"holds no .*medbench data list"):
        task.load(root)


#: Metadata of each task's layout: for subgroups, audits and shortcuts. Left out are columns that
#: give the label away.
META = {
    "isic2019": {"age", "sex", "localization"},
    "pad-ufes": {"age", "sex", "localization", "skin_type"},
    "scin": {"age_group", "sex", "skin_type"},
    "chexpert": {"age", "sex", "view", "projection"},
    "chest": {"age", "sex", "view", "projection"},
    "nih14": {"age", "sex", "view"},
    "nih-expert": {"age", "sex", "view"},
    "eyepacs": {"eye"},
}


@pytest.mark.parametrize("name", CASES)
def test_metadata_groups_and_counts_are_complete(
    name: str, tree: Callable[[str], tuple[Task, Path]]
) -> None:
    task, root = tree(name)
    parts = task.load(root)
    for part, split in parts.items():
        assert set(split.meta) == META.get(name, set()), (
            f"the columns of `meta` of {part} are not those in META: add them there"
        )
        assert {
            len(split.ids),
            len(split.labels),
            len(split.groups),
            len(split.bags),
            *map(len, split.meta.values()),
        } == {len(split)}
        assert all(split.groups.tolist()) and all(split.bags.tolist()), (
            "an image without a group would be torn from nothing"
        )
        if task.groups is None:
            assert split.groups.tolist() == split.ids.tolist(), (
                "no group is known: every image is its own, and a mark says so"
            )
    assert task.groups is not None or any("unknown" in mark.text for mark in task.marks), (
        f"{name} has groups=None: give it marks=(Mark('remark', '... unknown ...'),)"
    )
    official = task.official
    assert all(len(counts) == len(task.classes) for counts in official.classes.values())
    for key in {**official.images, **official.classes}:
        assert key == "all" or set(key.split("+")) <= set(parts), key
    if task.n_images is not None and task.kind != "multilabel" and "all" in official.classes:
        assert sum(official.classes["all"]) == task.n_images
    if {"+".join(parts)} < set(official.images) or set(parts) == set(official.images):
        assert sum(official.images.values()) == task.n_images
    assert task.downloads or task.steps, f"{name} does not say how its data is got"


@pytest.mark.parametrize("name", CASES)
def test_every_column_and_folder_that_is_read_stands_in_the_readers_layout(
    name: str, tree: Callable[[str], tuple[Task, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text at the top of a reader says where its layout comes from and names all of it.

    Whoever doubts a name finds its source there.
    """
    task, root = tree(name)
    used: set[str] = set()
    table, existing, files = reading.read_table, reading.first_existing, reading.files

    def seen_table(
        file: Path,
        needed: Sequence[str],
        of: str,
        *,
        also: Sequence[str] = (),
        delimiter: str = ",",
    ) -> object:
        used.update(needed, also)
        return table(file, needed, of, also=also, delimiter=delimiter)

    def seen_existing(place: Path, names: Sequence[str], of: str) -> Path:
        used.update(names)
        return existing(place, names, of)

    def seen_files(place: Path, folders: Sequence[str], of: str) -> dict[str, Path]:
        used.update(folders)
        return files(place, folders, of)

    for replaced, seen in (
        ("read_table", seen_table),
        ("first_existing", seen_existing),
        ("files", seen_files),
    ):
        monkeypatch.setattr(reading, replaced, seen)
    with reading.as_listed():
        task.load(root)
    module = inspect.getmodule(
        task.load.func if isinstance(task.load, functools.partial) else task.load
    )
    assert module is not None and module.__doc__
    text = spelled(module.__doc__)
    if name != "marrow":  # it walks its class folders, which its reader checks itself
        assert used
    # columns that are classes: constants with a source of their own
    used -= {*task.classes, *getattr(module, "FINDINGS", ())}
    missing = [
        word
        for word in sorted(used)
        if word and not all(sign(part) in text for part in word.split("/"))
    ]
    assert not missing, f"{module.__name__} reads names that its layout does not have: {missing}"
    assert re.search(
        r"doi:10\.|https?://|github\.com/|kaggle\.com/|gs://|\.(gov|edu|no)/|Kaggle|Stanford|box\.com/|isic-archive\.com/",
        module.__doc__,
    ), (
        f"the docstring of {module.__name__} does not say where its layout comes from: a DOI or an address"
    )


def spelled(text: str) -> str:
    """With `{a,b}` and `{a,b}_{x,y}` written out, and alike names as one: `image_1_path` to
    `image_3_path` stand for the second too."""
    words = [text]
    for braced in re.findall(r"[\w./-]*(?:\{[\w,]+\}[\w./-]*)+", text):
        parts = [part.split(",") for part in re.split(r"[{}]", braced)]
        words += ["".join(choice) for choice in itertools.product(*parts)]
    return sign(" ".join(" ".join(words).replace(",", ", ").split()))


def sign(name: str) -> str:
    """Numbers and parts are one sign each."""
    return re.sub(r"(?<=_)(test|validation)(?=_)", "PART", re.sub(r"\d+", "#", name))


@pytest.mark.parametrize("name", ["pneumonia", "marrow"])
def test_what_macos_leaves_beside_images_is_no_image(
    name: str, tree: Callable[[str], tuple[Task, Path]]
) -> None:
    task, root = tree(name)
    images = [file for file in root.rglob("*") if file.suffix in (".jpeg", ".jpg")]
    with reading.as_listed():
        before = {part: len(split) for part, split in task.load(root).items()}
        for file in images:
            file.with_name(f"._{file.name}").write_bytes(b"\x00\x05\x16\x07")
        assert {part: len(split) for part, split in task.load(root).items()} == before


def test_a_broken_gzip_is_named_and_an_exponent_is_no_number(tmp_path: Path) -> None:
    packed = bytearray(
        gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, 7 * i) for i in range(3000)))
    )
    packed[300:400] = bytes(100)
    (tmp_path / "t.csv.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"t\.csv\.gz is not a table of UTF-8 text"):
        reading.read_table(tmp_path / "t.csv.gz", ["a"], "derm")
    np.testing.assert_equal(
        reading.numbers(np.array(["5", "1.5", "5²", ""])), [5, 1.5, np.nan, np.nan]
    )
