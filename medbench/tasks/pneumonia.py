"""Kermany: pneumonia in chest radiographs of children.

Kermany et al. 2018, doi:10.1016/j.cell.2018.02.010. Layout as on Kaggle,
paultimothymooney/chest-xray-pneumonia: `chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg`.
Names are reported to carry the patient: `person63_bacteria_306`, `IM-0115-0001`,
`NORMAL2-IM-1427-0001`, and on Mendeley Data (doi:10.17632/rscbjbr9sj) `BACTERIA-1135262-0001`.
Small numbers start anew in the test folder: `person1` there is another child than in train.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import (
    NOTHING,
    Download,
    Mark,
    Official,
    Shift,
    Split,
    Task,
    UserError,
    join_parts,
)
from medbench.tasks import _reading as reading

CLASSES = ("NORMAL", "PNEUMONIA")
_PATIENT = re.compile(
    r"(?P<number>person\d+(?=_)|(?:NORMAL\d-)?IM-\d+(?=-))|(?P<record>(?:BACTERIA|VIRUS|NORMAL)-\d+(?=-))"
)
_INSIDE = ("", "chest_xray", "chest_xray/chest_xray")
_FOLDERS = ("kermany", "chest_xray", "chest-xray-pneumonia", "ChestXRay2017")


def load(root: Path) -> dict[str, Split]:
    """Read the official parts, and divide the training images into train and val.

    train and val: 9 to 1 of the patients of the official train and val (of 16 images). Raises
    UserError.

    Where the test part alone was downloaded it is split 70/10/20: another task, which needs
    --allow-partial and is marked on every table.
    """
    here = _inside(root)
    if here is None:
        raise UserError(
            f"{root} holds no chest_xray/test.",
            allowed=["chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}"],
            then=_THEN,
        )
    test = _read(here, "test")
    if not (here / "train").is_dir():
        if reading.AS_LISTED.get():
            return {"test": test}
        return reading.divide(test, "pneumonia, test part 1")
    pool = [_read(here, part) for part in ("train", "val") if (here / part).is_dir()]
    return {**reading.divide(join_parts(pool), "pneumonia 1", (0.9, 0.1)), "test": test}


def missing_parts(root: Path) -> str:
    """Answer `Task.partial`: tell whether the official test part lies there alone."""
    here = _inside(root)
    alone = here is not None and not (here / "train").is_dir()
    return (
        "the official test part alone, split 70/10/20 by patient; scores compare with nothing published"
        if alone
        else ""
    )


def _inside(root: Path) -> Path | None:
    return next((root / inner for inner in _INSIDE if (root / inner / "test").is_dir()), None)


def patient(name: str, part: str) -> str:
    """Return the patient of a file name; a name that carries none is a patient of its own."""
    found = _PATIENT.match(name)
    if found is None:
        return f"{part}/{name}"
    return found["record"] or f"{'test' if part == 'test' else 'train'}/{found['number']}"


def _read(here: Path, part: str) -> Split:
    names, labels, paths = [], [], []
    for c, label in enumerate(CLASSES):
        found = reading.files(here / part, [label], "pneumonia")
        if not found:
            raise UserError(f"{here / part / label} holds no images.", then=_THEN)
        names += [f"{part}/{label}/{name}" for name in found]
        paths += list(found.values())
        labels += [c] * len(found)
    patients = np.array([patient(path.stem, part) for path in paths])
    split = Split(paths, np.array(names), np.array(labels, np.int64), patients, patients)
    return split.take(np.argsort(split.ids, kind="stable"))


_THEN = "medbench data list pneumonia"
PNEUMONIA = Task(
    "pneumonia",
    version=1,
    title="Chest radiographs of children, normal or pneumonia",
    kind="binary",
    classes=CLASSES,
    data="Kermany",
    n_images=5_216 + 16 + 624,
    load=load,
    find=partial(
        reading.folder, names=_FOLDERS, marks=("chest_xray/test", "test/NORMAL", "train/NORMAL")
    ),
    partial=missing_parts,
    groups="patient",
    bags="patient",
    modality="x-ray",
    folders=_FOLDERS,
    get="kaggle datasets download paultimothymooney/chest-xray-pneumonia, or ChestXRay2017.zip from doi:10.17632/rscbjbr9sj, and unpack it",
    downloads=(
        # ChestXRay2017.zip of version 2; the address is the one that Mendeley Data's own page links
        # to
        Download(
            "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
            unpack="zip",
        ),
    ),
    official=Official(images={"train+val": 5_216 + 16, "test": 624}, classes={"test": (234, 390)}),
    citation="Kermany et al. 2018, Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning, Cell 172:1122",
    licence="CC BY 4.0",
    marks=(
        Mark(
            "remark",
            "patients are read from file names; where a name carries none, an image is a patient of its own",
        ),
    ),
    shifts={
        "nih14": Shift(
            {"NORMAL": (NOTHING,), "PNEUMONIA": ("Pneumonia",)},
            "mostly adults instead of children; pneumonia with other findings counts, other findings without it are left out",
        )
    },
)
