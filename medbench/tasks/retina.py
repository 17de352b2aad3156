"""Diabetic retinopathy in fundus photographs, graded 0 to 4.

APTOS 2019 and EyePACS, both Kaggle competitions. APTOS, kaggle.com/c/aptos2019-blindness-detection:
`train.csv` with `id_code,diagnosis`, images `train_images/<id_code>.png`. EyePACS,
kaggle.com/c/diabetic-retinopathy-detection: `trainLabels.csv` with `image,level`, images
`<patient>_left.jpeg` and `<patient>_right.jpeg`, in `train/` or beside the table. The grades are
the same: no, mild, moderate, severe, proliferative retinopathy.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medbench.schema import Mark, Split, Task, UserError
from medbench.tasks import _reading as reading
from medbench.tasks import phantoms

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")
_GRADES = ("0", "1", "2", "3", "4")
_APTOS = ("aptos2019", "aptos", "aptos2019-blindness-detection", "retina")
_EYEPACS = ("eyepacs", "diabetic-retinopathy-detection")


def load_aptos(root: Path) -> dict[str, Split]:
    """Read the three parts of APTOS' labelled images, each photograph by itself.

    APTOS does not say whose it is. Raises UserError where the table or an image is missing.
    """
    file = reading.first_existing(root, ["train.csv"], "retina")
    rows = reading.read_table(file, ("id_code", "diagnosis"), "retina")
    ids = reading.once(rows["id_code"], file)
    images = reading.listed_files(
        ids, reading.files(root, ["train_images"], "retina"), "APTOS 2019", root, "retina"
    )
    return reading.divide(
        Split(images, ids, reading.codes(rows["diagnosis"], _GRADES, file), ids, ids),
        key="retina 1",
    )


def load_eyepacs(root: Path) -> dict[str, Split]:
    """Read the three parts of EyePACS' labelled images.

    Both eyes of a patient are one group and one bag. Raises UserError where the table or an image
    is missing, or a name says no eye.
    """
    file = reading.first_existing(root, ["trainLabels.csv"], "eyepacs")
    rows = reading.read_table(file, ("image", "level"), "eyepacs")
    ids = reading.once(rows["image"], file)
    names = [name.rpartition("_") for name in ids.tolist()]
    strange = next(
        (
            name
            for name, (_, _, side) in zip(ids, names, strict=True)
            if side not in ("left", "right")
        ),
        None,
    )
    if strange is not None:
        raise UserError(
            f"{file}: the image '{strange}' is neither PATIENT_left nor PATIENT_right.",
            then="download it again",
        )
    patients, sides = (np.array([name[i] for name in names]) for i in (0, 2))
    images = reading.listed_files(
        ids, reading.files(root, ["train", ""], "eyepacs"), "EyePACS", root, "eyepacs"
    )
    labels = reading.codes(rows["level"], _GRADES, file)
    return reading.divide(
        Split(images, ids, labels, patients, patients, {"eye": sides}), key="eyepacs 1"
    )


RETINA = Task(
    "retina",
    version=1,
    title="Diabetic retinopathy in fundus photographs, 5 grades",
    kind="ordinal",
    classes=CLASSES,
    data="APTOS 2019",
    n_images=3_662,
    load=load_aptos,
    find=partial(reading.folder, names=_APTOS, marks=("train_images",)),
    groups=None,
    modality="fundus",
    phantom=phantoms.retina,
    phantom_groups="patient",
    folders=_APTOS,
    get="accept the rules of kaggle.com/c/aptos2019-blindness-detection, download and unpack it",
    registration="Kaggle",
    steps=(
        "sign in at https://www.kaggle.com and accept the rules at https://www.kaggle.com/c/aptos2019-blindness-detection/rules",
        "download: kaggle competitions download -c aptos2019-blindness-detection (or the button Download All on its page Data)",
        "unpack it into the folder aptos2019 of the data folder: train.csv, train_images/",
    ),
    citation="APTOS 2019 Blindness Detection, Kaggle, Asia Pacific Tele-Ophthalmology Society",
    licence="competition rules (kaggle.com/c/aptos2019-blindness-detection/rules)",
    marks=(
        Mark("split", "split made by medbench: the competition's test set has no public labels"),
        Mark(
            "remark",
            "patient unknown: both eyes of one may stand on both sides; byte-identical images stay together, or are left out where graded differently",
        ),
    ),
)
EYEPACS = Task(
    "eyepacs",
    version=1,
    title="Diabetic retinopathy in fundus photographs of both eyes, 5 grades",
    kind="ordinal",
    classes=CLASSES,
    data="EyePACS",
    n_images=35_126,
    load=load_eyepacs,
    find=partial(reading.folder, names=_EYEPACS, marks=("trainLabels.csv",)),
    groups="patient",
    bags="patient",
    modality="fundus",
    phantom=phantoms.retina,
    folders=_EYEPACS,
    get="accept the rules of kaggle.com/c/diabetic-retinopathy-detection, download train.zip.* and trainLabels.csv.zip and unpack them",
    registration="Kaggle",
    steps=(
        "sign in at https://www.kaggle.com and accept the rules at https://www.kaggle.com/c/diabetic-retinopathy-detection/rules",
        "download: kaggle competitions download -c diabetic-retinopathy-detection (or the button Download All on its page Data)",
        "join the parts (cat train.zip.* > train.zip) and unpack it and trainLabels.csv.zip into the folder eyepacs: trainLabels.csv, train/",
    ),
    citation="Diabetic Retinopathy Detection, Kaggle 2015, EyePACS and California Healthcare Foundation",
    licence="competition rules (kaggle.com/c/diabetic-retinopathy-detection/rules)",
    marks=(Mark("split", "split made by medbench of the competition's training set"),),
)
