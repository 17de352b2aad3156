"""Small trees of the true layouts of CheXpert, NIH ChestX-ray14 with its expert labels, and
Kermany."""

from __future__ import annotations

from pathlib import Path

from trees.files import picture, write_csv

from medbench.tasks import nih14

CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,"
    "Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
CHEXPERT_LABELS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def make_chexpert(root: Path, name: str = "CheXpert-v1.0-small") -> Path:
    """train: 40 patients with 1 or 2 studies of 1 or 2 views; valid: 10 patients.

    Labels go 1.0, 0.0, blank, -1.0 in train, 1.0, 0.0 in valid.
    """
    number, columns = 0, CHEXPERT_HEADER.split(",")
    for part, table, patients in (
        ("train", "train.csv", range(1, 41)),
        ("valid", "valid.csv", range(100, 110)),
    ):
        rows = []
        for p in patients:
            for study in range(1, 2 + (p % 3 == 0)):
                for view in range(1, 2 + (p % 2)):
                    path = f"{part}/patient{p:05d}/study{study}/view{view}_{'frontal' if view == 1 else 'lateral'}.jpg"
                    picture(root / path, number)
                    number += 1
                    row = dict.fromkeys(columns, "")
                    row.update(
                        {
                            "Path": f"{name}/{path}",
                            "Sex": "Female",
                            "Age": str(p),
                            "Frontal/Lateral": "Frontal",
                            "AP/PA": "AP",
                        }
                    )
                    values = ("1.0", "0.0", "", "-1.0") if part == "train" else ("1.0", "0.0")
                    row.update(
                        {
                            label: values[(p + c) % len(values)]
                            for c, label in enumerate(CHEXPERT_LABELS)
                        }
                    )
                    rows.append([row[column] for column in columns])
        write_csv(root / table, columns, rows)
    return root


def make_nih(root: Path, flat: bool = False) -> Path:
    """60 patients with 1 to 3 images; the last 15 are the official test list.

    The header is written as it is published, with split names.
    """
    lines, lists = [NIH_HEADER], {"train_val_list.txt": [], "test_list.txt": []}
    number = 0
    for p in range(1, 61):
        for follow in range(1 + p % 3):
            name = f"{p:08d}_{follow:03d}.png"
            picture(root / ("images" if flat else f"images_{1 + p % 12:03d}/images") / name, number)
            number += 1
            first = nih14.CLASSES[p % 15] if p % 15 < 14 else "No Finding"
            found = (
                f"{first}|{nih14.CLASSES[(p + 3) % 14]}" if p % 5 == 0 and p % 15 < 14 else first
            )
            lines.append(f"{name},{found},{follow},{p},{20 + p},M,PA,2682,2749,0.143,0.143")
            lists["test_list.txt" if p > 45 else "train_val_list.txt"].append(name)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines) + "\n")
    for name, names in lists.items():
        (root / name).write_text("\n".join(names) + "\n")
    return root


def make_nih_expert(root: Path, pattern: str = "four_findings_expert_labels/{}_labels.csv") -> Path:
    """validation: 30 images of 30 patients, test: 15 others.

    The combinations of findings go none, each alone, two of them.
    """
    combinations = [
        ("NO",) * 4,
        *(tuple("YES" if i == c else "NO" for i in range(4)) for c in range(4)),
        ("YES", "NO", "YES", "NO"),
    ]
    for part, patients in (("validation", range(1, 31)), ("test", range(31, 46))):
        rows = []
        for p in patients:
            picture(root / "images" / f"{p:08d}_000.png", p)
            rows.append([f"{p:08d}_000.png", p, 20 + p, "M", "PA", *combinations[p % 6]])
        header = [
            "Image Index",
            "Patient ID",
            "Patient Age",
            "Patient Gender",
            "View Position",
            "Fracture",
            "Pneumothorax",
            "Airspace opacity",
            "Nodule or mass",
        ]
        write_csv(root / pattern.format(part), header, rows)
    return root


def make_kermany(root: Path) -> Path:
    """chest_xray/: in train 20 children with pneumonia (two images each) and 20 normal.

    One of them again in val; person1 and others in test.
    """
    here, number = root / "chest_xray", 0
    names = {
        "train/PNEUMONIA": [
            f"person{p}_bacteria_{2 * p + k}" for p in range(1, 21) for k in range(2)
        ],
        "train/NORMAL": [f"IM-{p:04d}-0001" for p in range(100, 120)],
        "val/PNEUMONIA": ["person20_bacteria_99"],
        "val/NORMAL": ["NORMAL2-IM-1427-0001"],
        "test/PNEUMONIA": [f"person{p}_virus_{p}" for p in range(1, 9)],
        "test/NORMAL": [f"NORMAL2-IM-{p:04d}-0001" for p in range(8)],
    }
    for place, stems in names.items():
        for stem in stems:
            picture(here / place / f"{stem}.jpeg", number)
            number += 1
    return root
