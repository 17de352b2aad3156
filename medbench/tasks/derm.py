"""HAM10000: seven kinds of pigmented skin lesion in dermoscopy.

Tschandl, Rosendahl & Kittler 2018, doi:10.1038/sdata.2018.161. Layout as on Harvard Dataverse,
doi:10.7910/DVN/DBW86T, and Kaggle, kmader/skin-cancer-mnist-ham10000: `HAM10000_images_part_1/` and
`HAM10000_images_part_2/` with `ISIC_*.jpg` (Kaggle writes them in small letters too; one folder
`HAM10000_images/` or `images/` is read as well), and `HAM10000_metadata`, `.csv` or `.tab`, with
`lesion_id,image_id,dx,dx_type,age,sex,localization`, on Dataverse also `dataset`.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from medbench.schema import PARTS, Download, Official, Shift, Split, Task, UserError
from medbench.stats import splits
from medbench.tasks import _ham10000_lesions as same
from medbench.tasks import phantoms
from medbench.tasks._joined_groups import joined
from medbench.tasks._reading import numbers

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
SHARES = (0.7, 0.1, 0.2)
#: What the official 10,015 images give: `splits.ids_hash` of each part. Raise DERM.version with any
#: change.
SPLIT = {
    "train": "fe9c5cca1921d8ecb7386b3c63b8c794794ca0ca494d273f2f9fc8ba8da4bd26",
    "val": "8e41cd008db4697b4b177f4e23285a21e50757f47c050d4025236e2e8f591ea4",
    "test": "0c14db1ce729d22189a2f4b17de38a29f4c38283cb66843f75f7e1bcff5a8ab2",
}
_OFFICIAL = 10_015
_IMAGE_FOLDERS = (
    "HAM10000_images_part_1",
    "HAM10000_images_part_2",
    "ham10000_images_part_1",
    "ham10000_images_part_2",
    "images",
    "HAM10000_images",
)
_METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
# the files of doi:10.7910/DVN/DBW86T
_DATAVERSE = "https://dataverse.harvard.edu/api/access/datafile"
_FOLDERS = ("ham10000", "HAM10000", "derm", "skin-cancer-mnist-ham10000")


def find(root: Path) -> Path | None:
    """Find the folder with HAM10000's metadata: `root` itself or one of the usual names in it.

    None where there is none.
    """
    candidates = [root, *(root / name for name in _FOLDERS)]
    return next((folder for folder in candidates if _metadata_file(folder)), None)


def load(root: Path) -> dict[str, Split]:
    """Read the three parts, split by lesion.

    Raises UserError where a listed image is missing or the metadata is not HAM10000's. A lesion is
    what `lesion_id` and the pairs in `tasks._ham10000_lesions`, which it misses, make one.
    `dx_type`, how the diagnosis was made, is left out: histology is the rule for malignant lesions,
    so it gives the label away.
    """
    records = _read_metadata(root)
    places = {
        file.stem: file
        for name in _IMAGE_FOLDERS
        if (root / name).is_dir()
        for file in (root / name).iterdir()
        if file.suffix.lower() == ".jpg"
    }
    missing = [r["image_id"] for r in records if r["image_id"] not in places]
    if missing:
        raise UserError(
            f"HAM10000 in {root} lacks {len(missing)} of {len(records)} images: {', '.join(missing[:3])} ...",
            allowed=[f"{name}/" for name in _IMAGE_FOLDERS[:2]] + ["images/"],
            then="medbench data list derm",
        )
    ids = np.array([r["image_id"] for r in records])
    lesions = joined(ids, np.array([r["lesion_id"] for r in records]), same.same_lesion())
    labels = np.array([CLASSES.index(r["dx"]) for r in records])
    site = bool(records) and "dataset" in records[0]
    whole = Split(
        images=[places[i] for i in ids],
        ids=ids,
        labels=labels,
        groups=lesions,
        bags=lesions,
        meta={
            "age": numbers(np.array([r["age"] for r in records])),
            "sex": np.array([r["sex"] for r in records]),
            "localization": np.array([r["localization"] for r in records]),
            # the site, in the file of Dataverse
            **({"dataset": np.array([r["dataset"] for r in records])} if site else {}),
        },
    )
    part = splits.partition(labels, lesions, SHARES, key="derm 1")
    parts = {name: whole.take(np.flatnonzero(part == p)) for p, name in enumerate(PARTS)}
    if len(records) == _OFFICIAL and any(
        splits.ids_hash(parts[name].ids) != SPLIT[name] for name in PARTS
    ):
        raise UserError(
            f"The metadata in {root} gives another split than the official one: its ids, diagnoses or lesions were changed."
        )
    return parts


def _metadata_file(folder: Path) -> Path | None:
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def _read_metadata(root: Path) -> list[dict[str, str]]:
    file = _metadata_file(root)
    if file is None:
        raise UserError(
            f"{root} holds no HAM10000 metadata.", allowed=_METADATA, then="medbench data list derm"
        )
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            head = stream.readline()
            stream.seek(0)
            records = list(csv.DictReader(stream, delimiter="\t" if "\t" in head else ","))
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text.", then="download it again") from error
    needed = {"lesion_id", "image_id", "dx", "age", "sex", "localization"}
    columns = set(records[0]) if records else set()
    if not needed <= columns:
        raise UserError(
            f"{file} is not HAM10000's metadata: column(s) {', '.join(sorted(needed - columns))} missing.",
            then="medbench data list derm",
        )
    unknown = sorted({r["dx"] for r in records} - set(CLASSES))
    if unknown:
        raise UserError(
            f"{file} has the unknown diagnosis '{unknown[0]}'.", allowed=CLASSES, given=unknown[0]
        )
    unnamed = [r["image_id"] for r in records if not r["lesion_id"]]
    if unnamed:
        raise UserError(
            f"{file} gives no lesion_id for {len(unnamed)} images: {unnamed[0]} is the first.",
            then="download it again",
        )
    if len({r["image_id"] for r in records}) < len(records):
        raise UserError(f"{file} lists an image twice.", then="download HAM10000_metadata again")
    return sorted(records, key=lambda r: r["image_id"])


#: HAM10000 calls actinic keratoses and intraepithelial carcinoma (Bowen's disease) `akiec`; ISIC
#: 2019 has `AK` and `SCC`, PAD-UFES-20 `ACK` and an `SCC` that Bowen's disease was put into
#: (doi:10.17632/zr7vgbcyr2). SCC, which mixes them with invasive tumours, means no class here.
SHIFTS = {
    "isic2019": Shift(
        {
            "akiec": ("AK",),
            "bcc": ("BCC",),
            "bkl": ("BKL",),
            "df": ("DF",),
            "mel": ("MEL",),
            "nv": ("NV",),
            "vasc": ("VASC",),
        },
        "other clinics and dermatoscopes; it holds HAM10000's images, which are left out with all images of their lesions",
        shared_ids=True,
    ),
    "pad-ufes": Shift(
        {"akiec": ("ACK",), "bcc": ("BCC",), "bkl": ("SEK",), "mel": ("MEL",), "nv": ("NEV",)},
        "photographs by smartphones instead of dermoscopy; of the benign keratoses only seborrheic ones",
    ),
}
DERM = Task(
    "derm",
    version=2,
    title="Skin lesions in dermoscopy, 7 classes",
    kind="multiclass",
    classes=CLASSES,
    data="HAM10000",
    n_images=_OFFICIAL,
    load=load,
    find=find,
    groups="lesion",
    bags="lesion",
    modality="dermoscopy",
    phantom=phantoms.derm,
    folders=_FOLDERS,
    get="download HAM10000_images_part_1.zip, HAM10000_images_part_2.zip and HAM10000_metadata from doi:10.7910/DVN/DBW86T "
    "(or Kaggle's skin-cancer-mnist-ham10000) and unpack them into one folder",
    downloads=(
        *(
            Download(f"{_DATAVERSE}/{number}", f"HAM10000_images_part_{i}", unpack="zip")
            for i, number in enumerate((3172585, 3172584), start=1)
        ),
        Download(f"{_DATAVERSE}/4338392?format=original", "HAM10000_metadata.csv"),
    ),
    official=Official(classes={"all": (327, 514, 1_099, 115, 1_113, 6_705, 142)}),
    citation="Tschandl, Rosendahl & Kittler 2018, The HAM10000 dataset, Scientific Data 5:180161, doi:10.1038/sdata.2018.161",
    licence="CC BY-NC 4.0",
    shifts=SHIFTS,
)
