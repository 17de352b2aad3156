"""Small trees of the true layouts of ISIC 2019, PAD-UFES-20 and SCIN."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image
from trees.files import picture, write_csv

from medbench.tasks import isic2019, pad_ufes, scin
from medbench.tasks.derm import CLASSES


def make_isic(root: Path) -> Path:
    """80 images of 60 lesions and 5 of none.

    Every seventh file is called `_downsampled`, in the tables every fourteenth.
    """
    truth, about = [], []
    for i in range(85):
        name, kind = f"ISIC_{i:07d}", (i % 60) % 8
        picture(
            root / "ISIC_2019_Training_Input" / f"{name}{'_downsampled' if i % 7 == 0 else ''}.jpg",
            i,
        )
        listed = f"{name}_downsampled" if i % 14 == 0 else name
        truth.append([listed, *(f"{float(c == kind)}" for c in range(8)), "0.0"])
        about.append(
            [
                listed,
                "" if i % 9 == 0 else f"{5 * (i % 17)}.0",
                "back",
                "" if i >= 80 else f"BCN_{i % 60:07d}",
                "female",
            ]
        )
    write_csv(
        root / "ISIC_2019_Training_GroundTruth.csv", ["image", *isic2019.CLASSES, "UNK"], truth
    )
    write_csv(
        root / "ISIC_2019_Training_Metadata.csv",
        ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"],
        about,
    )
    return root


def make_pad_ufes(root: Path) -> Path:
    """90 images of 60 lesions of 45 patients, a third in each zip's folder."""
    rows = []
    for i in range(90):
        lesion = i % 60
        name = f"PAT_{lesion % 45}_{lesion}_{i}.png"
        picture(root / "images" / f"imgs_part_{1 + i % 3}" / name, i)
        rows.append(
            [
                f"PAT_{lesion % 45}",
                lesion,
                30 + i % 40,
                "2.0",
                "ARM",
                "FEMALE",
                pad_ufes.CLASSES[lesion % 45 % 6],
                name,
                "True",
            ]
        )
    header = [
        "patient_id",
        "lesion_id",
        "age",
        "fitspatrick",
        "region",
        "gender",
        "diagnostic",
        "img_id",
        "biopsed",
    ]
    write_csv(root / "metadata.csv", header, rows)
    return root


def make_scin(root: Path, names: str = "dermatologist_skin_condition_on_label_name") -> Path:
    """70 cases of 11 classes with 1 to 3 images, the first two cases sharing one, and a case
    without a label. names: of the unread column."""
    cases, labels = [], []
    for i in range(71):
        paths = [f"dataset/images/{100 * i + k}.png" if k <= i % 3 else "" for k in range(3)]
        if i == 1:
            paths[0] = "dataset/images/0.png"
        for path in filter(None, paths):
            picture(root / "images" / Path(path).name, int(Path(path).stem))
        cases.append([f"-{i}", "AGE_18_TO_29", "FEMALE", "FST2", *paths])
        top = [*scin.CONDITIONS, "Acne"][i % 11]
        labels.append([f"-{i}", "['x']", "" if i == 70 else f"{{'Impetigo': 0.3, '{top}': 0.7}}"])
    header = [
        "case_id",
        "age_group",
        "sex_at_birth",
        "fitzpatrick_skin_type",
        "image_1_path",
        "image_2_path",
        "image_3_path",
    ]
    write_csv(root / "scin_cases.csv", header, cases)
    write_csv(root / "scin_labels.csv", ["case_id", names, "weighted_skin_condition_label"], labels)
    return root


COLUMNS = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset"]


def make_ham(
    root: Path,
    folders: tuple[str, ...],
    metadata: str = "HAM10000_metadata.csv",
    delimiter: str = ",",
) -> Path:
    """A small set of the true layout: 70 lesions of 7 classes, every third with two images."""
    records = []
    for lesion in range(70):
        for view in range(1 + (lesion % 3 == 0)):
            name = f"ISIC_{lesion * 2 + view:07d}"
            age = "" if lesion == 5 else f"{20 + lesion}.0"
            row = [
                f"HAM_{lesion:07d}",
                name,
                CLASSES[lesion % 7],
                "histo",
                age,
                "female",
                "back",
                "vidir_modern",
            ]
            records.append(dict(zip(COLUMNS, row, strict=True)))
            folder = root / folders[lesion % len(folders)]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 9), (lesion, view, 0)).save(folder / f"{name}.jpg")
    with (root / metadata).open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(records)
    return root
