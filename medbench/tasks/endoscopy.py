"""HyperKvasir: endoscopy of the upper and lower tract in 23 classes.

Borgli et al. 2020, doi:10.1038/s41597-020-00622-y. Layout as on datasets.simula.no/hyper-kvasir:
`labeled-images/{lower,upper}-gi-tract/<group>/<class>/*.jpg`, and the official five folds of
github.com/simula/hyper-kvasir, `5_fold_split.csv`: `file-name;class-name;split-index`, separated by
semicolons. Eight classes have one name in the folders and another in the folds; both are read.

Fold 4 is the test part, fold 3 val, 0 to 2 train: fold 4 holds the remainder, and so most images of
the rarest classes (5 of 9 ilea).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from medbench.images import leftovers
from medbench.schema import Download, Kind, Mark, Official, Split, Task, UserError
from medbench.tasks import _reading as reading

#: Name in the official folds -> name of the folder, where they differ.
FOLDER_NAMES = {
    "hemorroids": "hemorrhoids",
    "normal-cecum": "cecum",
    "normal-pylorus": "pylorus",
    "normal-z-line": "z-line",
    "oesophagitis-a": "esophagitis-a",
    "oesophagitis-b-d": "esophagitis-b-d",
    "polyp": "polyps",
    "short-segment-barretts": "barretts-short-segment",
}
CLASSES = (
    "barretts",
    "barretts-short-segment",
    "bbps-0-1",
    "bbps-2-3",
    "cecum",
    "dyed-lifted-polyps",
    "dyed-resection-margins",
    "esophagitis-a",
    "esophagitis-b-d",
    "hemorrhoids",
    "ileum",
    "impacted-stool",
    "polyps",
    "pylorus",
    "retroflex-rectum",
    "retroflex-stomach",
    "ulcerative-colitis-grade-0-1",
    "ulcerative-colitis-grade-1",
    "ulcerative-colitis-grade-1-2",
    "ulcerative-colitis-grade-2",
    "ulcerative-colitis-grade-2-3",
    "ulcerative-colitis-grade-3",
    "z-line",
)
GRADES = tuple(f"ulcerative-colitis-grade-{grade}" for grade in (1, 2, 3))
FOLDS = {"train": ("0", "1", "2"), "val": ("3",), "test": ("4",)}
_SPLIT = "5_fold_split.csv"
_FOLDERS = ("hyperkvasir", "hyper-kvasir", "HyperKvasir", "hyper-kvasir-labeled-images")


def load(classes: Sequence[str], task: str, root: Path) -> dict[str, Split]:
    """Read the official folds of these classes; labels are the classes' places.

    A class whose folder is missing was not downloaded and stays empty. In a folder that is there,
    no listed image may be missing. Raises UserError where one is, or the list is not HyperKvasir's.
    """
    file = reading.first_existing(root, [_SPLIT], task)
    rows = reading.read_table(file, ("file-name", "class-name", "split-index"), task, delimiter=";")
    names = np.array([FOLDER_NAMES.get(name, name) for name in rows["class-name"].tolist()])
    reading.codes(names, CLASSES, file)  # raises for an unknown one
    folds = reading.codes(
        rows["split-index"], [fold for part in FOLDS.values() for fold in part], file
    )
    tree = reading.first_existing(root, ["labeled-images"], task)
    places = _class_folders(tree)
    there = np.isin(names, [name for name in classes if name in places])
    if not there.any():
        wanted = f"{tree}/{{lower,upper}}-gi-tract/GROUP/CLASS"
        raise UserError(
            f"No class folder is in {wanted}.",
            allowed=classes,
            given=next(iter(places), ""),
            then=f"medbench data list {task}",
        )
    listed = rows["file-name"][there].tolist()
    paths = [
        places[name] / image for name, image in zip(names[there].tolist(), listed, strict=True)
    ]
    ids = reading.once(np.array([image.rsplit(".", 1)[0] for image in listed]), file)
    images = reading.require_images(paths, "HyperKvasir", root, task)
    whole = Split(images, ids, reading.codes(names[there], classes, file), ids, ids)
    fold = folds[there]
    return {
        part: whole.take(np.flatnonzero(np.isin(fold, [int(name) for name in wanted])))
        for part, wanted in FOLDS.items()
    }


def _class_folders(tree: Path) -> dict[str, Path]:
    """Class -> its folder, of those in `{lower,upper}-gi-tract/GROUP`.

    What systems leave there is none.
    """
    found = (place for place in sorted(tree.glob("*/*/*")) if place.is_dir())
    return {
        FOLDER_NAMES.get(place.name, place.name): place
        for place in found
        if not any(map(leftovers.left_behind, place.relative_to(tree).parts))
    }


def missing_classes(classes: Sequence[str], root: Path) -> str:
    """Answer `Task.partial`: name the classes whose folder is missing.

    "" where none or all of them are, which `load` says better.
    """
    there = _class_folders(root / "labeled-images")
    gone = [name for name in classes if name not in there]
    return (
        f"{len(gone)} of {len(classes)} classes are not there ({', '.join(gone[:3])}{' ...' if len(gone) > 3 else ''})"
        if gone
        else ""
    )


def _task(
    name: str, title: str, kind: Kind, classes: tuple[str, ...], n_images: int, official: Official
) -> Task:
    return Task(
        name,
        version=1,
        title=title,
        kind=kind,
        classes=classes,
        data="HyperKvasir",
        n_images=n_images,
        load=partial(load, classes, name),
        find=partial(reading.folder, names=_FOLDERS, marks=("labeled-images", _SPLIT)),
        groups=None,
        modality="endoscopy",
        folders=_FOLDERS,
        get="download hyper-kvasir-labeled-images.zip from datasets.simula.no/hyper-kvasir and 5_fold_split.csv from "
        "github.com/simula/hyper-kvasir, and unpack them into one folder",
        downloads=(
            Download(
                "https://datasets.simula.no/downloads/hyper-kvasir/hyper-kvasir-labeled-images.zip",
                unpack="zip",
            ),
            Download(
                f"https://raw.githubusercontent.com/simula/hyper-kvasir/49c0d0f915b57ac0b6cb18b49776ffa61c5512e3/official_splits/{_SPLIT}",
                _SPLIT,
                sha256="0230b465bdf73c23e949c74e1d4d68c4905a758195ea6b69b10f32c71a3be426",
                size=621_410,
            ),
        ),
        official=official,
        citation="Borgli et al. 2020, HyperKvasir, Scientific Data 7:283, doi:10.1038/s41597-020-00622-y",
        licence="free for research and education; commercial use needs permission",
        partial=partial(missing_classes, classes),
        marks=(
            Mark("remark", "official folds: 0 to 2 train, 3 val, 4 test"),
            Mark("remark", "patient unknown: images of one may stand on both sides"),
        ),
    )


#: Of each class of CLASSES, and of the folds: 2,122 in each of the first four, 2,174 in the last.
_COUNTS = (
    41,
    53,
    646,
    1_148,
    1_009,
    1_002,
    989,
    403,
    260,
    6,
    9,
    131,
    1_028,
    999,
    391,
    764,
    35,
    201,
    11,
    443,
    28,
    133,
    932,
)
_FOLDS = {"train": 3 * 2_122, "val": 2_122, "test": 2_174}
ENDOSCOPY = _task(
    "endoscopy",
    "Endoscopy of the gastrointestinal tract, 23 classes",
    "multiclass",
    CLASSES,
    10_662,
    Official(images=_FOLDS, classes={"all": _COUNTS}),
)
UC_GRADE = _task(
    "uc-grade",
    "Ulcerative colitis in endoscopy, grades 1, 2, 3",
    "ordinal",
    GRADES,
    201 + 443 + 133,
    Official(classes={"all": (201, 443, 133)}),
)
