"""Write the three CSV files behind `results/hyperkvasir` and `results/kinds`, which `folder:`
reads.

    python benchmarks/evidence_csvs.py FOLDER      # holds hyperkvasir/ and hannover_cxr/ in their official layouts

writes FOLDER/hyperkvasir.csv (every listed image that is there, eight classes), FOLDER/colitis.csv
(grades 1, 2 and 3 of ulcerative colitis) and FOLDER/films.csv (243 chest films: AP projection,
admission to intensive care). The split of the first two is the official one: folds 0 to 2 train,
fold 3 val, fold 4 test.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

#: Name in the official folds -> name of the folder, where they differ among the eight classes.
FOLDER_NAMES = {"hemorroids": "hemorrhoids", "polyp": "polyps"}
PARTS = {"0": "train", "1": "train", "2": "train", "3": "val", "4": "test"}
GRADES = {f"ulcerative-colitis-grade-{grade}": grade for grade in ("1", "2", "3")}


def endoscopy(folder: Path) -> list[tuple[str, str, str]]:
    """(path, class, part) of every listed image of HyperKvasir that is there, in order of path."""
    files = {file.name: file for file in (folder / "hyperkvasir" / "labeled-images").rglob("*.jpg")}
    with (folder / "hyperkvasir" / "5_fold_split.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter=";"))
    listed = [(files.get(row["file-name"]), row["class-name"], row["split-index"]) for row in rows]
    return sorted(
        (str(file.relative_to(folder)), FOLDER_NAMES.get(name, name), PARTS[fold])
        for file, name, fold in listed
        if file
    )


def films(folder: Path) -> list[tuple[str, int, int, str, str]]:
    """(path, AP, ICU, patient, sex) of the films of the Hannover repository.

    ICU is of the patient: whether any row has an admission.
    """
    with (folder / "hannover_cxr" / "data.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    admitted = {row["patient_id"] for row in rows if row["icu_admission_offset"]}
    return [
        (
            f"hannover_cxr/png/{row['image_id']}.png",
            int(row["projection"] == "ap"),
            int(row["patient_id"] in admitted),
            row["patient_id"],
            row["sex"],
        )
        for row in rows
    ]


def write(folder: Path) -> list[Path]:
    """Write the three files and return their paths."""
    gut = endoscopy(folder)
    colitis = [(path, GRADES[name], part) for path, name, part in gut if name in GRADES]
    return [
        _write(folder / "hyperkvasir.csv", ("path", "label", "split"), gut),
        _write(folder / "colitis.csv", ("path", "label", "split"), colitis),
        _write(
            folder / "films.csv", ("path", "label:AP", "label:ICU", "group", "sex"), films(folder)
        ),
    ]


def _write(file: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([head, *rows])
    return file


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for written in write(Path(sys.argv[1])):
        print(written)
