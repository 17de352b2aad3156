"""PatchCamelyon: metastasis in lymph node patches of 96 pixels.

Veeling et al. 2018, arXiv:1806.03962; the original and Kaggle's. Original,
doi:10.5281/zenodo.2546921 and github.com/basveeling/pcam:
`camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5` (published as .gz), data sets `x` (N, 96,
96, 3) uint8 and `y` (N, 1, 1, 1); slides are disjoint between parts. Kaggle's
histopathologic-cancer-detection: `train_labels.csv` with `id,label`, images `train/<id>.tif`;
duplicates were removed, and nothing says which slide a patch is from.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import Download, Mark, Official, Split, Task, UserError
from medbench.tasks import _array_rows as rows
from medbench.tasks import _reading as reading
from medbench.tasks import phantoms

CLASSES = ("normal", "metastasis")
_NAME = "camelyonpatch_level_2_split_{}_{}.h5"
_PARTS = {"train": "train", "val": "valid", "test": "test"}
_ORIGINAL = ("pcam", "pcamv1", "PCam", "lymph")
_KAGGLE = ("histopathologic-cancer-detection", "pcam-kaggle", "lymph-kaggle")
_CITATION = "Veeling et al. 2018, Rotation Equivariant CNNs for Digital Pathology, MICCAI, arXiv:1806.03962; Bejnordi et al. 2017, JAMA 318:2199"


def load(root: Path) -> dict[str, Split]:
    """Read the official parts; images are rows of the files.

    Raises UserError for files that are missing, still packed, or do not fit together.
    """
    return {part: _read(root, name) for part, name in _PARTS.items()}


def _read(root: Path, name: str) -> Split:
    x, y = (root / _NAME.format(name, letter) for letter in "xy")
    for file in (x, y):
        packed = file.with_name(f"{file.name}.gz")
        if not file.exists() and packed.exists():
            raise UserError(
                f"{packed} is still packed: no row of it can be read by itself.",
                then=f"gunzip {packed}",
            )
        reading.first_existing(root, [file.name], "lymph")
    images = rows.from_h5(x, "x")
    shape = rows.h5_values(x, "x").shape
    labels = np.asarray(rows.h5_values(y, "y")[...], np.int64).reshape(-1)
    if len(labels) != len(images) or shape[1:] != (96, 96, 3) or not np.isin(labels, (0, 1)).all():
        raise UserError(
            f"{x} holds {shape}, and {y.name} {len(labels)} labels: not PCam's (N, 96, 96, 3) and N of 0 and 1.",
            then=_AGAIN,
        )
    ids = np.array([f"{name}_{i}" for i in range(len(images))])
    return Split(images, ids, labels, ids, ids)


def load_kaggle(root: Path) -> dict[str, Split]:
    """Read the three parts of the labelled patches, each by itself.

    Raises UserError where a file is missing or its labels are not as published.
    """
    file = reading.first_existing(root, ["train_labels.csv"], "lymph-kaggle")
    table = reading.read_table(file, ("id", "label"), "lymph-kaggle")
    ids = reading.once(table["id"], file)
    images = reading.listed_files(
        ids, reading.files(root, ["train"], "lymph-kaggle"), "PCam (Kaggle)", root, "lymph-kaggle"
    )
    return reading.divide(
        Split(images, ids, reading.codes(table["label"], ("0", "1"), file), ids, ids),
        key="lymph-kaggle 1",
    )


#: SHA-256 and bytes of each .h5.gz: tensorflow/datasets, url_checksums/patch_camelyon.txt.
_HASHES = {
    "train_x": ("d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c", 6_421_353_462),
    "train_y": ("b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a", 21_378),
    "valid_x": ("f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2", 805_965_320),
    "valid_y": ("ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c", 3_038),
    "test_x": ("79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245", 800_875_929),
    "test_y": ("0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef", 3_040),
}


def _download(part: str) -> Download:
    name, (sha256, size) = _NAME.format(*part.split("_")), _HASHES[part]
    return Download(
        f"https://zenodo.org/record/2546921/files/{name}.gz",
        name,
        unpack="gzip",
        sha256=sha256,
        size=size,
    )


_AGAIN = "download it again from doi:10.5281/zenodo.2546921"
LYMPH = Task(
    "lymph",
    version=1,
    title="Lymph node patches, with metastasis or without",
    kind="binary",
    classes=CLASSES,
    data="PCam",
    n_images=262_144 + 32_768 + 32_768,
    load=load,
    find=partial(
        reading.folder,
        names=_ORIGINAL,
        marks=[_NAME.format("train", "x"), _NAME.format("train", "x") + ".gz"],
    ),
    groups=None,
    modality="histology",
    phantom=phantoms.lymph,
    phantom_groups="slide",
    folders=_ORIGINAL,
    get="download the six .h5.gz files from doi:10.5281/zenodo.2546921 into one folder and gunzip them",
    downloads=tuple(map(_download, _HASHES)),
    official=Official(images={"train": 262_144, "val": 32_768, "test": 32_768}),
    citation=_CITATION,
    licence="CC0",
    marks=(
        Mark(
            "remark", "slide unknown to a label budget: patches of one slide count as independent"
        ),
        Mark("remark", "holds duplicate patches (probabilistic sampling)"),
    ),
)
LYMPH_KAGGLE = Task(
    "lymph-kaggle",
    version=1,
    title="Lymph node patches without duplicates, with metastasis or without",
    kind="binary",
    classes=CLASSES,
    data="PCam (Kaggle)",
    n_images=220_025,
    load=load_kaggle,
    find=partial(reading.folder, names=_KAGGLE, marks=("train_labels.csv",)),
    groups=None,
    modality="histology",
    phantom=phantoms.lymph,
    phantom_groups="slide",
    folders=_KAGGLE,
    get="accept the rules of kaggle.com/c/histopathologic-cancer-detection, download and unpack it",
    registration="Kaggle",
    steps=(
        "sign in at https://www.kaggle.com and accept the rules at https://www.kaggle.com/c/histopathologic-cancer-detection/rules",
        "download: kaggle competitions download -c histopathologic-cancer-detection (or the button Download All on its page Data)",
        "unpack it into the folder histopathologic-cancer-detection of the data folder: train_labels.csv, train/",
    ),
    official=Official(classes={"all": (130_908, 89_117)}),
    citation=_CITATION,
    licence="CC0",
    marks=(
        Mark("split", "split made by medbench: the competition's test set has no public labels"),
        Mark("remark", "slide unknown: one may stand on both sides"),
    ),
)
